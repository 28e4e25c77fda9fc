"""What crowds are made of: babble, cheering, screams, whistles, whoops; synthesised, so that none ever runs out.

Screams carry the roughness of 30 to 150 Hz that tells them from song (Arnal et al., Current Biology 25, 2015) on
strong harmonics with vibrato; cheering is many shouted vowels over breath noise with most of its power at
0.7 to 3 kHz. Levels per octave and envelope modulation follow recorded cafes, stadiums and applause.
"""

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, sosfilt

from resonate import RATE
from resonate.degrade import claps, speech
from resonate.degrade.filters import read_at, through_knots
from resonate.degrade.places import pan

#: People in a group of babble.
GROUP = 8
#: Kinds of `event`.
EVENTS = ("whistle", "scream", "whoop", "shout", "clap")


def babble(rng: np.random.Generator, people: int, n_samples: int, effort: float = 0.3) -> np.ndarray:
    """(2, n_samples) float32: `people` talking at once all around, unintelligible.

    Groups of eight: the first is synthesised, the others are the first at other times, pitches and sides.
    """
    out = np.zeros((2, n_samples), np.float32)
    for _ in range(min(people, GROUP)):
        voice = speech.talk(rng, n_samples, effort)
        # Nearer and farther people: one in a few stands out of a babble.
        out += pan(voice * np.float32(10 ** (rng.uniform(-18, 0) / 20)), float(rng.uniform(-1, 1)))
    group = out.copy()
    for _ in range((people - 1) // GROUP):
        out += _again(rng, group)
    return out


def cheering(rng: np.random.Generator, people: int, n_samples: int) -> np.ndarray:
    """(2, n_samples) float32: `people` shouting "aah" and "wooh" again and again, with the crowd's breath noise."""
    out = np.zeros((2, n_samples), np.float32)
    pool = [speech.shout(rng, int(rng.uniform(0.5, 2.2) * RATE)) for _ in range(int(np.clip(people // 4, 3, 10)))]
    seconds = n_samples / RATE
    for _ in range(int(people * max(1.0, seconds / 3.0))):
        sound = pool[rng.integers(len(pool))]
        speed = 2.0 ** rng.uniform(-0.35, 0.35)
        moved = read_at(sound, np.arange(0.0, len(sound) - 2, speed))
        start = int(rng.uniform(-1.0, seconds) * RATE)
        moved = moved[max(0, -start) : max(0, n_samples - start)]
        start = max(0, start)
        if len(moved):
            level = np.float32(10 ** (rng.uniform(-16, 0) / 20))
            out[:, start : start + len(moved)] += pan(level * moved, float(rng.uniform(-1, 1)))
    noise = rng.standard_normal((2, n_samples), dtype=np.float32)
    # Far shouts run into each other: what is left of them is noise of their spectrum, swelling with them.
    breath = sosfilt(butter(2, [700, 2300], "bandpass", fs=RATE, output="sos"), noise).astype(np.float32)
    rms = float(np.sqrt(np.square(out).mean())) + 1e-9
    breath *= rms * np.float32(rng.uniform(0.4, 1.0)) / np.sqrt(np.square(breath).mean())
    swell = 10.0 ** (0.15 * _drift(rng, n_samples, 1.2))
    shouts = sosfilt(butter(2, [350, 6000], "bandpass", fs=RATE, output="sos"), out)
    return ((shouts + breath) * swell).astype(np.float32)


def event(rng: np.random.Generator, kind: str) -> np.ndarray:
    """One person: whistle, scream, whoop, shout or clap; (n,) float32, peak 1, 0.03 to 2 s long.

    Raises ValueError for another kind.
    """
    makers = {"whistle": whistle, "scream": scream, "whoop": whoop, "clap": claps.clap, "shout": _shout}
    if kind not in makers:
        raise ValueError(f"an event is one of {EVENTS}, got {kind!r}")
    sound = makers[kind](rng)
    return (sound / np.abs(sound).max()).astype(np.float32)


def scream(rng: np.random.Generator) -> np.ndarray:
    """Harmonics of 600 to 1500 Hz with vibrato, drift, roughness and noise: (n,), 0.5 to 2 s."""
    n, t = _time(rng, 0.5, 2.0)
    part = t / t[-1]
    arch = np.interp(part, [0.0, rng.uniform(0.05, 0.3), 1.0], [-rng.uniform(0.1, 0.5), 0.0, -rng.uniform(0.0, 0.35)])
    vibrato = rng.uniform(0.005, 0.04) * np.sin(2 * np.pi * rng.uniform(5.0, 9.0) * t)
    pitch = rng.uniform(600.0, 1500.0) * 2.0 ** (arch + vibrato + 0.01 * _drift(rng, n, 30.0))
    flutter = np.cumsum(rng.uniform(40.0, 110.0) + 15.0 * _drift(rng, n, 10.0))
    rough = 1.0 + rng.uniform(0.1, 0.6) * np.sin(2 * np.pi * flutter / RATE)
    first, second = rng.uniform(1000.0, 1700.0), rng.uniform(2400.0, 3600.0)
    sound = _harmonics(pitch, 12, lambda hz: _bump(hz, first, 600.0) + 0.7 * _bump(hz, second, 900.0) + 0.02)
    noise = sosfilt(butter(2, [900, 5500], "bandpass", fs=RATE, output="sos"), rng.standard_normal(n))
    return _fade(sound * rough + rng.uniform(0.05, 0.3) * noise, 0.03, rng.uniform(0.05, 0.3))


def whoop(rng: np.random.Generator) -> np.ndarray:
    """A "woo" that jumps up by a third to an octave: (n,), 0.3 to 0.9 s."""
    n, t = _time(rng, 0.3, 0.9)
    rise = rng.uniform(0.3, 1.0) / (1.0 + np.exp(-(t / t[-1] - rng.uniform(0.3, 0.7)) * rng.uniform(8, 20)))
    pitch = rng.uniform(280.0, 560.0) * 2.0 ** (rise + 0.01 * _drift(rng, n, 30.0))
    centre, width = rng.uniform(450.0, 800.0), rng.uniform(300.0, 600.0)
    sound = _harmonics(pitch, 12, lambda hz: _bump(hz, centre, width) + 0.15 * _bump(hz, 2600.0, 900.0) + 0.01)
    return _fade(sound + 0.03 * rng.standard_normal(n), 0.04, 0.12)


def whistle(rng: np.random.Generator) -> np.ndarray:
    """Lips or fingers: a nearly pure tone of 1.2 to 4 kHz that glides, with breath around it; (n,), 0.2 to 1.3 s."""
    n, t = _time(rng, 0.2, 1.3)
    knots = rng.uniform(-0.35, 0.35, int(rng.integers(2, 5)))
    glide = np.interp(t / t[-1], np.linspace(0, 1, len(knots)), knots)
    centre = rng.uniform(1200.0, 4000.0)
    pitch = centre * 2.0 ** (glide + rng.uniform(0, 0.02) * np.sin(2 * np.pi * rng.uniform(5, 8) * t))
    tone = _harmonics(pitch, 3, lambda hz: np.where(hz < 1.3 * pitch, 1.0, rng.uniform(0.01, 0.08)))
    band = [0.7 * centre, min(1.5 * centre, 9000.0)]
    noise = sosfilt(butter(1, band, "bandpass", fs=RATE, output="sos"), rng.standard_normal(n))
    flutter = 1.0 + 0.15 * _drift(rng, n, 40.0)
    return _fade(flutter * (tone + rng.uniform(0.05, 0.4) * noise), 0.02, 0.06)


def _shout(rng: np.random.Generator) -> np.ndarray:
    return speech.shout(rng, int(rng.uniform(0.3, 1.4) * RATE))


def _again(rng: np.random.Generator, group: np.ndarray) -> np.ndarray:
    """The same group (2, n) as another one: from another moment on, faster and higher or slower and lower, turned."""
    n = group.shape[-1]
    at = (rng.integers(n) + np.arange(n) * 2.0 ** rng.uniform(-0.3, 0.3)) % (n - 1)
    return read_at(group, at)[:: int(rng.choice([-1, 1]))] * np.float32(10 ** (rng.uniform(-6, 0) / 20))


def _harmonics(pitch_hz: np.ndarray, count: int, level: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sum of the harmonics below 14 kHz of pitch_hz (n,), each as strong as level(its frequency) says."""
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE
    twice = 2.0 * np.cos(phase)
    before, now = np.zeros_like(phase), np.sin(phase)
    out = np.zeros_like(phase)
    for k in range(1, count + 1):
        hz = k * pitch_hz
        out += now * level(hz) * (hz < 14000.0)
        before, now = now, twice * now - before  # sin((k + 1) x) = 2 cos(x) sin(k x) - sin((k - 1) x)
    return out


def _bump(hz: np.ndarray, centre: float, width: float) -> np.ndarray:
    return 1.0 / (1.0 + np.square((hz - centre) / (0.5 * width)))


def _time(rng: np.random.Generator, shortest: float, longest: float) -> tuple[int, np.ndarray]:
    n = int(rng.uniform(shortest, longest) * RATE)
    return n, np.arange(n) / RATE


def _drift(rng: np.random.Generator, n: int, hz: float) -> np.ndarray:
    """A random curve with `hz` knots a second, standard deviation about 1."""
    knots = int(n / RATE * hz) + 4
    return through_knots(rng.standard_normal(knots), n)


def _fade(sound: np.ndarray, attack_s: float, release_s: float) -> np.ndarray:
    t = np.arange(len(sound)) / RATE
    return sound * np.minimum(1.0, np.minimum(t / attack_s, (t[-1] - t) / release_s))
