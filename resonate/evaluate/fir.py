"""Least-squares FIR fits of one signal by one or more references."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft, linalg
from threadpoolctl import threadpool_limits

TAPS = 1024
TAPS_BEFORE_ZERO = TAPS // 8
#: Relative loading of the normal equations' diagonal; a band-limited reference makes them singular without it.
LOADING = 1e-10


def fit(
    output: np.ndarray,
    references: Sequence[np.ndarray],
    taps: int = TAPS,
    before: int = TAPS_BEFORE_ZERO,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Fit `output` (time,) by the sum of `references` (time,), each through its own FIR.

    Minimises |y - sum_i h_i * c_i|^2 over all taps h_i[k], k = -before .. taps - before - 1 (in samples), with all
    signals zero outside their span. The normal equations are block Toeplitz; their entries are correlations, taken by
    FFT. Returns (parts, rest): parts[i] = h_i * c_i and rest = y - sum(parts), each of length time + taps - 1
    (the filters' tails included, so energies are whole). A silent reference has a silent part.
    """
    y = np.asarray(output, dtype=np.float64)
    n = len(y)
    if any(len(c) != n for c in references):
        raise ValueError("output and references must have equal lengths")
    length = n + taps - 1
    size = fft.next_fast_len(length, real=True)
    padded = np.zeros(length)
    padded[before : before + n] = y  # the references stay at 0, so tap index k means delay k - before
    levels = [float(np.sqrt(np.mean(np.square(c)))) if n else 0.0 for c in references]
    live = [i for i, level in enumerate(levels) if level > 0.0]
    parts = [np.zeros(length) for _ in references]
    if live:
        spectra = [fft.rfft(np.asarray(references[i], dtype=np.float64) / levels[i], size) for i in live]
        target = fft.rfft(padded, size)
        right = np.concatenate([fft.irfft(target * np.conj(s), size)[:taps] for s in spectra])
        blocks = []
        for a in spectra:
            row = []
            for b in spectra:
                # entry (k, j) = sum_n a[n - k] b[n - j], a function of k - j
                r = fft.irfft(np.conj(a) * b, size)
                row.append(linalg.toeplitz(r[:taps], np.concatenate([r[:1], r[: -taps : -1]])))
            blocks.append(row)
        matrix = np.block(blocks)
        matrix[np.diag_indices_from(matrix)] *= 1.0 + LOADING
        # Beside a training that keeps all cores busy, waiting BLAS threads make this ten times slower than one thread.
        with threadpool_limits(1, user_api="blas"):
            factor = linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
            solution = linalg.cho_solve(factor, right, check_finite=False)
        for place, i in enumerate(live):
            taps_of_i = fft.rfft(solution[place * taps : (place + 1) * taps], size)
            parts[i] = fft.irfft(taps_of_i * spectra[place], size)[:length]
    return parts, padded - np.sum(parts, axis=0)
