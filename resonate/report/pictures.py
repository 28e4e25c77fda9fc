"""PNG pictures without frame or margin, so that the page can lay its play head over them by percent of the width."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patheffects import withStroke

from resonate.report.analysis import BANDS, RANGE_DB, TICKS_HZ, Spectra, band_of

#: Readable on white and on black.
GREY = "#808080"
COLOURS = {"input": "#d06a3a", "restored": "#2f8fc4", "crowd": "#8a8f3c"}
ORIGIN = LinearSegmentedColormap.from_list("origin", ["#2f8fc4", "#f08030"])


def _bare(height: float) -> tuple[plt.Figure, Axes]:
    figure = plt.figure(figsize=(10.0, height), dpi=120)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    return figure, axes


def save(figure: plt.Figure, path: Path, *, transparent: bool = True) -> None:
    """Write a PNG in one step, and close the figure."""
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="png", transparent=transparent)
    plt.close(figure)
    os.replace(part, path)


def _frequency_marks(axes: Axes) -> None:
    outline = [withStroke(linewidth=2.5, foreground="black")]
    for hertz in TICKS_HZ:
        row = band_of(hertz)
        text = f"{hertz // 1000} kHz" if hertz >= 1000 else f"{hertz} Hz"
        axes.axhline(row, color="white", linewidth=0.5, alpha=0.25)
        axes.text(0.006, row / BANDS, text, transform=axes.transAxes, color="white", fontsize=11, va="center",
                  path_effects=outline)  # fmt: skip


def _time_marks(axes: Axes, seconds: float, colour: str, outlined: bool) -> None:
    steps = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)
    step = next((s for s in steps if seconds / s <= 8), 3600)
    effects = [withStroke(linewidth=2.5, foreground="black")] if outlined else []
    for k in range(1, int(seconds / step) + 1):
        place = k * step / seconds
        if place < 0.97:
            text = f"{k * step:g} s" if seconds < 90 else f"{int(k * step) // 60}:{int(k * step) % 60:02d}"
            axes.text(place, 0.03, text, transform=axes.transAxes, color=colour, fontsize=11, ha="center",
                      path_effects=effects)  # fmt: skip


def spectrogram(path: Path, spectra: Spectra, top_db: float) -> None:
    """Time across, frequency up (log, 30 Hz to 20 kHz), RANGE_DB of level below `top_db`, matched in mean power."""
    figure, axes = _bare(3.2)
    axes.imshow(spectra.matched_db, aspect="auto", origin="lower", cmap="magma", vmin=top_db - RANGE_DB, vmax=top_db,
                interpolation="nearest")  # fmt: skip
    _frequency_marks(axes)
    _time_marks(axes, spectra.seconds, "white", True)
    save(figure, path)


def origin_map(path: Path, revealed: Spectra, extended: Spectra) -> None:
    """Where the restored sound comes from: blue is revealed, orange extended; brightness is level."""
    both = revealed.power + extended.power
    share = np.divide(extended.power, both, out=np.zeros_like(both), where=both > 0)
    total = Spectra(both, revealed.level, revealed.seconds).matched_db
    top = float(np.percentile(total, 99.5))
    bright = np.clip((total - top + RANGE_DB) / RANGE_DB, 0.0, 1.0)
    picture = ORIGIN(share)
    picture[..., :3] *= bright[..., None]
    figure, axes = _bare(3.2)
    axes.imshow(picture, aspect="auto", origin="lower", interpolation="nearest")
    _frequency_marks(axes)
    _time_marks(axes, revealed.seconds, "white", True)
    save(figure, path)


def levels(path: Path, spectra: Mapping[str, Spectra]) -> None:
    """Level over time in dBFS (RMS), a line per sound, in COLOURS."""
    figure, axes = _bare(1.8)
    db = {key: 10.0 * np.log10(np.maximum(item.level, 1e-9)) for key, item in spectra.items()}
    top = min(0.0, 6.0 * np.ceil((max(float(v.max()) for v in db.values()) + 3.0) / 6.0))
    bottom = top - 60.0
    for key, values in db.items():
        x = (np.arange(len(values)) + 0.5) / len(values)
        axes.plot(x, values, color=COLOURS[key], linewidth=1.6)
    for line in np.arange(bottom + 12, top, 12):
        axes.axhline(line, color=GREY, linewidth=0.6, alpha=0.5)
        axes.text(0.006, line, f"{line:.0f} dB", color=GREY, fontsize=11, va="center")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom, top)
    _time_marks(axes, next(iter(spectra.values())).seconds, GREY, False)
    save(figure, path)
