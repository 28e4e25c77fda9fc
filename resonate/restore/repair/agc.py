"""Undo a phone's gain control: the inverse of the gain that the listener heard, smooth and bounded."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

from resonate.models.stats import HOP
from resonate.restore.diagnosis.levels import STEP


def inverse_gain_db(heard_db: np.ndarray, most_db: float) -> np.ndarray:
    """(n,) dB per 50 ms: minus the gain that was heard (n,), smoothed over 0.15 s, within +-`most_db`."""
    smooth = uniform_filter1d(heard_db.astype(np.float64), 3, mode="nearest")
    return np.clip(-smooth, -most_db, most_db)


def at_frames(gain_db: np.ndarray, first: int, count: int) -> np.ndarray:
    """(count, 1) float32 linear gains at the short-time spectrum's frames [first, first + count), from dB per 50 ms."""
    middles = (np.arange(len(gain_db)) + 0.5) * STEP
    values = np.interp(np.arange(first, first + count) * HOP, middles, gain_db)
    return (10 ** (values / 20)).astype(np.float32)[:, None]


def scale(block: np.ndarray, start: int, rows: np.ndarray) -> np.ndarray:
    """(channels, n) `block`, which begins at sample `start`, times a gain.

    Args:
        rows: (n // 512 + 3 or more, 1) linear gains at the frames from start // 512 on, interpolated linearly.
    """
    first = start // HOP
    places = (np.arange(start, start + block.shape[1]) - first * HOP) / HOP
    return block * np.interp(places, np.arange(len(rows)), rows[:, 0]).astype(np.float32)
