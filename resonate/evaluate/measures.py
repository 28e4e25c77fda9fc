"""The measures: numpy, on mid channels that are already aligned (see `alignment.align`).

All take arrays (time,) or (channels, time), the latter averaged to mid, of equal length. All are in dB. Where a
measure has no value (a silent reference, no gap) it is NaN, never a number that looks like one. No measure here is
a verdict by itself: each docstring says what cheats it, and `verdict.joint_verdict` is the one that decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from scipy import fft

from resonate import RATE
from resonate.evaluate import fir
from resonate.evaluate.alignment import align, find_lag, to_mid
from resonate.evaluate.projection import Projection, music_distortion, noise_attenuation, project

__all__ = [
    "LSD_BANDS", "Projection", "align", "f_sdr", "find_lag", "gap_db", "gap_mask", "lsd", "lsd_bands",
    "music_distortion", "noise_attenuation", "project", "si_sdr", "to_mid",
]  # fmt: skip

#: Name -> (from Hz, to Hz).
LSD_BANDS: dict[str, tuple[float, float]] = {
    "lsd": (20.0, 20000.0),
    "lsd_low": (20.0, 120.0),
    "lsd_high": (8000.0, 16000.0),
    "lsd_air": (16000.0, 20000.0),
}
WINDOW, HOP = 2048, 512
#: gap_db does not go below this (digital silence in the gaps).
GAP_FLOOR_DB = -120.0


def _pair(output: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, c = to_mid(output), to_mid(reference)
    if len(y) != len(c):
        raise ValueError(f"output has {len(y)} samples and reference {len(c)}; align them first")
    return y, c


def _ratio_db(signal: float, error: float) -> float:
    if signal <= 0.0:
        return float("nan")
    return float("inf") if error <= 0.0 else float(10.0 * np.log10(signal / error))


def si_sdr(output: np.ndarray, reference: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019), without taking out the mean.

    Formula: a = <y, c> / <c, c>;  10 log10(|a c|^2 / |y - a c|^2).  Range: -inf..+inf, higher is better; NaN where
    either signal is silent.  Invariant to: gain and polarity.  Cheats: none gains much, but it sees nothing else
    than sample-exact likeness: EQ, a phase shift or a room's early reflections ruin it as crowd does, so against a dry
    reference it ranks captures by their delay and tone.
    """
    y, c = _pair(output, reference)
    energy = float(c @ c)
    if energy == 0.0:
        return float("nan")
    target = (float(y @ c) / energy) * c
    error = y - target
    return _ratio_db(float(target @ target), float(error @ error))


def f_sdr(output: np.ndarray, reference: np.ndarray) -> float:
    """Signal-to-distortion ratio after the best short filter of the reference (as in BSS Eval, Vincent et al. 2006).

    Formula: h = argmin |y - h * c|^2 over 1024 taps, 128 of them before zero;  10 log10(|h * c|^2 / |y - h * c|^2).
    Range: -inf..about 180 (identical signals), higher is better; NaN where either signal is silent.
    Invariant to: gain, polarity, delays within the taps, and what they can draw of EQ and early reflections (as far
    as the output is nothing but filtered reference).  Cheats: a low-pass raises it, because what is lost is not missed
    and the noise up there goes too; so does any gate or filter that trades music for less noise.
    """
    y, c = _pair(output, reference)
    (part,), rest = fir.fit(y, [c])
    return _ratio_db(float(part @ part), float(rest @ rest))


def _magnitudes(x: np.ndarray, window: int = WINDOW, hop: int = HOP, at_once: int = 1024) -> Iterator[np.ndarray]:
    """|STFT| of whole Hann frames, in pieces (frames, bins), so that an hour fits in memory."""
    if len(x) < window:
        x = np.pad(x, (0, window - len(x)))
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float32), window)[::hop]
    for start in range(0, len(frames), at_once):
        yield np.abs(fft.rfft(frames[start : start + at_once] * hann, axis=1))


def frame_power(x: np.ndarray, window: int = WINDOW, hop: int = HOP) -> np.ndarray:
    """(frames, bins) power of the whole Hann frames of a mid channel; one frame where it is shorter than that."""
    return np.square(np.concatenate(list(_magnitudes(x, window, hop))), dtype=np.float64)


