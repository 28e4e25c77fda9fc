"""The converter: high-pass, hard clip at full scale, and the band of the recording's sample rate.

A gain control that is slow, capped or off lets a loud show run into full scale: a share of recordings that grows with
severity is driven that far. Anti-aliasing filters pass up to 0.46 of the rate (Zolzer, Digital Audio Signal
Processing, ch. 3). High-pass and anti-aliasing are linear and act on each component; the clip acts on the sum. The
sample rate itself is changed in the codec stage, which encodes at `rate`; here its band limit is applied.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resonate import RATE
from resonate.degrade import filters

RATES = {48000: 0.5, 44100: 0.25, 32000: 0.05, 24000: 0.05, 22050: 0.05, 16000: 0.07, 8000: 0.03}

#: Level in dBFS of the music in a recording that is driven too hot: its peaks lie 8 to 15 dB higher.
HOT_DB = (-17.0, -9.0)


@dataclass(frozen=True)
class ConverterParams:
    """rate: sample rate of the recording in Hz (a key of RATES); highpass_hz (20..120, 0 = none, second order);
    drive_db: extra gain in front of the converter (0..20)."""

    rate: int
    highpass_hz: float
    drive_db: float


def sample(rng: np.random.Generator, severity: float, target_db: float = -20.0) -> ConverterParams:
    """Draw a converter; low rates and hot levels come with severity in [0, 1].

    Args: target_db: level in dBFS at which the gain control hands the music over.
    """
    rates = list(RATES)
    weights = np.array([RATES[r] * (1.0 if r >= 44100 else 0.3 + 1.4 * severity) for r in rates])
    hot = rng.uniform() < 0.02 + 0.45 * severity**2
    level = rng.uniform(HOT_DB[0], HOT_DB[1]) if hot else target_db + rng.normal(-3.0, 2.0)
    return ConverterParams(
        rate=int(rng.choice(rates, p=weights / weights.sum())),
        highpass_hz=float(rng.uniform(20.0, 120.0)) if rng.uniform() < 0.3 else 0.0,
        drive_db=float(max(0.0, level - target_db)),
    )


def linear(tracks: Tensor, params: ConverterParams) -> Tensor:
    """Gain, high-pass and band limit: (K, 2, T) -> (K, 2, T), nothing delayed."""
    out = tracks * 10 ** (params.drive_db / 20)
    if params.highpass_hz:
        kernel = filters.minimum_phase(*filters.band_edges(params.highpass_hz, 2, 1e6, 1), taps=2048, n_fft=16384)
        out = filters.convolve(out, [np.stack([kernel, kernel])], lead=0)[0]
    if params.rate < RATE:
        kernel = lowpass(0.46 * params.rate)
        out = filters.convolve(out, [np.stack([kernel, kernel])], lead=len(kernel) // 2)[0]
    return out


def clip(total: Tensor) -> Tensor:
    """Hard clip of the sum (2, T) at full scale."""
    return torch.clamp(total, -1.0, 1.0)


def lowpass(cutoff_hz: float, taps: int = 511) -> np.ndarray:
    """Linear-phase windowed sinc (taps,), delay taps // 2."""
    t = np.arange(taps) - taps // 2
    kernel = np.sinc(2 * cutoff_hz / RATE * t) * np.kaiser(taps, 8.0)
    return (kernel / kernel.sum()).astype(np.float32)
