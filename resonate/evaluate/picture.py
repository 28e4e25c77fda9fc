"""One picture per recording: spectrograms of the recording, the reference and what a system made of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import fft

from resonate import RATE
from resonate.evaluate.alignment import to_mid

ROWS, COLUMNS = 160, 400
LOW_HZ, HIGH_HZ = 30.0, 20000.0
WINDOW = 4096
RANGE_DB = 70.0
TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10000)


@dataclass(frozen=True)
class Panel:
    """A spectrogram small enough to send between processes. levels: (ROWS, columns) uint8, low bands first, 255 for
    the loudest and 0 for RANGE_DB below it."""

    name: str
    levels: np.ndarray
    seconds: float


def panel(name: str, x: np.ndarray) -> Panel:
    """The spectrogram of a sound at 44.1 kHz, levels relative to its own loudest."""
    mid = np.pad(to_mid(x), WINDOW // 2)
    hop = max(256, (len(mid) - WINDOW) // COLUMNS + 1)
    frames = np.lib.stride_tricks.sliding_window_view(mid.astype(np.float32), WINDOW)[::hop]
    power = np.square(np.abs(fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), axis=1)), dtype=np.float64)
    bins = fft.rfftfreq(WINDOW, 1.0 / RATE)
    edges = np.geomspace(LOW_HZ, HIGH_HZ, ROWS + 1)
    sums = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1)], axis=1)
    grid = np.append(bins - bins[1] / 2, bins[-1] + bins[1] / 2)
    bands = np.stack([np.diff(np.interp(edges, grid, row)) for row in sums]) / np.diff(edges)
    db = 10.0 * np.log10(bands.T + 1e-16)
    scaled = np.clip((db - np.percentile(db, 99.8)) / RANGE_DB + 1.0, 0.0, 1.0)
    return Panel(name, np.round(255 * scaled).astype(np.uint8), len(to_mid(x)) / RATE)


def draw(path: Path, title: str, panels: list[Panel]) -> None:
    """Write a PNG with the panels one under the other, in one step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(len(panels), 1, figsize=(8.0, 1.9 * len(panels) + 0.4), squeeze=False, dpi=80)
    for axes, item in zip(rows[:, 0], panels, strict=True):
        axes.imshow(item.levels, aspect="auto", origin="lower", cmap="magma", vmin=0, vmax=255,
                    extent=(0.0, item.seconds, 0, ROWS))  # fmt: skip
        places = [ROWS * np.log(f / LOW_HZ) / np.log(HIGH_HZ / LOW_HZ) for f in TICKS_HZ]
        axes.set_yticks(places, [f"{f / 1000:g}k" if f >= 1000 else str(f) for f in TICKS_HZ], fontsize=7)
        # A name may hold what mathtext would take for a formula.
        axes.set_title(item.name.replace("$", r"\$"), fontsize=9, loc="left", pad=2)
        axes.tick_params(labelsize=7)
    figure.suptitle(title.replace("$", r"\$"), fontsize=10, x=0.01, ha="left")
    figure.tight_layout(pad=0.4)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="png")
    plt.close(figure)
    os.replace(part, path)
