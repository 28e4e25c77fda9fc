"""What the hand, the pocket and the weather do to the phone: bumps, rubs, cloth, wind; recordings among them.

Bumps are damped low resonances of the body with a click; rubs are stick-slip friction, crackling bands under a stroking
envelope; in a pocket the capture is muffled and cloth rustles; wind is turbulence that falls with frequency under
gusts and is independent at two capsules (Nelke & Vary, IWAENC 2014; Corcos, JASA 35, 1963).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.signal import butter, lfilter, sosfilt
from torch import Tensor

from resonate import RATE
from resonate.degrade import filters
from resonate.degrade.bank import Bank


class Touch(NamedTuple):
    """kind: bump | rub | recorded; time in s; level: RMS in dB over the music's (-18..10); bank name or ""."""

    kind: str
    time_s: float
    level_db: float
    name: str


class Pocket(NamedTuple):
    """The phone lies in a pocket or under a hand for [start_s, end_s]: everything is low-passed at cutoff_hz
    (250..1500), floor_db (-35..-12) is what the stop band keeps; cloth_db: rustle over the music's RMS (-30..-6)."""

    start_s: float
    end_s: float
    cutoff_hz: float
    floor_db: float
    cloth_db: float


@dataclass(frozen=True)
class HandlingParams:
    """events: see `Touch`; pockets: see `Pocket`. wind_db: mean level over the music's RMS (-25..3; -120 = none);
    wind_hz: corner above which the turbulence falls (30..150); gust_hz: gusts per second (0.3..2)."""

    events: list[Touch]
    wind_db: float
    seed: int
    pockets: list[Pocket]
    wind_hz: float = 60.0
    gust_hz: float = 1.0

    @classmethod
    def from_dict(cls, values: dict) -> "HandlingParams":
        """Rebuild from the plain form that JSON gives back."""
        events = [Touch(*event) for event in values["events"]]
        return cls(**{**values, "events": events, "pockets": [Pocket(*one) for one in values["pockets"]]})


def sample(
    rng: np.random.Generator,
    severity: float,
    seconds: float,
    open_air: bool,
    recordings: list[str] | None = None,
    pocket_share: float = 0.04,
) -> HandlingParams:
    """Draw handling noise: about half of the captures have some; wind blows mostly outdoors."""
    count = int(rng.poisson((0.05 + 0.2 * severity) * seconds)) if rng.uniform() < 0.5 else 0
    events = []
    for _ in range(count):
        kind = str(rng.choice(["bump", "rub", "recorded"] if recordings else ["bump", "rub"]))
        name = str(rng.choice(recordings)) if kind == "recorded" else ""
        level_db = float(rng.uniform(-18.0, 4.0 + 6.0 * severity))
        events.append(Touch(kind, float(rng.uniform(0, seconds)), level_db, name))
    windy = rng.uniform() < (0.5 if open_air else 0.03)
    pockets = []
    if rng.uniform() < pocket_share * (0.5 + severity):
        length = float(rng.uniform(0.15, 0.6) * seconds)
        start = float(rng.uniform(0.0, seconds - length))
        cutoff = float(np.exp(rng.uniform(np.log(250.0), np.log(1500.0))))
        floor, cloth = float(rng.uniform(-35.0, -12.0)), float(rng.uniform(-30.0, -6.0))
        pockets.append(Pocket(start, start + length, cutoff, floor, cloth))
    return HandlingParams(
        events=events,
        wind_db=float(rng.uniform(-25.0, -5.0 + 8.0 * severity)) if windy else -120.0,
        seed=int(rng.integers(2**31)),
        pockets=pockets,
        wind_hz=float(rng.uniform(30.0, 150.0)),
        gust_hz=float(rng.uniform(0.3, 2.0)),
    )


def apply(params: HandlingParams, n_samples: int, music_rms: float, bank: Bank) -> np.ndarray:
    """(2, n_samples) float32, the level relative to music_rms; zero where nothing happens."""
    rng = np.random.default_rng(params.seed)
    out = np.zeros((2, n_samples), np.float32)
    for kind, time, level_db, name in params.events:
        sound = bank.audio(name)[[0, -1]] if name else {"bump": _bump, "rub": _rub}[kind](rng)
        start = int(time * RATE)
        length = min(sound.shape[-1], n_samples - start)
        gain = music_rms * 10 ** (level_db / 20) / max(float(np.sqrt(np.square(sound).mean())), 1e-6)
        out[:, start : start + length] += np.float32(gain) * sound[:, :length]
    for pocket in params.pockets:
        cover = _cover(pocket, n_samples)
        inside = slice(*_span(pocket, n_samples))
        rustle = _cloth(rng, inside.stop - inside.start) * cover[inside]
        out[:, inside] += np.float32(music_rms * 10 ** (pocket.cloth_db / 20)) * rustle
    if params.wind_db > -100.0:
        out += np.float32(music_rms * 10 ** (params.wind_db / 20)) * _wind(rng, n_samples, params)
    return out


