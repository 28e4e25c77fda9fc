"""PNG pictures without frame, text or margin: the page stretches them to its width and writes the marks over them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imsave

from resonate.report.analysis import RANGE_DB, Spectra, attenuated

#: Of the ledger's map; the page's key names them.
REVEALED, EXTENDED, ATTENUATED = "#2f8fc4", "#f08030", "#a8a8a8"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG in one step. It is not one of pyplot's, whose backend belongs to whoever calls this."""
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="png")
    os.replace(part, path)


def _save_pixels(path: Path, pixels: np.ndarray) -> None:
    """(rows, columns, 3 or 4) 0..1, lowest row first."""
    part = path.with_name(f".{path.name}.part")
    imsave(part, np.round(255 * pixels).astype(np.uint8), format="png", origin="lower")
    os.replace(part, path)


def spectrogram(path: Path, spectra: Spectra, top_db: float) -> None:
    """Time across, frequency up (log, 30 Hz to 22 kHz), RANGE_DB of level below `top_db`, matched in mean power."""
    scaled = np.clip((spectra.matched_db - top_db) / RANGE_DB + 1.0, 0.0, 1.0)
    _save_pixels(path, colormaps["magma"](scaled)[..., :3])


def origin_map(path: Path, given: Spectra, revealed: Spectra, extended: Spectra) -> None:
    """Where the sound comes from and what became of the recording's: revealed, extended and attenuated power mix the
    three colours; brightness is the level of all three."""
    powers = (revealed.power, extended.power, attenuated(given, revealed))
    total = np.sum(powers, axis=0)
    colour = np.zeros((*total.shape, 3))
    for power, name in zip(powers, (REVEALED, EXTENDED, ATTENUATED), strict=True):
        share = np.divide(power, total, out=np.zeros_like(total), where=total > 0)
        colour += share[..., None] * np.array(to_rgb(name))
    level = Spectra(total, revealed.level, revealed.seconds).matched_db
    top = float(np.percentile(level, 99.5))
    _save_pixels(path, colour * np.clip((level - top) / RANGE_DB + 1.0, 0.0, 1.0)[..., None])
