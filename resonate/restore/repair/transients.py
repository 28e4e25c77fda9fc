"""Bumps, single claps and shouts: short events that stand far out of what the recording holds before and after them.

A drum recurs; a neighbour's clap or a bump against the phone does not. So the reference is the recording itself: the
90th percentile over 8 s of the level in each half-octave band. What exceeds it by a margin in several neighbouring
bands at once, and not for long, is brought down to the margin, by 12 dB at most. The result is a mask of gains between
0.25 and 1: nothing can be added, and steady applause, being its own reference, is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d, percentile_filter, uniform_filter1d

from resonate import RATE
from resonate.models.stats import BINS, HOP, N_FFT

#: Half-octave bands from 45 Hz up.
_EDGES_HZ = 45.0 * 2.0 ** (np.arange(18) / 2)
_EDGES = np.clip(np.round(_EDGES_HZ * N_FFT / RATE).astype(int), 1, BINS)
BANDS = len(_EDGES) - 1

#: Frames whose maximum stands for them in the reference (46 ms), and how many of those make 8 s.
_COARSE = 4
_WINDOW = round(8.0 * RATE / HOP / _COARSE) | 1
_PERCENTILE = 90
#: Neighbouring bands that must stand out at once.
_NEIGHBOURS = 3
#: Most attenuation, in dB.
MOST_DB = 12.0
#: Longest event in frames (0.9 s); what lasts longer is part of the show.
_LONGEST = round(0.9 * RATE / HOP)
#: Frames of context on either side of a stretch (4 s and the longest event), a multiple of _COARSE.
CONTEXT = (_WINDOW // 2 + 1) * _COARSE + 2 * _COARSE * (_LONGEST // _COARSE)
STRETCH = 4096


def band_levels(power: np.ndarray) -> np.ndarray:
    """(1025, frames) power to (frames, 17) dB."""
    sums = np.add.reduceat(power, _EDGES[:-1], axis=0)[:BANDS]
    sums[-1] = power[_EDGES[-2] : _EDGES[-1]].sum(0)
    return (10 * np.log10(sums.T + 1e-12)).astype(np.float32)


def band_gains(levels: np.ndarray, margin_db: float) -> np.ndarray:
    """(frames, 17) gain in dB, -12..0, from levels of the same shape; the first and last 4 s see less context."""
    frames = len(levels)
    padded = np.pad(levels, ((0, -frames % _COARSE), (0, 0)), mode="edge")
    coarse = padded.reshape(-1, _COARSE, BANDS).max(1)
    reference = percentile_filter(coarse, _PERCENTILE, size=(_WINDOW, 1), mode="reflect")
    excess = levels - np.repeat(reference, _COARSE, axis=0)[:frames] - margin_db
    # At least three neighbouring bands at once: an opening along the bands.
    together = minimum_filter1d(excess, _NEIGHBOURS, axis=1, mode="nearest")
    together = maximum_filter1d(together, _NEIGHBOURS, axis=1, mode="nearest")
    # Not for long: what an opening over the longest event leaves is no event.
    lasting = maximum_filter1d(minimum_filter1d(together, _LONGEST, axis=0), _LONGEST, axis=0)
    event = maximum_filter1d(np.where((together > 0) & (lasting <= 0), excess, 0.0), 3, axis=0)
    return -np.clip(uniform_filter1d(event, 3, axis=0), 0.0, MOST_DB).astype(np.float32)


def gain_stretches(
    read_power: Callable[[int, int], np.ndarray], frames: int, margin_db: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first frame, (n, 17) gains in dB) over a recording, each stretch with its context.

    Args:
        read_power: called with (first, count) within the recording, gives (1025, count) power.
    """
    for first in range(0, frames, STRETCH):
        begin, end = max(0, first - CONTEXT), min(frames, first + STRETCH + CONTEXT)
        gains = band_gains(band_levels(read_power(begin, end - begin)), margin_db)
        yield first, gains[first - begin : min(first + STRETCH, frames) - begin]


_CENTRES = np.log(0.5 * (_EDGES[:-1] + _EDGES[1:]))
_BINS = np.log(np.maximum(np.arange(BINS), 1))
_AT = np.clip(np.searchsorted(_CENTRES, _BINS) - 1, 0, BANDS - 2)
_SHARE = np.clip((_BINS - _CENTRES[_AT]) / (_CENTRES[_AT + 1] - _CENTRES[_AT]), 0, 1).astype(np.float32)


def to_mask(gains_db: np.ndarray) -> np.ndarray:
    """(frames, 17) dB to a linear mask (1025, frames) float32, at most 1, interpolated over log frequency."""
    rows = gains_db[:, _AT] * (1 - _SHARE) + gains_db[:, _AT + 1] * _SHARE
    return (10 ** (rows / 20)).T.astype(np.float32)
