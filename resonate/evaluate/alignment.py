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


def find_lag(output: np.ndarray, reference: np.ndarray, rate: int, max_lag: float = MAX_LAG_SECONDS) -> int:
    """How many samples `output` comes after `reference` (negative: before).

    The peak of |IFFT(X / |X|)|, X = FFT(output) conj(FFT(reference)), within +-max_lag seconds: the generalised
    cross-correlation with phase transform (Knapp and Carter 1976). Whitening makes the direct sound win over louder
    reflections; the absolute value makes the result blind to polarity. Silence gives 0.
    """
    y, c = to_mid(output), to_mid(reference)
    reach = int(round(max_lag * rate))
    size = fft.next_fast_len(max(len(y), len(c)) + reach + 1, real=True)
    cross = fft.rfft(y, size) * np.conj(fft.rfft(c, size))
    magnitude = np.abs(cross)
    mean = magnitude.mean()
    if mean == 0.0:
        return 0
    # The floor keeps bins that hold only rounding noise (above a codec's cut-off) from counting as full evidence.
    correlation = np.abs(fft.irfft(cross / (magnitude + 1e-9 * mean), size))
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
