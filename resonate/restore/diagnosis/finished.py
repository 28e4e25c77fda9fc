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

#: Seconds of a stretch that is judged, and values that describe it.
STRETCH = 10.0
FEATURES = 5 * len(CENTRES)
#: What the names of its weights begin with in the listener's file.
PREFIX = "finished."
#: Of the steps that a level takes within 100 ms, the percentiles that show how fast sound dies away and sets in.
_STEPS = (5.0, 95.0)
_WIDTH = 32


def features(levels: Levels) -> np.ndarray:
    """(stretches, 85) float32, unaffected by a constant gain. Per band: its mean power against that of the loudest, its
    10th percentile against its mean power (what noise and reverberation leave of the pauses), its mean flatness, and
    how far it falls and rises within 100 ms where it does so fastest."""
    count = max(1, round(len(levels) / (STRETCH * PER_SECOND)))
    rows = []
    for at in np.array_split(np.arange(len(levels)), count):
        band = levels.band_db[at].astype(np.float64)
        mean = 10 * np.log10((10 ** (band / 10)).mean(0) + 1e-15)
        steps = band[2:] - band[:-2] if len(band) > 2 else np.zeros_like(band)
        falls, rises = np.percentile(steps, _STEPS, axis=0)
        flatness = levels.flatness_db[at].mean(0)
        rows.append([(mean - mean.max()) / 20 + 1, (np.percentile(band, 10, axis=0) - mean) / 10 + 1,
                     flatness / 5 + 0.5, falls / 10 + 0.7, rises / 10 - 0.7])  # fmt: skip
    return np.clip(np.reshape(rows, (count, FEATURES)), -6, 6).astype(np.float32)


class Finished(nn.Module):
    """(stretches, 85) features to (stretches,) logits of being a recording in a room."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.layers = nn.Sequential(nn.Linear(FEATURES, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, 1))

    def normalised(self, x: Tensor) -> Tensor:
        """Features as the layers take them."""
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
        logits = (model or _shipped())(torch.from_numpy(features(levels)))
    return float(torch.sigmoid(logits.double().mean()))
