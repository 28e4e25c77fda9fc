"""Declipping: samples beyond the clip level are estimated again, all others stay as they are, bit by bit.

A-SPADE (Zaviska, Rajmic, Mokry, Prusa, "A proper version of synthesis-based sparse audio declipper", ICASSP 2019, for
the analysis variant of Kitic et al. 2015): per frame, the sparsest spectrum that agrees with the reliable samples and
lies beyond the clip level where samples were clipped. Frames are worked on side by side, with a fixed number of
iterations, so the time is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, rfft
from scipy.stats import norm

#: Frame and hop in samples, length of the transform (redundancy 2), iterations and growth of the number of kept bins.
FRAME, HOP, N_FFT = 2048, 1024, 4096
ITERATIONS, GROWTH = 80, 3
#: A frame is finished when what thresholding takes away is this small against it.
_TOLERANCE = 0.02
#: What a Gaussian signal's largest peaks are worth in standard deviations; with the share of clipped samples it says
#: how far beyond the clip level the peaks may have gone.
_PEAK_DEVIATIONS = 4.3
#: A parabola through a hole of n samples that enters and leaves with slope s rises by s n / 4; estimates may rise by
#: this many times as much.
_RISE = 1.0
#: Samples per stretch; the share of clipped samples is taken over each.
STRETCH = 64 * HOP
#: Frames worked on at once.
_BATCH = 64


@dataclass(frozen=True)
class ClipLevels:
    """Levels beyond which samples count as clipped, (channels,) each: above `high` or below `low` (negative)."""

    high: tuple[float, ...]
    low: tuple[float, ...]


def clipped(x: np.ndarray, levels: ClipLevels) -> np.ndarray:
    """(channels, n) int8: 1 clipped above, -1 below, 0 reliable."""
    high, low = np.array(levels.high, np.float32)[:, None], np.array(levels.low, np.float32)[:, None]
    return (x >= high).astype(np.int8) - (x <= low).astype(np.int8)


def headroom(share: float) -> float:
    """How far peaks may exceed the clip level, as a factor (1.1..4), where `share` of the samples is clipped: what a
    Gaussian signal of that share does."""
    return float(np.clip(_PEAK_DEVIATIONS / norm.isf(np.clip(share, 1e-9, 0.5) / 2), 1.1, 4.0))


def declip_blocks(
    read: Callable[[int, int], np.ndarray], length: int, levels: ClipLevels, first: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (start, (channels, n)) over `length` samples of what `read(start, count)` gives (zeros outside), on a
    fixed grid of stretches: `first`, a multiple of STRETCH, is where to begin."""
    for start in range(first, length, STRETCH):
        count = min(STRETCH, length - start)
        # One hop of neighbours either side: each sample lies in two frames.
        frames_end = -(-(count + HOP) // HOP) * HOP
        x = read(start - HOP, frames_end + HOP)
        y = declip_frames(x, levels)[:, HOP : HOP + count]
        yield start, y


def declip(x: np.ndarray, levels: ClipLevels) -> np.ndarray:
    """(channels, n) float32 in memory, declipped."""

    def read(start: int, count: int) -> np.ndarray:
        out = np.zeros((len(x), count), dtype=np.float32)
        first, last = max(start, 0), min(start + count, x.shape[1])
        out[:, first - start : last - start] = x[:, first:last]
        return out

    return np.concatenate([y for _, y in declip_blocks(read, x.shape[1], levels)], axis=1)


def declip_frames(x: np.ndarray, levels: ClipLevels) -> np.ndarray:
    """(channels, hops * HOP) with frames from its first sample on; the outer half frames are only context."""
    signs = clipped(x, levels)
    if not signs.any():
        return x
    out, most = x.copy(), headroom(float((signs != 0).mean()))
    window = np.sin(np.pi * (np.arange(FRAME) + 0.5) / FRAME).astype(np.float32)
    for c in range(len(x)):
        frames = np.lib.stride_tricks.sliding_window_view(x[c], FRAME)[::HOP]
        marks = np.lib.stride_tricks.sliding_window_view(signs[c], FRAME)[::HOP]
        affected = np.flatnonzero(marks.any(1))
        total = np.zeros(x.shape[1], dtype=np.float32)
        weight = np.full(x.shape[1], 1e-9, dtype=np.float32)
        for first in range(0, len(affected), _BATCH):
            chosen = affected[first : first + _BATCH]
            solved = spade(frames[chosen] * window, marks[chosen]) * window
            for k, frame in zip(chosen, solved, strict=True):
                total[k * HOP : k * HOP + FRAME] += frame
                weight[k * HOP : k * HOP + FRAME] += window**2
        rise = _RISE * possible_rise(x[c], signs[c])
        estimate = x[c] + np.clip(total / weight - x[c], -rise, rise)
        limit_high, limit_low = levels.high[c], levels.low[c]
        up, down = signs[c] > 0, signs[c] < 0
        # Never below what was captured: the true sample lay beyond it.
        out[c, up] = np.clip(estimate[up], x[c, up], max(most * limit_high, 0.0))
        out[c, down] = np.clip(estimate[down], min(most * limit_low, 0.0), x[c, down])
    return out


def possible_rise(x: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """(n,) float32: by how much a parabola through each run of clipped samples rises, from the slopes (over four
    samples) with which `x` (n,) enters and leaves the run; 0 at reliable samples."""
    edges = np.flatnonzero(np.diff(signs, prepend=signs[:1] + 1, append=signs[-1:] + 1))
    lengths = np.diff(edges)
    first, last = edges[:-1], edges[1:] - 1
    before = np.abs(x[first] - x[np.maximum(first - 4, 0)])
    after = np.abs(x[last] - x[np.minimum(last + 4, len(x) - 1)])
    slope = np.maximum(before, after) / 4
    return np.repeat(np.where(signs[first] != 0, slope * lengths / 4, 0), lengths).astype(np.float32)


def spade(y: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """A-SPADE on windowed frames (k, FRAME) with marks as :func:`clipped` gives them."""
    unit = np.float32(1 / np.sqrt(N_FFT))
    x, out = y.astype(np.float32), y.astype(np.float32).copy()
    z = rfft(x, N_FFT, axis=1) * unit
    dual = np.zeros_like(z)
    active = np.arange(len(y))
    up, down, fixed = marks > 0, marks < 0, marks == 0
    bound = y
    scale = np.sqrt(np.square(y).sum(1)) + 1e-9
    keep = 2 * GROWTH
    for i in range(ITERATIONS):
        sparse = _keep_largest(z + dual, keep)
        estimate = irfft(sparse - dual, N_FFT, axis=1)[:, :FRAME] / unit
        x = np.where(fixed, bound, estimate)
        x = np.where(up, np.maximum(estimate, bound), np.where(down, np.minimum(estimate, bound), x))
        z = rfft(x, N_FFT, axis=1) * unit
        gap = z - sparse
        dual += gap
        keep = min(keep + GROWTH, N_FFT // 2)
        out[active] = x
        going = np.sqrt(2 * np.square(np.abs(gap)).sum(1)) > _TOLERANCE * scale
        if not going.any():
            break
        if i % 8 == 7 and not going.all():
            active, z, dual, bound, scale = (v[going] for v in (active, z, dual, bound, scale))
            up, down, fixed = up[going], down[going], fixed[going]
    return out


def _keep_largest(z: np.ndarray, count: int) -> np.ndarray:
    """All but the `count` largest bins of each row set to zero."""
    power = z.real**2 + z.imag**2
    edge = np.partition(power, -count, axis=1)[:, -count]
    return np.where(power >= edge[:, None], z, 0)
