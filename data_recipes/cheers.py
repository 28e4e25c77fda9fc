"""Synthesised cheering: sung notes layered to a crowd, with breath noise, so that every split has its own voices."""

from collections.abc import Sequence

import numpy as np
from scipy.signal import butter, sosfilt

from resonate import RATE, audio


def cheers(rng: np.random.Generator, notes: Sequence[np.ndarray], seconds: float, people: int = 90) -> np.ndarray:
    """A crowd that rises, shouts and dies down.

    Args:
        rng: decides everything; the same generator state gives the same cheers.
        notes: sung notes, each (time,) float32 at 44.1 kHz.
        seconds: length.
        people: number of voices.

    Returns:
        (2, time) float32 at 44.1 kHz, peak 0.7.
    """
    length = round(seconds * RATE)
    out = np.zeros((2, length + RATE), np.float32)
    for _ in range(people):
        voice = _voice(rng, notes[rng.integers(len(notes))])
        wave = seconds * np.clip(rng.beta(2, 3) + rng.choice([0.0, 0.3]) * rng.random(), 0, 1)
        start = min(int(wave * RATE), length - 1)
        voice = voice[: out.shape[1] - start]
        pan, gain = rng.uniform(0, 1), 10 ** (rng.uniform(-18, 0) / 20)
        out[0, start : start + len(voice)] += gain * np.sqrt(1 - pan) * voice
        out[1, start : start + len(voice)] += gain * np.sqrt(pan) * voice
    out = out[:, :length]
    breath = sosfilt(butter(2, [600, 6000], "bandpass", fs=RATE, output="sos"), rng.standard_normal((2, length)))
    swell = np.convolve(np.abs(out).mean(0), np.hanning(RATE // 2), mode="same")
    out += (breath * swell / (swell.max() + 1e-9) * 0.25 * np.abs(out).max()).astype(np.float32)
    fade = np.ones(length, np.float32)
    fade[: RATE // 20] = np.linspace(0, 1, RATE // 20)
    fade[-RATE // 4 :] = np.linspace(1, 0, RATE // 4)
    out *= fade
    return (0.7 * out / np.abs(out).max()).astype(np.float32)


def _voice(rng: np.random.Generator, note: np.ndarray) -> np.ndarray:
    """One shout: a note at another pitch, cut to 0.5 to 2.5 s, with an own attack and release, a little overdriven."""
    speed = 2 ** rng.uniform(-0.5, 0.7)
    moved = audio.resample(note[None], round(RATE * speed), RATE)[0]
    loud = int(np.argmax(np.abs(moved)))
    begin = max(0, loud - int(0.3 * RATE))
    piece = moved[begin : begin + int(rng.uniform(0.5, 2.5) * RATE)].copy()
    attack, release = int(rng.uniform(0.03, 0.25) * RATE), int(rng.uniform(0.2, 0.8) * RATE)
    attack, release = min(attack, len(piece) // 2), min(release, len(piece) // 2)
    piece[:attack] *= np.linspace(0, 1, attack)
    piece[len(piece) - release :] *= np.linspace(1, 0, release) ** 2
    drive = rng.uniform(1, 4)
    return np.tanh(drive * piece / (np.abs(piece).max() + 1e-9)).astype(np.float32)
