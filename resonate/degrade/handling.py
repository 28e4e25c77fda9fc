"""What the hand and the weather do to the phone: bumps, rubs, wind; recordings from the bank among them.

Bumps are damped low resonances of the body with a click, rubs are crackling noise bands, wind is turbulence
noise falling with frequency under a gusty envelope (Nelke & Vary, Signal Processing 105, 2014).
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from resonate import RATE
from resonate.degrade.bank import Bank


@dataclass(frozen=True)
class HandlingParams:
    """events: (kind, time s, level dB over the music's RMS, bank name or ""); wind_db: -inf is written -120."""

    events: list[tuple[str, float, float, str]]
    wind_db: float
    seed: int

    @classmethod
    def from_dict(cls, values: dict) -> "HandlingParams":
        """Rebuild from the plain form that JSON gives back."""
        return cls(**{**values, "events": [tuple(event) for event in values["events"]]})


def sample(
    rng: np.random.Generator, severity: float, seconds: float, open_air: bool, recordings: list[str] | None = None
) -> HandlingParams:
    """Draw handling noise: about half of the captures have some; wind blows mostly outdoors."""
    count = int(rng.poisson((0.05 + 0.2 * severity) * seconds)) if rng.uniform() < 0.5 else 0
    events = []
    for _ in range(count):
        kind = str(rng.choice(["bump", "rub", "recorded"] if recordings else ["bump", "rub"]))
        name = str(rng.choice(recordings)) if kind == "recorded" else ""
        events.append((kind, float(rng.uniform(0, seconds)), float(rng.uniform(-18.0, 4.0 + 6.0 * severity)), name))
    windy = rng.uniform() < (0.5 if open_air else 0.03)
    wind_db = float(rng.uniform(-25.0, -3.0)) if windy else -120.0
    return HandlingParams(events=events, wind_db=wind_db, seed=int(rng.integers(2**31)))


def apply(params: HandlingParams, n_samples: int, music_rms: float, bank: Bank) -> np.ndarray:
    """(2, n_samples) float32, the level relative to music_rms; zero where nothing happens."""
    rng = np.random.default_rng(params.seed)
    out = np.zeros((2, n_samples), np.float32)
    for kind, time, level_db, name in params.events:
        sound = _event(rng, kind, bank.audio(name) if name else None)
        start = int(time * RATE)
        length = min(sound.shape[-1], n_samples - start)
        gain = music_rms * 10 ** (level_db / 20) / max(float(np.sqrt(np.square(sound).mean())), 1e-6)
        out[:, start : start + length] += np.float32(gain) * sound[:, :length]
    if params.wind_db > -100.0:
        out += np.float32(music_rms * 10 ** (params.wind_db / 20)) * _wind(rng, n_samples)
    return out


def _event(rng: np.random.Generator, kind: str, recording: np.ndarray | None) -> np.ndarray:
    if recording is not None:
        return recording[[0, -1]]
    if kind == "bump":
        n = int(rng.uniform(0.08, 0.3) * RATE)
        t = np.arange(n) / RATE
        sound = sum(
            a * np.sin(2 * np.pi * f * t) * np.exp(-t * rng.uniform(20, 60))
            for f, a in zip(rng.uniform(45, 400, 3), (1.0, 0.6, 0.3), strict=True)
        )
        click = rng.standard_normal(n) * np.exp(-t * 900) * rng.uniform(0.1, 0.6)
        mono = sound + click
    else:
        n = int(rng.uniform(0.1, 0.9) * RATE)
        crackle = rng.standard_normal(n) * (rng.uniform(size=n) < 0.02) * 4 + 0.3 * rng.standard_normal(n)
        low = rng.uniform(150, 900)
        mono = sosfilt(butter(2, [low, low * rng.uniform(4, 12)], "bandpass", fs=RATE, output="sos"), crackle)
        mono = mono * np.hanning(n)
    other = np.roll(mono, int(rng.integers(0, 12))) * rng.uniform(0.4, 1.0)
    return np.stack([mono, other]).astype(np.float32)


def _wind(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Turbulence at two capsules (independent), RMS 1, most energy below 200 Hz."""
    noise = rng.standard_normal((2, n_samples), dtype=np.float32)
    noise = lfilter([1.0], [1.0, -0.985], lfilter([1.0], [1.0, -0.9], noise))
    knots = n_samples // (RATE // 3) + 4
    gust = np.interp(np.arange(n_samples), np.linspace(0, n_samples, knots), rng.gamma(0.7, 1.0, knots))
    wind = noise * gust
    return (wind / (np.sqrt(np.square(wind).mean()) + 1e-9)).astype(np.float32)
