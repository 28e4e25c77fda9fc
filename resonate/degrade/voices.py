"""Synthesised people: claps, babble, whistles, screams, whoops, and a choir made of the vocal stem.

Claps: decaying noise with one resonance at 0.7..2.8 kHz, each person in an own jittered rhythm near 4 Hz
(Peltola, Erkut, Cook & Valimaki, IEEE TASLP 15, 2007). Voices: glottal pulse trains through two formants.
"""

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from resonate import RATE


def applause(rng: np.random.Generator, people: int, n_samples: int, beat_hz: float = 0.0) -> np.ndarray:
    """(2, n_samples): `people` clapping on their own, or about together when beat_hz > 0."""
    out = np.zeros((2, n_samples + 4096), np.float32)
    seconds = n_samples / RATE
    for _ in range(people):
        sound = clap(rng)
        rate = beat_hz if beat_hz else rng.uniform(2.8, 5.2)
        loose = 0.02 if beat_hz else rng.uniform(0.05, 0.15) / rate
        count = int(seconds * rate) + 2
        times = np.arange(count) / rate + (rng.normal(0, 0.03) if beat_hz else rng.uniform(0, 1 / rate))
        times = times + rng.normal(0, loose, count)
        gain = 10 ** (rng.uniform(-18, 0) / 20)
        delay = int(rng.integers(-17, 18))
        for at in (times[(times > 0.01) & (times < seconds)] * RATE).astype(int):
            strength = np.float32(gain * rng.uniform(0.5, 1.0))
            out[0, at : at + len(sound)] += strength * sound
            out[1, at + delay : at + delay + len(sound)] += strength * sound
    return out[:, :n_samples]


def clap(rng: np.random.Generator) -> np.ndarray:
    """One pair of hands: (<= 1800,) with energy 1."""
    length = int(rng.uniform(0.012, 0.04) * RATE)
    noise = rng.standard_normal(length) * np.exp(-np.arange(length) / (length / rng.uniform(4, 7)))
    centre, q = rng.uniform(700, 2800), rng.uniform(0.8, 3.0)
    sound = lfilter(*_resonance(centre, q), noise) + 0.15 * noise
    return (sound / np.sqrt(np.square(sound).sum())).astype(np.float32)


def babble(rng: np.random.Generator, talkers: int, n_samples: int) -> np.ndarray:
    """(2, n_samples): several people talking, unintelligible, each from one direction."""
    out = np.zeros((2, n_samples), np.float32)
    for _ in range(talkers):
        # Syllables at about 4 Hz with pauses; pitch glides with them.
        knots = int(n_samples / RATE * rng.uniform(3.5, 5.5)) + 4
        energy = rng.gamma(0.8, 1.0, knots) * (rng.uniform(size=knots) < 0.75)
        at = np.linspace(0, knots - 1, n_samples)
        envelope = np.interp(at, np.arange(knots), energy)
        base = rng.uniform(90, 240)
        pitch = base * 2 ** np.interp(at, np.arange(knots), rng.normal(0, 0.2, knots))
        source = _pulses(pitch, rng) + 0.05 * rng.standard_normal(n_samples, dtype=np.float32)
        voice = _formants(source, rng.uniform(350, 750), rng.uniform(1000, 2200))
        out += place((voice * envelope * 10 ** (rng.uniform(-10, 0) / 20)).astype(np.float32), rng.uniform(-1, 1))
    return out


def event(rng: np.random.Generator, kind: str) -> np.ndarray:
    """One near neighbour: whistle, scream, whoop or clap; (n,) float32 at peak about 1, up to 2 s long."""
    if kind == "clap":
        sound = clap(rng)
        return sound / np.abs(sound).max()
    n = int(rng.uniform(0.3, {"whistle": 1.2, "scream": 2.0, "whoop": 0.9}[kind]) * RATE)
    t = np.linspace(0, 1, n)
    envelope = np.minimum(1, np.minimum(t * n / RATE / 0.04, (1 - t) * n / RATE / 0.12))
    if kind == "whistle":
        pitch = rng.uniform(1600, 3200) * 2 ** (rng.uniform(-0.3, 0.4) * np.sin(np.pi * t * rng.choice([0.5, 1, 2])))
        noise = sosfilt(_band(1500, 4500), rng.standard_normal(n))
        sound = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.08 * noise
    else:
        low, high = (500, 1300) if kind == "scream" else (250, 600)
        rise = rng.uniform(0.1, 0.6) if kind == "whoop" else rng.uniform(-0.3, 0.2)
        flutter = np.cumsum(rng.normal(0, 1, n)) * 1e-4
        pitch = rng.uniform(low, high) * 2 ** (rise * t + flutter)
        source = _pulses(pitch, rng) + 0.2 * rng.standard_normal(n)
        sound = _formants(source, rng.uniform(700, 1100), rng.uniform(1300, 3000))
    return (envelope * sound / max(np.abs(sound).max(), 1e-9)).astype(np.float32)


