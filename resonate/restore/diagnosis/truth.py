"""Simulated captures whose truth is known, for testing and fitting the estimators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resonate import RATE, STEMS
from resonate.data.music import Song, load_song, scan_music
from resonate.degrade import Bank, CaptureChain, ChainConfig
from resonate.errors import UserError
from resonate.restore.diagnosis.levels import CENTRES, STEP, measure_levels
from resonate.restore.diagnosis.room import OCTAVES

REPO_BANK = Path(__file__).parents[2] / "bank"


@dataclass(frozen=True)
class Truth:
    """One capture, (2, samples), and what is known of it.

    Attributes:
        wet, noise: (2, samples) captured music; crowd and handling noise.
        gain_db: (n,) gain of the AGC, one value per 50 ms, against what the same phone without AGC would give.
        snr_db: (n,) music over crowd and handling, over 3 s around each row.
        early_db: by octave, captured over clean music (long-term spectra), mean 0 over 250..4000 Hz.
        params, measures: as the capture chain gives them.
    """

    capture: np.ndarray
    wet: np.ndarray
    noise: np.ndarray
    gain_db: np.ndarray
    snr_db: np.ndarray
    early_db: dict[int, float]
    params: dict[str, Any]
    measures: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Music to capture, and a bank. Without songs, made-up music is used."""

    songs: tuple[Song, ...]
    bank: Bank

    @classmethod
    def load(cls, music: Path | None, bank: Path | None, split: str) -> Source:
        """Songs of one split below `music`. UserError where there are none."""
        songs = [] if music is None else [s for s in scan_music(music) if s.split == split]
        if music is not None and not songs:
            raise UserError(f"{music} holds no songs of split {split}; name another folder with --music.")
        return cls(tuple(songs), Bank.load(bank or REPO_BANK, split))

    def stems(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """(4, 2, samples) of a song drawn, or made up."""
        n = round(seconds * RATE)
        songs = [s for s in self.songs if s.duration > seconds + 1]
        if not songs:
            return made_up_stems(n, rng)
        song = songs[int(rng.integers(len(songs)))]
        stems, _ = load_song(song, float(rng.uniform(0, song.duration - seconds - 1)), seconds)
        stems = np.nan_to_num(np.asarray(stems, dtype=np.float32))
        if stems.ndim == 2:
            whole = np.zeros((len(STEMS), *stems.shape), dtype=np.float32)
            whole[STEMS.index("other")] = stems
            stems = whole
        return np.pad(stems, ((0, 0), (0, 0), (0, max(0, n - stems.shape[-1]))))[..., :n]


def made_up_stems(n: int, rng: np.random.Generator) -> np.ndarray:
    """(4, 2, n) of a band that never was: drums, a bass line, chords and a melody, full band, notes with rests."""
    t = np.arange(n) / RATE
    beat = 60.0 / rng.uniform(80, 150)
    noise = rng.standard_normal((2, n)).astype(np.float32)
    kick = np.sin(2 * np.pi * 55 * (t % beat) * (1 + 2 * np.exp(-(t % beat) / 0.02))) * np.exp(-(t % beat) / 0.08)
    snare = noise * np.exp(-((t + beat) % (2 * beat)) / 0.06) * 0.5
    hat = np.diff(noise, axis=1, prepend=0) * np.exp(-(t % (beat / 2)) / 0.02) * 0.15
    drums = kick + snare + hat
    bass, other, vocals = (_line(rng, t, beat * k, octave) for k, octave in ((1, 0), (4, 2), (2, 3)))
    chord = sum(_line(rng, t, beat * 4, 2) for _ in range(2)) + other
    stems = np.stack([drums, np.stack([bass, bass]), np.stack([chord, np.roll(chord, 300)]), np.stack([vocals] * 2)])
    return (stems * np.array([0.25, 0.2, 0.08, 0.15])[:, None, None]).astype(np.float32)


def _line(rng: np.random.Generator, t: np.ndarray, length: float, octave: int) -> np.ndarray:
    """Notes of a pentatonic scale with falling harmonics, some left out."""
    count = int(t[-1] / length) + 1
    pitch = 55.0 * 2 ** (octave + rng.choice([0, 3, 5, 7, 10], count) / 12)
    loud = rng.uniform(0.4, 1.0, count) * (rng.uniform(size=count) < 0.85)
    note = np.minimum((t / length).astype(int), count - 1)
    phase = 2 * np.pi * pitch[note] * (t % length)
    tone = sum(np.sin(k * phase) / k**1.3 * (k * pitch[note] < 18000) for k in range(1, 24))
    return loud[note] * tone * np.minimum(1, (t % length) / 0.01) * np.exp(-(t % length) / (0.6 * length))


def captures(
    source: Source, count: int, seconds: float, seed: int, agc_share: float = 1.0, config: ChainConfig | None = None
) -> Iterator[Truth]:
    """`count` captures of severities evenly from 0 to 1; `agc_share` of them keep the AGC that they drew."""
    chain = CaptureChain(source.bank, config or ChainConfig())
    n = round(seconds * RATE)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        stems = torch.from_numpy(source.stems(rng, seconds))[None]
        params = chain.sample(rng, n, severity=(i + 0.5) / count)
        keeps = rng.uniform() < agc_share
        without = {**params, "agc": {**params["agc"], "active": False}}
        made = chain.apply(stems, [params if keeps else without])
        gain = np.zeros(-(-n // STEP), dtype=np.float32)
        if keeps and params["agc"]["active"]:
            # Music, crowd and handling pass the same gain: their sum with and without it shows the curve.
            still = chain.apply(stems, [without])
            gain = 10 * np.log10(_powers(_tracked(made)) / _powers(_tracked(still)))
        wet, noise = made.stems_wet.sum(1), made.crowd + made.handling
        ratio = [np.convolve(_powers(x), np.ones(61), mode="same") for x in (wet, noise)]
        yield Truth(
            made.capture[0].numpy(),
            wet[0].numpy(),
            noise[0].numpy(),
            gain.astype(np.float32),
            (10 * np.log10(ratio[0] / ratio[1])).astype(np.float32),
            colour_db(wet[0].numpy(), made.stems_dry[0].sum(0).numpy()),
            made.params[0],
            made.measures[0],
        )


def colour_db(wet: np.ndarray, dry: np.ndarray) -> dict[int, float]:
    """Power of `wet` over that of `dry`, (2, n) each, per octave band in dB, mean 0 over 250..4000 Hz."""
    levels = [10 ** (measure_levels(x).band_db.astype(np.float64) / 10) for x in (wet, dry)]
    out = {}
    for octave in OCTAVES:
        near = np.abs(np.log2(CENTRES / octave)) < 0.3
        out[octave] = float(10 * np.log10(levels[0][:, near].mean() / levels[1][:, near].mean()))
    middle = float(np.mean([v for o, v in out.items() if 250 <= o <= 4000]))
    return {o: v - middle for o, v in out.items()}


def _tracked(made: Any) -> torch.Tensor:
    return made.stems_wet.sum(1) + made.crowd + made.handling


def _powers(x: torch.Tensor) -> np.ndarray:
    """Mean power of (1, 2, samples) per 50 ms, with a floor at -120 dB."""
    rows = -(-x.shape[-1] // STEP)
    padded = torch.nn.functional.pad(x[0], (0, rows * STEP - x.shape[-1]))
    return padded.reshape(2, rows, STEP).square().mean((0, 2)).numpy().astype(np.float64) + 1e-12
