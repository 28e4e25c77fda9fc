"""Parts of a recording between which the captured band moves: a microphone that is covered, a codec that changes rate.

Music alone does not move the band: a quiet song has less treble, but the noise of place and phone in it stays. So a
part begins where an edge of the band moves for good and the noise floor beyond the narrower edge moves with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from resonate import RATE
from resonate.models.stats import HOP, RecordingStats, StatsAccumulator, bin_frequencies

#: Frames that are judged at once, a piece (15 s), and how many of these a part has at least.
_PIECE, LEAST_PIECES = 1292, 4
#: By how much an edge has to move, in octaves, and the noise floor between both places, against that inside, in dB.
_OCTAVES, _FLOOR_DB = 0.5, 10.0
#: A piece at this level or below says nothing (dB re full scale).
_SILENT_DB = -90.0


class PartMeter:
    """Push blocks of (channels, samples) at 44.1 kHz, then finish. Keeps four sets of sums, however long it takes."""

    def __init__(self) -> None:
        self._found: list[tuple[int, RecordingStats]] = []
        #: The part that lasts: its first frame, its pieces, and the sums of all but the last of them. Where the band
        #: moves, half of that one may belong to the next part.
        self._begun, self._pieces, self._sums = 0, 0, StatsAccumulator()
        self._last: StatsAccumulator | None = None
        #: How many pieces since then differ from the part, and their sums.
        self._differing, self._different = 0, StatsAccumulator()
        #: The piece that is being heard, and the samples that it lacks.
        self._heard, self._lacks = StatsAccumulator(), _PIECE * HOP

    def push(self, block: np.ndarray) -> None:
        """Add the next block, of any length."""
        while block.shape[1]:
            now, block = block[:, : self._lacks], block[:, self._lacks :]
            self._heard.update(now)
            self._lacks -= now.shape[1]
            if self._lacks == 0:
                self._add(self._heard)
                self._heard, self._lacks = StatsAccumulator(), _PIECE * HOP

    def _add(self, piece: StatsAccumulator) -> None:
        """Give the piece to the part, or to what differs from it."""
        stats = piece.finish()
        if stats.rms_db <= _SILENT_DB:
            if self._differing:
                self._differing += 1
            else:
                self._pieces += 1
            return
        # The part is known once it has its least pieces besides the last one.
        if self._pieces <= LEAST_PIECES or not moved(self._sums.finish(), stats):
            # Next to what differed, the pieces before and after are half of it.
            mixed = self._differing > 0
            self._keep(mixed)
            self._last = None if mixed else piece
            self._pieces += 1
            return
        self._different.merge(piece)
        self._differing += 1
        if self._differing >= LEAST_PIECES:
            before, after = self._sums.finish(), self._different.finish()
            if moved(before, after):
                self._begin(before, wider=after.in_band.sum() > before.in_band.sum())

    def _begin(self, before: RecordingStats, wider: bool) -> None:
        """What differs is a part of its own. The piece in which the band moved belongs to the wider of the two: treble
        that was captured is not to be filled in."""
        self._found.append((self._begun, before))
        self._begun += (self._pieces - wider) * _PIECE
        self._sums, self._pieces, self._last = self._different, self._differing + wider, None
        self._differing, self._different = 0, StatsAccumulator()

    def _keep(self, mixed: bool) -> None:
        """The part lasts on. Its sums take the last piece, unless that is `mixed`, and never what differed for too
        short a time: it would blur what the part is like."""
        if self._last is not None and not mixed:
            self._sums.merge(self._last)
        self._pieces += self._differing
        self._last, self._differing, self._different = None, 0, StatsAccumulator()

    def finish(self) -> list[tuple[int, RecordingStats]]:
        """(first frame, statistics) of each part; empty where the band does not move."""
        if not self._found:
            return []
        self._keep(self._differing > 0)
        return [*self._found, (self._begun, self._sums.finish())]


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
    return [{"from": round(first * HOP / RATE, 1), **stats.edges()} for first, stats in parts]
