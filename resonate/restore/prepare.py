"""The stages before the networks: ingest, diagnose, precondition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.signal import butter, sosfilt

from resonate import RATE
from resonate.audio import AudioError, Reader, Resampler, to_stereo
from resonate.models.stats import StatsAccumulator
from resonate.restore.config import RestoreConfig
from resonate.restore.loudness import LoudnessMeter
from resonate.restore.store import Track
from resonate.restore.work import SHORTEST, Work, to_db

#: Below this peak a recording counts as silent (-120 dBFS).
SILENCE = 1e-6

#: Samples this close below a recording's peak count as clipped where at least three follow one another.
_CLIP_SHARE = 0.999


class Appender:
    """Writes consecutive blocks of unknown total length to a raw file of frames, then makes a track of it."""

    def __init__(self, work: Work, name: str) -> None:
        self._work, self._name = work, name
        self._file = open(work.folder / f"{name}.raw", "wb")  # noqa: SIM115 - closed by finish()
        self.count = 0

    def push(self, block: np.ndarray) -> None:
        """Add a (2, n) block."""
        self._file.write(np.ascontiguousarray(block.T, dtype="<f4").tobytes())
        self.count += block.shape[1]

    def finish(self, rate: int) -> Track:
        """The track, at `rate` Hz."""
        self._file.close()
        path = self._work.folder / f"{self._name}.raw"
        track = self._work.new_track(self._name, 2, self.count, rate)
        at = 0
        with open(path, "rb") as file:
            while data := file.read(8 << 17):
                block = np.frombuffer(data, "<f4").reshape(-1, 2).T
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
                stereo, note = to_stereo(part)
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
    for start, block in resampled(blocks, source.channels, source.rate, target.rate, target.length):
        target.write(start, block)
    return target


class Diagnose:
    """Measure what the recording is like; changes nothing."""

    name = "diagnose"

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """None."""
        return {}

    def run(self, work: Work) -> dict[str, Any]:
        """Sets `stats` and `diagnosis`."""
        track = work.track["input"]
        meter = LoudnessMeter(work.rate)
        peak, energy, total = 0.0, 0.0, np.zeros(2)
        for _, block in track.blocks():
            meter.push(block)
            peak = max(peak, float(np.abs(block).max()))
            energy += float(np.square(block, dtype=np.float64).sum())
            total += block.sum(1, dtype=np.float64)
        clipped = _clipped_share(track, peak)
        accumulator = StatsAccumulator()
        for _, block in work.track["ingested"].blocks():
            accumulator.update(block)
        work.stats = accumulator.finish()
        work.silent = peak < SILENCE
        loudness = meter.loudness()
        work.diagnosis = {
            "seconds": round(work.samples / work.rate, 3),
            "silent": work.silent,
            "peak_dbfs": to_db(peak),
            "rms_dbfs": to_db(float(np.sqrt(energy / (2 * work.samples)))),
            "loudness_lufs": round(loudness, 2) if np.isfinite(loudness) else None,
            "dc_offset": [round(float(v / work.samples), 6) for v in total],
            "clipped_share": clipped,
            "low_hz": round(work.stats.low_hz, 1),
            "high_hz": round(work.stats.high_hz, 1),
            "range_over_floor_db": None if work.silent else _range_db(work),
        }
        work.diagnosis["words"] = words(work.diagnosis)
        return work.diagnosis


def _clipped_share(track: Track, peak: float) -> float:
    """Share of samples in runs of three or more at the recording's own peak, when that is above -12 dBFS."""
    if peak < 0.25:
        return 0.0
    count = 0
    for _, block in track.blocks():
        at = (np.abs(block) >= _CLIP_SHARE * peak).astype(np.int8)
        run = at[:, :-2] & at[:, 1:-1] & at[:, 2:]
        inside = np.zeros_like(at)
        for shift in range(3):
            inside[:, shift : shift + run.shape[1]] |= run
        count += int(inside.sum())
    return round(count / (2 * track.length), 7)


def _range_db(work: Work) -> float:
    """Mean distance in dB between the long-term spectrum and the noise floor inside the captured band."""
    inside = work.stats.in_band > 0
    return round(float((work.stats.ltas_db - work.stats.floor_db)[inside].mean()), 1)


def words(d: dict[str, Any]) -> list[str]:
    """The diagnosis in plain sentences."""
    if d["silent"]:
        return ["The recording is silent."]
    out = [f"The recording lasts {d['seconds']:.1f} s, with peaks at {d['peak_dbfs']:.1f} dBFS."]
    out.append(f"Music was captured between about {d['low_hz']:.0f} and {d['high_hz']:.0f} Hz.")
    if d["clipped_share"] > 1e-5:
        out.append(f"{100 * d['clipped_share']:.3f} % of the samples are clipped.")
    if max(abs(v) for v in d["dc_offset"]) > 1e-3:
        out.append("The signal is off centre (a DC offset), which is taken out.")
    if d["range_over_floor_db"] is not None and d["range_over_floor_db"] < 10:
        out.append("Crowd, room or noise never fall far below the music: expect a modest result.")
    return out


class Precondition:
    """Take out DC and rumble: the mean of each channel, and a Butterworth high-pass of second order. Linear."""

    name = "precondition"

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """Which filters are on."""
        return asdict(config.precondition)

    def run(self, work: Work) -> dict[str, Any]:
        """Adds track `separator_input`."""
        config, source = work.config.precondition, work.track["ingested"]
        mean = np.zeros((2, 1))
        if config.remove_dc:
            for _, block in source.blocks():
                mean[:, 0] += block.sum(1, dtype=np.float64) / source.length
        target, peak = work.new_track("separator_input"), 0.0
        for start, block in precondition_blocks(source, mean, config.rumble_hz):
            target.write(start, block)
            peak = max(peak, float(np.abs(block).max()))
        work.silent = work.silent or peak < SILENCE
        work.drop("ingested")
        return {
            "dc_removed": [float(v) for v in mean[:, 0]],
            "rumble_hz": config.rumble_hz,
            "peak_after_dbfs": to_db(peak),
        }


def precondition_blocks(source: Track, mean: np.ndarray, rumble_hz: float):
    """(start, block) of `source` less `mean`, high-passed at `rumble_hz` (0: not)."""
    sos = butter(2, rumble_hz, "highpass", fs=RATE, output="sos") if rumble_hz > 0 else None
    state = np.zeros((1, 2, 2)) if sos is not None else None
    for start, block in source.blocks():
        y = block - mean
        if sos is not None:
            y, state = sosfilt(sos, y, axis=-1, zi=state)
        yield start, y.astype(np.float32)
