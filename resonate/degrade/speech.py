"""Voices that talk, shout and cheer without words: formant-wave synthesis with syllables, phrases and pauses.

Every glottal period sets off one formant wave (a sum of damped sines at the vocal tract's resonances), so pitch and
vowel move freely and a minute of speech costs a second (FOF: Rodet, Computer Music Journal 8(3), 1984). Formants after
Peterson & Barney, JASA 24 (1952), scaled by the length of the tract; syllables at 3 to 7 Hz as speech has its
modulation there (Houtgast & Steeneken, JASA 77, 1985); louder speech is higher and brighter (Lombard effect:
Junqua, JASA 93, 1993).
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, sosfilt

from resonate import RATE
from resonate.degrade.filters import through_knots

#: vowel -> first three formants of men in Hz
VOWELS = {
    "i": (270.0, 2290.0, 3010.0),
    "e": (530.0, 1840.0, 2480.0),
    "ae": (660.0, 1720.0, 2410.0),
    "a": (730.0, 1090.0, 2440.0),
    "o": (570.0, 840.0, 2410.0),
    "u": (300.0, 870.0, 2240.0),
    "er": (490.0, 1350.0, 1690.0),
}
WAVE = 512  # samples of one formant wave: 11.6 ms
CONTROL = 0.002  # s between points of the pitch curve
_NOISE = 1 << 15
# Bands of the noises in consonants.
_HISSES = [
    butter(2, band, "bandpass", fs=RATE, output="sos") for band in ((3800.0, 9000.0), (1800.0, 5500.0), (900.0, 7000.0))
]


@dataclass(frozen=True)
class Speaker:
    """pitch_hz: mean; tract: formants over those of men (0.95..1.35); effort: 0 = talking, 1 = shouting."""

    pitch_hz: float
    tract: float
    effort: float

    @classmethod
    def draw(cls, rng: np.random.Generator, effort: float) -> "Speaker":
        """A man, a woman or a youth."""
        kinds = ((85.0, 150.0, 1.0), (160.0, 250.0, 1.17), (220.0, 320.0, 1.3))
        low, high, tract = kinds[rng.choice(3, p=[0.5, 0.4, 0.1])]
        pitch = float(rng.uniform(low, high)) * (1.0 + 0.8 * effort)
        return cls(pitch, tract * float(rng.uniform(0.95, 1.05)), effort)


def waves(speaker: Speaker) -> np.ndarray:
    """One formant wave per vowel: (len(VOWELS), WAVE) float32, energy about 1."""
    t = np.arange(WAVE) / RATE
    # Effort tilts the source: a shout has as much at 2 kHz as talk has at 800 Hz.
    level = np.array([0.5, 1.0, 0.35 + 0.45 * speaker.effort, 0.18 + 0.3 * speaker.effort, 0.1 + 0.15 * speaker.effort])
    out = []
    for first, second, third in VOWELS.values():
        formants = np.array([180.0, first, second, third, 3500.0]) * speaker.tract
        # A mouth that is open wide for a shout lifts the first formant.
        formants[1] *= 1.0 + 0.35 * speaker.effort
        widths = np.array([120.0, 80.0, 110.0, 160.0, 240.0])
        parts = np.exp(-np.pi * widths[:, None] * t) * np.sin(2 * np.pi * formants[:, None] * t)
        out.append(level @ parts)
    wave = np.stack(out) * (1.0 - np.exp(-t / 0.0003)) * np.minimum(1.0, (WAVE - np.arange(WAVE)) / 64)
    return (wave / np.sqrt(np.square(wave).sum(axis=1, keepdims=True))).astype(np.float32)


def talk(rng: np.random.Generator, n_samples: int, effort: float = 0.3) -> np.ndarray:
    """Somebody talking: phrases of 0.7 to 3 s and pauses, (n_samples,) float32, about 0.1 RMS while talking."""
    speaker = Speaker.draw(rng, effort)
    at, starts = -float(rng.uniform(0.0, 2.0)), []
    while at < n_samples / RATE:
        syllables = int(rng.integers(3, 15))
        rate = float(rng.uniform(4.0, 6.5))
        for k in range(syllables):
            length = float(rng.lognormal(-0.06, 0.35)) / rate
            # Pitch falls through a phrase; every third syllable or so is stressed.
            stress = float(rng.uniform() < 0.35)
            lift = 0.25 * (0.5 - k / syllables) + 0.2 * stress + float(rng.normal(0.0, 0.07))
            starts.append((at, length, lift, (0.55 + 0.45 * stress) * float(rng.uniform(0.6, 1.0))))
            at += length
        at += float(rng.exponential(0.5)) + 0.15
    time, length, lift, level = np.array(starts).T
    vowel = rng.integers(0, len(VOWELS), len(time))
    t, pitch, loud = _contours(rng, speaker, time, length, lift, level, n_samples)
    voiced = _voice(rng, waves(speaker), t, pitch, loud, time, vowel, n_samples)
    _consonants(rng, voiced, time, length, level, speaker)
    return voiced


def shout(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """One "aah", "wooh" or "yeah": (n_samples,) float32, peak 1."""
    speaker = Speaker.draw(rng, float(rng.uniform(0.6, 1.0)))
    path = [("a", "a"), ("ae", "a"), ("u", "o"), ("i", "ae"), ("e", "a"), ("o", "u")][rng.integers(6)]
    names = list(VOWELS)
    seconds = n_samples / RATE
    t = np.arange(0.0, seconds + CONTROL, CONTROL)
    octaves = [-rng.uniform(0.1, 0.6), rng.uniform(0.0, 0.3), -0.2]
    glide = np.interp(t / seconds, [0.0, rng.uniform(0.1, 0.4), 1.0], octaves)
    shake = rng.uniform(0.0, 0.04) * np.sin(2 * np.pi * rng.uniform(4.0, 7.5) * t + rng.uniform(0, 6.28))
    pitch = speaker.pitch_hz * rng.uniform(1.2, 2.4) * 2.0 ** (glide + shake + 0.02 * _wander(rng, len(t)))
    attack, release = rng.uniform(0.03, 0.15), rng.uniform(0.1, 0.4) * seconds
    loud = np.minimum(1.0, np.minimum(t / attack, np.maximum(seconds - t, 0.0) / release))
    turns = np.array([-0.5, 0.05, seconds * rng.uniform(0.3, 0.9)])
    vowel = np.array([names.index(path[0]), names.index(path[0]), names.index(path[1])])
    out = _voice(rng, waves(speaker), t, pitch, loud, turns, vowel, n_samples)
    breath = rng.standard_normal(n_samples, dtype=np.float32)
    out += 0.03 * np.interp(np.arange(n_samples) / RATE, t, loud).astype(np.float32) * breath
    return out / np.abs(out).max()


def _contours(
    rng: np.random.Generator,
    speaker: Speaker,
    time: np.ndarray,
    length: np.ndarray,
    lift: np.ndarray,
    level: np.ndarray,
    n_samples: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times in s, pitch in Hz and loudness at the control rate from what every syllable asks for."""
    t = np.arange(0.0, n_samples / RATE + CONTROL, CONTROL)
    pitch = speaker.pitch_hz * 2.0 ** (np.interp(t, time + 0.5 * length, lift) + 0.015 * _wander(rng, len(t)))
    index = np.clip(np.searchsorted(time, t, side="right") - 1, 0, None)
    part = (t - time[index]) / length[index]
    inside = (part >= 0.0) & (part < 1.0)
    shape = np.sin(np.pi * np.clip(part, 0.0, 1.0) ** 0.7) ** 0.8
    return t, pitch, np.where(inside, level[index] * shape, 0.0)


