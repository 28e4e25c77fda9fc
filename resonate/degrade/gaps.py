"""Stretches without music: before the first song, after the last, between songs, or a breakdown; the crowd goes on."""

import numpy as np

from resonate import RATE

#: Seconds of a capture from which on it may both begin and end without music.
LONG = 8.0


def sample(rng: np.random.Generator, seconds: float) -> tuple[list[list[float]], list[list[float]]]:
    """Gaps [start, end] and their fades [before, after], in s; together at most half of the capture.

    It begins without music, ends without, pauses, or (when it is long) begins and ends so.
    """
    kind = str(rng.choice(["begin", "end", "gap", "both"], p=[0.35, 0.35, 0.2, 0.1]))
    kinds = ["begin", "end"] if kind == "both" and seconds >= LONG else ["begin" if kind == "both" else kind]
    longest = 0.5 * seconds / len(kinds)
    drawn = [_one(rng, which, seconds, longest) for which in kinds]
    return [span for span, _ in drawn], [fade for _, fade in drawn]


def mute_curve(gaps: list, fades: list, n_samples: int) -> np.ndarray:
    """(n_samples,) float32: 0 inside the gaps [start, end] in s, 1 elsewhere, raised-cosine fades of `fades`
    [before, after] in s outside them."""
    mute = np.ones(n_samples, np.float32)
    t = np.arange(n_samples) / RATE
    for (start, end), (before, after) in zip(gaps, fades, strict=True):
        down = np.clip((start - t) / max(before, 1e-4), 0.0, 1.0)
        up = np.clip((t - end) / max(after, 1e-4), 0.0, 1.0)
        mute *= (0.5 - 0.5 * np.cos(np.pi * np.maximum(down, up))).astype(np.float32)
    return mute


def _one(rng: np.random.Generator, kind: str, seconds: float, longest: float) -> tuple[list[float], list[float]]:
    length = float(min(rng.uniform(0.8, 4.0), longest))
    if kind == "begin":
        return [0.0, length], [0.0, float(rng.uniform(0.005, 0.1))]
    if kind == "end":
        # The last chord is cut off, or rings on for up to a second.
        return [seconds - length, seconds], [float(rng.choice([0.02, rng.uniform(0.1, 1.0)])), 0.0]
    start = float(rng.uniform(0.1 * seconds, 0.9 * seconds - length))
    return [start, start + length], [float(rng.uniform(0.01, 0.6)), float(rng.uniform(0.005, 0.1))]
