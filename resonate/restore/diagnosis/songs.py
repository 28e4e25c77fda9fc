"""Songs and gaps: the set list by ear, from band levels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d

from resonate.restore.diagnosis.levels import CENTRES, PER_SECOND, Levels

#: Shorter pauses belong to a song, shorter stretches of music to a gap (seconds).
SHORTEST_GAP, SHORTEST_SONG = 2.0, 20.0
_LOW = (CENTRES > 50) & (CENTRES < 260)
_TONAL = (CENTRES > 250) & (CENTRES < 4500)


@dataclass(frozen=True)
class SetList:
    """songs, gaps: [from, to] in seconds; together they cover the recording."""

    songs: list[list[float]]
    gaps: list[list[float]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"songs": self.songs, "gaps": self.gaps}


def music_score(levels: Levels, snr_db: np.ndarray) -> np.ndarray:
    """(n,) how much each row sounds like music (above 0) or like crowd alone (below).

    From the SNR as heard by the listener, the bass against its level in loud moments (a crowd has none), and tones.
    """
    bass = 10 * np.log10((10 ** (levels.band_db[:, _LOW] / 10)).mean(1) + 1e-15)
    bass = uniform_filter1d(bass, PER_SECOND, mode="nearest")
    bass_under = bass - np.percentile(bass, 80)
    tones = uniform_filter1d(-levels.flatness_db[:, _TONAL].mean(1), PER_SECOND, mode="nearest")
    tones_under = tones - np.percentile(tones, 70)
    heard = uniform_filter1d(snr_db, PER_SECOND, mode="nearest")
    return 0.12 * (bass_under + 9.0) + 0.6 * (tones_under + 1.2) + 0.1 * (heard + 1.0)


def find_songs(levels: Levels, snr_db: np.ndarray) -> SetList:
    """The set list. A recording without a gap is one song, one without music one gap."""
    n = len(levels)
    seconds = round(n / PER_SECOND, 2)
    if n < 2 * PER_SECOND:
        return SetList([[0.0, seconds]], [])
    score = median_filter(music_score(levels, snr_db), size=PER_SECOND | 1, mode="nearest")
    playing = _merge(_merge(score > 0, False, SHORTEST_GAP), True, min(SHORTEST_SONG, seconds / 4))
    edges = np.flatnonzero(np.diff(playing.astype(int))) + 1
    bounds = [0, *edges.tolist(), n]
    spans = [[round(a / PER_SECOND, 2), round(b / PER_SECOND, 2)] for a, b in pairwise(bounds)]
    songs = [s for s, a in zip(spans, bounds[:-1], strict=True) if playing[a]]
    gaps = [s for s, a in zip(spans, bounds[:-1], strict=True) if not playing[a]]
    return SetList(songs, gaps)


def _merge(mask: np.ndarray, value: bool, seconds: float) -> np.ndarray:
    """Runs of `value` shorter than `seconds` are flipped, but not at the ends of the recording for gaps."""
    out = mask.copy()
    edges = np.flatnonzero(np.diff(mask.astype(int))) + 1
    bounds = [0, *edges.tolist(), len(mask)]
    for a, b in pairwise(bounds):
        ends = a == 0 or b == len(mask)
        least = seconds / 2 if ends and not value else seconds
        if mask[a] == value and b - a < least * PER_SECOND:
            out[a:b] = not value
    return out
