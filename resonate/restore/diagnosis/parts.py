"""Parts of a recording between which the captured band moves: a microphone that is covered, a codec that changes rate.

Music alone does not move the band: a quiet song has less treble, but the noise of place and phone in it stays. So a
part begins where an edge of the band moves for good and the noise floor beyond the narrower edge moves with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from resonate import RATE
from resonate.models.stats import HOP, RecordingStats, StatsAccumulator, bin_frequencies

#: Frames that are judged at once (15 s), and how many of these a part has at least.
_PIECE, LEAST_PIECES = 1292, 4
#: By how much an edge has to move, in octaves, and the noise floor between both places, against that inside, in dB.
_OCTAVES, _FLOOR_DB = 0.5, 10.0


class PartMeter:
    """Push blocks of (channels, samples) at 44.1 kHz, then finish. Keeps four sets of sums, however long it takes."""

    def __init__(self) -> None:
        self._part, self._pieces = StatsAccumulator(), 0
        #: The last piece of the part: where the band moves, half of this one may be of the next part.
        self._last: StatsAccumulator | None = None
        #: Pieces since then, all of which differ from the part.
        self._other, self._others = StatsAccumulator(), 0
        self._piece, self._room = StatsAccumulator(), _PIECE * HOP
        self._begun = 0
        self._parts: list[tuple[int, RecordingStats]] = []

    def push(self, block: np.ndarray) -> None:
        """Add the next block, of any length."""
        while block.shape[1]:
            now, block = block[:, : self._room], block[:, self._room :]
            self._piece.update(now)
            self._room -= now.shape[1]
            if self._room == 0:
                self._add()
                self._piece, self._room = StatsAccumulator(), _PIECE * HOP

    def _add(self) -> None:
        """Give the piece to the part, or to what differs from it."""
        if self._pieces <= LEAST_PIECES or not moved(self._part.finish(), self._piece.finish()):
            self._join()
            self._last = self._piece
            self._pieces += 1
            return
        self._other.merge(self._piece)
        self._others += 1
        if self._others >= LEAST_PIECES and moved(self._part.finish(), self._other.finish()):
            self._parts.append((self._begun, self._part.finish()))
            self._begun += self._pieces * _PIECE
            self._part, self._pieces, self._last = self._other, self._others, None
            self._other, self._others = StatsAccumulator(), 0

    def _join(self) -> None:
        """The last piece is of the part after all, and so is what differed: it was too short for a part."""
        if self._last is not None:
            self._part.merge(self._last)
        self._part.merge(self._other)
        self._pieces += self._others
        self._last, self._other, self._others = None, StatsAccumulator(), 0

    def finish(self) -> list[tuple[int, RecordingStats]]:
        """(first frame, statistics) of each part; empty where the band does not move."""
        if not self._parts:
            return []
        self._join()
        self._part.merge(self._piece)
        return [*self._parts, (self._begun, self._part.finish())]


def moved(before: RecordingStats, after: RecordingStats) -> bool:
    """Whether an edge of the band is elsewhere, and the noise floor with it."""
    common = (before.in_band > 0) & (after.in_band > 0)
    if not common.any() or not np.isfinite([before.rms_db, after.rms_db]).all():
        return False
    change = after.floor_db - before.floor_db
    change = change - np.median(change[common])
    freqs = bin_frequencies()
    for old, new, narrower in (
        (before.low_hz, after.low_hz, after.low_hz > before.low_hz),
        (before.high_hz, after.high_hz, after.high_hz < before.high_hz),
    ):
        between = (freqs > min(old, new)) & (freqs < max(old, new))
        if abs(np.log2(new / old)) >= _OCTAVES and between.any():
            fell = -float(change[between].mean())
            if (fell if narrower else -fell) >= _FLOOR_DB:
                return True
    return False


def described(parts: list[tuple[int, RecordingStats]]) -> list[dict[str, Any]]:
    """For the report: from (seconds), low_hz and high_hz of each part."""
    return [
        {"from": round(first * HOP / RATE, 1), "low_hz": round(stats.low_hz, 1), "high_hz": round(stats.high_hz, 1)}
        for first, stats in parts
    ]
