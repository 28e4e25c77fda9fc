"""Room acoustics in figures: direct-to-reverberant ratio, clarity, decay, air; and setting the first two.

A response is (2 speakers, 2 capsules, L) with the first direct sound at `filters.LEAD`. `onset` (2, 2, A) holds the
sample at which each of A direct arrivals (main speakers, delay towers) reaches each pair; -1 where there is none.
Direct is what arrives within 2.5 ms of an arrival (Naylor & Gaubitch, Speech Dereverberation, 2010, ch. 2); early ends
80 ms after the first one (C80, ISO 3382-1).
"""

import numpy as np
from scipy.signal import butter, sosfiltfilt

from resonate import RATE
from resonate.degrade.filters import LEAD

DIRECT = int(0.0025 * RATE)
EARLY = int(0.05 * RATE)
CLEAR = int(0.08 * RATE)
#: Speed of sound in m/s, distance of two phone capsules in m.
SOUND, SPACING = 343.0, 0.14
#: How far a reflection may come before the sample its arrival was rounded to (sinc of a fractional delay).
BEFORE = 24
#: Limits of the gain of early reflections against the tail, linear: 12 dB either way.
LEAST, MOST = 0.25, 4.0


def split(kernel: np.ndarray, onset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direct part and the rest of kernel (2, 2, L); their sum is kernel."""
    index = np.arange(kernel.shape[-1])
    arrivals = onset.reshape(2, 2, -1)
    mask = index <= arrivals[..., :1] + DIRECT
    for a in range(1, arrivals.shape[-1]):
        at = arrivals[..., a, None]
        mask |= (at >= 0) & (index >= at - BEFORE) & (index <= at + DIRECT)
    return kernel * mask, kernel * ~mask


def drr_db(kernel: np.ndarray, onset: np.ndarray) -> float:
    """Direct-to-reverberant ratio in dB over all speaker-capsule pairs."""
    direct, rest = split(kernel, onset)
    return float(10 * np.log10(_energy(direct) / max(_energy(rest), 1e-12)))


def clarity_db(kernel: np.ndarray, onset: np.ndarray) -> float:
    """C80 in dB (ISO 3382-1) over all pairs, counted from the first arrival."""
    edge = _edge(onset)
    return float(10 * np.log10(_energy(kernel[..., :edge]) / max(_energy(kernel[..., edge:]), 1e-12)))


def likely_clarity_db(ratio_db: float, rt60_s: float) -> float:
    """C80 of a room at a DRR whose reverberation decays exponentially from the direct sound on (Barron & Lee, JASA
    84, 1988, without their correction for distance)."""
    rest = 10 ** (-ratio_db / 10)
    late = rest * np.exp(-6 * np.log(10) * 0.08 / rt60_s)
    return float(10 * np.log10((1 + rest - late) / late))


def decay_time(response_1d: np.ndarray) -> float:
    """T20 in s of a response (L,) that begins with its direct sound: Schroeder integral of the reverberant part
    (25 ms after the direct sound), line through -5..-25 dB (ISO 3382-1); 0 where it is too short to tell."""
    return energy_decay_time(np.square(response_1d[EARLY // 2 :].astype(np.float64)))


def energy_decay_time(tail: np.ndarray) -> float:
    """T20 in s of a reverberant part given as energy over time (L,); 0 where it is too short to tell."""
    level = 10 * np.log10(np.cumsum(tail[::-1])[::-1] / max(tail.sum(), 1e-30) + 1e-12)
    inside = np.flatnonzero((level < -5) & (level > -25))
    if len(inside) < 32:
        return 0.0
    slope = np.polyfit(inside / RATE, level[inside], 1)[0]
    return float(-60.0 / slope)


def octave(x: np.ndarray, centre_hz: float) -> np.ndarray:
    """x (..., L) within the octave around centre_hz (Butterworth, no delay), float64."""
    high = min(centre_hz * 2**0.5, 0.49 * RATE)
    sos = butter(2, [centre_hz / 2**0.5, high], "bandpass", fs=RATE, output="sos")
    return sosfiltfilt(sos, x.astype(np.float64))


def air_db_per_m(freqs_hz: np.ndarray, celsius: float = 20.0, humidity: float = 50.0) -> np.ndarray:
    """Absorption of air in dB/m at freqs_hz, relative humidity in %, sea level (ISO 9613-1, equations 3 to 5)."""
    f = np.asarray(freqs_hz, dtype=np.float64)
    kelvin = celsius + 273.15
    warm = kelvin / 293.15
    vapour = humidity * 10 ** (4.6151 - 6.8346 * (273.16 / kelvin) ** 1.261)
    oxygen = 24.0 + 4.04e4 * vapour * (0.02 + vapour) / (0.391 + vapour)
    nitrogen = warm**-0.5 * (9.0 + 280.0 * vapour * np.exp(-4.17 * (warm ** (-1 / 3) - 1.0)))
    relaxation = 0.01275 * np.exp(-2239.1 / kelvin) / (oxygen + f**2 / oxygen)
    relaxation += 0.1068 * np.exp(-3352.0 / kelvin) / (nitrogen + f**2 / nitrogen)
    return 8.686 * f**2 * (1.84e-11 * warm**0.5 + warm**-2.5 * relaxation)


def diffuse_coherence(freqs_hz: np.ndarray) -> np.ndarray:
    """Coherence sin(kd)/(kd) of a diffuse field between the two capsules (Cook et al., JASA 27, 1955)."""
    return np.sinc(2 * freqs_hz * SPACING / SOUND)


def balance(
    direct: np.ndarray, rest: np.ndarray, onset: np.ndarray, ratio_db: float, c80_db: float | None
) -> np.ndarray:
    """`rest` scaled so that direct + rest has the DRR `ratio_db` exactly, and the C80 asked for as far as it can be.

    C80 is set by a gain on what arrives in the first 50 ms, faded out until 80 ms; the tail keeps its decay. C80 cannot
    be below the DRR (then nothing early but the direct sound would be left), and the gain of the early reflections
    stays within 12 dB of the tail's. None leaves the room's own balance.
    """
    wanted = _energy(direct) / 10 ** (ratio_db / 10)
    if c80_db is not None:
        rest = rest * _early_gain(direct, rest, onset, wanted, c80_db)
    return rest * np.sqrt(wanted / max(_energy(rest), 1e-20))


def _early_gain(direct: np.ndarray, rest: np.ndarray, onset: np.ndarray, wanted: float, c80_db: float) -> np.ndarray:
    """Gain over time (L,): `a` until 50 ms, 1 from 80 ms on.

    With E(a) = P + 2 (a - 1) Q + (a - 1)^2 R the energy of the early part under that gain and L the late one's, and
    both together scaled to `wanted`, C80 asks for E(a) / L = wanted / late - 1 with late = (D + wanted) / (1 + C),
    C being C80 as a ratio.
    """
    edge = _edge(onset)
    early, late = rest[..., :edge], _energy(rest[..., edge:])
    late_wanted = (_energy(direct) + wanted) / (1 + 10 ** (c80_db / 10))
    target = max(wanted / late_wanted - 1.0, 0.0) * late
    ramp = np.zeros(rest.shape[-1])
    ramp[:edge] = np.clip((edge - np.arange(edge)) / (CLEAR - EARLY), 0.0, 1.0)
    p = _energy(early)
    q = float((np.square(early, dtype=np.float64) * ramp[:edge]).sum())
    r = float((np.square(early, dtype=np.float64) * ramp[:edge] ** 2).sum())
    more = (-q + np.sqrt(max(q * q - r * (p - target), 0.0))) / max(r, 1e-20)
    return (1.0 + (np.clip(1.0 + more, LEAST, MOST) - 1.0) * ramp).astype(np.float32)


def _edge(onset: np.ndarray) -> int:
    return int(onset[onset >= 0].min()) + CLEAR


def _energy(x: np.ndarray) -> float:
    return float(np.square(x, dtype=np.float64).sum())


def onsets(pairs: np.ndarray) -> np.ndarray:
    """(2, 2, 1): where each pair of a measured response has its first strong arrival, at most 25 ms after LEAD."""
    found = np.full((2, 2, 1), LEAD)
    for s in range(2):
        for m in range(2):
            level = np.abs(pairs[s, m, LEAD : LEAD + int(0.025 * RATE)])
            if level.max() > 0:
                found[s, m, 0] = LEAD + int(np.flatnonzero(level > 0.5 * level.max())[0])
    return found
