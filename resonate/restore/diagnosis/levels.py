"""Band levels over time: what most estimators read, 20 values a second, accumulated over a stream of blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import rfft

from resonate import RATE

#: Short-time spectrum: Hann window and hop in samples (60 frames a second), and frames per value (20 values a second).
WINDOW, HOP, GROUP = 2048, 735, 3
#: Samples from one value of :class:`Levels` to the next (50 ms), and values per second.
STEP = HOP * GROUP
PER_SECOND = RATE // STEP

#: Centres in Hz of the half-octave bands.
CENTRES = 63.0 * 2.0 ** (np.arange(17) / 2)
_FREQS = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
_EDGES = np.searchsorted(_FREQS, np.append(CENTRES * 2**-0.25, CENTRES[-1] * 2**0.25))
_SCALE = 4.0 / WINDOW
FLOOR_DB = -150.0


@dataclass(frozen=True)
class Levels:
    """Levels of the mid channel; rows are 50 ms apart.

    Attributes:
        band_db: (n, 17) mean power of half-octave bands, dB re full scale (a full-scale sine: 0 dB in its bin's mean).
        flatness_db: (n, 17) geometric over arithmetic mean of the power within each band, dB, <= 0: 0 for noise, far
            below for tones. Single-bin bands have 0.
        loudest_db: (n,) largest mean power of the row's frames, dB.
    """

    band_db: np.ndarray
    flatness_db: np.ndarray
    loudest_db: np.ndarray

    def __len__(self) -> int:
        return len(self.loudest_db)

    @property
    def total_db(self) -> np.ndarray:
        """(n,) level of all bands together, dB."""
        widths = np.diff(_EDGES)
        return 10 * np.log10((10 ** (self.band_db / 10) * widths).sum(1) + 1e-15)


def band_means(power: np.ndarray) -> np.ndarray:
    """(frames, 1025) power to (frames, 17) means over the half-octave bands."""
    return np.add.reduceat(power, _EDGES[:-1], axis=1)[:, : len(CENTRES)] / np.diff(_EDGES)


def _db(power: np.ndarray) -> np.ndarray:
    return (10 * np.log10(power + 10 ** (FLOOR_DB / 10))).astype(np.float32)


class LevelMeter:
    """Accumulates :class:`Levels` from consecutive blocks at 44.1 kHz. Memory grows by 3 kB per second."""

    def __init__(self) -> None:
        self._window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
        # Half a window ahead, so that row i is centred on (i + 0.5) * 50 ms, as near as the hop allows.
        self._carry = np.zeros(WINDOW // 2 - HOP // 2, dtype=np.float32)
        self._waiting = np.zeros((0, WINDOW // 2 + 1), dtype=np.float32)
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._samples = 0

    def push(self, block: np.ndarray) -> None:
        """Add the next (channels, n) block."""
        self._samples += block.shape[1]
        self._take(np.asarray(block, dtype=np.float32).mean(0))

    def _take(self, mid: np.ndarray) -> None:
        mid = np.concatenate([self._carry, mid])
        count = max(0, (len(mid) - WINDOW) // HOP + 1)
        self._carry = mid[count * HOP :]
        if count == 0:
            return
        frames = np.lib.stride_tricks.sliding_window_view(mid, WINDOW)[: count * HOP : HOP]
        power = np.square(np.abs(rfft(frames * self._window, axis=1)) * np.float32(_SCALE), dtype=np.float32)
        power = np.concatenate([self._waiting, power])
        groups = len(power) // GROUP
        self._waiting = power[groups * GROUP :]
        if groups:
            grouped = power[: groups * GROUP].reshape(groups, GROUP, -1)
            self._add(grouped.mean(1), grouped.sum(2).max(1))

    def _add(self, power: np.ndarray, loudest: np.ndarray) -> None:
        mean = band_means(power)
        log_mean = band_means(10 * np.log10(power + 10 ** (FLOOR_DB / 10)))
        flatness = np.minimum(log_mean - _db(mean), 0.0).astype(np.float32)
        self._rows.append((_db(mean), flatness, _db(loudest)))

    def finish(self) -> Levels:
        """All rows; the last is filled up with silence. At least one."""
        wanted = -(-self._samples // STEP)
        self._take(np.zeros(WINDOW + STEP, dtype=np.float32))
        band, flatness, loudest = (np.concatenate(column)[: max(wanted, 1)] for column in zip(*self._rows, strict=True))
        return Levels(band, flatness, loudest)


def measure_levels(x: np.ndarray) -> Levels:
    """:class:`Levels` of (channels, n) samples that fit in memory."""
    meter = LevelMeter()
    meter.push(x)
    return meter.finish()


def running_mean(rows: np.ndarray, seconds: float) -> np.ndarray:
    """(n, ...) mean over the window of `seconds` centred on each row, cut off at the ends."""
    half = max(1, round(seconds * PER_SECOND / 2))
    total = np.concatenate([np.zeros((1, *rows.shape[1:])), np.cumsum(rows, axis=0, dtype=np.float64)])
    at = np.arange(len(rows))
    first, last = np.maximum(at - half, 0), np.minimum(at + half + 1, len(rows))
    count = (last - first).reshape(-1, *[1] * (rows.ndim - 1))
    return ((total[last] - total[first]) / count).astype(np.float32)
