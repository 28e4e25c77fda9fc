"""Recordings that a suite makes itself, each a pure function of the settings and its number.

Music is the bundled song or the test split of `music=FOLDER`; crowd, rooms and phones are the test split of the starter
bank. Nothing here was heard in training.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import signal

from resonate import RATE, STEMS
from resonate.data.excerpts import Excerpts
from resonate.degrade import Bank, CaptureChain, ChainConfig
from resonate.errors import UserError
from resonate.evaluate import cases
from resonate.evaluate.measures import gap_mask
from resonate.evaluate.rivals import Case

BANK = Path(__file__).resolve().parents[1] / "bank"
#: Before this, the bundled song's clean stems are muted (its recording begins with a gap).
BUNDLED_START = 3.0
#: Filters of the suite bandlimited: (kind, Hz).
FILTERS = (("lowpass", 4000), ("lowpass", 6000), ("lowpass", 8000), ("lowpass", 12000),
           ("highpass", 80), ("highpass", 120), ("highpass", 200))  # fmt: skip
#: Butterworth, run forth and back: 96 dB per octave and no delay.
FILTER_ORDER = 8
#: The missing band begins this far beyond the filter's edge: a sixth of an octave, as the captured one ends.
BEYOND = 2.0 ** (1 / 6)


@lru_cache(maxsize=1)
def _bundled() -> tuple[np.ndarray, np.ndarray]:
    case = cases.bundled()
    assert case.stems_dry is not None and case.present is not None
    return case.stems_dry, case.present


@lru_cache(maxsize=2)
def _excerpts(music: str, seconds: float) -> Excerpts:
    return Excerpts([(music, 1.0)], "test", seconds)


@lru_cache(maxsize=1)
def _chain() -> CaptureChain:
    return CaptureChain(Bank.load(BANK, "test"), ChainConfig())


def check(music: str | None, seconds: float) -> None:
    """UserError, before any work, where there is no music of that length."""
    if music is not None:
        _excerpts(music, seconds)
        return
    longest = _bundled()[0].shape[-1] / RATE - BUNDLED_START
    if seconds > longest:
        raise UserError(f"seconds={seconds:g}: the bundled song lasts {longest:g} s; take less, or music=FOLDER.")


def stems(music: str | None, seconds: float, seed: int, number: int) -> tuple[np.ndarray, np.ndarray, str]:
    """(stems (4, 2, T), present (4,), song) of stretch `number`."""
    rng = np.random.default_rng([seed, number, 0])
    if music is not None:
        excerpt = _excerpts(music, seconds).draw(rng)
        return excerpt.stems, excerpt.present, excerpt.song
    clean, present = _bundled()
    n = round(seconds * RATE)
    start = int(rng.integers(round(BUNDLED_START * RATE), clean.shape[-1] - n + 1))
    return clean[..., start : start + n], present, "Caesium"


def captured(music: str | None, seconds: float, seed: int, number: int, severity: float) -> Case:
    """A capture of stretch `number`, with all its parts known."""
    clean, present, _ = stems(music, seconds, seed, number)
    made, params = _capture(clean, seed, number, severity)
    known = {"crowd": made.crowd[0].numpy()}
    if present.any():
        known |= {"stems_wet": made.stems_wet[0].numpy(), "stems_dry": made.stems_dry[0].numpy(), "present": present}
    capture, wet = made.capture[0].numpy(), made.stems_wet[0].sum(0).numpy()
    gaps = gap_mask(capture.shape[-1], params["gaps"])
    return Case(f"capture {number:03d}", capture, made.stems_dry[0].sum(0).numpy(), gaps, wet, capture - wet, **known)


def crowd(seconds: float, seed: int, number: int, severity: float) -> Case:
    """A capture without music: the reference is silence, all of it a gap."""
    clean = np.zeros((len(STEMS), 2, round(seconds * RATE)), np.float32)
    made, _ = _capture(clean, seed, number, severity)
    capture = made.capture[0].numpy()
    return Case(f"crowd {number:03d}", capture, np.zeros_like(capture), np.ones(capture.shape[-1], bool))


def _capture(clean: np.ndarray, seed: int, number: int, severity: float):
    chain = _chain()
    params = chain.sample(np.random.default_rng([seed, number, 1]), clean.shape[-1], severity)
    with torch.inference_mode():
        return chain.apply(torch.from_numpy(np.ascontiguousarray(clean))[None], [params]), params


def studio(music: str | None, seconds: float, seed: int, number: int) -> Case:
    """A studio track as its own recording."""
    mix = stems(music, seconds, seed, number)[0].sum(axis=0).astype(np.float32)
    return Case(f"track {number:03d}", mix, mix, np.zeros(mix.shape[-1], bool))


def bandlimited(music: str | None, seconds: float, seed: int, number: int, kind: str, hertz: float) -> Case:
    """A studio track without what lies above (lowpass) or below (highpass) `hertz`."""
    mix = studio(music, seconds, seed, number).reference
    sections = signal.butter(FILTER_ORDER, hertz, kind, fs=RATE, output="sos")
    capture = signal.sosfiltfilt(sections, mix, axis=-1).astype(np.float32)
    return Case(f"track {number:03d} {kind} {hertz:g} Hz", capture, mix, np.zeros(mix.shape[-1], bool))


def bands(kind: str, hertz: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(kept, missing), each (from Hz, to Hz), of a filter; both as far as the filter's slope leaves them."""
    if kind == "lowpass":
        return (0.0, hertz), (min(hertz * BEYOND, 20000.0), 20000.0)
    return (hertz, RATE / 2), (20.0, hertz / BEYOND)


def quiet(kind: str, seconds: float, seed: int) -> Case:
    """`digital` silence, `hiss` at -90 dBFS, or a constant `offset` of 0.01: nothing to reveal."""
    shape = (2, round(seconds * RATE))
    if kind == "digital":
        x = np.zeros(shape, np.float32)
    elif kind == "hiss":
        x = (10 ** (-90 / 20) * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
    else:
        x = np.full(shape, 0.01, np.float32)
    return Case(kind, x, np.zeros_like(x), np.ones(shape[1], bool))
