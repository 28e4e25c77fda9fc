"""Whether a sound is a recording in a room or a finished mix, from what its band levels are like over ten seconds.

A small perceptron; its weights lie with the listener's, see resonate/weights/listener.md.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from resonate.restore.diagnosis.levels import CENTRES, PER_SECOND, Levels
from resonate.restore.diagnosis.listener import read_part

#: Seconds of a stretch that is judged, and values that describe it in short and in detail.
STRETCH = 10.0
FEATURES = 5 * len(CENTRES)
DETAILS = FEATURES + 24 * len(CENTRES) - 1
#: What the names of its weights begin with in the listener's file.
PREFIX = "finished."
#: Of the steps that a level takes within 100 ms, the percentiles that show how fast sound dies away and sets in.
_STEPS = (5.0, 95.0)
#: In detail: percentiles of levels and of their steps over so many rows.
_LEVELS_AT, _STEPS_AT, _LAGS = (2, 25, 50, 75, 90), (2, 10, 90, 98), (1, 2, 4, 10)
_WIDTH, _DROPOUT = 64, 0.3


def _stretches(levels: Levels) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of every stretch: (n, 17) levels in dB, (17,) level in dB of their mean power, (n, 17) flatness in dB."""
    count = max(1, round(len(levels) / (STRETCH * PER_SECOND)))
    out = []
    for at in np.array_split(np.arange(len(levels)), count):
        band = levels.band_db[at].astype(np.float64)
        out.append((band, 10 * np.log10((10 ** (band / 10)).mean(0) + 1e-15), levels.flatness_db[at]))
    return out


def _rows(rows: list[list[np.ndarray]]) -> np.ndarray:
    return np.clip([np.concatenate(row) for row in rows], -6, 6).astype(np.float32)


def _steps(band: np.ndarray, lag: int, percentiles: tuple[float, ...]) -> np.ndarray:
    """(percentiles, 17) of the steps that the levels take over `lag` rows, dB."""
    steps = band[lag:] - band[:-lag] if len(band) > lag else np.zeros_like(band)
    return np.percentile(steps, percentiles, axis=0)


def features(levels: Levels) -> np.ndarray:
    """(stretches, 85) float32, unaffected by a constant gain. Per band: its mean power against that of the loudest, its
    10th percentile against its mean power (what noise and reverberation leave of the pauses), its mean flatness, and
    how far it falls and rises within 100 ms where it does so fastest."""
    rows = []
    for band, mean, flatness in _stretches(levels):
        falls, rises = _steps(band, 2, _STEPS)
        rows.append([(mean - mean.max()) / 20 + 1, (np.percentile(band, 10, axis=0) - mean) / 10 + 1,
                     flatness.mean(0) / 5 + 0.5, falls / 10 + 0.7, rises / 10 - 0.7])  # fmt: skip
    return _rows(rows)


def details(levels: Levels) -> np.ndarray:
    """(stretches, 492) float32: `features` and, per band, more percentiles of its level, of its steps over 50, 100, 200
    and 500 ms (a room lets nothing fall faster than it decays, a crowd fills what is quiet), of its flatness, and by
    how much the mean level differs from the next band's."""
    rows = []
    for band, mean, flatness in _stretches(levels):
        steps = [_steps(band, lag, _STEPS_AT) / 10 for lag in _LAGS]
        rows.append([((np.percentile(band, _LEVELS_AT, axis=0) - mean) / 10).ravel(), np.ravel(steps),
                     (np.percentile(flatness, (10, 90), axis=0) / 5).ravel(), np.diff(mean) / 10])  # fmt: skip
    return np.concatenate([features(levels), _rows(rows)], axis=1)


class Finished(nn.Module):
    """(stretches, 492) details to (stretches,) logits of being a recording in a room."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(DETAILS))
        self.register_buffer("scale", torch.ones(DETAILS))
        self.layers = nn.Sequential(
            nn.Linear(DETAILS, _WIDTH), nn.GELU(), nn.Dropout(_DROPOUT),
            nn.Linear(_WIDTH, _WIDTH), nn.GELU(), nn.Dropout(_DROPOUT), nn.Linear(_WIDTH, 1))  # fmt: skip

    def normalised(self, x: Tensor) -> Tensor:
        """Details as the layers take them."""
        return ((x - self.mean) / self.scale).clamp(-5, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Run."""
        return self.layers(self.normalised(x))[:, 0]


@cache
def _shipped() -> Finished:
    model = Finished()
    model.load_state_dict(read_part(PREFIX))
    return model.eval()


def captured(levels: Levels, model: Finished | None = None) -> float:
    """0..1, how sure it is that this was recorded in a room and is no finished mix: the mean logit of all stretches."""
    with torch.inference_mode():
        logits = (model or _shipped())(torch.from_numpy(details(levels)))
    return float(torch.sigmoid(logits.double().mean()))
