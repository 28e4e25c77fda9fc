"""How much of the spectrum is there, and what an extension of the band put where."""

from __future__ import annotations

import numpy as np
from scipy import fft

from resonate import RATE
from resonate.evaluate.alignment import to_mid
from resonate.evaluate.measures import frame_power, lsd

WINDOW = 8192
#: Third-octave bands, centres in Hz.
CENTRES = 1000.0 * 2.0 ** (np.arange(-16, 14) / 3.0)
#: A band is there where its level is this near to the reference's, levels being matched over all bands.
WITHIN_DB = 10.0
#: Bands in which the reference lies this far under its loudest do not count.
REFERENCE_FLOOR_DB = -80.0
#: A captured band's edge is taken this far inside: a sixth of an octave.
MARGIN = 2.0 ** (1 / 6)
FLOOR_DB = -160.0
#: Seconds at either end that are faded before a band is cut out.
FADE = 0.25


def _band_levels(x: np.ndarray, rate: int) -> np.ndarray:
    power = frame_power(x, WINDOW, WINDOW // 2).mean(axis=0)
    bins = fft.rfftfreq(WINDOW, 1.0 / rate)
    edges = np.append(CENTRES * 2 ** (-1 / 6), CENTRES[-1] * 2 ** (1 / 6))
    sums = np.append(0.0, np.cumsum(power))
    # Bands narrower than a bin share it: the running sum is read between bins.
    at = np.interp(edges, np.append(bins - bins[1] / 2, bins[-1] + bins[1] / 2), sums)
    return 10.0 * np.log10(np.maximum(np.diff(at) / np.diff(edges), 1e-20))


def bandwidth(output: np.ndarray, reference: np.ndarray, rate: int = RATE) -> float:
    """In how many octaves the output has the reference's long-term level, within 10 dB.

    Formula: mean power in the 30 third-octave bands from 25 Hz to 20 kHz; the median of output less reference in dB
    over the bands is taken out; a third of an octave for each band whose difference is 10 dB at most, of those in which
    the reference lies within 80 dB of its loudest.  Range: 0..10 octaves, higher is better; NaN for silence.
    Invariant to: gain, delay, phase, short reflections.  Cheats: EQ that lifts noise, and hiss of the right level.
    """
    y, c = to_mid(output), to_mid(reference)
    if not np.any(y) or not np.any(c):
        return float("nan")
    have, want = _band_levels(y, rate), _band_levels(c, rate)
    counts = want >= want.max() + REFERENCE_FLOOR_DB
    difference = (have - want)[counts]
    return float(np.sum(np.abs(difference - np.median(difference)) <= WITHIN_DB) / 3.0)


def _inside(x: np.ndarray, low: float, high: float, rate: int) -> np.ndarray:
    """`x` without what lies outside low..high Hz (zero phase, brick wall), faded in and out: a bass note that is cut
    off at the end would else be found in all bands."""
    x = np.array(x, dtype=np.float64)
    fade = 0.5 - 0.5 * np.cos(np.pi * (np.arange(min(round(FADE * rate), len(x) // 2)) + 0.5) / round(FADE * rate))
    x[: len(fade)] *= fade
    x[len(x) - len(fade) :] *= fade[::-1]
    spectrum = fft.rfft(x)
    bins = fft.rfftfreq(len(x), 1.0 / rate)
    spectrum[(bins < low) | (bins > high)] = 0.0
    return fft.irfft(spectrum, len(x))


def level_error(output: np.ndarray, reference: np.ndarray, missing: tuple[float, float], rate: int = RATE) -> float:
    """Level of the missing band in the output less its level in the reference, in dB.

    Formula: 10 log10 of the ratio of the mean powers inside `missing` (from Hz, to Hz), neither signal being rescaled.
    Range: -160 (nothing there) upwards, best at 0; NaN where the reference has nothing there.  Invariant to: phase,
    delay.  Cheats: hiss of the right level.
    """
    y, c = (float(np.mean(_inside(to_mid(x), *missing, rate) ** 2)) for x in (output, reference))
    if c == 0.0:
        return float("nan")
    return max(FLOOR_DB, float(10.0 * np.log10(y / c + 1e-30)))


def captured_change(output: np.ndarray, capture: np.ndarray, kept: tuple[float, float], rate: int = RATE) -> float:
    """How far the output differs from its input inside the band that was captured, in dB under that band's level.

    Formula: 10 log10(|y - x|^2 / |x|^2) inside `kept` (from Hz, to Hz) less a sixth of an octave at either edge that is
    not an end of the spectrum (0 Hz, half the rate), both faded over a quarter of a second at the ends.  Range: -160
    upwards, lower is better; NaN where nothing was captured.  Invariant to: what is done outside the band alone.
    Cheats: doing nothing.
    """
    low = kept[0] * MARGIN
    high = kept[1] / MARGIN if kept[1] < rate / 2 else kept[1]
    y, x = to_mid(output), to_mid(capture)
    n = min(len(y), len(x))
    before, change = _inside(x[:n], low, high, rate), _inside(y[:n] - x[:n], low, high, rate)
    energy = float(before @ before)
    if energy == 0.0:
        return float("nan")
    return max(FLOOR_DB, float(10.0 * np.log10(float(change @ change) / energy + 1e-30)))


def lsd_missing(output: np.ndarray, reference: np.ndarray, missing: tuple[float, float], rate: int = RATE) -> float:
    """`measures.lsd` in the missing band alone. Invariances and cheats as there: hiss of the right level lowers it."""
    return lsd(output, reference, missing, rate)


def steady_hiss(reference: np.ndarray, missing: tuple[float, float], rate: int = RATE) -> np.ndarray:
    """(time,) noise with the long-term spectrum of the reference's mid inside `missing`, its phases drawn anew."""
    c = to_mid(reference)
    phases = np.random.default_rng(0).uniform(0.0, 2.0 * np.pi, len(c) // 2 + 1)
    return _inside(fft.irfft(np.abs(fft.rfft(c)) * np.exp(1j * phases), len(c)), *missing, rate)


def level_db(x: np.ndarray) -> float:
    """Mean power of all channels in dB re full scale, at least -160.  Invariant to: everything but level."""
    return max(FLOOR_DB, float(10.0 * np.log10(np.mean(np.square(x, dtype=np.float64)) + 1e-30)))
