"""The phone's automatic gain control and noise suppressor.

The AGC follows the whole sum, so a scream ducks the music too: fast attack, hold, then a release of a few dB
per second, at a control rate of 1 ms (a compressor without a static curve: Giannoulis, Massberg & Reiss, JAES 60(6),
2012). The suppressor is a decision-free spectral subtraction with a tracked
noise floor, as phones run it for speech (Martin, IEEE TSAP 9, 2001, for the minimum statistics); it treats
sustained music as noise.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resonate import RATE
from resonate.degrade import filters
from resonate.degrade.filters import HOP


@dataclass(frozen=True)
class AgcParams:
    """target_db: RMS level in dBFS (-28..-15) the loudness settles at; also the fixed level when active is false.

    range_db: largest change either way (6..20); attack_ms (5..60), hold_ms (50..1000), release_db_s (2..20 dB/s);
    start_db: gain error at the start (normal, 4 dB). suppressor_db: deepest attenuation of the suppressor (4..14,
    0 = off); suppressor_bias: overestimation of the noise (1..2.5).
    """

    active: bool
    target_db: float
    range_db: float
    attack_ms: float
    hold_ms: float
    release_db_s: float
    start_db: float
    suppressor_db: float
    suppressor_bias: float


def sample(rng: np.random.Generator, severity: float, suppressor_share: float = 0.2) -> AgcParams:
    """Draw gain control and suppressor; severity in [0, 1] drives the converter hotter."""
    suppressed = rng.uniform() < suppressor_share * (0.5 + severity)
    return AgcParams(
        active=bool(rng.uniform() < 0.8),
        target_db=float(rng.uniform(-28.0, -18.0 + 3.0 * severity)),
        range_db=float(rng.uniform(6.0, 20.0)),
        attack_ms=float(rng.uniform(5.0, 60.0)),
        hold_ms=float(rng.uniform(50.0, 1000.0)),
        release_db_s=float(rng.uniform(2.0, 20.0)),
        start_db=float(rng.normal(0.0, 4.0)),
        suppressor_db=float(rng.uniform(4.0, 14.0)) if suppressed else 0.0,
        suppressor_bias=float(rng.uniform(1.0, 2.5)),
    )


def gain(total: Tensor, params: AgcParams, music_rms: float) -> Tensor:
    """Linear gain (T,) for every component, decided on the sum (2, T)."""
    base = params.target_db - 20 * np.log10(music_rms)
    power = filters.block_power(total)
    if not params.active:
        curve = np.full(len(power), base)
    else:
        curve = base + _follow(10 * np.log10(power / music_rms**2 + 1e-6), params)
    return filters.control_gain(curve, total.shape[-1], total.device)


def suppress(x: Tensor, params: AgcParams) -> Tensor:
    """The suppressor on the sum (2, T); returns x itself when it is off."""
    if params.suppressor_db == 0.0:
        return x
    window = torch.hann_window(1024, device=x.device)
    spectrum = torch.stft(x, 1024, 256, window=window, return_complex=True)
    power = spectrum.abs().square().mean(dim=0, keepdim=True)
    smooth = torch.nn.functional.avg_pool1d(power, 9, 1, 4, count_include_pad=False)
    # Minimum over 1.5 s: speech leaves gaps in which the noise shows, a held chord does not.
    width = 2 * (int(0.75 * RATE / 256)) + 1
    floor = -torch.nn.functional.max_pool1d(-smooth, width, 1, width // 2)
    wanted = 1.0 - params.suppressor_bias * 1.5 * floor / (power + 1e-12)
    lowest = 10 ** (-params.suppressor_db / 20)
    mask = torch.nn.functional.avg_pool1d(wanted.clamp(lowest**2, 1.0).sqrt(), 3, 1, 1, count_include_pad=False)
    return torch.istft(spectrum * mask, 1024, 256, window=window, length=x.shape[-1])


def _follow(level_db: np.ndarray, params: AgcParams) -> np.ndarray:
    """Gain in dB per control period around 0: down at once, held, then up slowly."""
    period = HOP / RATE
    attack = 1.0 - float(np.exp(-period / (params.attack_ms * 1e-3)))
    average = 1.0 - float(np.exp(-period / 0.02))
    hold, step = int(params.hold_ms * 1e-3 / period), params.release_db_s * period
    gain_db, waiting, power, out = params.start_db, 0, 10 ** (-params.start_db / 10), []
    for level in (10 ** (level_db / 10)).tolist():
        power += average * (level - power)
        wanted = -10.0 * math.log10(power + 1e-9)
        wanted = min(max(wanted, -params.range_db), params.range_db)
        if wanted < gain_db:
            gain_db += attack * (wanted - gain_db)
            waiting = hold
        elif waiting > 0:
            waiting -= 1
        else:
            gain_db = min(wanted, gain_db + step)
        out.append(gain_db)
    return np.array(out)
