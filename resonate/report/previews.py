"""AAC previews at matched loudness, within a budget of bytes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resonate import STEMS, audio
from resonate.report.sounds import Sound
from resonate.restore.loudness import LoudnessMeter

log = logging.getLogger(__name__)

#: Recordings up to this long are previewed whole, in seconds; of longer ones the excerpts are so long together.
WHOLE_SECONDS = 15 * 60.0
EXCERPTS_SECONDS = 360.0
#: At most so many excerpts, each at most so long.
EXCERPTS, LONGEST_EXCERPT = 12, 120.0
#: Where the middles of the excerpts lie in a long recording whose songs are not known.
PLACES = (1 / 6, 1 / 2, 5 / 6)
#: All previews together, in bytes; pictures and page stay far under the 50 MB that are allowed.
BUDGET = 45e6
BEST_BIT_RATE = 192_000
#: These are compared with each other; they get this many times the bit rate of the rest, and equal loudness.
MAIN = ("input", "revealed", "restored")
MAIN_WEIGHT = 2.5
#: Below this a preview is mono: two channels would not be worth hearing.
STEREO_BIT_RATE = 48_000
TARGET_LUFS = -18.0
PEAK = 0.89


@dataclass(frozen=True)
class Preview:
    """One encoded preview: `file` relative to the result folder, the gain that it was given in dB."""

    key: str
    label: str
    says: str
    file: str
    gain_db: float


def stretches(seconds: float, songs: Sequence[Sequence[float]] = ()) -> list[tuple[float, float]]:
    """(start, seconds) of what is previewed, in order: the whole recording up to WHOLE_SECONDS, else excerpts.

    `songs`: (from, to) in seconds. Excerpts are the middles of the songs, or of EXCERPTS of them, evenly chosen.
    """
    if seconds <= WHOLE_SECONDS:
        return [(0.0, seconds)]
    known = sorted((max(0.0, float(a)), min(seconds, float(b))) for a, b in songs)
    known = [(a, b) for a, b in known if b - a >= 20.0]
    if len(known) > EXCERPTS:
        known = [known[round(n * (len(known) - 1) / (EXCERPTS - 1))] for n in range(EXCERPTS)]
    if len(known) < len(PLACES):
        # One song from beginning to end says nothing about where to listen.
        known = [(max(0.0, place * seconds - LONGEST_EXCERPT), place * seconds + LONGEST_EXCERPT) for place in PLACES]
    longest = min(LONGEST_EXCERPT, EXCERPTS_SECONDS / len(known))
    return [((a + b - min(longest, b - a)) / 2, min(longest, b - a)) for a, b in known]


def bit_rates(keys: list[str], seconds: float) -> dict[str, int]:
    """Bits per second for each preview, so that all together keep to BUDGET."""
    weights = {key: MAIN_WEIGHT if key in MAIN else 1.0 for key in keys}
    unit = 8.0 * BUDGET / max(seconds, 1.0) / sum(weights.values())
    return {key: int(min(BEST_BIT_RATE, unit * weight)) for key, weight in weights.items()}


def _read(sound: Sound, parts: list[tuple[float, float]]) -> tuple[np.ndarray, int]:
    """((2, time), rate) of the stretches one after the other, at a rate that AAC players take."""
    if len(parts) == 1:
        samples, rate = sound.read(0.0, None)
    else:
        pieces, rate = sound.cut(parts)
        for piece in pieces:
            fade = np.linspace(0.0, 1.0, min(round(0.05 * rate), piece.shape[1] // 2), dtype=np.float32)
            piece[:, : len(fade)] *= fade
            piece[:, piece.shape[1] - len(fade) :] *= fade[::-1]
        samples = np.concatenate(pieces, axis=1)
    wanted = rate if rate in (44100, 48000) else 48000
    return audio.resample(samples, rate, wanted) if wanted != rate else samples, wanted


def loudness(samples: np.ndarray, rate: int) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4) of (channels, time) samples; -inf for silence."""
    meter = LoudnessMeter(rate, samples.shape[0])
    for start in range(0, samples.shape[1], 10 * rate):
        meter.push(samples[:, start : start + 10 * rate])
    return meter.loudness()


def _peak(samples: np.ndarray) -> float:
    return float(max(samples.max(initial=0.0), -samples.min(initial=0.0)))  # np.abs would make a copy of it all


def _gains(sounds: Mapping[str, Sound], parts: list[tuple[float, float]]) -> dict[str, float]:
    """Linear gain per sound. The MAIN ones become equally loud; the rest keep their level beside what they belong to:
    stems beside the restored track, `extended` beside `revealed`, `removed` and `crowd` beside the recording.
    """
    measured: dict[str, tuple[float, float]] = {}
    reference = dict(sounds)
    stems = tuple(sounds[stem].files[0] for stem in STEMS if stem in sounds)
    if stems:
        reference["mix"] = Sound("mix", "", "", stems)
    for key in (*MAIN, "mix"):
        if key in reference:
            samples, rate = _read(reference[key], parts)
            measured[key] = (loudness(samples, rate), _peak(samples))
            del samples  # before the next is read
    heard = {key: value for key, value in measured.items() if np.isfinite(value[0]) and value[1] > 0.0}
    # As loud as the one with the highest peaks allows.
    room = [level + 20.0 * np.log10(PEAK / peak) for key, (level, peak) in heard.items() if key in MAIN]
    target = min([TARGET_LUFS, *room])
    gain = {key: 10.0 ** ((target - level) / 20.0) for key, (level, _) in heard.items()}
    beside = {"extended": "revealed", "removed": "input", "crowd": "input", **dict.fromkeys(STEMS, "mix")}
    return {key: gain.get(beside.get(key, key), 1.0) for key in sounds}


def make(folder: Path, sounds: Mapping[str, Sound], parts: list[tuple[float, float]]) -> list[Preview]:
    """Encode the stretches `parts` of every sound to `folder`/report/<key>.m4a. Memory: two copies of one preview."""
    rates = bit_rates(list(sounds), sum(length for _, length in parts))
    gains = _gains(sounds, parts)
    (folder / "report").mkdir(exist_ok=True)
    previews = []
    for key, sound in sounds.items():
        samples, rate = _read(sound, parts)
        peak = _peak(samples)
        gain = min(gains[key], 0.98 / peak) if peak > 0.0 else 1.0
        if rates[key] < STEREO_BIT_RATE:
            samples = samples.mean(axis=0, keepdims=True)
        samples *= np.float32(gain)
        file = f"report/{key}.m4a"
        audio.encode(folder / file, samples, rate, "aac", rates[key], fast=True)
        previews.append(Preview(key, sound.label, sound.says, file, float(20.0 * np.log10(gain))))
        log.info("%s: preview written at %d bit/s", key, rates[key])
        del samples  # before the next is read
    return previews
