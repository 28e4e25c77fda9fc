"""Confidence intervals of means, by the bootstrap (Efron 1979)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: From this many songs on, songs are drawn; below, their recordings are (and the interval is too narrow by as much as
#: recordings of a song are alike).
LEAST_SONGS = 5
LEVEL = 0.95


def interval(
    values: Sequence[float], songs: Sequence[str], resamples: int, seed: int = 0
) -> tuple[float, float] | None:
    """(low, high): the 95 % percentile interval of the mean.

    Recordings of one song are alike, so whole songs are drawn with replacement where there are LEAST_SONGS or more,
    else recordings. None for fewer than two values. The same seed gives the same interval.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return None
    names, song = np.unique(np.asarray(songs), return_inverse=True)
    unit = song if len(names) >= LEAST_SONGS else np.arange(len(x))
    count = int(unit.max()) + 1
    sums, sizes = np.bincount(unit, x, count), np.bincount(unit, minlength=count)
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    tail = 100.0 * (1.0 - LEVEL) / 2.0
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)