def lsd_bands(
    output: np.ndarray,
    reference: np.ndarray,
    bands: Mapping[str, tuple[float, float]] = LSD_BANDS,
    rate: int = RATE,
) -> dict[str, float]:
    """Log-spectral distance in several bands with one analysis; name -> dB. See `lsd`."""
    y, c = _pair(output, reference)
    rms_y, rms_c = float(np.sqrt(np.mean(y**2))), float(np.sqrt(np.mean(c**2)))
    if rms_c == 0.0:
        return dict.fromkeys(bands, float("nan"))
    y = y * (rms_c / rms_y) if rms_y > 0.0 else y
    bins = fft.rfftfreq(WINDOW, 1.0 / rate)
    inside = {name: (bins >= low) & (bins <= high) for name, (low, high) in bands.items()}

    powers, band_power = [], {name: [] for name in bands}
    for piece in _magnitudes(c):
        power = piece.astype(np.float64) ** 2
        powers.append(power.mean(axis=1))
        for name, chosen in inside.items():
            band_power[name].append(power[:, chosen].mean(axis=1))
    power = np.concatenate(powers)
    active = power >= 1e-3 * power.mean()  # within 30 dB of the reference's mean power
    floor = {name: 1e-3 * np.sqrt(np.concatenate(p).mean()) for name, p in band_power.items()}

    total = dict.fromkeys(bands, 0.0)
    start = 0
    for piece_y, piece_c in zip(_magnitudes(y), _magnitudes(c), strict=True):
        chosen_frames = active[start : start + len(piece_c)]
        start += len(piece_c)
        for name, chosen in inside.items():
            e = max(floor[name], 1e-12)
            upper = piece_y[chosen_frames][:, chosen] + e
            lower = piece_c[chosen_frames][:, chosen] + e
            d = 20.0 * np.log10(upper / lower)
            total[name] += float(np.sqrt(np.mean(d**2, axis=1)).sum())
    return {name: value / int(active.sum()) for name, value in total.items()}


def lsd(
    output: np.ndarray,
    reference: np.ndarray,
    band: tuple[float, float] = LSD_BANDS["lsd"],
    rate: int = RATE,
) -> float:
    """Log-spectral distance in one band.

    Formula: STFT 2048/512 Hann; whole-signal RMS of both made equal; d = 20 log10((|Y| + e) / (|C| + e)) with e = 1e-3
    of the reference's RMS magnitude in the band; root mean square of d over the band's bins; mean over the frames whose
    reference power lies within 30 dB of its mean.  Range: 0..60 and a little more, lower is better; NaN for a silent
    reference.  Invariant to: gain and polarity, nearly to phase and to shifts far below the hop; blind to gaps
    (frames without reference do not count).  Cheats: EQ lowers it: matching the long-term spectrum brings several dB
    without removing any crowd; so does filling a lost band with noise of the right level.
    """
    return lsd_bands(output, reference, {"band": band}, rate)["band"]


def gap_mask(n_samples: int, gaps: Iterable[tuple[float, float]], rate: int = RATE) -> np.ndarray:
    """Boolean (n_samples,): True in the `gaps`, pairs (from, to) in seconds."""
    mask = np.zeros(n_samples, dtype=bool)
    for start, end in gaps:
        mask[max(0, round(start * rate)) : max(0, round(end * rate))] = True
    return mask


def gap_db(output: np.ndarray, gaps: np.ndarray | Iterable[tuple[float, float]], rate: int = RATE) -> float:
    """How far stretches known to hold no music lie under the rest.

    Formula: 10 log10(mean y^2 in the gaps / mean y^2 elsewhere), of the mid channel.  `gaps`: a boolean (time,) as
    `gap_mask` makes, or pairs of seconds.  Range: -120 (floor) upwards, lower is better; NaN without gaps, without
    music or for a silent output.  Invariant to: gain, EQ nearly.  Cheats: a gate passes it with full marks while the
    crowd under the music stays as it was.
    """
    y = to_mid(output)
    mask = gaps if isinstance(gaps, np.ndarray) and gaps.dtype == bool else gap_mask(len(y), gaps, rate)
    if len(mask) != len(y):
        raise ValueError(f"the gap mask has {len(mask)} samples and the output {len(y)}")
    if not mask.any() or mask.all():
        return float("nan")
    music = float(np.mean(y[~mask] ** 2))
    if music == 0.0:
        return float("nan")
    return max(GAP_FLOOR_DB, float(10.0 * np.log10(np.mean(y[mask] ** 2) / music + 1e-30)))
