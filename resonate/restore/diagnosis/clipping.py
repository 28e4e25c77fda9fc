"""Clipping: hard plateaus, and the pile-up of samples below a level that a soft clip or a codec behind it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Bins of the histogram of magnitudes: a fiftieth of a decibel from -24 to +6 dBFS.
_STEP_DB, _LOW_DB, _HIGH_DB = 0.05, -24.0, 6.0
_BINS = round((_HIGH_DB - _LOW_DB) / _STEP_DB)
#: A plateau is a run of this many samples whose magnitudes lie within this share of each other.
_RUN, _SAME = 3, 1e-3
#: A soft clip shows where the histogram rises towards the top: samples per decibel in the highest 1.5 dB against those
#: 3 to 4 dB below. The magnitudes of music fall ever faster towards their peak (ratios below 0.5).
_RISING = 1.0
#: Share of samples beyond the level that counts as the highest: a codec throws a few out further.
_OUTLIERS = 2e-5
#: Decoded samples beyond this level mean clipping at full scale ahead of the codec, where the peaks reach full scale.
_FULL_SCALE = 0.97


@dataclass(frozen=True)
class Clipping:
    """What was found, per channel (high, low).

    Attributes:
        hard_share: share of samples on plateaus near the recording's highest level.
        soft_share: share of samples near the highest level where there are more than music alone has there: clipping
            ahead of a codec, limiting, a membrane at its stop.
        high, low: levels per channel, linear, at which samples lie on hard plateaus; empty where there are none.
    """

    hard_share: float
    soft_share: float
    high: tuple[float, ...]
    low: tuple[float, ...]


class ClippingMeter:
    """Push consecutive (channels, n) blocks at the recording's own rate. Constant memory."""

    def __init__(self, channels: int = 2) -> None:
        # Two signs per channel, and samples of plateaus apart.
        self._all = np.zeros((2 * channels, _BINS), dtype=np.int64)
        self._flat = np.zeros_like(self._all)
        self._peak = np.zeros(2 * channels)
        self._carry = np.zeros((channels, 0), dtype=np.float32)
        self._count = 0

    def push(self, block: np.ndarray) -> None:
        """Add the next block."""
        self._count += block.size
        x = np.concatenate([self._carry, block], axis=1)
        self._carry = x[:, -(_RUN - 1) :].copy()
        for c, row in enumerate(x):
            for s, side in enumerate((row, -row)):
                self._peak[2 * c + s] = max(self._peak[2 * c + s], float(side.max(initial=0.0)))
                loud = np.flatnonzero(side > 10 ** (_LOW_DB / 20))
                if not len(loud):
                    continue
                new = loud[loud >= x.shape[1] - block.shape[1]]
                self._all[2 * c + s] += _histogram(side[new])
                starts = loud[loud <= len(side) - _RUN]
                window = side[starts[:, None] + np.arange(_RUN)]
                same = starts[window.min(1) >= (1 - _SAME) * window.max(1)]
                if len(same):
                    inside = np.unique(same[:, None] + np.arange(_RUN))
                    self._flat[2 * c + s] += _histogram(side[inside])

    def finish(self) -> Clipping:
        """The shares and levels of all blocks so far."""
        hard, soft, levels = 0, 0, []
        for histogram, flat, peak in zip(self._all, self._flat, self._peak, strict=True):
            # Plateaus lie together within half a decibel at the top; flat tops of slow waves lie anywhere.
            top = _index(peak)
            plateau = int(flat[max(0, top - 10) :].sum())
            plateau = plateau if plateau >= 8 and plateau > 3 * flat[max(0, top - 40) : max(0, top - 10)].sum() else 0
            # The samples that two blocks share are counted twice: two per block at most.
            hard += min(plateau, int(histogram.sum()))
            soft += _soft(histogram, self._count / 4, peak)
            levels.append(float((1 - 2 * _SAME) * peak) if plateau else 1e9)
        shares = hard / max(self._count, 1), max(soft - hard, 0) / max(self._count, 1)
        if hard == 0:
            return Clipping(*shares, (), ())
        return Clipping(*shares, tuple(levels[0::2]), tuple(-v for v in levels[1::2]))


def _index(value: float) -> int:
    return int(np.clip((20 * np.log10(max(value, 1e-9)) - _LOW_DB) / _STEP_DB, 0, _BINS - 1))


def _histogram(values: np.ndarray) -> np.ndarray:
    at = np.clip((20 * np.log10(values) - _LOW_DB) / _STEP_DB, 0, _BINS - 1).astype(np.int64)
    return np.bincount(at, minlength=_BINS)


def _soft(histogram: np.ndarray, samples: float, peak: float) -> int:
    """Samples that are compressed against the highest level; 0 where the histogram falls towards it."""
    beyond = np.cumsum(histogram[::-1])[::-1]
    full = int(beyond[_index(_FULL_SCALE)]) if peak >= 0.99 else 0
    top = int(np.flatnonzero(beyond >= max(_OUTLIERS * samples, 5))[-1]) if beyond[0] > 100 else 0
    if top < 100:
        return full
    highest = histogram[top - 30 :].sum() / 1.5
    below = histogram[top - 80 : top - 60].sum()
    return max(full, int(beyond[top - 30])) if highest > _RISING * below and below > 20 else full
