"""One picture per recording: spectrograms of the recording, the reference and what a system made of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resonate import RATE
from resonate.evaluate.alignment import to_mid
from resonate.report.analysis import BANDS, NOTHING, RANGE_DB, TICKS_HZ, analyse, band_of


@dataclass(frozen=True)
class Panel:
    """A spectrogram small enough to send between processes. levels: (BANDS, columns) uint8, low bands first, 255 for
    the loudest and 0 for RANGE_DB below it."""

    name: str
    levels: np.ndarray
    seconds: float


def panel(name: str, x: np.ndarray) -> Panel:
    """The spectrogram of a sound at 44.1 kHz, levels relative to its own loudest."""
    mid = to_mid(x)[None]
    seconds = mid.shape[1] / RATE
    db = 10.0 * np.log10(np.maximum(analyse([mid], RATE, seconds).power, NOTHING))
    scaled = np.clip((db - np.percentile(db, 99.8)) / RANGE_DB + 1.0, 0.0, 1.0)
    return Panel(name, np.round(255 * scaled).astype(np.uint8), seconds)


def draw(path: Path, title: str, panels: list[Panel]) -> None:
    """Write a PNG with the panels one under the other, in one step; of 64 colours, which is a third of the size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(9.0, 2.0 * len(panels) + 0.5), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    rows = figure.subplots(len(panels), 1, squeeze=False, sharex=True)
    for axes, item in zip(rows[:, 0], panels, strict=True):
        axes.imshow(item.levels, aspect="auto", origin="lower", cmap="magma", vmin=0, vmax=255,
                    extent=(0.0, item.seconds, 0, BANDS))  # fmt: skip
        axes.set_yticks([band_of(f) for f in TICKS_HZ], [f"{f // 1000}k" if f >= 1000 else str(f) for f in TICKS_HZ])
        axes.set_ylabel("Hz", fontsize=8)
        # A name may hold what mathtext would take for a formula.
        axes.set_title(item.name.replace("$", r"\$"), fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
    rows[-1, 0].set_xlabel("s", fontsize=8)
    figure.suptitle(title.replace("$", r"\$"), fontsize=10, x=0.01, ha="left")
    canvas.draw()
    pixels = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
    part = path.with_name(f".{path.name}.part")
    Image.fromarray(pixels).quantize(64).save(part, format="png", optimize=True)
    os.replace(part, path)
