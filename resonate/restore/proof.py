"""The proof of a reveal-only result: its own gains, within their bounds, applied again to the recording."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resonate.audio import Reader
from resonate.errors import UserError
from resonate.restore import operator
from resonate.restore.config import from_dict
from resonate.restore.deliver import stem_sum
from resonate.restore.networks import MASK_UNIT, revealing_gains
from resonate.restore.precondition import again as precondition_again
from resonate.restore.prepare import Ingest, resample_track
from resonate.restore.work import Models, Work


@dataclass
class Proof:
    """Peak error in dBFS of `revealed` made again (-inf: identical); least and largest gain and mask; stated bound."""

    error_dbfs: float
    gain_least: float
    gain_most: float
    mask_most: float
    gain_bound: float

    @property
    def holds(self) -> bool:
        """Whether the operators are within bounds and give `revealed` within -120 dBFS."""
        return (
            self.error_dbfs < -120.0
            and self.gain_least >= 0.0
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
        revealed = Reader(result / "ledger" / "revealed.wav")
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{result} lacks what the proof needs (report.json, work/ and ledger/): {error}.") from error
    config = from_dict({**settings, "device": "cpu"})
    with tempfile.TemporaryDirectory() as scratch:
        work = Work(recording, Path(scratch), Path(scratch), config, Models(config))
        Ingest().run(work)
        made = work.new_track("made")
        prepared = precondition_again(work, stages["precondition"]["effect"], result / "work")
        gains = revealing_gains(lambda a, n: np.array(gain[a : a + n]), lambda a, n: np.array(mask[a : a + n]))
        for start, block in operator.apply(prepared, gains):
            made.write(start, stem_sum(block.reshape(8, -1)))
        again = made
        if work.rate != made.rate:
            again = resample_track(made, work.new_track("again", 2, work.samples, work.rate))
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
    )
