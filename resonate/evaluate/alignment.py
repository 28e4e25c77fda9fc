"""The mid channel and the one global alignment that come before every measure."""

from __future__ import annotations

import numpy as np
from scipy import fft

MAX_LAG_SECONDS = 0.1


def to_mid(x: np.ndarray) -> np.ndarray:
    """Mean over channels: (channels, time) or (time,) -> (time,) float64.

    Raises ValueError for other shapes and for samples that are not finite.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim == 2:
        x = x.mean(axis=0)
    if x.ndim != 1:
        raise ValueError(f"expected (channels, time) or (time,), got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("samples must be finite")
    return x


def _tapered(x: np.ndarray, rate: int) -> np.ndarray:
    """Faded over 50 ms at both ends: two cuts at the same place would else correlate, at lag zero."""
    fade = np.sin(np.linspace(0.0, np.pi / 2, min(round(0.05 * rate), len(x) // 4))) ** 2
    gain = np.ones(len(x))
    gain[: len(fade)], gain[len(x) - len(fade) :] = fade, fade[::-1]
    return x * gain


def find_lag(output: np.ndarray, reference: np.ndarray, rate: int, max_lag: float = MAX_LAG_SECONDS) -> int:
    """How many samples `output` comes after `reference` (negative: before).

    The peak of |IFFT(X / |X|)|, X = FFT(output) conj(FFT(reference)), within +-max_lag seconds: the generalised
    cross-correlation with phase transform (Knapp and Carter 1976), over the bins in which the reference is within 80 dB
    of its strongest. Whitening makes the direct sound win over louder reflections; the absolute value makes the
    result blind to polarity. Silence gives 0.
    """
    y, c = to_mid(output), to_mid(reference)
    reach = round(max_lag * rate)
    size = fft.next_fast_len(max(len(y), len(c)) + reach + 1, real=True)
    clean = fft.rfft(_tapered(c, rate), size)
    cross = fft.rfft(_tapered(y, rate), size) * np.conj(clean)
    magnitude = np.abs(cross)
    mean = magnitude.mean()
    if mean == 0.0:
        return 0
    # Where the reference has nothing (above a codec's cut-off) every bin is rounding noise and would count in full.
    known = np.abs(clean) > 1e-4 * np.abs(clean).max()
    correlation = np.abs(fft.irfft(known * cross / (magnitude + 1e-9 * mean), size))
    near = np.concatenate([correlation[-reach:], correlation[: reach + 1]]) if reach else correlation[:1]
    return int(np.argmax(near)) - reach


def cut_to_overlap(lag: int, output: np.ndarray, *references: np.ndarray) -> tuple[np.ndarray, ...]:
    """Drop what only one side has: output[..., lag:] against reference[..., :], equal lengths, time on the last axis.

    All `references` share one clock (a mask over time may be among them).
    """
    output = output[..., max(lag, 0) :]
    references = tuple(r[..., max(-lag, 0) :] for r in references)
    n = min(x.shape[-1] for x in (output, *references))
    return tuple(x[..., :n] for x in (output, *references))


def align(output: np.ndarray, reference: np.ndarray, rate: int, max_lag: float = MAX_LAG_SECONDS):
    """(output, reference) -> (output, reference) as mid channels of equal length, the lag taken out.

    Invariant to level, polarity and a delay within `max_lag`; a longer delay is not found and shows as a bad score.
    """
    lag = find_lag(output, reference, rate, max_lag)
    return cut_to_overlap(lag, to_mid(output), to_mid(reference))
