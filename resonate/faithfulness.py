"""Checks that a restored sound says nothing that the recording does not: shared by training and by restoring.

All take magnitudes of the short-time spectrum of the mid channel, Hann 2048/512 at 44.1 kHz, arrays or tensors
(bins, frames), of output and input on one clock. None is a measure of quality: silence passes all of them. They only
say where an output holds what its input does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from resonate import RATE
from resonate.models.stats import BINS, HOP, N_FFT, bin_frequencies

_EPS = 1e-12
#: Bins in which notes are looked at: 110..4200 Hz.
_NOTES = (bin_frequencies() >= 110.0) & (bin_frequencies() <= 4200.0)
#: dB by which a tone stands over the median of its surroundings.
_TONE_DB = 12.0
_AROUND = 12
#: Bins that notes and their surroundings need: what lies above costs time and changes nothing.
_LOOKED_AT = int(np.flatnonzero(_NOTES)[-1]) + 2 * _AROUND + 2
#: Frames over which the gain of a recording may change (0.5 s).
_SLOW = 43


#: Of the figures of :func:`check`, those of which more is better.
AGREEMENTS = ("chroma", "onsets", "notes")


@dataclass
class Limits:
    """Where a check fails. Higher support, residual and excess are worse, higher agreement is better.

    Attributes:
        support: see :func:`energy_support`.
        chroma, onsets, notes: see :func:`chroma_agreement`, :func:`onset_agreement`, :func:`note_agreement`.
        excess_db: see :func:`redegradation`.
        tones_db: see :func:`new_tones_db`.
        silence_db: see :func:`silence_excess_db`.
    """

    support: float = 0.25
    chroma: float = 0.65
    onsets: float = 0.1
    notes: float = 0.85
    excess_db: float = 0.0
    tones_db: float = 6.0
    silence_db: float = 3.0


def magnitudes(x: ArrayLike | torch.Tensor) -> np.ndarray:
    """(channels, samples) at 44.1 kHz to (1025, frames) magnitudes of the mid channel, re full scale."""
    mid = torch.as_tensor(np.asarray(x, dtype=np.float32)).mean(0)
    mid = torch.nn.functional.pad(mid, (N_FFT // 2, N_FFT // 2))
    z = torch.stft(mid, N_FFT, HOP, window=torch.hann_window(N_FFT), center=False, return_complex=True)
    return z.abs().numpy() * np.float32(4.0 / N_FFT)


def _power(magnitude: ArrayLike) -> np.ndarray:
    return np.square(np.asarray(magnitude, dtype=np.float32), dtype=np.float32)


def energy_support(output: ArrayLike, given: ArrayLike, floor_db: ArrayLike, in_band: ArrayLike | None = None) -> float:
    """Share of the output's energy in bins where the input lies at or below its noise floor.

    Args:
        floor_db: (1025,) noise floor of the recording, dB re full scale (`RecordingStats.floor_db`), 3 dB allowed.
        in_band: (1025,) only bins where it is above 0 are looked at.

    Range 0..1, lower is better; 0 for a silent output. Invariant to the output's gain. An output that raises the noise
    of pauses fails; one that fills a band where nothing was captured fails unless `in_band` leaves that band out.
    """
    y, x = _power(output), _power(given)
    if in_band is not None:
        keep = np.asarray(in_band) > 0
        y, x, floor_db = y[keep], x[keep], np.asarray(floor_db)[keep]
    # A single bin of noise scatters: its neighbours in time settle whether it lies above the floor.
    smooth = uniform_filter1d(x, 5, axis=1, mode="nearest")
    below = smooth <= 10 ** ((np.asarray(floor_db)[:, None] + 3.0) / 10)
    total = float(y.sum())
    return float(y[below].sum()) / total if total > _EPS else 0.0


def chroma(magnitude: ArrayLike) -> np.ndarray:
    """(12, frames) power per pitch class, 110..4200 Hz, C first."""
    classes = np.round(12 * np.log2(np.maximum(bin_frequencies(), 1.0) / 261.6256)).astype(int) % 12
    out = np.zeros((12, np.shape(magnitude)[1]), dtype=np.float32)
    np.add.at(out, classes[_NOTES], _power(magnitude)[_NOTES])
    return out


def chroma_agreement(output: ArrayLike, given: ArrayLike) -> float:
    """Mean cosine of the chroma vectors (square roots of powers), each frame weighted by the output's energy.

    Range 0..1, higher is better; 1 for a silent output. Invariant to gain, also a time-varying one, and to octaves. Low
    where pitch classes sound that the input lacks.
    """
    a, b = np.sqrt(chroma(output)), np.sqrt(chroma(given))
    weight = np.square(a).sum(0)
    if float(weight.sum()) < _EPS:
        return 1.0
    cosine = (a * b).sum(0) / (np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0) + _EPS)
    return float((cosine * weight).sum() / weight.sum())


def onsets(magnitude: ArrayLike) -> np.ndarray:
    """(frames,) onset strength: half-wave rectified rise of the log spectrum over two frames, mean over bins
    (spectral flux, Bello et al. 2005)."""
    level = np.log10(np.asarray(magnitude, dtype=np.float32) + 1e-4 * (np.max(magnitude, initial=0.0) + _EPS))
    rise = np.maximum(level[:, 2:] - level[:, :-2], 0.0).mean(0)
    return np.concatenate([np.zeros(min(2, level.shape[1]), np.float32), rise])


def onset_agreement(output: ArrayLike, given: ArrayLike) -> float:
    """Share of the output's onset strength, over its own median, at moments (+-4 frames, 46 ms) where the input has an
    onset over its median.

    Range 0..1, higher is better; 1 where the output has no onsets. Invariant to gain. One-sided: an output may lose
    onsets (the crowd's claps) but not add any.
    """
    a, b = onsets(output), onsets(given)
    peaks = np.maximum(a - 2 * np.median(a), 0.0)
    if float(peaks.sum()) < 1e-6:
        return 1.0
    there = b > 1.5 * np.median(b)
    near = maximum_filter1d(there, 9, mode="constant")
    return float(peaks[near].sum() / peaks.sum())


def _standing_out(magnitude: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(bins, frames) each, dB: the level, and by how much it lies over the median of the 12 bins either side; of the
    bins up to 4200 Hz and a little beyond."""
    level = 10 * np.log10(_power(np.asarray(magnitude)[:_LOOKED_AT]) + 1e-15)
    padded = np.pad(level, ((_AROUND, _AROUND), (0, 0)), mode="reflect")
    around = np.median(np.stack([padded[k : k + len(level)] for k in range(0, 2 * _AROUND + 1, 3)]), axis=0)
    return level, level - around


def tones(magnitude: ArrayLike) -> np.ndarray:
    """(bins, frames) bool: spectral peaks that stand 12 dB over the median of the 12 bins either side."""
    level, over = _standing_out(magnitude)
    peak = np.zeros(np.shape(magnitude), dtype=bool)
    inner = (level[1:-1] >= level[:-2]) & (level[1:-1] >= level[2:]) & (over[1:-1] >= _TONE_DB)
    peak[1 : len(level) - 1] = inner
    return peak & _NOTES[:, None]


def note_agreement(output: ArrayLike, given: ArrayLike) -> float:
    """Share of the energy in the output's tones at places where the input has a peak as well (6 dB over its
    surroundings, within one bin and three frames).

    Range 0..1, higher is better; 1 where the output has no tones. Invariant to gain and to EQ as far as it is smooth.
    One-sided, as :func:`onset_agreement`.
    """
    energy = _power(output) * tones(output)
    total = float(energy.sum())
    if total < _EPS:
        return 1.0
    over = _standing_out(given)[1]
    there = np.zeros(energy.shape, dtype=bool)
    there[: len(over)] = over >= 6.0
    near = np.zeros_like(there)
    for f in (-1, 0, 1):
        rolled = np.roll(there, f, axis=0)
        for t in range(-3, 4):
            near |= np.roll(rolled, t, axis=1)
    return float(energy[near].sum() / total)


def _bands() -> np.ndarray:
    edges = np.unique(np.round(60.0 * 2 ** (np.arange(0, 49) / 6) * N_FFT / RATE).astype(int))
    return edges[edges < BINS]


def redegradation(output: ArrayLike, given: ArrayLike) -> tuple[float, float]:
    """Apply the response and the gain of this recording to the output and hold it against the input.

    Over sixths of an octave b and frames t, |X|^2 ~ h(b) g(t) |Y|^2: h and g are medians of the log ratio over time
    and over bands (two rounds), g smoothed over 0.5 s. Crowd and room, which the output rightly lacks, are in
    the input, so only what the output has *more* is held against it.

    Returns:
        residual, excess: 10 log10 of sum (sqrt X - sqrt(hgY))^2 / sum X, and of sum max(0, sqrt(hgY) - sqrt X)^2 /
        sum hgY, in dB, -120..; lower is better. Both invariant to a constant EQ and a slow gain of the output.
    """
    edges = _bands()
    x, y = (np.add.reduceat(_power(m), edges, axis=0)[:-1] for m in (given, output))
    if float(x.sum()) < _EPS or float(y.sum()) < _EPS:
        return (0.0 if float(x.sum()) >= _EPS else -120.0), -120.0
    ratio = 10 * np.log10((x + 1e-9 * x.mean()) / (y + 1e-9 * y.mean()))
    loud = y.sum(0) > 1e-3 * y.sum(0).mean()
    gain, response = np.zeros(ratio.shape[1]), np.zeros(len(ratio))
    heard = uniform_filter1d(loud.astype(np.float64), _SLOW, mode="constant")
    for _ in range(2):
        response = np.median((ratio - gain)[:, loud], axis=1) if loud.any() else response
        raw = np.median(ratio - response[:, None], axis=0)
        gain = uniform_filter1d(raw * loud, _SLOW, mode="constant") / np.maximum(heard, 1e-9) * (heard > 0)
    again = np.sqrt(y * 10 ** ((response[:, None] + gain) / 10))
    was = np.sqrt(x)
    residual = np.square(was - again).sum() / np.square(was).sum()
    excess = np.square(np.maximum(again - was, 0.0)).sum() / max(np.square(again).sum(), _EPS)
    return float(10 * np.log10(residual + 1e-12)), float(10 * np.log10(excess + 1e-12))


def tonality(magnitude: ArrayLike) -> float:
    """Share of the energy between 110 and 4200 Hz that lies in tones (each peak with a bin either side), 0..1.
    Invariant to gain."""
    power = _power(magnitude)
    total = float(power[_NOTES].sum())
    peak = tones(magnitude)
    wide = peak | np.roll(peak, 1, axis=0) | np.roll(peak, -1, axis=0)
    return float(power[wide].sum() / total) if total > _EPS else 0.0


def new_tones_db(output: ArrayLike, given: ArrayLike) -> float:
    """By how many dB the tonal share of the energy rose (see :func:`tonality`), from 1 % up: in stretches without
    music a crowd must not begin to sing. Range -20..20, lower is better; 0 for an unchanged sound. Invariant
    to gain."""
    return float(10 * np.log10((tonality(output) + 0.01) / (tonality(given) + 0.01)))


def silence_excess_db(output: ArrayLike, given: ArrayLike, silence_db: float = -90.0) -> float:
    """Level of the output over `silence_db` (per frame, re full scale) in frames where the input lies below it, in dB;
    0 where there are no such frames or the output is silent there, too. Not invariant to gain: silence is absolute."""
    quiet = _power(given).sum(0) <= 10 ** (silence_db / 10)
    if not quiet.any():
        return 0.0
    level = 10 * np.log10(float(_power(output)[:, quiet].sum(0).max()) + 1e-15)
    return max(0.0, level - silence_db)


def check(
    output: ArrayLike,
    given: ArrayLike,
    floor_db: ArrayLike,
    in_band: ArrayLike | None = None,
    limits: Limits | None = None,
    crowd_only: bool = False,
) -> tuple[dict[str, float], list[str]]:
    """All checks on one stretch of some seconds, inside the captured band where `in_band` is given.

    Args:
        crowd_only: no music plays, so that no tones may come forward. Where it plays, they should.

    Returns:
        figures by name, and the names of those beyond `limits`.
    """
    limits = limits or Limits()
    if in_band is not None:
        keep = (np.asarray(in_band) > 0)[:, None]
        output, given = np.asarray(output) * keep, np.asarray(given) * keep
    # What an input's own noise floor holds is the input's fault: only more of it counts.
    before = energy_support(given, given, floor_db, in_band)
    figures = {
        "support": max(0.0, energy_support(output, given, floor_db, in_band) - before),
        "chroma": chroma_agreement(output, given),
        "onsets": onset_agreement(output, given),
        "notes": note_agreement(output, given),
        "excess_db": redegradation(output, given)[1],
        "tones_db": new_tones_db(output, given) if crowd_only else 0.0,
        "silence_db": silence_excess_db(output, given),
    }
    return figures, _beyond(figures, limits)


def check_extension(
    added: ArrayLike, given: ArrayLike, limits: Limits | None = None
) -> tuple[dict[str, float], list[str]]:
    """The checks that make sense for what is added outside the captured band: it starts when the input does, and is
    silent where that is. Returns as :func:`check`."""
    figures = {"onsets": onset_agreement(added, given), "silence_db": silence_excess_db(added, given)}
    return figures, _beyond(figures, limits or Limits())


def _beyond(figures: dict[str, float], limits: Limits) -> list[str]:
    return [
        name
        for name, value in figures.items()
        if (value < getattr(limits, name) if name in AGREEMENTS else value > getattr(limits, name))
    ]
