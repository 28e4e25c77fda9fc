"""Microphone capsules: response, acoustic overload, self-noise.

Measured device responses are smoothed and made minimum phase (what reverberation the measurement holds goes),
then limited to the band a phone passes. Overload is an asymmetric soft clip in front of any gain: a MEMS
membrane nears its stop on one side first (acoustic overload point 115..130 dB SPL).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resonate import RATE
from resonate.degrade import filters
from resonate.degrade.bank import Bank


@dataclass(frozen=True)
class CapsuleParams:
    """capsules: 1 (dual mono) or 2. device: bank item whose response is used, or "".

    low_hz (70..200), high_hz (5500..16000): -3 dB points of the band, Butterworth slopes of order low_order (1..3) and
    high_order (1..4); colour_db (-6..6) at COLOUR_HZ; mismatch_db (about +-1): between two capsules, likewise.
    overload_db: limit of the soft clip over the music's RMS (11..30), asymmetry (0.6..1): ratio of the negative to the
    positive limit; noise_db: self-noise under the music's RMS (33..65). seed: of the noise.
    """

    capsules: int
    device: str
    low_hz: float
    low_order: int
    high_hz: float
    high_order: int
    colour_db: list[float]
    mismatch_db: list[float]
    overload_db: float
    asymmetry: float
    noise_db: float
    seed: int


COLOUR_HZ = [100.0, 300.0, 900.0, 2500.0, 5000.0, 8000.0, 14000.0]


def sample(
    rng: np.random.Generator, severity: float, devices: list[str] | None = None, stereo_share: float = 0.5
) -> CapsuleParams:
    """Draw a phone; severity in [0, 1] narrows the band and brings the overload nearer."""
    return CapsuleParams(
        capsules=2 if rng.uniform() < stereo_share else 1,
        device=str(rng.choice(devices)) if devices and rng.uniform() < 0.5 else "",
        low_hz=float(rng.uniform(70.0, 140.0 + 60.0 * severity)),
        low_order=int(rng.integers(1, 4)),
        high_hz=float(np.exp(rng.uniform(np.log(9000.0 - 3500.0 * severity), np.log(16000.0 - 4000.0 * severity)))),
        high_order=int(rng.integers(1, 5)),
        colour_db=[float(v) for v in rng.normal(0, 2.0, len(COLOUR_HZ)).clip(-6, 6)],
        mismatch_db=[float(v) for v in rng.normal(0, 0.5, len(COLOUR_HZ))],
        overload_db=float(rng.uniform(17.0 - 6.0 * severity, 30.0 - 6.0 * severity)),
        asymmetry=float(rng.uniform(0.6, 1.0)),
        noise_db=float(rng.uniform(45.0 - 12.0 * severity, 65.0 - 10.0 * severity)),
        seed=int(rng.integers(2**31)),
    )


def response(params: CapsuleParams, bank: Bank) -> np.ndarray:
    """Minimum-phase response of the two channels: (2, 1024) float32, 0 dB around 1 kHz."""
    freqs, band = filters.band_edges(params.low_hz, params.low_order, params.high_hz, params.high_order)
    points = np.log(freqs)
    colour = np.interp(points, np.log(COLOUR_HZ), params.colour_db)
    if params.device:
        colour = 0.5 * colour + device_curve(bank.audio(params.device), freqs)
    middle = np.mean(colour[(freqs > 500) & (freqs < 2000)])
    gains = [band + colour - middle]
    if params.capsules == 2:
        gains.append(gains[0] + np.interp(points, np.log(COLOUR_HZ), params.mismatch_db))
    kernels = [filters.minimum_phase(freqs, g) for g in gains]
    return np.stack([kernels[0], kernels[-1]])


def device_curve(impulse: np.ndarray, freqs: np.ndarray) -> np.ndarray:
    """Magnitude in dB of a measured impulse response (channels, n) at freqs, averaged over a third of an octave,
    limited to +-12 dB around its level at 0.5..2 kHz."""
    mono = impulse[0, : RATE // 4]
    power = np.square(np.abs(np.fft.rfft(mono, 1 << 15)))
    total = np.concatenate([[0.0], np.cumsum(power)])
    scale = (1 << 15) / RATE
    low = np.clip((freqs * 2 ** (-1 / 6) * scale).astype(int), 0, len(power) - 2)
    high = np.minimum(np.maximum((freqs * 2 ** (1 / 6) * scale).astype(int) + 1, low + 1), len(power))
    level = 10 * np.log10((total[high] - total[low]) / (high - low) + 1e-20)
    level = level - level[(freqs > 500) & (freqs < 2000)].mean()
    return np.clip(level, -12.0, 12.0)


def overload(x: Tensor, params: CapsuleParams, music_rms: float) -> Tensor:
    """Asymmetric soft clip of the sum (2, T): linear up to half the limit, then bending into it."""
    limit = music_rms * 10 ** (params.overload_db / 20)
    return torch.where(x > 0, _bend(x, limit), _bend(x, limit * params.asymmetry))


def overload_ratio(x: Tensor, params: CapsuleParams, music_rms: float) -> float:
    """Share of the samples of (2, T) beyond the limit, which are bent by more than 1 dB."""
    limit = music_rms * 10 ** (params.overload_db / 20)
    return float(((x > limit) | (x < -limit * params.asymmetry)).float().mean())


def self_noise(params: CapsuleParams, n_samples: int, music_rms: float) -> np.ndarray:
    """(2, n_samples) float32 noise of the capsule and its amplifier, white with a rise to the bass."""
    rng = np.random.default_rng(params.seed)
    noise = rng.standard_normal((2, n_samples), dtype=np.float32)
    noise[:, 1:] += 0.6 * noise[:, :-1]
    if params.capsules == 1:
        noise[1] = noise[0]
    return noise * np.float32(music_rms * 10 ** (-params.noise_db / 20) / 1.17)


def _bend(x: Tensor, limit: float) -> Tensor:
    knee = 0.5 * limit
    size = x.abs()
    bent = knee + knee * torch.tanh((size - knee) / knee)
    return torch.where(size > knee, torch.copysign(bent, x), x)
