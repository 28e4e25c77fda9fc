"""Marks over pictures and lines over time, as HTML and SVG that keep to the page's width, fonts and colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from resonate.report.analysis import BANDS, TICKS_HZ, band_of

#: A line has at most so many points: more than a screen shows would only make the page heavy.
POINTS = 500
_STEPS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
#: CSS classes of the lines; page.css gives them their colours.
LINES = {"input": "in", "restored": "out", "crowd": "crowd"}


def time_marks(seconds: float) -> str:
    """Labels at round times, along the lower edge."""
    step = next((s for s in _STEPS if seconds / s <= 7), 2 * _STEPS[-1])
    marks = []
    for k in range(1, int(seconds / step) + 1):
        at = k * step
        if at / seconds > 0.96:
            break
        text = f"{at:g} s" if seconds < 90 else f"{int(at) // 60}:{int(at) % 60:02d}"
        if seconds >= 5400:
            text = f"{int(at) // 3600}:{int(at) // 60 % 60:02d} h"
        marks.append(f'<i class="t" style="left:{100 * at / seconds:.2f}%">{text}</i>')
    return "".join(marks)


def _hertz(value: float) -> str:
    return f"{value / 1000:g} kHz" if value >= 1000 else f"{value:g} Hz"


def frequency_marks() -> str:
    """Labels at TICKS_HZ, along the left edge, for a picture or chart on the axis of bands."""
    return "".join(f'<i class="f" style="bottom:{100 * band_of(f) / BANDS:.2f}%">{_hertz(f)}</i>' for f in TICKS_HZ)


def level_marks(bottom: float, top: float) -> str:
    """Labels every 12 dB."""
    lines = np.arange(np.ceil(bottom / 12) * 12, top, 12)
    return "".join(
        f'<i class="f" style="bottom:{100 * (v - bottom) / (top - bottom):.2f}%">{v:.0f} dB</i>'
        for v in lines
        if bottom + 3 < v < top - 3
    )


def _thinned(values: np.ndarray) -> np.ndarray:
    count = -(-len(values) // POINTS)
    padded = np.pad(values, (0, -len(values) % count), mode="edge")
    # Where half of the values are NaN the mean of the rest would claim too much.
    return np.median(padded.reshape(-1, count), axis=1)


def _points(values: np.ndarray, low: float, high: float) -> list[str]:
    """Attribute values of polylines in a box of 1000 by 100; NaN splits a line."""
    thin = _thinned(values)
    x = 1000.0 * (np.arange(len(thin)) + 0.5) / len(thin)
    y = 100.0 * (1.0 - (np.clip(thin, low, high) - low) / (high - low))
    found: list[str] = []
    known = np.flatnonzero(np.isfinite(thin))
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        if len(run):
            found.append(" ".join(f"{x[i]:.1f},{y[i]:.1f}" for i in run))
    return found


def lines(values: Mapping[str, np.ndarray], low: float, high: float) -> str:
    """SVG with a line per sound of LINES, `low` at the bottom and `high` at the top."""
    drawn = "".join(
        f'<polyline class="{LINES[key]}" points="{points}"/>'
        for key, row in values.items()
        for points in _points(np.asarray(row, dtype=float), low, high)
    )
    return f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'


def ribbon(rows: Sequence[tuple[str, Sequence[tuple[float, float]]]], seconds: float) -> str:
    """SVG with a bar per (from, to) in seconds, one row per CSS class; bars that touch are one."""
    height = 100.0 / max(1, len(rows))
    drawn = []
    for n, (kind, spans) in enumerate(rows):
        for begin, end in _merged(spans, seconds / 1000):
            x, width = 1000.0 * begin / seconds, 1000.0 * (end - begin) / seconds
            drawn.append(f'<rect class="{kind}" x="{x:.1f}" y="{n * height + 8:.1f}" width="{max(width, 1.5):.1f}" '
                         f'height="{height - 16:.1f}"/>')  # fmt: skip
    return f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">{"".join(drawn)}</svg>'


def _merged(spans: Sequence[tuple[float, float]], apart: float) -> list[tuple[float, float]]:
    """Spans in order, joined where less than `apart` seconds lie between them."""
    out: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if out and begin - out[-1][1] <= apart:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((begin, end))
    return out
