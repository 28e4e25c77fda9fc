"""All measures of one system on one recording, and the joint verdict.

Each measure alone can be cheated (their docstrings say how), so a system counts as better only where `f_sdr`, `lsd`
and `music_distortion` all hold. These three are judged on the stretches with music only: muting the gaps changes
the level that `lsd` matches and the noise that `f_sdr` counts, and must buy nothing. And one fixed filter over all of
the recording (a gain, a low-pass, an equaliser, be it told the reference's own spectrum) must buy nothing either: what
is gained is counted only in so far as it beats the output's linear shadows, the recording through the fixed filters
that come nearest to the output: in its samples, and for `lsd` also in its mean spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy import fft, linalg, ndimage, signal

from resonate import RATE
from resonate.evaluate import measures
from resonate.evaluate.alignment import cut_to_overlap, find_lag, to_mid
from resonate.evaluate.bandwidth import bandwidth
from resonate.evaluate.projection import Projection, music_distortion, noise_attenuation, project

#: How far a measure may move the wrong way before it counts as worse, in dB. f_sdr and lsd: rounding and fades.
#: music_distortion: any gain that changes over time raises it a little, even the one taken from the clean magnitudes
#: (0.3 to 0.5 dB on made captures), where an equaliser that lifts the worst bands costs 1 to 2 dB.
TOLERANCE_DB = {"f_sdr": 0.05, "lsd": 0.1, "music_distortion": 0.5}
#: At least one of the three must gain this much, against the recording and against the linear shadows.
GAIN_DB = 0.2
#: Taps of the shadows' filters, half of them before zero: longer than any equaliser here.
SHADOW_TAPS = 4096
#: Most that the filter of the mean spectrum lifts, in dB: where the recording has nothing there is nothing to lift.
SHADOW_MOST_DB = 60.0
#: Loading of its equations: bands that the recording lacks must not blow up.
SHADOW_LOADING = 1e-7


@dataclass(frozen=True)
class Score:
    """One system on one recording: `values` by measure name, and what the verdict compares.

    in_music: f_sdr and lsd on the stretches with music. projection: on the reference and the noise, for
    `music_distortion`; crowd: on the captured music and the crowd, for `noise_attenuation` (on the noise where the
    crowd is not known alone; as `projection` where the captured music is not known). heard: the mid output with its
    gaps, mid reference and mid noise (or None) without, and where these are.
    """

    values: dict[str, float]
    lag: int
    in_music: dict[str, float]
    projection: Projection | None
    crowd: Projection | None = None
    heard: tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray] | None = field(
        default=None, repr=False, compare=False
    )


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
    crowd: np.ndarray | None = None,
    wet: np.ndarray | None = None,
    capture: np.ndarray | None = None,
) -> Score:
    """Every measure of `output` against `reference`; (channels, time) or (time,) at `rate`.

    `gaps`: boolean (time,) or pairs of seconds on the reference's clock; None finds them in the reference.
    `noise`: all in the capture that is not its music (crowd, handling, and what overload and codec added), on the
    reference's clock; without it there is no projection. `wet`: the music as it is in the capture, on the same clock;
    with it the crowd is told from the room's tail, which a short filter of the dry reference cannot draw. `crowd`: the
    crowd's part of the noise, whose attenuation is then told. Without it that of all of the noise is, and what overload
    and codec added follows the music: where that is most of the noise, the attenuation has a ceiling. `capture`: the
    recording that `output` was made of, on the reference's clock but for a lag; with it the output is laid on the
    reference where the recording lies (its captured music, where known), and only its delay against the recording is
    looked for: what each output fits best may be another reflection of the room. Lengths may differ by the lag; only
    what both have counts.
    """
    y, c = to_mid(output), to_mid(reference)
    if gaps is None:
        mask = find_gaps(c, rate)
    elif isinstance(gaps, np.ndarray) and gaps.dtype == bool:
        mask = gaps
    else:
        mask = measures.gap_mask(len(c), gaps, rate)
    own = None if capture is None else find_lag(y, capture, rate)
    followed = noise if crowd is None else crowd
    apart = None if wet is None or followed is None else _of_crowd(y, to_mid(wet), to_mid(followed), mask, rate, own)
    lag = find_lag(y, c, rate) if own is None else own + find_lag(capture if wet is None else wet, c, rate)
    others = (c, mask) if noise is None else (c, mask, to_mid(noise))
    y, c, mask, *rest = cut_to_overlap(lag, y, *others)

    values = {"si_sdr": measures.si_sdr(y, c), "f_sdr": measures.f_sdr(y, c)}
    values |= measures.lsd_bands(y, c, rate=rate)
    values["gap_db"] = measures.gap_db(y, mask, rate)
    values["bandwidth"] = bandwidth(y, c, rate)
    whole = y
    if mask.any():
        y, c, rest = (np.where(mask, 0.0, y), np.where(mask, 0.0, c), [np.where(mask, 0.0, x) for x in rest])
        in_music = {"f_sdr": measures.f_sdr(y, c), "lsd": measures.lsd(y, c, rate=rate)}
    else:
        in_music = {name: values[name] for name in ("f_sdr", "lsd")}
    projection = project(y, c, rest[0]) if rest else None
    apart = projection if apart is None else apart
    return Score(values, lag, in_music, projection, apart, (whole, c, rest[0] if rest else None, mask))


def _of_crowd(
    y: np.ndarray, wet: np.ndarray, crowd: np.ndarray, gaps: np.ndarray, rate: int, lag: int | None
) -> Projection:
    """Projection of a mid output on captured music and crowd, aligned to the captured music (by `lag`, where known):
    the dry reference may fit a reflection of the room best, later than the taps reach."""
    lag = find_lag(y, wet, rate) if lag is None else lag
    y, music, rest, mask = cut_to_overlap(lag, y, wet, crowd, gaps)
    return project(*(np.where(mask, 0.0, x) for x in (y, music, rest)))


def against(before: Score, after: Score) -> dict[str, float]:
    """The values of `after`; with projections also `noise_attenuation` and `music_distortion` against `before`."""
    values = dict(after.values)
    if before.projection is not None and after.projection is not None:
        assert before.crowd is not None and after.crowd is not None
        values["noise_attenuation"] = noise_attenuation(before.crowd, after.crowd)
        values["music_distortion"] = music_distortion(before.projection, after.projection)
    return values


def shadow(output: np.ndarray, source: np.ndarray) -> np.ndarray:
    """`source` (time,) through the fixed filter that comes nearest to `output` (time,), by least squares.

    SHADOW_TAPS taps around zero. A system that only filters has itself as shadow; what it does over time is not in it.
    """
    n, half = len(output), SHADOW_TAPS // 2
    size = fft.next_fast_len(n + SHADOW_TAPS, real=True)
    x, y = fft.rfft(source, size), fft.rfft(output, size)
    column = fft.irfft(np.abs(x) ** 2, size)[:SHADOW_TAPS]
    if column[0] <= 0.0:
        return np.zeros(n)
    column[0] *= 1.0 + SHADOW_LOADING
    taps = linalg.solve_toeplitz(column, np.roll(fft.irfft(y * np.conj(x), size), half)[:SHADOW_TAPS])
    return np.roll(fft.irfft(fft.rfft(taps, size) * x, size), -half)[:n]


def spectral_shadow(output: np.ndarray, source: np.ndarray) -> np.ndarray:
    """`source` (time,) through the fixed filter of zero phase that gives it the mean spectrum of `output` (time,).

    The filter nearest in samples fits the loud bands; `lsd` counts every band down to 60 dB below.
    """
    width = min(SHADOW_TAPS, len(source), len(output))
    spectra = [signal.welch(x, nperseg=width, detrend=False)[1] for x in (output, source)]
    most = 10.0 ** (SHADOW_MOST_DB / 10.0)
    gain = np.sqrt(np.minimum(spectra[0] / np.maximum(spectra[1], 1e-30), most))
    taps = np.roll(fft.irfft(gain, width), width // 2) * np.hanning(width)
    return signal.oaconvolve(source, taps, mode="full")[width // 2 :][: len(output)]


def _gains(before: Score, after: Score) -> dict[str, float]:
    """By how much each of the three is better, in dB; the third only where the noise alone is known."""
    gains = {
        "f_sdr": after.in_music["f_sdr"] - before.in_music["f_sdr"],
        "lsd": before.in_music["lsd"] - after.in_music["lsd"],
    }
    if before.projection is not None and after.projection is not None:
        gains["music_distortion"] = -music_distortion(before.projection, after.projection)
    return gains


def _of_shadow(before: Score, after: Score) -> Score:
    """What the verdict compares, of the output's linear shadows; the better one of `lsd`."""
    assert before.heard is not None and after.heard is not None
    source, *_, source_gaps = before.heard
    output, reference, noise, gaps = after.heard
    n = min(len(source), len(output))
    # Each was cut by its own lag, so both are on the reference's clock.
    source, source_gaps, output, gaps, c = (x[:n] for x in (source, source_gaps, output, gaps, reference))
    y = shadow(np.where(gaps, 0.0, output), np.where(source_gaps, 0.0, source))
    # Filtered with the gaps in it: the edges of muted ones hold more treble than a dull recording does.
    alike = np.where(gaps, 0.0, spectral_shadow(output, source))
    in_music = {"f_sdr": measures.f_sdr(y, c), "lsd": min(measures.lsd(y, c), measures.lsd(alike, c))}
    return Score({}, 0, in_music, project(y, c, noise[:n]) if noise is not None else None)


def joint_verdict(before: Score, after: Score) -> str:
    """'better', 'same', 'worse' or 'open'.

    worse: f_sdr or lsd (both over the music) or music_distortion is worse by more than TOLERANCE_DB, or has no value.
    open: none is known to be worse, but without the noise alone `music_distortion` cannot be known.
    better: none is worse and one of the three gained GAIN_DB or more, both against the recording and against the
    output's linear shadows.  same: the rest.
    """
    gains = _gains(before, after)
    if any(math.isnan(gain) or gain < -TOLERANCE_DB[name] for name, gain in gains.items()):
        return "worse"
    if "music_distortion" not in gains:
        return "open"
    gained = [name for name, gain in gains.items() if gain >= GAIN_DB]
    if not gained:
        return "same"
    beyond = _gains(_of_shadow(before, after), after)
    return "better" if any(beyond[name] >= GAIN_DB for name in gained) else "same"
