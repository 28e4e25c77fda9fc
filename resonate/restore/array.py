"""The chain up to the premaster for sound in memory: what scoring and small scripts need of a restoration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from resonate import RATE, STEMS, audio
from resonate.restore.config import RestoreConfig
from resonate.restore.networks import Remix, Restore, Separate
from resonate.restore.prepare import Diagnose, Ingest, Precondition
from resonate.restore.work import Models, Work

_STAGES = (Ingest(), Diagnose(), Precondition(), Separate(), Restore(), Remix())


def restore_array(x: np.ndarray, config: RestoreConfig, models: Models) -> dict[str, np.ndarray]:
    """Restore a recording that fits in memory; nothing is mastered or written.

    Args:
        x: (channels, samples) float32 at 44.1 kHz, at least half a second.
        config: `start` and `duration` are not looked at.
        models: loaded when first needed.

    Returns:
        `revealed` and `extended`, (4, 2, samples) each, stems in the order of `resonate.STEMS`; their sum over both and
        over stems is the premaster.
    """
    with TemporaryDirectory(prefix="resonate-") as name:
        folder = Path(name)
        audio.write(folder / "input.wav", x, RATE)
        whole = replace(config, start=0.0, duration=None)
        work = Work(folder / "input.wav", folder, folder, whole, models)
        try:
            for stage in _STAGES:
                stage.run(work)
            shape = (len(STEMS), 2, work.length)
            return {key: work.track[key].read(0, work.length).reshape(shape) for key in ("revealed", "extended")}
        finally:
            work.close()
