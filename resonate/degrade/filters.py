"""Filters and control-rate helpers that the stages of the capture chain share.

Kernels are numpy (design is offline and cheap), signals are float32 torch tensors on any device.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.fft import next_fast_len
from torch import Tensor

from resonate import RATE

#: Samples that a room kernel may hold before its direct sound: the sinc and the measured pre-ringing
#: stay whole, and `convolve` drops them again, so the direct sound has no delay.
LEAD = 64

#: Longest block in which `convolve` works, in samples.
LARGEST_BLOCK = 1 << 17

#: Control period in samples (about 1 ms): all recursions run at this rate.
HOP = 44


def minimum_phase(
    freqs_hz: ArrayLike, gains_db: ArrayLike, taps: int = 1024, rate: int = RATE, n_fft: int = 8192
) -> np.ndarray:
    """Minimum-phase FIR through the given points (interpolated on log frequency).

    Args: freqs_hz ascending in Hz; gains_db in dB (below -80 dB is treated as -80 dB).
    Returns: (taps,) float32.
    Source: homomorphic method, Oppenheim & Schafer, Discrete-Time Signal Processing, ch. 13.
    """
    grid = np.maximum(np.fft.rfftfreq(n_fft, 1.0 / rate), 1.0)
    gains = np.interp(np.log(grid), np.log(np.asarray(freqs_hz)), np.asarray(gains_db))
    log_magnitude = np.maximum(gains, -80.0) * (np.log(10.0) / 20.0)
    cepstrum = np.fft.irfft(log_magnitude, n_fft)
    cepstrum[1 : n_fft // 2] *= 2.0
    cepstrum[n_fft // 2 + 1 :] = 0.0
    kernel = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)), n_fft)[:taps]
    kernel[-taps // 4 :] *= np.cos(np.linspace(0.0, np.pi / 2, len(kernel[-taps // 4 :]))) ** 2
    return kernel.astype(np.float32)


def band_edges(low_hz: float, low_order: int, high_hz: float, high_order: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (freqs_hz, gains_db) of a Butterworth-shaped band from low_hz to high_hz (-3 dB there)."""
    freqs = np.geomspace(10.0, RATE / 2, 160)
    power = (1 + (low_hz / freqs) ** (2 * low_order)) * (1 + (freqs / high_hz) ** (2 * high_order))
    return freqs, -10.0 * np.log10(power)


