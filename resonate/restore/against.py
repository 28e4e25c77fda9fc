"""Measures of a recording and its restored master against a clean reference of the same performance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from resonate import RATE
from resonate.audio import read, resample
from resonate.audio_wav import temporary_beside
from resonate.restore.pipeline import Outcome


def _mid(path: Path, start: float = 0.0, duration: float | None = None) -> np.ndarray:
    audio = read(path, start=start, duration=duration)
    return resample(audio.samples.mean(0), audio.rate, RATE)


def compare(recording: Path, reference: Path, outcome: Outcome) -> str:
    """Write `reference.json` beside the report, and say it in one line. Reads all three files into memory.

    The measures are f_sdr (dB, higher is better) and lsd (dB, lower is better); see `resonate.evaluate.measures`.
    """
    # Only needed with a reference.
    from resonate.evaluate.measures import align, f_sdr, lsd

    settings = outcome.report["settings"]
    clean = _mid(reference, settings["start"], settings["duration"])
    values: dict[str, dict[str, float | None]] = {}
    for name, sound in (
        ("input", _mid(recording, settings["start"], settings["duration"])),
        ("master", _mid(outcome.folder / "master.wav")),
    ):
        y, c = align(sound, clean, RATE)
        pair = {"f_sdr": f_sdr(y, c), "lsd": lsd(y, c)}
        values[name] = {k: round(float(v), 3) if np.isfinite(v) else None for k, v in pair.items()}
    path = outcome.folder / "reference.json"
    part = temporary_beside(path)
    part.write_text(
        json.dumps({"reference": reference.name, **values}, indent=1, ensure_ascii=False), "utf-8", "backslashreplace"
    )
    part.replace(path)
    before, after = values["input"], values["master"]
    return (
        f"against {reference.name}: f_sdr {before['f_sdr']} -> {after['f_sdr']}, lsd {before['lsd']} -> {after['lsd']}"
    )
