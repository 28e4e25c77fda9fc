"""The room, blindly: how fast sound dies away after it stops, per octave band, and how the sound that comes first is
coloured.

Free decays (stretches of falling level) are fitted with lines; a room sets the fastest of them, music makes others
slower, so a low percentile is taken (Prego et al., "A blind algorithm for reverberation-time estimation using subband
decomposition of speech signals", JASA 131, 2012, for the principle). The noise floor hides the ends of decays.

What the level of a band rises by from one row to the next has come within 50 ms: direct sound and early reflections.
Against what the same rises hold in finished music they show the magnitude of the early response, venue, speakers and
capsule together. A single song is no mean of all music, so this is a rough guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from resonate.restore.diagnosis.levels import CENTRES, PER_SECOND, Levels
from resonate.restore.diagnosis.scene import Scene

#: Octave bands in Hz.
OCTAVES = (125, 250, 500, 1000, 2000, 4000, 8000)
#: Rows of a fitted decay (0.3 s), and the fall in dB that it must show.
_ROWS, _LEAST_FALL = 6, 5.0
_MOST_ERROR = 1.5
_PERCENTILE = 25.0
_LEAST_DECAYS = 6
#: Rises count where the level lies this far (dB) over the band's tenth percentile, in this share of the rows at least.
_OVER_FLOOR_DB, _LEAST_SHARE = 6.0, 0.02
#: Mean spectrum of finished music in dB per octave band, from the long-term spectra of the 63 songs that the first
#: restorer learned from; the rises of the album songs among them have the same shape within a decibel.
_FINISHED_DB = dict(zip(OCTAVES, (8.0, 2.5, 0.5, -7.0, -12.5, -20.5, -27.0), strict=True))


@dataclass(frozen=True)
class Room:
    """rt60_s: reverberation time per octave band in s (None where too few decays are heard, or `mid_s` is not
    measured); mid_s: at 500..2000 Hz; mid_measured: False where `mid_s` is only what is typical; clarity_db: C80 (None
    where it is not measured); early_db: magnitude of the early response per octave band in dB, mean 0 over
    250..4000 Hz (None where too little is heard over the noise)."""

    rt60_s: dict[int, float | None]
    mid_s: float | None
    mid_measured: bool
    clarity_db: float | None
    early_db: dict[int, float | None]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "rt60_s": {str(k): None if v is None else round(v, 2) for k, v in self.rt60_s.items()},
            "mid_s": None if self.mid_s is None else round(self.mid_s, 2),
            "mid_measured": self.mid_measured,
            "clarity_db": None if self.clarity_db is None else round(self.clarity_db, 1),
            "early_db": {str(k): None if v is None else round(v, 1) for k, v in self.early_db.items()},
        }


def decay_times(levels: Levels) -> dict[int, float | None]:
    """Decay time over 60 dB per octave band, in s."""
    out: dict[int, float | None] = {}
    x = np.arange(_ROWS) / PER_SECOND
    x = x - x.mean()
    for octave in OCTAVES:
        near = np.abs(np.log2(CENTRES / octave)) < 0.3
        level = 10 * np.log10((10 ** (levels.band_db[:, near] / 10)).mean(1) + 1e-15)
        if len(level) < 4 * _ROWS:
            out[octave] = None
            continue
        floor = np.percentile(level, 5)
        windows = np.lib.stride_tricks.sliding_window_view(level, _ROWS)
        mean = windows.mean(1)
        slope = (windows - mean[:, None]) @ x / (x @ x)
        error = np.sqrt(np.square(windows - mean[:, None] - slope[:, None] * x).mean(1))
        falls = -slope * (_ROWS - 1) / PER_SECOND
        good = (falls > _LEAST_FALL) & (error < _MOST_ERROR) & (windows[:, -1] > floor + 3)
        good &= (np.diff(windows, axis=1) < 0.5).all(1)
        times = -60.0 / slope[good]
        out[octave] = float(np.percentile(times, _PERCENTILE)) if len(times) >= _LEAST_DECAYS else None
    return out


def rises_db(levels: Levels) -> dict[int, float | None]:
    """Mean rise of the power per octave band in dB re full scale; None where hardly anything rises over the noise."""
    power = 10 ** (levels.band_db.astype(np.float64) / 10)
    loud = power[1:] > 10 ** (_OVER_FLOOR_DB / 10) * np.percentile(power, 10, axis=0)
    rise = (np.maximum(np.diff(power, axis=0), 0.0) * loud).mean(0) if len(power) > 1 else np.zeros(len(CENTRES))
    out: dict[int, float | None] = {}
    for octave in OCTAVES:
        near = np.abs(np.log2(CENTRES / octave)) < 0.3
        heard = len(loud) > 0 and loud[:, near].mean() >= _LEAST_SHARE
        out[octave] = float(10 * np.log10(rise[near].mean() + 1e-15)) if heard else None
    return out


def early_magnitude(levels: Levels) -> dict[int, float | None]:
    """Magnitude of the early response per octave band in dB, mean 0 over 250..4000 Hz."""
    rises = rises_db(levels)
    raw = {o: None if v is None else v - _FINISHED_DB[o] for o, v in rises.items()}
    middle = [v for o, v in raw.items() if v is not None and 250 <= o <= 4000]
    if not middle:
        return dict.fromkeys(OCTAVES)
    return {o: None if v is None else v - float(np.mean(middle)) for o, v in raw.items()}


def estimate_room(levels: Levels, scene: Scene) -> Room:
    """What was heard of the room; the decays per band, scaled together so that their middle agrees with it."""
    early, clarity = early_magnitude(levels), scene.c80_db if scene.c80_told else None
    times = decay_times(levels) if scene.rt60_told else dict.fromkeys(OCTAVES)
    middle = [times[o] for o in (500, 1000, 2000) if times[o] is not None]
    if not middle:
        return Room(dict.fromkeys(OCTAVES), scene.rt60_s, scene.rt60_told, clarity, early)
    scale = scene.rt60_s / float(np.median(middle))
    scaled = {o: None if t is None else float(np.clip(t * scale, 0.1, 8.0)) for o, t in times.items()}
    return Room(scaled, scene.rt60_s, True, clarity, early)
