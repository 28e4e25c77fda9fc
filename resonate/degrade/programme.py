"""What the audience hears: loudness, beats, quiet stretches and drops of the music, at a control rate of 20 ms.

The beat is the comb of equally spaced times that collects most spectral flux, preferring 120 beats a minute
(Ellis, Journal of New Music Research 36, 2007, with one tempo per capture); a crowd claps on nothing less plain.
"""

from dataclasses import dataclass

import numpy as np

from resonate import RATE

#: Samples per control period of the scene: 20 ms.
STEP = RATE // 50
_FFT = 1024
_FLUX = RATE // 100  # samples between two values of the flux
BEATS_HZ = (1.0, 2.8)
#: Least clarity of a beat that people clap to.
CLEAR = 2.0


@dataclass(frozen=True)
class Programme:
    """n_samples: of the capture. music: (frames,) 1 where music plays, 0 in gaps. level_db: (frames,) over the mean.
    beats_s: (k,) times; empty when the music has no plain beat."""

    n_samples: int
    music: np.ndarray
    level_db: np.ndarray
    beats_s: np.ndarray


def analyse(music: np.ndarray, mute: np.ndarray) -> Programme:
    """Programme of music (n,) float32, with mute (n,) 0 in the gaps and 1 elsewhere."""
    n = len(music)
    frames = -(-n // STEP)
    power = np.square(np.pad(music, (0, frames * STEP - n)).reshape(frames, STEP)).mean(axis=1, dtype=np.float64)
    # A listener's sense of loud and quiet takes about half a second.
    slow = np.convolve(np.pad(power, 12, mode="edge"), np.full(25, 0.04), mode="valid")
    playing = mute[::STEP][:frames]
    mean = power[playing > 0.5].mean() if (playing > 0.5).any() else 0.0
    level = 10.0 * np.log10((slow + 1e-12) / (mean + 1e-12)) if mean > 1e-10 else np.zeros(frames)
    return Programme(n, playing.astype(np.float32), level.clip(-60.0, 20.0), find_beats(music)[0])


def find_beats(music: np.ndarray) -> tuple[np.ndarray, float]:
    """Beat times in s of music (n,) and their clarity (flux on the beats over its mean); no beats below CLEAR, or
    of music shorter than 1.5 s."""
    flux = _flux(music)
    if len(flux) < 150 or flux.max() <= 0.0:
        return np.zeros(0), 0.0
    smooth = np.convolve(flux, np.array([0.25, 0.5, 1.0, 0.5, 0.25]) / 2.5, mode="same")
    coarse = _comb(smooth, np.geomspace(*BEATS_HZ, 72))
    # Over ten seconds a tempo that is 1 % off would end between two beats.
    _, clarity, hz, offset = _comb(smooth, coarse[2] * np.linspace(0.985, 1.015, 25)) if coarse[2] else coarse
    if clarity < CLEAR:
        return np.zeros(0), clarity
    return np.arange(offset, len(music) / RATE, 1.0 / hz), clarity


def _comb(flux: np.ndarray, tempos_hz: np.ndarray) -> tuple[float, float, float, float]:
    """(score, clarity, tempo in Hz, first beat in s) of the comb that collects most; tempo 0 where none fits."""
    rate = RATE / _FLUX
    best = (0.0, 0.0, 0.0, 0.0)
    for hz in tempos_hz:
        period = rate / hz
        count = int((len(flux) - 1) // period)
        if count < 3:
            continue
        offsets = np.arange(0.0, period, 1.0)
        at = np.rint(offsets[:, None] + np.arange(count) * period).astype(int)
        on = flux[np.minimum(at, len(flux) - 1)].mean(axis=1)
        top = int(on.argmax())
        clarity = float(on[top] / (flux.mean() + 1e-9))
        # Log-normal preference for 2 Hz, one octave wide.
        score = (clarity - 1.0) * float(np.exp(-0.5 * np.log2(hz / 2.0) ** 2 / 0.7**2))
        best = max(best, (score, clarity, hz, float(offsets[top]) / rate))
    return best


def _flux(music: np.ndarray) -> np.ndarray:
    """Half-wave rectified change of the log spectrum in 24 bands, every 10 ms, less its local mean: (frames,)."""
    if len(music) < 4 * _FFT:
        return np.zeros(0)
    padded = np.pad(music, _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_FLUX]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(_FFT).astype(np.float32))))
    edges = np.unique(np.geomspace(1, _FFT // 4, 25).astype(int))
    bands = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    logs = np.log(bands + 1e-4 * bands.mean() + 1e-12)
    rise = np.maximum(np.diff(logs, axis=0, prepend=logs[:1]), 0.0).mean(axis=1)
    local = np.convolve(np.pad(rise, 50, mode="reflect"), np.full(101, 1 / 101), mode="valid")
    return np.maximum(rise - local, 0.0)
