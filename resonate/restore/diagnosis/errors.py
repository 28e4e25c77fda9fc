"""Errors of the estimators on simulated captures: python -m resonate.restore.diagnosis.errors --captures 30 --seed 0.

With --music the captures are made of the songs of split valid in that folder, else of made-up music, and the songs of
splits valid and test are heard as they are: those that are taken for recordings, and would be changed, are named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from resonate import RATE
from resonate.data.music import load_song, scan_music
from resonate.errors import command
from resonate.restore.diagnosis import clean, finished, scene
from resonate.restore.diagnosis.diagnose import Diagnoser, Findings
from resonate.restore.diagnosis.levels import measure_levels
from resonate.restore.diagnosis.truth import Source, Truth, captures
from resonate.restore.work import to_db

#: Of a finished song, so many seconds are heard.
SECONDS = 25.0


@dataclass(frozen=True)
class Error:
    """One estimator on one capture: its name with unit, what it said, and the truth."""

    name: str
    said: float
    true: float


def diagnose(x: np.ndarray) -> Findings:
    """All estimators on (2, samples) at 44.1 kHz, in blocks as a restoration does it."""
    diagnoser = Diagnoser()
    for start in range(0, x.shape[1], 1 << 17):
        diagnoser.push_own(x[:, start : start + (1 << 17)])
        diagnoser.push(x[:, start : start + (1 << 17)])
    return diagnoser.finish()


def is_finished(x: np.ndarray, found: Findings, limits: clean.CleanLimits | None = None) -> bool:
    """Whether (2, samples) with these findings counts as a finished mix, of which nothing is taken away."""
    whole = {"silent": False, "seconds": x.shape[1] / RATE, **found.figures}
    return not clean.faults(whole, limits or clean.CleanLimits())


def heard_as_captured(folder: Path, split: str) -> dict[str, float]:
    """How sure it is (0..1) that the songs of a split, `SECONDS` from the middle on, were recorded in a room, by name;
    those of under 11 s and silent ones are left out."""
    out = {}
    for song in (s for s in scan_music(folder) if s.split == split and s.duration >= finished.STRETCH + 1):
        mix = load_song(song, song.duration / 2, min(SECONDS, song.duration / 2))[0].sum(0)
        if np.sqrt(np.square(mix).mean()) > 1e-3:
            out[song.name] = finished.captured(measure_levels(mix))
    return out


def gain_error_db(said: np.ndarray, true: np.ndarray) -> float:
    """Median over time of the distance between two gain curves, a constant apart, in dB."""
    n = min(len(said), len(true))
    difference = said[:n] - true[:n]
    return float(np.median(np.abs(difference - np.median(difference))))


def errors_of(truth: Truth) -> list[Error]:
    """What every estimator said of one capture, and the truth."""
    found = diagnose(truth.capture)
    f, m, p = found.figures, truth.measures, truth.params
    heard, around = found.heard, found.heard.scene
    typical_db = float(scene.shipped().typical[0])
    clipped, flat = m["clip_ratio"], np.zeros_like(heard.gain_db)
    n = min(len(around.snr_db), len(truth.snr_db))
    crowd_db = truth.snr_db[:n]
    rates = [one["rate"] for one in p["codec"]["passes"]] + [p["converter"]["rate"]]
    out = [
        Error("lower band edge (octaves)", np.log2(f["low_hz"]), np.log2(max(m["low_hz"], 20.0))),
        Error("upper band edge (octaves)", np.log2(f["high_hz"]), np.log2(max(m["bandwidth_hz"], 20.0))),
        Error("music to crowd, over time (dB)", float(np.median(np.abs(around.snr_db[:n] - crowd_db))), 0.0),
        Error("the same, taken as typical (dB)", float(np.median(np.abs(typical_db - crowd_db))), 0.0),
        Error("music to crowd, whole (dB)", f["music_to_crowd_db"], float(np.median(truth.snr_db))),
        Error("reverberation time (factor)", np.log2(around.rt60_s), np.log2(max(m["rt60_s"], 0.05))),
        Error("clarity C80 (dB)", around.c80_db, m["c80_db"]),
        Error("clipped samples (per 1000)", 1e3 * f["clipped_share"] + 1e3 * f["soft_clipped_share"], 1e3 * clipped),
        Error("AGC range (dB)", f["agc"]["range_db"], float(np.ptp(np.percentile(truth.gain_db, [5, 95])))),
        Error("channels (wrong = 1)", f["channels"]["kind"] == "stereo", p["capsule"]["capsules"] == 2),
        Error("noise floor (dB)", f["noise_floor_dbfs"], _floor(truth)),
        Error("hum, none there (wrong = 1)", float(f["hum"]["base_hz"] > 0), 0.0),
        Error("bypassed though captured (wrong = 1)", float(is_finished(truth.capture, found)), 0.0),
    ]
    early = f["room"]["early_db"]
    heard_in = [(early[str(octave)], true) for octave, true in truth.early_db.items()]
    out += [Error("early magnitude, each octave (dB)", said, true) for said, true in heard_in if said is not None]
    if np.ptp(truth.gain_db) > 1.0:
        out.append(Error("AGC gain over time (dB)", gain_error_db(heard.gain_db, truth.gain_db), 0.0))
        out.append(Error("AGC gain taken as constant (dB)", gain_error_db(flat, truth.gain_db), 0.0))
    if min(rates) < 32000:
        out.append(Error("cut-off of a low rate (octaves)", np.log2(f["codec"]["cutoff_hz"]), np.log2(min(rates) / 2)))
    hummed = diagnose(truth.capture + _hum(truth.capture.shape[1], 50.1, truth.capture)).figures["hum"]["base_hz"]
    out.append(Error("hum at -26 dB, found (wrong = 1)", float(abs(hummed - 50.1) > 0.1), 0.0))
    return out


def _hum(n: int, base_hz: float, beside: np.ndarray) -> np.ndarray:
    """(2, n) hum whose RMS lies 26 dB under that of `beside`."""
    t = np.arange(n) / RATE
    x = sum(10 ** (-d / 20) * np.sin(2 * np.pi * base_hz * k * t) for k, d in ((1, 6), (2, 0), (3, 8), (5, 16)))
    level = 10 ** (-26 / 20) * np.sqrt(np.square(beside).mean() / np.square(x).mean())
    return np.stack([level * x] * 2).astype(np.float32)


def _floor(truth: Truth) -> float:
    """Second percentile of the level per 50 ms, in dB."""
    step = RATE // 20
    rows = truth.capture.mean(0)[: truth.capture.shape[1] // step * step].reshape(-1, step)
    return float(to_db(float(np.sqrt(np.percentile(np.square(rows).mean(1), 2)) * np.sqrt(2))) or -120.0)


def table(errors: Iterable[Error]) -> Table:
    """Median and 90th percentile of the absolute error of each estimator, and of the best constant answer."""
    groups: dict[str, list[Error]] = {}
    for error in errors:
        groups.setdefault(error.name, []).append(error)
    out = Table("estimator", "captures", "median error", "90 %", "mean error", "best constant's median error")
    for name, group in groups.items():
        said, true = (np.array([float(getattr(e, side)) for e in group]) for side in ("said", "true"))
        off = np.abs(said - true)
        constant = float(np.median(np.abs(true - np.median(true))))
        figures = (float(np.median(off)), float(np.percentile(off, 90)), float(off.mean()), constant)
        out.add_row(name, str(len(group)), *(f"{v:.2f}" for v in figures))
    return out


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captures", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--music", type=Path, default=None, help="folder of songs; those of split valid are used")
    parser.add_argument("--bank", type=Path, default=None, help="bank folder (default: the one of the repo)")
    arguments = parser.parse_args()
    source = Source.load(arguments.music, arguments.bank, "valid")
    found = [
        error
        for truth in captures(source, arguments.captures, arguments.seconds, arguments.seed)
        for error in errors_of(truth)
    ]
    console = Console(width=140)
    console.print(table(found))
    if arguments.music is not None:
        limit = clean.CleanLimits().captured
        songs = {name: sure for split in ("valid", "test")
                 for name, sure in heard_as_captured(arguments.music, split).items()}  # fmt: skip
        missed = [f"{name} {sure:.2f}" for name, sure in sorted(songs.items()) if sure > limit]
        console.print(f"Finished songs taken for recordings (over {limit:g}): {len(missed)} of {len(songs)}: "
                      f"{', '.join(missed) or 'none'}", markup=False)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
