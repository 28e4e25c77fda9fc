"""What the tests of infer.py share: untrained networks of a few thousand weights, and small made-up recordings."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from resonate.models.restorer import Restorer, RestorerConfig
from resonate.models.separator import build_separator
from resonate.models.weights import save_weights

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


def weights_arguments() -> list[str]:
    """The words that make infer.py use the tiny weights."""
    separator, restorer = tiny_weights()
    return [f"separator={separator}", f"restorer={restorer}"]


def infer(*words: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run infer.py as a user does, with the tiny weights."""
    command = [sys.executable, str(ROOT / "infer.py"), *map(str, words), *weights_arguments(), "threads=1"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, encoding="utf-8")
