"""A tiny network that hears from the band levels what the gain control did.

Dilated convolutions over time (van den Oord et al., "WaveNet", 2016, without the causality) on 20 values a second. It
never touches the sound: its output is a curve of gains. Trained on simulated captures whose truth is known; see
resonate/weights/listener.md.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from resonate.models.weights import write_tensors
from resonate.restore.diagnosis.levels import CENTRES, PER_SECOND, Levels, running_mean

WEIGHTS = Path(__file__).parents[2] / "weights" / "listener.safetensors"

#: Seconds over which levels are compared: what the gain does more slowly than this is not seen, and not undone.
HORIZON = 40.0
FEATURES = 2 * len(CENTRES) + 2
DILATIONS = (1, 2, 4, 8, 16, 32, 64, 1, 2, 4, 8, 16, 32)
#: Rows of context either side that an output depends on through the convolutions.
REACH = sum(DILATIONS) + 1
WIDTH = 28
#: Rows per piece when a long recording is heard (100 s).
PIECE = 100 * PER_SECOND


def features(levels: Levels) -> np.ndarray:
    """(36, n) float32: levels against their mean over 40 s, flatness, the loudest moment; unaffected by a constant gain
    and by the long-term spectrum."""
    band = levels.band_db - running_mean(levels.band_db, HORIZON)
    loudest = (levels.loudest_db - running_mean(levels.loudest_db, HORIZON))[:, None]
    total = levels.total_db
    crest = (levels.loudest_db - total)[:, None]
    rows = np.concatenate([band / 10, levels.flatness_db / 5 + 0.5, loudest / 10, crest / 5], axis=1)
    return np.clip(rows, -6, 6).T.astype(np.float32)


def read_part(prefix: str, path: Path = WEIGHTS) -> dict[str, Tensor]:
    """The tensors of the listener's file whose names begin with `prefix`, named without it."""
    return {k.removeprefix(prefix): v for k, v in load_file(str(path)).items() if k.startswith(prefix)}


def write_part(model: nn.Module, prefix: str, path: Path) -> None:
    """Write the shipped listener's file with the tensors of `model`, their names behind `prefix`, in place of its own;
    all others stay."""
    held = {k: v for k, v in load_file(str(WEIGHTS)).items() if not k.startswith(prefix)}
    write_tensors(held | {prefix + k: v.contiguous() for k, v in model.state_dict().items()}, path)


class Listener(nn.Module):
    """(batch, 36, n) features to (batch, 5, n): AGC gain / 5 dB; SNR / 10 dB, log RT60, C80 / 10 dB and the
    logit of being a capture, which helped it learn. Those are told better by
    `resonate.restore.diagnosis.scene` and `finished`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(FEATURES, WIDTH, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=d, dilation=d) for d in DILATIONS)
        self.last = nn.Conv1d(WIDTH, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Run."""
        x = nn.functional.gelu(self.first(x))
        for layer in self.layers:
            x = x + nn.functional.gelu(layer(x))
        return self.last(x)


@cache
def _shipped() -> Listener:
    model = Listener()
    wanted = model.state_dict()
    model.load_state_dict({name: tensor for name, tensor in load_file(str(WEIGHTS)).items() if name in wanted})
    return model.eval()


def listen(levels: Levels, model: Listener | None = None) -> np.ndarray:
    """(n,) gain in dB of the recording's AGC relative to its mean over 40 s, one value per 50 ms. Piece by piece, so
    that memory stays flat; always on the CPU."""
    model = model or _shipped()
    x = features(levels)
    n = x.shape[1]
    gain = np.zeros(n, dtype=np.float32)
    for start in range(0, n, PIECE):
        first, last = max(0, start - REACH), min(n, start + PIECE + REACH)
        with torch.inference_mode():
            y = model(torch.from_numpy(x[None, :, first:last]))[0, 0].numpy()
        stop = min(n, start + PIECE)
        gain[start:stop] = 5 * y[start - first : stop - first]
    return gain - running_mean(gain, HORIZON)
