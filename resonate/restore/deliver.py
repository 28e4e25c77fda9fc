"""The stages that write what the user gets: ledger, stems and master."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from resonate import RATE, STEMS
from resonate.audio_wav import WavWriter
from resonate.restore import mastering, veto
from resonate.restore.config import RestoreConfig
from resonate.restore.precondition import bypassed
from resonate.restore.prepare import resampled
from resonate.restore.separation import stem_rows
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
        peak = dict.fromkeys(LEDGER, 0.0)
        # All parts go through one resampler side by side, so they stay on one clock.
        rows = resampled(self._side_by_side(work), 2 * len(STEMS) + 6, RATE, work.rate, work.samples)
        with ExitStack() as stack:
            files = {
                name: stack.enter_context(WavWriter(folder / f"{name}.wav", work.rate, 2, work.samples))
                for name in LEDGER
            }
            for start, block in rows:
                given = work.track["input"].read(start, block.shape[1])
                if bypassed(work):
                    block[2:4] = given  # of a finished mix the very recording, which 44.1 kHz may not hold
                for name, part in ledger_blocks(block, given).items():
                    files[name].write(part)
                    peak[name] = max(peak[name], float(np.abs(part).max()))
        return {"peak_dbfs": {name: to_db(value) for name, value in peak.items()}}

    def _side_by_side(self, work: Work) -> Iterator[np.ndarray]:
        for start, block in work.track["separator_input"].blocks():
            n = block.shape[1]
            revealed, extended = (stem_sum(work.track[name].read(start, n)) for name in ("revealed", "extended"))
            yield np.concatenate([block, revealed, extended, work.track["separated"].read(start, n)])


def ledger_blocks(rows: np.ndarray, given: np.ndarray) -> dict[str, np.ndarray]:
    """All blocks of the ledger from separator_input, revealed, extended and separated (14 rows), and the input."""
    out = {"separator_input": rows[:2], "revealed": rows[2:4], "extended": rows[4:6]}
    separated = rows[6:]
    out |= {f"separated_{name}": separated[stem_rows(k)] for k, name in enumerate(STEMS)}
    stems = separated.reshape(len(STEMS), 2, -1).sum(0, dtype=np.float64)
    out["crowd"] = (out["separator_input"] - stems).astype(np.float32)
    out["premaster"] = out["revealed"] + out["extended"]
    out["removed"] = given - out["revealed"]
    return out


def _restored(work: Work) -> Iterator[np.ndarray]:
    """(10, n) blocks: revealed plus extended, stem by stem, and their sum; of a finished mix the sum of what is
    extended alone, since the recording itself is added at its own rate."""
    for start, block in work.track["revealed"].blocks():
        extended = work.track["extended"].read(start, block.shape[1])
        stems = block + extended
        yield np.concatenate([stems, stem_sum(extended if bypassed(work) else stems)])


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
        premaster = work.new_track("premaster", 2, work.output_length, work.output_rate)
        peak = np.zeros(len(STEMS))
        with ExitStack() as stack:
            files = [
                stack.enter_context(WavWriter(folder / f"{name}.wav", work.output_rate, 2, work.output_length))
                for name in STEMS
            ]
            rows = resampled(_restored(work), 2 * len(STEMS) + 2, RATE, work.output_rate, work.output_length)
            for start, block in rows:
                premaster.write(start, block[2 * len(STEMS) :])
                for k, file in enumerate(files):
                    file.write(block[stem_rows(k)])
                    peak[k] = max(peak[k], float(np.abs(block[stem_rows(k)]).max()))
        if bypassed(work):
            own = (block for _, block in work.track["input"].blocks())
            for start, block in resampled(own, 2, work.rate, work.output_rate, work.output_length):
                premaster.write(start, block + premaster.read(start, block.shape[1]))
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
        """Writes `master.wav`. Where the limiter fails the faithfulness checks, loudness stays so low that it hardly
        acts: a stretch cannot be taken back alone, since its peaks would exceed the ceiling."""
        track = work.track["premaster"]
        mastered, effect = mastering.master(track, work.config.master)
        # A constant gain invents nothing, but would lift what is all but silent above what the checks call silence.
        taken_back = veto.judge_sound(work, self.name, mastered.without_makeup(), track, track.rate)
        if taken_back:
            mastered, effect = mastering.master(track, replace(work.config.master, max_limiting_db=0.0))
        path: Path = work.result / "master.wav"
        with WavWriter(path, work.output_rate, 2, work.output_length, "PCM_24") as file:
            for block in mastered.blocks():
                file.write(block)
        facts = {"rate": work.output_rate, "samples": work.output_length, "bits": 24}
        return {**facts, **effect, "taken_back": taken_back}
