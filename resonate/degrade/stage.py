"""Stage and PA: stem balance, system limiter, speaker response, directivity.

The limiter acts on the whole programme and moves all stems alike; the speakers' response is a linear filter behind it.
It looks 2 ms ahead and holds a brick-wall ceiling (McNally, Dynamic Range Control of Digital Audio Signals, JAES 32,
1984), which is what a system processor does to spare the drivers. The response is bass-heavy, as live systems are tuned
(McCarthy, Sound Systems: Design and Optimization, 3rd ed. 2016), and falls off at both ends, as horns and
boxes do. Directivity: a speaker is omnidirectional at low and directional at high frequencies, so the room is excited
with less treble than the crowd in front of it hears (Toole, Sound Reproduction, 2008, ch. 4: directivity index of 5 to
10 dB above 1 kHz, near 0 dB below 100 Hz). How many speakers there are is the venue's business (`venue.py`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resonate import RATE
from resonate.degrade import filters

#: Corners of the directivity's shelf in Hz.
SHELF_HZ = [60.0, 250.0, 2000.0, 12000.0]


@dataclass(frozen=True)
class StageParams:
    """balance_db: gain per stem in the order of resonate.STEMS, -4..4 dB. width: 0 = mono PA, 1 = stereo as mixed.

    eq_hz, eq_db: points of the speakers' response: about +-9 dB, down to -29 at 31 Hz and -21 at 17 kHz.
    threshold_db: limiter threshold over the music's RMS, 8..20 dB. release_ms: 60..300. directivity_db: index of the
    speakers above 2 kHz, 5..10 dB.
    """

    balance_db: list[float]
    width: float
    eq_hz: list[float]
    eq_db: list[float]
    threshold_db: float
    release_ms: float
    directivity_db: float


def sample(rng: np.random.Generator, severity: float) -> StageParams:
    """Draw a PA; severity in [0, 1] makes it bassier, more limited and more coloured."""
    freqs = [31.0, 45.0, 80.0, 160.0, 400.0, 1000.0, 2500.0, 6300.0, 12500.0, 17000.0]
    spread = 1.5 + 2.5 * severity
    gains = rng.normal(0.0, spread, len(freqs)).clip(-9, 9)
    # Small systems lose the lowest octave, most are tuned bass-heavy, compression drivers fall off on top.
    gains[0] -= rng.uniform(3.0, 20.0)
    gains[1] += rng.uniform(-6.0, 4.0)
    gains[2] += rng.uniform(0.0, 6.0)
    gains[3] += rng.uniform(0.0, 3.0)
    gains[8] -= rng.uniform(0.0, 5.0)
    gains[9] -= rng.uniform(2.0, 12.0)
    return StageParams(
        balance_db=[float(v) for v in rng.normal(0.0, 1.5, 4).clip(-4, 4)],
        width=float(rng.choice([0.0, rng.uniform(0.2, 0.8), 1.0], p=[0.4, 0.3, 0.3])),
        eq_hz=freqs,
        eq_db=[float(v) for v in gains],
        threshold_db=float(rng.uniform(14.0 - 6.0 * severity, 20.0 - 6.0 * severity)),
        release_ms=float(rng.uniform(60.0, 300.0)),
        directivity_db=float(rng.uniform(5.0, 10.0)),
    )


def balance(stems: Tensor, params: StageParams) -> Tensor:
    """stems (4, 2, T) with the balance of the mix desk."""
    gains = torch.tensor([10 ** (g / 20) for g in params.balance_db], dtype=stems.dtype, device=stems.device)
    return stems * gains[:, None, None]


def apply(stems: Tensor, params: StageParams) -> Tensor:
    """What the PA is fed: stems (4, 2, T) -> (4, 2, T), width reduced and limited as one programme."""
    mid = stems.mean(dim=1, keepdim=True)
    fed = mid + params.width * (stems - mid)
    programme = fed.sum(dim=0)
    rms = filters.active_rms(programme)
    if rms == 0.0:
        return fed
    over = 20 * np.log10(filters.block_peak(programme) / rms + 1e-9) - params.threshold_db
    return fed * filters.control_gain(_limit(over, params.release_ms), stems.shape[-1], stems.device)


def response(params: StageParams) -> np.ndarray:
    """Minimum-phase speaker response, (1024,) float32."""
    return filters.minimum_phase(params.eq_hz, params.eq_db)


def room_shelf(params: StageParams) -> np.ndarray:
    """What the room gets less of than the crowd in front of the speakers: minimum-phase shelf, (256,) float32.

    Low frequencies leave the speaker in all directions, so the room misses only the treble.
    """
    return filters.minimum_phase(SHELF_HZ, [0.0, 0.0, -params.directivity_db, -params.directivity_db], 256)


def _limit(over_db: np.ndarray, release_ms: float) -> np.ndarray:
    """Gain in dB per control period: looks 2 ms ahead, recovers exponentially.

    The gain between the centres of two periods is interpolated, so the ceiling holds only when a loud period's
    neighbours on both sides are as low as it needs.
    """
    wanted = np.pad(-np.maximum(over_db, 0.0), (1, 2))
    ahead = np.minimum.reduce([wanted[:-3], wanted[1:-2], wanted[2:-1], wanted[3:]])
    keep = float(np.exp(-filters.HOP / RATE / (release_ms * 1e-3)))
    gain, out = 0.0, []
    for target in ahead.tolist():
        gain = target if target < gain else target + keep * (gain - target)
        out.append(gain)
    return np.array(out)
