"""Where a sound of the crowd comes from: direction, distance, and the first reflections around a near neighbour."""

from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from resonate import RATE
from resonate.degrade.acoustics import SOUND

#: The phone is held at about head height: floor, bodies and what hangs above answer within this time in s.
LATEST = 0.025


class Place(NamedTuple):
    """position: -1 = left of the phone, 1 = right; distance_m: 0.5..8; facing: 1 = towards it, 0 = away."""

    position: float
    distance_m: float
    facing: float


def pan(sound: np.ndarray, position: float) -> np.ndarray:
    """Mono (n,) from a direction: up to 0.4 ms and 3 dB between two capsules 14 cm apart -> (2, n)."""
    delay = min(round(abs(position) * 0.0004 * RATE), len(sound))
    near, far = np.float32(10 ** (abs(position) * 1.5 / 20)), np.float32(10 ** (-abs(position) * 1.5 / 20))
    out = np.empty((2, len(sound)), np.float32)
    first, second = (1, 0) if position > 0 else (0, 1)
    np.multiply(sound, near, out=out[first])
    out[second, :delay] = 0.0
    np.multiply(sound[: len(sound) - delay], far, out=out[second, delay:])
    return out


def place(rng: np.random.Generator, sound: np.ndarray, where: Place) -> np.ndarray:
    """A near neighbour, direct and with five early reflections: (n,) -> (2, n + up to 25 ms) float32.

    The direct sound is as strong as `sound` whatever the distance (its level is the scene's), the reflections gain
    on it with distance, and somebody who looks away is duller (head shadow: about -12 dB above 4 kHz).
    """
    dull = np.float32(0.75 * (1.0 - where.facing))
    direct = lfilter([1.0 - dull], [1.0, -dull], sound).astype(np.float32) if dull > 0.05 else sound
    count = 5
    out = np.zeros((2, len(sound) + int(LATEST * RATE) + 1), np.float32)
    out[:, : len(sound)] = pan(direct, where.position)
    # A surface answers with half of the treble gone.
    echo = lfilter([0.5], [1.0, -0.5], sound).astype(np.float32)
    reach = np.minimum(1.0, where.distance_m / 6.0)
    for delay, turn in zip(np.sort(rng.uniform(0.0015, LATEST, count)), rng.uniform(-1, 1, count), strict=True):
        # 1/r of the longer way, and half of the energy stays at the surface.
        gain = 0.7 * where.distance_m / (where.distance_m + delay * SOUND) * (0.4 + 0.6 * reach)
        start = int(delay * RATE)
        out[:, start : start + len(sound)] += np.float32(gain) * pan(echo, turn)
    return out
