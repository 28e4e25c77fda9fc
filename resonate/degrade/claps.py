"""Clapping: single pairs of hands, people each in their own rhythm, and many in the rhythm of the music.

One clap is noise through the resonance of the cupped hands with an exponential decay; its spectrum depends on how the
hands meet (eight ways: Repp, JASA 81, 1987). People on their own clap at 2.5 to 5.5 Hz with a jitter of a tenth of the
period, together at half of that with 20 to 40 ms between them (Peltola, Erkut, Cook & Valimaki, IEEE TASLP 15, 2007;
Neda et al., Nature 403, 2000).
"""

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from resonate import RATE
from resonate.degrade.acoustics import SOUND
from resonate.degrade.filters import resonance

LENGTH = 1000
#: People who are synthesised; a larger audience repeats them at other times.
GROUP = 50
#: A metre of air in seconds: who stands farther back is heard later.
METRE = 1.0 / SOUND
#: Soft skin gives off little above 6 kHz.
SKIN = butter(1, 5000.0, "lowpass", fs=RATE, output="sos")


def clap(rng: np.random.Generator) -> np.ndarray:
    """One pair of hands: (LENGTH,) float32 with energy 1."""
    noise = rng.standard_normal(LENGTH)
    t = np.arange(LENGTH) / RATE
    flat = rng.uniform() < 0.5
    low, high, dull, sharp = (1200, 2600, 0.8, 1.6) if flat else (550, 1200, 1.5, 4.0)
    centre, q = rng.uniform(low, high), rng.uniform(dull, sharp)
    # The hands meet within about a millisecond, then the cavity rings off.
    shape = np.minimum(t / 0.0008, 1.0) * np.exp(-t / rng.uniform(0.0025, 0.007))
    noise *= shape
    sound = lfilter(*resonance(centre, q), noise) + 0.25 * sosfilt(SKIN, noise)
    sound = sosfilt(SKIN, sound)
    sound[-64:] *= np.linspace(1.0, 0.0, 64)
    return (sound / np.sqrt(np.square(sound).sum())).astype(np.float32)


def applause(rng: np.random.Generator, people: int, n_samples: int, spread_m: float = 15.0) -> np.ndarray:
    """`people` clapping on their own within spread_m of the phone: (2, n_samples) float32."""
    seconds = n_samples / RATE
    times, gains, who = [], [], []
    own_people = min(people, GROUP)
    for person in range(own_people):
        rate = rng.uniform(2.5, 5.5)
        count = int(seconds * rate) + 2
        # The period wanders: people speed up when excited and tire.
        steps = (1.0 / rate) * np.exp(rng.normal(0.0, 0.1, count))
        own = np.cumsum(steps) - rng.uniform(0.0, 2.0 / rate)
        times.append(own)
        gains.append(_level(rng, spread_m) * rng.uniform(0.5, 1.0, count))
        who.append(np.full(count, person))
    out = _render(rng, own_people, np.concatenate(times), np.concatenate(gains), np.concatenate(who), n_samples)
    group = out.copy()
    for _ in range((people - 1) // GROUP):
        out += np.roll(group, int(rng.integers(n_samples)), axis=-1)[:: int(rng.choice([-1, 1]))]
    return out


def on_beats(
    rng: np.random.Generator, people: int, beats_s: np.ndarray, n_samples: int, spread_m: float = 15.0
) -> np.ndarray:
    """`people` clapping at beats_s (s), each with a bias and jitter, late by their distance: (2, n_samples) float32."""
    times, gains, who = [], [], []
    for person in range(people):
        late = METRE * rng.uniform(1.0, spread_m) + rng.normal(0.0, 0.018)
        joins = rng.uniform(size=len(beats_s)) < rng.uniform(0.6, 1.0)
        own = beats_s[joins]
        times.append(own + late + rng.normal(0.0, 0.012, len(own)))
        gains.append(_level(rng, spread_m) * rng.uniform(0.6, 1.0, len(own)))
        who.append(np.full(len(own), person))
    if not people or not len(beats_s):
        return np.zeros((2, n_samples), np.float32)
    return _render(rng, people, np.concatenate(times), np.concatenate(gains), np.concatenate(who), n_samples)


def _level(rng: np.random.Generator, spread_m: float) -> float:
    """Amplitude of somebody anywhere on a disc of that radius, not nearer than 0.8 m."""
    return 1.0 / max(0.8, spread_m * float(np.sqrt(rng.uniform())))


def _render(
    rng: np.random.Generator, people: int, times: np.ndarray, gains: np.ndarray, who: np.ndarray, n_samples: int
) -> np.ndarray:
    """Claps at times (s) by the persons `who`, every person with a sound and a place of their own."""
    sounds = np.stack([clap(rng) for _ in range(min(people, GROUP))])
    out = np.zeros((2, n_samples + LENGTH + 64), np.float32)
    side = rng.integers(-18, 19, people)
    balance = 10 ** (rng.uniform(-2.0, 2.0, people) / 20)
    start = np.rint(times * RATE).astype(np.int64)
    inside = np.flatnonzero((start >= 32) & (start < n_samples))
    for chunk in np.array_split(inside, max(1, len(inside) // 1500)):
        person = who[chunk]
        shapes = sounds[person % len(sounds)] * gains[chunk, None].astype(np.float32)
        for channel, sign in ((0, 1), (1, -1)):
            at = start[chunk] + np.maximum(0, sign * side[person])
            weight = shapes * (balance[person] ** sign).astype(np.float32)[:, None]
            index = (at[:, None] + np.arange(LENGTH)).ravel()
            out[channel] += np.bincount(index, weight.ravel(), out.shape[1]).astype(np.float32)
    return out[:, :n_samples]
