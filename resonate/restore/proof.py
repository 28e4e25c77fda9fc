"""The proof of a reveal-only result: its own gains, within their bounds, applied again to the recording."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resonate.audio import Reader
from resonate.errors import UserError
from resonate.restore import operator
from resonate.restore.config import from_dict
from resonate.restore.deliver import stem_sum
from resonate.restore.networks import MASK_UNIT, revealing_gains
from resonate.restore.precondition import again as precondition_again
from resonate.restore.precondition import bypassed
from resonate.restore.prepare import Ingest, resample_track
from resonate.restore.store import Track
from resonate.restore.work import Models, Work


@dataclass
class Proof:
    """Peak error in dBFS of `revealed` made again (-inf: identical); least and largest gain and mask; stated bounds of
    the gains, both 1 for a finished mix, of which nothing is taken away."""

    error_dbfs: float
    gain_least: float
    gain_most: float
    mask_most: float
    gain_bound: float
    gain_floor: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the operators are within bounds and give `revealed` within -120 dBFS."""
        return (
            self.error_dbfs < -120.0
            and self.gain_least >= self.gain_floor
            and self.gain_most <= self.gain_bound
            and self.mask_most <= 1.0
        )


def prove(result: Path, recording: Path) -> Proof:
    """Check the result folder `result` against its `recording`: only linear filters and the stored gains are used.

    Raises UserError where the folder has no report, ledger or work folder, or was made without a restorer.
    """
    try:
        report = json.loads((result / "report.json").read_text(encoding="utf-8"))
        gain, mask = (np.load(result / "work" / f"{name}.npy", mmap_mode="r") for name in ("gain", "mask"))
        stages = {stage["name"]: stage for stage in report["stages"]}
        settings, bound = report["settings"], stages["restore"]["effect"].get("gain_bound", 0.0)
        finished = {"finished": report["diagnosis"]["finished"]}
        revealed = Reader(result / "ledger" / "revealed.wav")
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{result} lacks what the proof needs (report.json, work/ and ledger/): {error}.") from error
    config = from_dict({**settings, "device": "cpu"})
    with tempfile.TemporaryDirectory() as scratch:
        work = Work(recording, Path(scratch), Path(scratch), config, Models(config), diagnosis=finished)
        Ingest().run(work)
        floor = 0.0
        if bypassed(work):
            # The ledger holds the very recording then, whose rate 44.1 kHz may not hold.
            again, floor, bound = work.track["input"], 1.0, 1.0
        else:
            again = _made_again(work, gain, mask, stages["precondition"]["effect"], result / "work")
        error, at = 0.0, 0
        for block in revealed:
            error = max(error, float(np.abs(block - again.read(at, block.shape[1])).max()))
            at += block.shape[1]
        work.close()
    most = int(mask.sum(1, dtype=np.int64).max()) if mask.size else 0
    return Proof(
        20 * np.log10(error) if error > 0 else -np.inf,
        float(gain.min()),
        float(gain.max()),
        max(most, int(mask.max())) / MASK_UNIT,
        bound,
        floor,
    )


def _made_again(work: Work, gain: np.ndarray, mask: np.ndarray, filters: dict[str, Any], folder: Path) -> Track:
    """The filters, gains and masks applied to the ingested recording, at its own rate."""
    made = work.new_track("made")
    prepared = precondition_again(work, filters, folder)
    gains = revealing_gains(lambda a, n: np.array(gain[a : a + n]), lambda a, n: np.array(mask[a : a + n]))
    for start, block in operator.apply(prepared, gains):
        made.write(start, stem_sum(block.reshape(8, -1)))
    if work.rate == made.rate:
        return made
    return resample_track(made, work.new_track("again", 2, work.samples, work.rate))
