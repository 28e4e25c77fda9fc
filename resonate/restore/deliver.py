"""The stages that write what the user gets: ledger, stems and master."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from resonate import STEMS
from resonate.audio_wav import WavWriter
from resonate.restore import mastering
from resonate.restore.config import RestoreConfig
from resonate.restore.networks import stem_rows
from resonate.restore.prepare import resample_track
from resonate.restore.store import Track
from resonate.restore.work import Work, to_db

#: Files of the ledger, without their suffix.
LEDGER = (
    "separator_input",
    *(f"separated_{name}" for name in STEMS),
    "crowd",
    "revealed",
    "extended",
    "premaster",
    "removed",
)


def stem_sum(block: np.ndarray) -> np.ndarray:
    """(8, n) stems to their (2, n) sum, added in float64."""
    return block.reshape(len(STEMS), 2, -1).sum(0, dtype=np.float64).astype(np.float32)


class Ledger:
    """What became of every part of the recording, at its own rate and length.

    All parts are resampled from 44.1 kHz first; `crowd` and `premaster` are then formed from the very samples of the
    other files, so the equations hold on the files to the rounding of float32:
    sum of separated + crowd = separator_input; revealed + extended = premaster; input - revealed = removed.
    """

    name = "ledger"

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """Whether it is written."""
        return {"ledger": config.ledger}

    def run(self, work: Work) -> dict[str, Any]:
        """Writes `ledger/`, unless ledger=false."""
        if not work.config.ledger:
            return {"skipped": "ledger=false"}
        folder = work.result / "ledger"
        folder.mkdir()
        parts = {name: self._on_clock(work, name) for name in ("separator_input", "separated", "revealed", "extended")}
        peak = dict.fromkeys(LEDGER, 0.0)
        with ExitStack() as stack:
            files = {
                name: stack.enter_context(WavWriter(folder / f"{name}.wav", work.rate, 2, work.samples))
                for name in LEDGER
            }
            for start, given in work.track["input"].blocks():
                for name, block in ledger_blocks(
                    {k: t.read(start, given.shape[1]) for k, t in parts.items()}, given
                ).items():
                    files[name].write(block)
                    peak[name] = max(peak[name], float(np.abs(block).max()))
        return {"peak_dbfs": {name: to_db(value) for name, value in peak.items()}}

    def _on_clock(self, work: Work, name: str) -> Track:
        """The track at the recording's rate; revealed and extended as the sums of their stems."""
        source = work.track[name]
        if name in ("revealed", "extended"):
            whole = work.new_track(f"{name}_sum")
            for start, block in source.blocks():
                whole.write(start, stem_sum(block))
            source = whole
        if source.rate == work.rate:
            return source
        target = work.new_track(f"{name}_clock", source.channels, work.samples, work.rate)
        return resample_track(source, target)


def ledger_blocks(parts: dict[str, np.ndarray], given: np.ndarray) -> dict[str, np.ndarray]:
    """All blocks of the ledger from those of separator_input, separated (8, n), revealed, extended, and the input."""
    out = {name: parts[name] for name in ("separator_input", "revealed", "extended")}
    out |= {f"separated_{name}": parts["separated"][stem_rows(k)] for k, name in enumerate(STEMS)}
    stems = parts["separated"].reshape(len(STEMS), 2, -1).sum(0, dtype=np.float64)
    out["crowd"] = (parts["separator_input"] - stems).astype(np.float32)
    out["premaster"] = out["revealed"] + out["extended"]
    out["removed"] = given - out["revealed"]
    return out


class Stems:
    """Restored stems, revealed plus extended, at the master's rate and length; their sum goes to the master."""

    name = "stems"

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """None."""
        return {}

    def run(self, work: Work) -> dict[str, Any]:
        """Writes `stems/`; adds track `premaster`, at the output rate."""
        folder = work.result / "stems"
        folder.mkdir()
        both = work.new_track("stems", 2 * len(STEMS))
        for start, block in work.track["revealed"].blocks():
            both.write(start, block + work.track["extended"].read(start, block.shape[1]))
        at_rate = both
        if work.output_rate != both.rate or work.output_length != both.length:
            at_rate = work.new_track("stems_out", 2 * len(STEMS), work.output_length, work.output_rate)
            resample_track(both, at_rate)
        premaster = work.new_track("premaster", 2, work.output_length, work.output_rate)
        peak = np.zeros(len(STEMS))
        with ExitStack() as stack:
            files = [
                stack.enter_context(WavWriter(folder / f"{name}.wav", work.output_rate, 2, work.output_length))
                for name in STEMS
            ]
            for start, block in at_rate.blocks():
                premaster.write(start, stem_sum(block))
                for k, file in enumerate(files):
                    file.write(block[stem_rows(k)])
                    peak[k] = max(peak[k], float(np.abs(block[stem_rows(k)]).max()))
        return {
            "rate": work.output_rate,
            "samples": work.output_length,
            "peak_dbfs": {name: to_db(float(v)) for name, v in zip(STEMS, peak, strict=True)},
        }


class Master:
    """Loudness, true-peak limiter, 24 bit."""

    name = "master"

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """Targets and bounds."""
        return asdict(config.master)

    def run(self, work: Work) -> dict[str, Any]:
        """Writes `master.wav`."""
        blocks, effect = mastering.master(work.track["premaster"], work.config.master)
        path: Path = work.result / "master.wav"
        with WavWriter(path, work.output_rate, 2, work.output_length, "PCM_24") as file:
            for block in blocks():
                file.write(block)
        return {"rate": work.output_rate, "samples": work.output_length, "bits": 24, **effect}
