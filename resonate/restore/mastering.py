"""Loudness normalisation with a look-ahead limiter, computed at a control rate of about one millisecond.

One pass measures K-weighted power and true peak. Gains are then found on those numbers alone, and one more pass
applies them. The limiter holds each peak below the ceiling; its gain is the minimum over 5 ms either way, smoothed by a
Hann window of the same length (so it never exceeds what the peak allows), and recovers at a constant rate in dB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import minimum_filter1d

from resonate.restore.config import Master
from resonate.restore.loudness import LoudnessMeter, PeakMeter, integrated
from resonate.restore.store import Track

#: Look-ahead in control steps of about 1 ms, and recovery in dB per step.
LOOKAHEAD = 5
RELEASE_DB = 0.1

#: dB that are kept below the ceiling, for what the smooth gain does between samples and for other meters' filters.
MARGIN_DB = 0.3


@dataclass
class Levels:
    """Level of a track: `power` per 10 ms, `peaks` (linear) per control step of `step` samples."""

    power: np.ndarray
    peaks: np.ndarray
    step: int

    @property
    def loudness(self) -> float:
        """Integrated loudness, LUFS; -inf for silence."""
        return integrated(self.power)

    @property
    def true_peak_db(self) -> float:
        """dBTP; -inf for silence."""
        return float(20 * np.log10(self.peaks.max())) if self.peaks.max() > 0 else -np.inf


@dataclass
class Gains:
    """Make-up gain in dB, and the limiter's gain in dB (<= 0) at the boundaries of the control steps."""

    makeup_db: float
    limiter_db: np.ndarray
    step: int

    def at(self, start: int, count: int) -> np.ndarray:
        """Linear gain of samples [start, start + count); that of the first and the last sample beyond them."""
        position = np.clip((start + np.arange(count)) / self.step, 0, len(self.limiter_db) - 1)
        first, last = int(position[0]), min(int(position[-1]) + 2, len(self.limiter_db))
        db = np.interp(position, np.arange(first, last), self.limiter_db[first:last])
        return (10 ** ((db + self.makeup_db) / 20)).astype(np.float32)


