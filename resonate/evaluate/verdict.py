"""All measures of one system on one recording, and the joint verdict.

Each measure alone can be cheated (their docstrings say how), so a system counts as better only where `f_sdr`, `lsd`
and `music_distortion` all hold. These three are judged on the stretches with music only: muting the gaps changes
the level that `lsd` matches and the noise that `f_sdr` counts, and must buy nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from resonate import RATE
from resonate.evaluate import measures
from resonate.evaluate.alignment import cut_to_overlap, find_lag, to_mid
from resonate.evaluate.projection import Projection, music_distortion, noise_attenuation, project

#: How far a measure may move the wrong way before it counts as worse, in dB. f_sdr and lsd: rounding and fades.
#: music_distortion: any gain that changes over time raises it a little, even the one taken from the clean magnitudes
#: (0.3 to 0.5 dB on made captures), where an equaliser that lifts the worst bands costs 1 to 2 dB.
TOLERANCE_DB = {"f_sdr": 0.05, "lsd": 0.1, "music_distortion": 0.5}
#: At least one of the three must gain this much.
GAIN_DB = 0.2


@dataclass(frozen=True)
class Measure:
    """What a reader of a table must know about one column."""

    better: int  # +1: higher is better, -1: lower is better
    says: str
    blind_to: str
    cheat: str


MEASURES: dict[str, Measure] = {
    "si_sdr": Measure(
        +1,
        "likeness to the clean mix, sample by sample",
        "level, polarity",
        "nothing easy; it mostly ranks delay and tone",
    ),
    "f_sdr": Measure(
        +1,
        "likeness to the clean mix, EQ and early echoes forgiven",
        "level, EQ, lost bands",
        "a low-pass raises it, muted gaps too",
    ),
    "lsd": Measure(-1, "distance of the spectra, 20 Hz to 20 kHz", "level, phase, gaps", "EQ lowers it"),
    "lsd_low": Measure(-1, "the same, 20 to 120 Hz", "level, phase, gaps", "EQ lowers it"),
    "lsd_high": Measure(-1, "the same, 8 to 16 kHz", "level, phase, gaps", "EQ or added hiss lowers it"),
    "lsd_air": Measure(-1, "the same, 16 to 20 kHz", "level, phase, gaps", "EQ or added hiss lowers it"),
    "gap_db": Measure(-1, "level of the gaps under the music", "level, noise under the music", "a gate passes it"),
    "noise_attenuation": Measure(
        +1, "how far the crowd sank under the music", "level, delay, gaps", "a filter that keeps the loudest bands"
    ),
    "music_distortion": Measure(
        -1, "how much rose that is neither music nor crowd", "level, delay, gaps", "a low-pass lowers it"
    ),
}


@dataclass(frozen=True)
class Score:
    """One system on one recording: `values` by measure name, and what the verdict compares."""

    values: dict[str, float]
    lag: int
    in_music: dict[str, float]  # f_sdr and lsd on the stretches with music
    projection: Projection | None


def find_gaps(reference: np.ndarray, rate: int = RATE, below_db: float = 60.0, shortest: float = 0.5) -> np.ndarray:
    """Boolean (time,): stretches of `shortest` seconds or more where the reference is `below_db` under its mean power.

    For a reference without recorded gaps; power is taken over 50 ms. Digital silence counts in any case.
    """
    c = to_mid(reference)
    mean = float(np.mean(c**2)) if len(c) else 0.0
    if mean == 0.0:
        return np.zeros(len(c), dtype=bool)
    local = ndimage.uniform_filter1d(c**2, max(1, round(0.05 * rate)), mode="nearest")
    quiet = local < mean * 10.0 ** (-below_db / 10.0)
    labels, count = ndimage.label(quiet)
    lengths = np.bincount(labels, minlength=count + 1)
    long_enough = lengths >= shortest * rate
    long_enough[0] = False
    return long_enough[labels]


def score(
    output: np.ndarray,
    reference: np.ndarray,
    *,
    rate: int = RATE,
    gaps: np.ndarray | Iterable[tuple[float, float]] | None = None,
    noise: np.ndarray | None = None,
) -> Score:
    """Every measure of `output` against `reference`; (channels, time) or (time,) at `rate`.

    `gaps`: boolean (time,) or pairs of seconds on the reference's clock; None finds them in the reference.
    `noise`: the crowd and handling alone, as they are in the capture, on the reference's clock; without it there is
    no projection. Lengths may differ by the lag; only what both have counts.
    """
    y, c = to_mid(output), to_mid(reference)
    if gaps is None:
        mask = find_gaps(c, rate)
    elif isinstance(gaps, np.ndarray) and gaps.dtype == bool:
        mask = gaps
    else:
        mask = measures.gap_mask(len(c), gaps, rate)
    lag = find_lag(y, c, rate)
    others = (c, mask) if noise is None else (c, mask, to_mid(noise))
    y, c, mask, *rest = cut_to_overlap(lag, y, *others)

    values = {"si_sdr": measures.si_sdr(y, c), "f_sdr": measures.f_sdr(y, c)}
    values |= measures.lsd_bands(y, c, rate=rate)
    values["gap_db"] = measures.gap_db(y, mask, rate)
    if mask.any():
        y, c, rest = (np.where(mask, 0.0, y), np.where(mask, 0.0, c), [np.where(mask, 0.0, x) for x in rest])
        in_music = {"f_sdr": measures.f_sdr(y, c), "lsd": measures.lsd(y, c, rate=rate)}
    else:
        in_music = {name: values[name] for name in ("f_sdr", "lsd")}
    return Score(values, lag, in_music, project(y, c, rest[0]) if rest else None)


def against(before: Score, after: Score) -> dict[str, float]:
    """The values of `after`; with projections also `noise_attenuation` and `music_distortion` against `before`."""
    values = dict(after.values)
    if before.projection is not None and after.projection is not None:
        values["noise_attenuation"] = noise_attenuation(before.projection, after.projection)
        values["music_distortion"] = music_distortion(before.projection, after.projection)
    return values


def joint_verdict(before: Score, after: Score) -> str:
    """'better', 'same', 'worse' or 'open'.

    worse: f_sdr or lsd (both over the music) or music_distortion is worse by more than TOLERANCE_DB, or has no value.
    open: none is known to be worse, but without the noise alone `music_distortion` cannot be known.
    better: none is worse and one of the three gained GAIN_DB or more.  same: the rest.
    """
    gains = {
        "f_sdr": after.in_music["f_sdr"] - before.in_music["f_sdr"],
        "lsd": before.in_music["lsd"] - after.in_music["lsd"],
    }
    projected = before.projection is not None and after.projection is not None
    if projected:
        gains["music_distortion"] = -music_distortion(before.projection, after.projection)
    if any(math.isnan(gain) or gain < -TOLERANCE_DB[name] for name, gain in gains.items()):
        return "worse"
    if not projected:
        return "open"
    return "better" if max(gains.values()) >= GAIN_DB else "same"


def mean_values(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean per measure over recordings, leaving out those where it has no value; NaN where none has one."""
    rows = list(rows)
    names = [name for name in MEASURES if any(name in row for row in rows)]
    result = {}
    for name in names:
        finite = [row[name] for row in rows if name in row and math.isfinite(row[name])]
        result[name] = float(np.mean(finite)) if finite else float("nan")
    return result
