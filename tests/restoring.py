"""What the tests of infer.py share: untrained networks of a few thousand weights, and small made-up recordings."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from resonate import RATE
from resonate.models.restorer import Restorer, RestorerConfig
from resonate.models.separator import build_separator
from resonate.models.stats import BINS, RecordingStats
from resonate.models.weights import save_weights
from resonate.restore.config import RestoreConfig
from resonate.restore.work import Models, Work

ROOT = Path(__file__).parents[1]


@functools.cache
def tiny_weights() -> tuple[Path, Path]:
    """(separator, restorer) weights files; the same numbers in every run."""
    folder = Path(tempfile.mkdtemp(prefix="resonate-tiny-"))
    settings = {"segment": 1.0, "channels": 8, "depth": 4, "t_layers": 0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        separator = build_separator(**settings)
        config = RestorerConfig(width=8, dilations=(1, 2))
        restorer = Restorer(config)
        restorer.target_db[:] = -20 - 0.02 * torch.arange(len(restorer.target_db))
    return (
        save_weights(separator, folder / "separator.safetensors", "separator", settings),
        save_weights(restorer, folder / "restorer.safetensors", "restorer", config.to_dict()),
    )


def music(seconds: float, rate: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    """(channels, time) float32: beats, a bass and two voices over noise, peaks at -6 dBFS."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    t = np.arange(n) / rate
    beat = np.exp(-((t % 0.25) / 0.03))
    x = 0.2 * np.sin(2 * np.pi * 110 * t) * (1 + np.sin(2 * np.pi * 3 * t)) + 0.3 * beat * rng.standard_normal(n) * 0.5
    x = x + 0.1 * np.sin(2 * np.pi * 660 * t + 3 * np.sin(2 * np.pi * 5 * t)) * (np.sin(2 * np.pi * 1.5 * t) > 0)
    rows = [x + 0.05 * np.roll(x, 7 * k) + 0.01 * rng.standard_normal(n) for k in range(channels)]
    y = np.stack(rows)
    return (0.5 * y / np.abs(y).max()).astype(np.float32)


def work_on(x: np.ndarray, folder: Path, **settings) -> Work:
    """A `Work` that has come to the recording `x` (2, n) at 44.1 kHz, in which diagnosis found nothing; its noise floor
    lies under everything. Nothing is read from disk."""
    separator, restorer = map(str, tiny_weights())
    config = RestoreConfig(separator=separator, restorer=restorer, device="cpu", **settings)
    work = Work(folder / "x.wav", folder, folder, config, Models(config), rate=RATE, samples=x.shape[1])
    floor = np.full(BINS, -150.0, np.float32)
    work.stats = RecordingStats(floor + 100, floor, 20.0, 20000.0, -20.0)
    work.diagnosis = {
        "range_over_floor_db": 20.0,
        "songs": {"songs": [[0.0, x.shape[1] / RATE]], "gaps": []}, "clean": False, "finished": False,
        "clipped_share": 0.0,
        "clip_levels": {"high": []}, "hum": {"lines": []}, "agc": {"range_db": 0.0}, "music_to_crowd_db": 6.0,
    }  # fmt: skip
    for name in ("ingested", "input", "heard", "separator_input"):
        work.new_track(name).fill([(0, x)])
    return work


def weights_arguments() -> list[str]:
    """The words that make infer.py use the tiny weights."""
    separator, restorer = tiny_weights()
    return [f"separator={separator}", f"restorer={restorer}"]


def infer(*words: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run infer.py as a user does, with the tiny weights."""
    command = [sys.executable, str(ROOT / "infer.py"), *map(str, words), *weights_arguments(), "threads=1"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, encoding="utf-8")
