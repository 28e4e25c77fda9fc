"""The stages that take a recording in: ingest and diagnose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from resonate.audio import AudioError, Reader, Resampler, to_stereo
from resonate.restore.config import RestoreConfig
from resonate.restore.diagnosis import clean
from resonate.restore.diagnosis.diagnose import Diagnoser
from resonate.restore.diagnosis.levels import PER_SECOND
from resonate.restore.diagnosis.parts import described
from resonate.restore.diagnosis.sentences import sentences
from resonate.restore.loudness import LoudnessMeter
from resonate.restore.store import Track
from resonate.restore.work import SHORTEST, Work, to_db

#: Below this peak a recording counts as silent (-120 dBFS).
SILENCE = 1e-6
#: Where the channels' difference holds this many times the energy of their sum, one of them is wired the wrong way
#: round: two microphones in one place never differ so much (10 dB).
_TURNED = 10.0


class Appender:
    """Writes consecutive blocks of unknown total length to a raw file of frames, then makes a track of it."""

    def __init__(self, work: Work, name: str) -> None:
        self._work, self._name = work, name
        self._file = open(work.folder / f"{name}.raw", "wb")  # noqa: SIM115 - closed by finish()
        self.count = 0
        self._sum, self._difference = 0.0, 0.0

    def push(self, block: np.ndarray) -> None:
        """Add a (2, n) block."""
        self._file.write(np.ascontiguousarray(block.T, dtype="<f4").tobytes())
        self.count += block.shape[1]
        self._sum += float(np.square(block[0] + block[1], dtype=np.float64).sum())
        self._difference += float(np.square(block[0] - block[1], dtype=np.float64).sum())

    @property
    def opposed(self) -> bool:
        """Whether the two channels are of opposite polarity, so that their sum would lose the sound."""
        return self._difference > _TURNED * self._sum

    def finish(self, rate: int) -> Track:
        """The track, at `rate` Hz; the right channel is turned over where they are `opposed`."""
        self._file.close()
        signs = np.array([[1.0], [-1.0 if self.opposed else 1.0]], dtype=np.float32)
        path = self._work.folder / f"{self._name}.raw"
        track = self._work.new_track(self._name, 2, self.count, rate)
        at = 0
        with open(path, "rb") as file:
            while data := file.read(8 << 17):
                block = signs * np.frombuffer(data, "<f4").reshape(-1, 2).T
                track.write(at, block)
                at += block.shape[1]
        path.unlink()
        return track


class Ingest:
    """Decode to stereo float32 at the recording's rate, then resample to 44.1 kHz; both on disk."""

    name = "ingest"

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """The stretch that is taken."""
        return {"start": config.start, "duration": config.duration}

    def run(self, work: Work) -> dict[str, Any]:
        """Sets `source`, `rate`, `samples`. AudioError for what cannot be read, or lasts under half a second."""
        reader, appender, position, note = Reader(work.path), Appender(work, "input"), 0, ""
        for block in reader:
            rate = reader.source.rate
            first = round(work.config.start * rate)
            last = None if work.config.duration is None else first + round(work.config.duration * rate)
            part = block[:, max(0, first - position) : None if last is None else max(0, last - position)]
            position += block.shape[1]
            if part.shape[1]:
                stereo, note = to_stereo(part, reader.source.layout)
                appender.push(stereo)
            if last is not None and position >= last:
                break
        reader.close()
        work.source, work.rate, work.samples = reader.source, reader.source.rate, appender.count
        if appender.count == 0:
            raise AudioError(f"{work.path}: ends at {position / work.rate:.2f} s, before start={work.config.start:g}.")
        if appender.count < SHORTEST * work.rate:
            raise AudioError(
                f"{work.path}: {appender.count / work.rate:.2f} s are too short; at least {SHORTEST} s are needed."
            )
        resample_track(appender.finish(work.rate), work.new_track("ingested"))
        work.notes += work.source.notes + ([note] if note else [])
        if appender.opposed:
            work.notes.append(
                "the channels are of opposite polarity, as a wrongly wired cable makes them: the right one was turned "
                "over, in everything that is made of this recording"
            )
        return {**asdict(work.source), "samples": work.samples, "samples_44100": work.length}


def resampled(
    blocks: Iterable[np.ndarray], channels: int, rate_in: int, rate_out: int, length: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(start, block) at `rate_out`, `length` samples in all: rounding the length may cost or add one at the end."""
    resampler, at = Resampler(rate_in, rate_out, channels), 0
    for block in blocks:
        out = resampler.push(block)[:, : length - at]
        if out.shape[1]:
            yield at, out
        at += out.shape[1]
    if at < length:
        rest = resampler.push(np.zeros((channels, 0), dtype=np.float32), last=True)[:, : length - at]
        yield at, np.pad(rest, ((0, 0), (0, length - at - rest.shape[1])))


def resample_track(source: Track, target: Track) -> Track:
    """Fill `target` with `source`, at the target's rate."""
    blocks = (block for _, block in source.blocks())
    return target.fill(resampled(blocks, source.channels, source.rate, target.rate, target.length))


class Diagnose:
    """Measure what the recording is like; changes nothing. See `resonate.restore.diagnosis`."""

    name = "diagnose"
    networks = ("listener",)

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """What counts as clean."""
        return asdict(config.clean)

    def run(self, work: Work) -> dict[str, Any]:
        """Sets `stats`, `parts` and `diagnosis`; adds track `heard`: the AGC's gain in dB, 20 values a second."""
        meter, diagnoser = LoudnessMeter(work.rate), Diagnoser()
        peak, energy, total = 0.0, 0.0, np.zeros(2)
        own, working = work.track["input"], work.track["ingested"]
        for start, block in own.blocks():
            meter.push(block)
            diagnoser.push_own(block)
            peak = max(peak, float(np.abs(block).max()))
            energy += float(np.square(block, dtype=np.float64).sum())
            total += block.sum(1, dtype=np.float64)
            work.tell(self.name, 0.5 * start / own.length)
        for start, block in working.blocks():
            diagnoser.push(block)
            work.tell(self.name, 0.5 + 0.5 * start / working.length)
        work.silent = peak < SILENCE
        found = diagnoser.finish(work.silent)
        work.stats, work.parts = found.stats, found.parts
        heard = work.new_track("heard", 1, len(found.heard.gain_db), PER_SECOND)
        heard.write(0, found.heard.gain_db[None])
        loudness = meter.loudness()
        work.diagnosis = {
            "seconds": round(work.samples / work.rate, 3),
            "silent": work.silent,
            "peak_dbfs": to_db(peak),
            "rms_dbfs": to_db(float(np.sqrt(energy / (2 * work.samples)))),
            "loudness_lufs": round(loudness, 2) if np.isfinite(loudness) else None,
            "dc_offset": [round(float(v / work.samples), 6) for v in total],
            **found.figures,
        }
        finished = not clean.faults(work.diagnosis, work.config.clean)
        if finished and work.config.clean.bypass:
            work.stats, work.parts = found.stats.within_cuts(), [(at, part.within_cuts()) for at, part in found.parts]
            work.diagnosis |= {**work.stats.edges(), "parts": described(work.parts)}
        reasons = clean.reasons(work.diagnosis, work.config.clean)
        work.diagnosis |= {"finished": finished, "clean": not reasons, "not_clean_because": reasons}
        work.diagnosis["words"] = sentences(work.diagnosis)
        return work.diagnosis