def sing_along(rng: np.random.Generator, vocals: np.ndarray, count: int, late_ms: float) -> np.ndarray:
    """A choir of amateurs from the vocal stem (n,) -> (2, n).

    Each voice reads the stem through a slowly wandering delay: late by late_ms and more, and detuned by the
    delay's slope (about +-25 cents); with an own timbre, position and diligence (it drops words).
    """
    n = len(vocals)
    out = np.zeros((2, n), np.float32)
    index = np.arange(n, dtype=np.float64)
    for _ in range(count):
        knots = n // (RATE // 2) + 4
        grid = np.linspace(0, n, knots)
        slope = rng.normal(0, 0.014, knots)  # 0.014 = 25 cents
        wander = np.cumsum(slope) * (n / knots)
        wander -= np.linspace(0, 1, knots) * (wander[-1] - wander[0]) * 0.9
        late = (late_ms * 1e-3 + rng.exponential(0.04)) * RATE
        at = np.clip(index - np.interp(index, grid, late + wander.clip(-0.5 * late, 4000)), 0, n - 2)
        whole = at.astype(np.int64)
        part = (at - whole).astype(np.float32)
        voice = vocals[whole] * (1 - part) + vocals[whole + 1] * part
        diligence = np.interp(index, grid, (rng.uniform(size=knots) < 0.8) * rng.uniform(0.5, 1.0, knots))
        voice = lfilter(*_resonance(rng.uniform(500, 2500), 0.7), voice) + 0.4 * voice
        level = 10 ** (rng.uniform(-8, 0) / 20)
        out += place((voice * diligence * level).astype(np.float32), rng.uniform(-1, 1))
    return sosfilt(_band(180, 6000), out).astype(np.float32)


def place(sound: np.ndarray, position: float) -> np.ndarray:
    """Mono (n,) at a direction: up to 0.4 ms and 3 dB between two capsules 14 cm apart -> (2, n)."""
    delay = round(abs(position) * 0.0004 * RATE)
    late = np.concatenate([np.zeros(delay, np.float32), sound])[: len(sound)]
    near, far = np.float32(10 ** (abs(position) * 1.5 / 20)), np.float32(10 ** (-abs(position) * 1.5 / 20))
    pair = (late * far, sound * near) if position > 0 else (sound * near, late * far)
    return np.stack(pair)


def _pulses(pitch_hz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Glottal source: one smoothed pulse per period of pitch_hz (n,), spectrum falling at 12 dB per octave."""
    phase = np.cumsum(pitch_hz) / RATE + rng.uniform()
    pulses = np.diff(np.floor(phase), prepend=np.floor(phase[0]))
    return lfilter([1.0], [1.0, -0.93], pulses)


def _formants(source: np.ndarray, first_hz: float, second_hz: float) -> np.ndarray:
    """Two resonances, in parallel with a little of the source's body."""
    first = lfilter(*_resonance(first_hz, 5.0), source)
    second = lfilter(*_resonance(second_hz, 8.0), source)
    return first + 0.5 * second + 0.05 * source


def _resonance(centre_hz: float, q: float) -> tuple[np.ndarray, np.ndarray]:
    """Band-pass biquad (Bristow-Johnson cookbook, 0 dB peak)."""
    w = 2 * np.pi * centre_hz / RATE
    alpha = np.sin(w) / (2 * q)
    a0 = 1 + alpha
    return np.array([alpha, 0.0, -alpha]) / a0, np.array([1.0, -2 * np.cos(w) / a0, (1 - alpha) / a0])


def _band(low_hz: float, high_hz: float) -> np.ndarray:
    return butter(2, [low_hz, high_hz], btype="bandpass", fs=RATE, output="sos")
