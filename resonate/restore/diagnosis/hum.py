"""Mains hum: lines at multiples of 50 or 60 Hz that stand still over the whole recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.fft import rfft

from resonate import RATE

#: 1.5 s of a Hann window (0.67 Hz per bin), half overlapping.
_WINDOW = 1 << 16
_BINS = round(1000 * _WINDOW / RATE)
_HZ = RATE / _WINDOW
HARMONICS = 12
#: A line counts where its level, averaged over time in dB (which a note now and then hardly lifts), stands this far
#: above its neighbours; hum needs the first two or any three harmonics.
_STANDS_DB = 9.0
_LEAST_FRAMES = 6


@dataclass(frozen=True)
class Hum:
    """What was found. `base_hz` 0: none. `lines`: (frequency in Hz, dB over its neighbourhood) of each harmonic."""

    base_hz: float
    lines: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"base_hz": round(self.base_hz, 2), "lines": [[round(f, 2), round(d, 1)] for f, d in self.lines]}


class HumMeter:
    """Push consecutive (channels, n) blocks at 44.1 kHz. Constant memory."""

    def __init__(self) -> None:
        self._window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
        self._carry = np.zeros(0, dtype=np.float32)
        self._sum_db = np.zeros(_BINS)
        self._frames = 0

    def push(self, block: np.ndarray) -> None:
        """Add the next block."""
        self._carry = np.concatenate([self._carry, np.asarray(block, dtype=np.float32).mean(0)])
        at = 0
        while at + _WINDOW <= len(self._carry):
            power = np.square(np.abs(rfft(self._carry[at : at + _WINDOW] * self._window)[:_BINS]) * (4 / _WINDOW))
            # Silence (before a fade in) says nothing.
            if power.sum() > 1e-12:
                self._sum_db += 10 * np.log10(power + 1e-15)
                self._frames += 1
            at += _WINDOW // 2
        self._carry = self._carry[at:]

    def finish(self) -> Hum:
        """What all blocks hold; nothing for recordings under about 5 s."""
        if self._frames < _LEAST_FRAMES:
            return Hum(0.0, ())
        level = self._sum_db / self._frames
        best: list[tuple[float, float]] = []
        best_nominal = 50.0
        for nominal in (50.0, 60.0):
            peaks = [p for h in range(1, HARMONICS + 1) if (p := _line(level, nominal * h, 0.4 * h + 0.3))]
            for f, _ in peaks:
                base = f / round(f / nominal)
                found = [p for p in peaks if abs(p[0] - base * round(p[0] / nominal)) < 0.3]
                if sum(d for _, d in found) > sum(d for _, d in best):
                    best, best_nominal = found, nominal
        numbers = [round(f / best_nominal) for f, _ in best]
        if len(best) < 3 and not {1, 2} <= set(numbers):
            return Hum(0.0, ())
        weights = np.array(numbers, dtype=float)
        base = float((weights * [f for f, _ in best]).sum() / np.square(weights).sum())
        return Hum(base, tuple((float(f), float(d)) for f, d in best))


def _line(level: np.ndarray, hz: float, span: float) -> tuple[float, float] | None:
    """(frequency, dB over its neighbourhood) of the highest peak within `span` Hz of `hz`, where it stands out."""
    first, last = max(2, int((hz - span) / _HZ)), int(np.ceil((hz + span) / _HZ)) + 1
    if last + 1 >= len(level):
        return None
    at = first + int(level[first:last].argmax())
    # Its own skirts, five bins, are left out of the 10 Hz either side that it must stand over.
    around = np.sort(level[max(0, at - round(10 / _HZ)) : at + round(10 / _HZ) + 1])[:-5]
    stands = float(level[at] - np.percentile(around, 75))
    if stands < _STANDS_DB or level[at] < max(level[at - 1], level[at + 1]):
        return None
    left, middle, right = level[at - 1 : at + 2]
    bend = left - 2 * middle + right
    return (at + (0.5 * (left - right) / bend if bend < 0 else 0.0)) * _HZ, stands
