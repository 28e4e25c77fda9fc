"""The chain up to the premaster for sound in memory: what scoring and small scripts need of a restoration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from resonate import RATE, STEMS, audio
from resonate.restore.config import RestoreConfig
from resonate.restore.stages import chain
from resonate.restore.work import Models, Stage, Work

#: Where the chain ends here.
_LAST = "remix"


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
    with work_through(x, config, models, _LAST) as (work, _):
        return _restored(work)


def restored_from(way: str, work: Work) -> dict[str, np.ndarray]:
    """Go on with a work that has come through stage `choose`, with the track made from `way`, mix or stems; the parts
    as :func:`restore_array` gives them. Can be called for both ways."""
    work.made_from = way
    stages = {stage.name: stage for stage in chain(work.config)}
    for name in ("restore", _LAST):
        _run(stages[name], work, work.folder.parent / f"{name}-{way}")
    return _restored(work)


def _restored(work: Work) -> dict[str, np.ndarray]:
    shape = (len(STEMS), 2, work.length)
    return {key: work.track[key].read(0, work.length).reshape(shape) for key in ("revealed", "extended")}


def _run(stage: Stage, work: Work, folder: Path) -> dict[str, Any]:
    """The stage's effect."""
    folder.mkdir()
    work.folder = work.result = folder
    effect = stage.run(work)
    work.release()
    return effect


@contextmanager
def work_through(
    x: np.ndarray, config: RestoreConfig, models: Models, last: str
) -> Iterator[tuple[Work, dict[str, dict[str, Any]]]]:
    """The chain's work on a recording once stage `last` is done, and the stages' effects by name; arguments as those of
    :func:`restore_array`. The work's tracks are gone when the block ends."""
    with TemporaryDirectory(prefix="resonate-") as name:
        folder = Path(name)
        audio.write(folder / "input.wav", x, RATE)
        whole = replace(config, start=0.0, duration=None, diagnose_only=False)
        work = Work(folder / "input.wav", folder, folder, whole, models)
        effects = {}
        try:
            stages = chain(whole)
            for stage in stages[: [stage.name for stage in stages].index(last) + 1]:
                effects[stage.name] = _run(stage, work, folder / stage.name)
            yield work, effects
        finally:
            work.close()