def muffle(tracks: Tensor, params: HandlingParams) -> Tensor:
    """tracks (K, 2, T) as heard through cloth while the phone is in a pocket; linear, so it acts on every component
    alike. Returns tracks itself where there is no pocket."""
    out = tracks
    n = tracks.shape[-1]
    for pocket in params.pockets:
        start, end = _span(pocket, n)
        lead = min(start, 1024)
        freqs = np.geomspace(20.0, RATE / 2, 60)
        gains = np.maximum(-10.0 * np.log10(1.0 + (freqs / pocket.cutoff_hz) ** 4), pocket.floor_db)
        kernel = filters.minimum_phase(freqs, gains)
        piece = filters.convolve(out[..., start - lead : end], [np.stack([kernel, kernel])], lead=0)[0][..., lead:]
        cover = torch.from_numpy(_cover(pocket, n)[start:end]).to(tracks.device)
        out = out.clone() if out is tracks else out
        out[..., start:end] += cover * (piece - out[..., start:end])
    return out


def _span(pocket: Pocket, n_samples: int) -> tuple[int, int]:
    return int(pocket.start_s * RATE), min(int(pocket.end_s * RATE), n_samples)


def _cover(pocket: Pocket, n_samples: int) -> np.ndarray:
    """(n_samples,) float32: 0 outside, 1 inside, ramps of 0.15 s: the phone goes in and comes out."""
    t = np.arange(n_samples, dtype=np.float32) / RATE
    return np.clip(np.minimum(t - pocket.start_s, pocket.end_s - t) / 0.15, 0.0, 1.0).astype(np.float32)


def _bump(rng: np.random.Generator) -> np.ndarray:
    n = int(rng.uniform(0.08, 0.3) * RATE)
    t = np.arange(n) / RATE
    sound = sum(
        a * np.sin(2 * np.pi * f * t) * np.exp(-t * rng.uniform(20, 60))
        for f, a in zip(rng.uniform(45, 400, 3), (1.0, 0.6, 0.3), strict=True)
    )
    return _both(rng, sound + rng.standard_normal(n) * np.exp(-t * 900) * rng.uniform(0.1, 0.6))


def _rub(rng: np.random.Generator) -> np.ndarray:
    """A finger or palm on the body: 0.1 to 1.5 s in one to six strokes."""
    n = int(np.exp(rng.uniform(np.log(0.1), np.log(1.5))) * RATE)
    crackle = rng.standard_normal(n) * (rng.uniform(size=n) < rng.uniform(0.005, 0.05)) * 4
    low = rng.uniform(120, 900)
    sos = butter(2, [low, low * rng.uniform(4, 12)], "bandpass", fs=RATE, output="sos")
    strokes = max(1, round(n / RATE * rng.uniform(2.0, 6.0)))
    stroke = np.abs(np.sin(np.pi * strokes * np.arange(n) / n)) ** rng.uniform(0.6, 2.0)
    return _both(rng, sosfilt(sos, crackle + 0.3 * rng.standard_normal(n)) * stroke)


def _both(rng: np.random.Generator, mono: np.ndarray) -> np.ndarray:
    """At two capsules: a hand is nearer to one of them."""
    pair = [mono, np.roll(mono, int(rng.integers(0, 12))) * rng.uniform(0.4, 1.0)]
    return np.stack(pair[:: int(rng.choice([-1, 1]))]).astype(np.float32)


def _cloth(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Rustling: short bursts of noise below 4 kHz, a few a second, RMS about 1: (2, n_samples)."""
    noise = rng.standard_normal((2, n_samples), dtype=np.float32)
    noise = sosfilt(butter(1, [80, 2500], "bandpass", fs=RATE, output="sos"), noise)
    knots = n_samples // (RATE // 12) + 4
    rustle = noise * filters.through_knots(rng.gamma(0.35, 1.0, knots), n_samples)
    return (rustle / (np.sqrt(np.square(rustle).mean()) + 1e-9)).astype(np.float32)


def _wind(rng: np.random.Generator, n_samples: int, params: HandlingParams) -> np.ndarray:
    """Turbulence at two capsules, RMS 1: falls by 6 dB per octave above 20 Hz and by 12 above wind_hz."""
    noise = rng.standard_normal((2, n_samples), dtype=np.float32)
    for corner in (20.0, params.wind_hz):
        keep = np.float32(np.exp(-2 * np.pi * corner / RATE))
        noise = lfilter(np.array([1.0 - keep], np.float32), np.array([1.0, -keep], np.float32), noise)
    knots = int(n_samples / RATE * params.gust_hz * 2) + 4
    gust = filters.through_knots(rng.gamma(0.7, 1.0, knots) + 0.05, n_samples)
    # The stream sheds eddies that the gust carries: strong wind also flutters.
    flutter = filters.through_knots(rng.gamma(2.0, 0.5, 40 * knots), n_samples)
    wind = noise * (gust * flutter).astype(np.float32)
    return (wind / (np.sqrt(np.square(wind).mean()) + 1e-9)).astype(np.float32)
