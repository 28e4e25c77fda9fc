"""What the codec, or the low rate of the recording, left: a cut-off, its steepness, and holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.fft import rfft

from resonate import RATE

_WINDOW, _HOP = 2048, 4096
_HZ = RATE / _WINDOW
#: A step of this many dB within 1 kHz is a filter or a codec, not the air or a capsule.
_STEEP_DB = 18.0
#: What breaks off above this is the edge of the file's own sample rate.
_WITHIN_HZ = 20700.0
#: Bins this far under their own median over time are holes: a codec set them to zero.
_HOLE_DB = 35.0
#: (upper edge of the cut-off in Hz, in words)
_GUESSES = (
    (4200.0, "a telephone codec (AMR, 8 kHz)"),
    (8300.0, "a speech codec or a rate of 16 kHz"),
    (11300.0, "a rate of 22 kHz"),
    (12300.0, "a rate of 24 kHz or a low bit rate"),
    (17200.0, "AAC or MP3 at a middling bit rate"),
    (20600.0, "AAC, Opus or MP3 at a good bit rate"),
)


@dataclass(frozen=True)
class Codec:
    """cutoff_hz: where the spectrum breaks off (22050: nowhere); step_db: by how much within 1 kHz; holes: share of
    bins between 1 kHz and the cut-off that are empty now and then; guess: in words."""

    cutoff_hz: float
    step_db: float
    holes: float
    guess: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "cutoff_hz": round(self.cutoff_hz, 1),
            "step_db": round(self.step_db, 1),
            "holes": round(self.holes, 4),
            "guess": self.guess,
        }


class CodecMeter:
    """Push consecutive (channels, n) blocks at 44.1 kHz. Constant memory."""

    def __init__(self) -> None:
        self._window = np.kaiser(_WINDOW, 12.0).astype(np.float32)
        self._carry = np.zeros(0, dtype=np.float32)
        self._power = np.zeros(_WINDOW // 2 + 1)
        self._typical = np.full(_WINDOW // 2 + 1, -120.0)
        self._holes = np.zeros(_WINDOW // 2 + 1)
        self._frames = 0

    def push(self, block: np.ndarray) -> None:
        """Add the next block."""
        self._carry = np.concatenate([self._carry, np.asarray(block, dtype=np.float32).mean(0)])
        count = max(0, (len(self._carry) - _WINDOW) // _HOP + 1)
        if count == 0:
            return
        frames = np.lib.stride_tricks.sliding_window_view(self._carry, _WINDOW)[: count * _HOP : _HOP]
        power = np.square(np.abs(rfft(frames * self._window, axis=1)) * (4 / _WINDOW)).astype(np.float64)
        self._carry = self._carry[count * _HOP :]
        power = power[power.sum(1) > 1e-10]
        self._power += power.sum(0)
        for row in 10 * np.log10(power + 1e-15):
            self._frames += 1
            self._holes += row < self._typical - _HOLE_DB
            # A running median: a step towards each value, large at first.
            self._typical += np.sign(row - self._typical) * max(0.5, 12.0 / self._frames**0.5)

    def finish(self) -> Codec:
        """The guess from all blocks."""
        if self._frames == 0:
            return Codec(RATE / 2, 0.0, 0.0, "nothing to tell by")
        level = 10 * np.log10(self._power / self._frames + 1e-15)
        # Compare half a kilohertz below with half a kilohertz above, 150 Hz apart.
        width, gap = round(500 / _HZ), round(75 / _HZ)
        total = np.concatenate([[0.0], np.cumsum(level)])
        first, last = round(2500 / _HZ), len(level) - width - gap - 1
        at = np.arange(first, last)
        below = (total[at - gap] - total[at - gap - width]) / width
        above = (total[at + gap + width] - total[at + gap]) / width
        step = below - above
        # Each side's own slope is no step.
        steep = np.flatnonzero(step >= _STEEP_DB)
        holes = 0.0
        if len(steep) == 0 or at[steep[0]] * _HZ > _WITHIN_HZ:
            cutoff, height = RATE / 2, float(step.max())
            guess = "no cut-off: uncompressed, or a high bit rate"
        else:
            # The first break, at its steepest.
            group = np.split(steep, np.flatnonzero(np.diff(steep) > 1) + 1)[0]
            best = group[int(step[group].argmax())]
            cutoff, height = float(at[best] * _HZ), float(step[best])
            guess = next((words for edge, words in _GUESSES if cutoff <= edge), "a high bit rate")
        low, high = round(1000 / _HZ), round(min(cutoff, 16000.0) / _HZ)
        if self._frames > 20 and high > low:
            holes = float((self._holes[low:high] / self._frames).mean())
        return Codec(cutoff, height, holes, guess)
