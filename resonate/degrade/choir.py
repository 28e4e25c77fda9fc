"""Sing-along: the audience sings the vocal line, late, out of tune, in other octaves and with other mouths.

This is the interferer nearest to the music itself. Every singer reads the vocal stem through an own delay line whose
slowly wandering length makes them late and drift, a two-grain pitch shifter detunes them or puts them an octave
below or above (delay-line pitch shifting: Dattorro, JAES 45(10), 1997), two resonances give them their own vowels,
and they drop words. Untrained singers are off by tens of cents and do not agree in time (Pfordresher & Brown, Music
Perception 25, 2007; Dalla Bella, Giguere & Peretz, JASA 121, 2007).
"""

import numpy as np
import torch
from scipy.signal import butter, lfilter, sosfilt
from torchaudio.functional import resample

from resonate import RATE
from resonate.degrade.filters import read_at, resonance
from resonate.degrade.places import pan

#: A crowd's singing holds little above 9 kHz: it is made at half of the rate, which halves its cost.
HALF = RATE // 2
GRAIN_S = 0.06
#: Singers who are made; a larger choir repeats them a little later and turned.
GROUP = 8


def sing_along(
    rng: np.random.Generator, vocals: np.ndarray, count: int, late_ms: float, detune_cents: float = 30.0
) -> np.ndarray:
    """`count` amateurs singing along with vocals (n,): (2, n) float32 at about the level of vocals.

    Args: late_ms: mean delay; every singer is up to 60 % nearer or farther from it and wanders by +-15 ms.
        detune_cents: standard deviation of their constant detuning; each drifts by a third of that as well.
    """
    n = len(vocals)
    line = resample(torch.from_numpy(np.ascontiguousarray(vocals)), RATE, HALF).numpy()
    half = len(line)
    out = np.zeros((2, half), np.float32)
    own = min(count, GROUP)
    for _ in range(own):
        # Mostly at pitch; men an octave below a high voice, children above a low one.
        octave = float(rng.choice([0.0, -1.0, 1.0], p=[0.75, 0.18, 0.07]))
        cents = float(rng.normal(0.0, detune_cents))
        late_s = late_ms * 1e-3 * float(rng.uniform(0.4, 1.6))
        voice = _read(rng, line, 2.0 ** (octave + cents / 1200.0), late_s, detune_cents)
        voice = voice + 1.5 * lfilter(*_mouth(rng), voice)
        knots = half // HALF * 3 + 4
        sings = np.interp(np.arange(half), np.linspace(0, half, knots), (rng.uniform(size=knots) < 0.85) * 1.0)
        level = 10 ** (rng.uniform(-9, 0) / 20) / np.sqrt(own)
        out += pan((voice * sings * level).astype(np.float32), float(rng.uniform(-1, 1)))
    group = out.copy()
    for _ in range((count - 1) // GROUP):
        late = int(rng.uniform(0.01, 0.06) * HALF)
        out[:, late:] += group[:: int(rng.choice([-1, 1])), :-late] * np.float32(10 ** (rng.uniform(-6, 0) / 20))
    out = sosfilt(butter(2, [160, 6500], "bandpass", fs=HALF, output="sos"), out).astype(np.float32)
    return resample(torch.from_numpy(out), HALF, RATE).numpy()[:, :n]


def _mouth(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two vowel resonances in float32, the lower and the upper one in parallel."""
    (b1, a1), (b2, a2) = (resonance(rng.uniform(*hz), rng.uniform(1.5, 4.0), HALF) for hz in ((350, 900), (1000, 3200)))
    b = np.convolve(b1, a2) + np.convolve(b2, a1)
    return b.astype(np.float32), np.convolve(a1, a2).astype(np.float32)


def _read(rng: np.random.Generator, line: np.ndarray, ratio: float, late_s: float, drift_cents: float) -> np.ndarray:
    """line (n,) late by about late_s seconds and at `ratio` times its pitch, both drifting: (n,) float32."""
    n = len(line)
    knots = n // HALF + 4
    grid = np.linspace(0, n, knots)
    # A delay that changes detunes: 15 ms up and down in a second or two are 10 to 25 cents.
    wander = rng.normal(0.0, 0.015, knots) * drift_cents / 30.0
    grain = GRAIN_S * HALF
    index = np.arange(n, dtype=np.float64)
    begin = index - np.interp(index, grid, np.maximum(late_s + wander, 0.005) * HALF) + 0.5 * grain
    ramp = index * ((1.0 - ratio) / grain) + rng.uniform()
    # What is asked for before the first sample is silence.
    padded = np.concatenate([np.zeros(int(0.5 * HALF), np.float32), line, line[-1:]])
    begin += 0.5 * HALF
    out = np.zeros(n, np.float32)
    for turn in (0.0, 0.5):
        phase = ramp + turn
        phase -= np.floor(phase)
        at = np.minimum(begin - grain * phase, len(padded) - 2.0)
        np.maximum(at, 0.0, out=at)
        heard = read_at(padded, at)
        # Squared parabolas stand in for sines: two of them half a turn apart keep the power within 0.2 dB.
        window = (4.0 * phase * (1.0 - phase)).astype(np.float32)
        heard *= window * (1.35 - 0.35 * window)
        out += heard
    return out