def resonance(centre_hz: float, q: float, rate: int = RATE) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (b, a) of a band-pass biquad with 0 dB at its centre (Bristow-Johnson, audio EQ cookbook)."""
    w = 2 * np.pi * centre_hz / rate
    alpha = np.sin(w) / (2 * q)
    a0 = 1 + alpha
    return np.array([alpha, 0.0, -alpha]) / a0, np.array([1.0, -2 * np.cos(w) / a0, (1 - alpha) / a0])


def fold(kernel: np.ndarray, fir: np.ndarray) -> np.ndarray:
    """kernel (..., L) convolved with fir (..., taps) (broadcast): (..., L + taps - 1) float32."""
    length = kernel.shape[-1] + fir.shape[-1] - 1
    n = next_fast_len(length, real=True)
    spectrum = np.fft.rfft(kernel, n) * np.fft.rfft(fir, n)
    return np.fft.irfft(spectrum, n)[..., :length].astype(np.float32)


def convolve(x: Tensor, kernels: Sequence[np.ndarray], lead: int = LEAD) -> list[Tensor]:
    """Convolve every track with each of several 2x2 kernels, sharing the forward transform.

    Args:
        x: (K, 2, T), channel = sound source.
        kernels: arrays (2 sources, 2 capsules, L), or (2, L) for one filter per channel.
        lead: samples of the result to drop from its start, so nothing is delayed.
    Returns: one (K, 2, T) tensor per kernel.
    """
    t = x.shape[-1]
    taps = max(k.shape[-1] for k in kernels)
    # Short kernels go in overlapping blocks that stay in the cache (overlap-save), two to three times as fast.
    n = max(1 << 14, 1 << (3 * taps - 1).bit_length())
    blocks = n <= LARGEST_BLOCK and 2 * n <= t
    if blocks:
        hop = n - taps + 1
        count = -(-(t + lead) // hop)
        framed = torch.nn.functional.pad(x, (taps - 1, count * hop - t)).unfold(-1, n, hop)
        spectrum = torch.fft.rfft(framed)  # (K, 2, blocks, n / 2 + 1)
    else:
        n = next_fast_len(t + max(taps, lead), real=True)
        spectrum = torch.fft.rfft(x, n)[:, :, None]
    out = []
    for kernel in kernels:
        response = torch.fft.rfft(torch.from_numpy(np.ascontiguousarray(kernel)).to(x.device), n)
        if kernel.ndim == 3:
            y = torch.stack(
                [spectrum[:, 0] * response[0, m] + spectrum[:, 1] * response[1, m] for m in range(2)], dim=1
            )
        else:
            y = spectrum * response[:, None]
        y = torch.fft.irfft(y, n)
        if blocks:
            y = y[..., taps - 1 :]
        out.append(y.flatten(-2)[..., lead : lead + t])
    return out


def convolve_each(x: Tensor, kernels: Sequence[np.ndarray], leads: Sequence[int]) -> Tensor:
    """Every track with a filter of its own, in one transform.

    Args: x (K, 2, T); kernels: K arrays (2, L), one filter per channel; leads: samples that each result loses at its
    start. Returns (K, 2, T).
    """
    t = x.shape[-1]
    n = next_fast_len(t + max(k.shape[-1] for k in kernels), real=True)
    together = np.zeros((len(kernels), 2, max(k.shape[-1] for k in kernels)), np.float32)
    for row, kernel in zip(together, kernels, strict=True):
        row[:, : kernel.shape[-1]] = kernel
    y = torch.fft.irfft(torch.fft.rfft(x, n) * torch.fft.rfft(torch.from_numpy(together).to(x.device), n), n)
    return torch.stack([row[:, lead : lead + t] for row, lead in zip(y, leads, strict=True)])


def block_power(x: Tensor) -> np.ndarray:
    """Mean power of (2, T) per control period, over both channels: (ceil(T / HOP),) float64."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % HOP))
    power = padded.unflatten(-1, (-1, HOP)).square().mean(dim=(0, 2))
    return power.cpu().numpy().astype(np.float64)


def block_peak(x: Tensor) -> np.ndarray:
    """Largest magnitude of (2, T) per control period: (ceil(T / HOP),) float64."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % HOP))
    return padded.unflatten(-1, (-1, HOP)).abs().amax(dim=(0, 2)).cpu().numpy().astype(np.float64)


def control_gain(gain_db: np.ndarray, n_samples: int, device: torch.device) -> Tensor:
    """Control-rate gain in dB -> (n_samples,) linear float32, interpolated linearly between periods."""
    centres = (np.arange(len(gain_db)) + 0.5) * HOP
    linear = np.interp(np.arange(n_samples), centres, 10.0 ** (gain_db / 20.0))
    return torch.from_numpy(linear.astype(np.float32)).to(device)


def read_at(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """x (..., n) float32 at the positions `at` (m,) in samples within [0, n - 1), interpolated linearly: (..., m)."""
    whole = at.astype(np.int32)
    part = (at - whole).astype(np.float32)
    out = x.take(whole, axis=-1)
    out += part * (x.take(whole + 1, axis=-1) - out)
    return out


def through_knots(knots: np.ndarray, n: int) -> np.ndarray:
    """A curve of n points, linear between equally spaced knots (k,), the first and the last one at its ends."""
    return np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots)


def active_rms(x: Tensor) -> float:
    """RMS of (2, T) over the control periods within 30 dB of the loudest 50 ms; 0 for silence."""
    power = block_power(x)
    width = max(1, int(0.05 * RATE / HOP))
    usable = len(power) // width * width
    frames = power[:usable].reshape(-1, width).mean(axis=1) if usable else power
    loud = frames[frames > frames.max() * 1e-3]
    return float(np.sqrt(loud.mean())) if loud.size else 0.0