def _voice(
    rng: np.random.Generator,
    tables: np.ndarray,
    t: np.ndarray,
    pitch: np.ndarray,
    loud: np.ndarray,
    turns: np.ndarray,
    vowel: np.ndarray,
    n_samples: int,
) -> np.ndarray:
    """Formant waves at every period of pitch (at times t), moving from vowel to vowel at the times `turns`."""
    phase = np.concatenate([[0.0], np.cumsum(pitch[:-1]) * CONTROL]) + rng.uniform()
    pulse = np.interp(np.arange(1, int(phase[-1]) + 1), phase, t)
    pulse += rng.normal(0.0, 1e-5, len(pulse))
    strength = np.interp(pulse, t, loud)
    keep = (strength > 0.01) & (pulse > 0.0)
    pulse, strength = pulse[keep], strength[keep].astype(np.float32)
    out = np.zeros(n_samples + WAVE, np.float32)
    if not len(pulse):
        return out[:n_samples]
    now = np.clip(np.searchsorted(turns, pulse, side="right") - 1, 0, None)
    before = np.clip(now - 1, 0, None)
    mix = np.clip((pulse - turns[now]) / 0.06, 0.0, 1.0).astype(np.float32)[:, None]
    shapes = (tables[vowel[before]] * (1.0 - mix) + tables[vowel[now]] * mix) * strength[:, None]
    at = np.minimum(np.rint(pulse * RATE).astype(np.int64), n_samples - 1)
    out += np.bincount((at[:, None] + np.arange(WAVE)).ravel(), shapes.ravel(), n_samples + WAVE).astype(np.float32)
    return out[:n_samples]


def _consonants(
    rng: np.random.Generator,
    voice: np.ndarray,
    time: np.ndarray,
    length: np.ndarray,
    level: np.ndarray,
    speaker: Speaker,
) -> None:
    """Adds hisses (s, sh, f) and bursts (t, k, p) in front of two thirds of the syllables."""
    noises = [sosfilt(band, rng.standard_normal(_NOISE)) for band in _HISSES]
    for when, long, loud in zip(time, length, level, strict=True):
        kind = int(rng.integers(9))
        if kind >= 6:
            continue
        seconds = float(rng.uniform(0.05, 0.14)) if kind < 3 else float(rng.uniform(0.01, 0.03))
        n = int(min(seconds, 0.6 * long) * RATE)
        start = int((when - 0.4 * seconds) * RATE)
        if n < 32 or start < 0 or start + n > len(voice):
            continue
        offset = int(rng.integers(_NOISE - n))
        shape = np.hanning(n) if kind < 3 else np.exp(-np.arange(n) / (0.25 * n))
        piece = noises[kind % 3][offset : offset + n] * shape
        voice[start : start + n] += (0.1 * (1.0 + speaker.effort) * loud * piece).astype(np.float32)


def _wander(rng: np.random.Generator, n: int) -> np.ndarray:
    """A slow random curve of n control points, standard deviation about 1."""
    return through_knots(rng.standard_normal(n // 20 + 4), n)
