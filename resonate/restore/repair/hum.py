"""Mains hum: narrow notches at the lines that were found, and nowhere else. Linear and time-invariant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import iirnotch, tf2sos

from resonate import RATE

#: Width of each notch in Hz (-3 dB): mains frequency wanders by a tenth of a hertz or two.
WIDTH_HZ = 1.5


def notches(lines_hz: Sequence[float]) -> np.ndarray:
    """(n, 6) second-order sections, a notch of 1.5 Hz at each of `lines_hz`."""
    return np.concatenate([tf2sos(*iirnotch(hz, hz / WIDTH_HZ, fs=RATE)) for hz in lines_hz])