def measure(track: Track, process: Callable[[int, np.ndarray], np.ndarray] | None = None) -> Levels:
    """Levels of a stereo track, or of what `process(start, block)` makes of it."""
    step = max(1, track.rate // 1000)
    loud, peak = LoudnessMeter(track.rate, track.channels), PeakMeter(step, track.channels)
    for start, block in track.blocks(step * 2048):
        if process is not None:
            block = process(start, block)
        loud.push(block)
        peak.push(block)
    return Levels(loud.power, peak.finish(track.length), step)


def limiter_db(peaks_db: np.ndarray, ceiling_db: float) -> np.ndarray:
    """Gain in dB at the n + 1 boundaries of n control steps that keeps peaks of `peaks_db` below `ceiling_db`."""
    need = np.minimum(0.0, ceiling_db - peaks_db)
    edge = np.minimum(np.append(need, 0.0), np.append(0.0, need))
    held = minimum_filter1d(edge, 2 * LOOKAHEAD + 1, mode="nearest")
    slope = RELEASE_DB * np.arange(len(held))
    held = np.minimum(0.0, np.minimum.accumulate(held - slope) + slope)
    window = np.hanning(2 * LOOKAHEAD + 3)[1:-1]
    return np.convolve(np.pad(held, LOOKAHEAD, mode="edge"), window / window.sum(), mode="valid")


def find_gains(levels: Levels, config: Master) -> Gains:
    """Make-up gain and limiter for a track's levels; unity for silence."""
    steps = len(levels.peaks)
    if levels.loudness == -np.inf:
        return Gains(0.0, np.zeros(steps + 2), levels.step)
    peaks_db = 20 * np.log10(np.maximum(levels.peaks, 1e-9))
    ceiling = config.ceiling - MARGIN_DB
    most = _most(levels, config)
    makeup = min(config.loudness - levels.loudness, most)
    for _ in range(20):
        limiter = limiter_db(peaks_db + makeup, ceiling)
        error = config.loudness - (_limited_loudness(levels, limiter) + makeup)
        if abs(error) < 0.02 or (makeup >= most and error > 0):
            break
        makeup = min(makeup + error, most)
    limiter = limiter_db(peaks_db + makeup, ceiling)
    return Gains(makeup, np.append(limiter, limiter[-1]), levels.step)


def _limited_loudness(levels: Levels, limiter: np.ndarray) -> float:
    """Loudness once the limiter's gain acts, taken as constant over the spectrum within 10 ms."""
    squared = 10 ** (limiter[:-1] / 10)
    edges = np.linspace(0, len(squared), len(levels.power) + 1).astype(int)
    sums = np.concatenate([[0.0], np.cumsum(squared)])
    return integrated(levels.power * (np.diff(sums[edges]) / np.maximum(np.diff(edges), 1)))


@dataclass
class Mastered:
    """`track` under `gains`; reads as a `Track` does."""

    track: Track
    gains: Gains

    @property
    def length(self) -> int:
        """Samples."""
        return self.track.length

    def read(self, start: int, count: int) -> np.ndarray:
        """(2, count) samples from `start` on; zeros outside."""
        return self.track.read(start, count) * self.gains.at(start, count)

    def without_makeup(self) -> Mastered:
        """What the limiter alone makes of it."""
        return replace(self, gains=replace(self.gains, makeup_db=0.0))

    def blocks(self) -> Iterator[np.ndarray]:
        """(2, n) blocks over the whole track."""
        for start, block in self.track.blocks():
            yield block * self.gains.at(start, block.shape[1])


def master(track: Track, config: Master) -> tuple[Mastered, dict[str, float | None]]:
    """Gains for a stereo track, checked on the result.

    Returns:
        the mastered sound, and what was done: loudness and true peak before and after, make-up gain, most limiting, in
        LUFS, dBTP and dB.
    """
    before = measure(track)
    gains = find_gains(before, config)

    def process(start: int, block: np.ndarray) -> np.ndarray:
        return block * gains.at(start, block.shape[1])

    after, aim = measure(track, process), config
    for _ in range(4):
        over = max(0.0, after.true_peak_db - config.ceiling + 0.01)
        short = config.loudness - after.loudness
        bound = short > 0 and gains.makeup_db >= _most(before, aim) - 1e-6
        if after.loudness == -np.inf or (over == 0.0 and (abs(short) < 0.03 or bound)):
            break
        aim = replace(aim, loudness=aim.loudness + short, ceiling=aim.ceiling - over)
        gains = find_gains(before, aim)
        after = measure(track, process)
    over = after.true_peak_db - config.ceiling
    if over > 0:
        # The ceiling comes before the loudness where the rounds do not bring both.
        gains = replace(gains, makeup_db=gains.makeup_db - over - 0.01)
        after = measure(track, process)

    effect = {
        "loudness_before_lufs": before.loudness,
        "loudness_after_lufs": after.loudness,
        "true_peak_before_dbtp": before.true_peak_db,
        "true_peak_after_dbtp": after.true_peak_db,
        "makeup_gain_db": gains.makeup_db,
        "most_limiting_db": float(-gains.limiter_db.min()),
    }
    return Mastered(track, gains), {k: round(v, 3) if np.isfinite(v) else None for k, v in effect.items()}


def _most(levels: Levels, config: Master) -> float:
    """Largest make-up gain in dB that the settings allow.

    The loudest thousandth may be taken down further: one bump must not make the whole show quiet.
    """
    peaks_db = 20 * np.log10(np.maximum(levels.peaks, 1e-9))
    most = config.ceiling - MARGIN_DB + config.max_limiting_db - float(np.quantile(peaks_db, 0.999))
    return min(most, config.max_gain_db)
