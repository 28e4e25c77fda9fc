"""How far the music is over the crowd, over time, and what the room is like, heard from the band levels.

Every 10 s is described by itself and in pieces of half a second; small convolutions (five alike, each trained on
other songs; their mean counts) read both. Each estimate is drawn towards the typical value as far as made the
error on songs that were left out of training least; one that was hardly better there than the typical value is that
value, and says so. Its weights lie with the listener's, see resonate/weights/listener.md. It never touches the sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from resonate.errors import UserError
from resonate.restore.diagnosis import finished
from resonate.restore.diagnosis.levels import CENTRES, PER_SECOND, Levels
from resonate.restore.diagnosis.listener import WEIGHTS, read_part

#: What the names of its weights begin with in the listener's file.
PREFIX = "scene."
#: Rows of a stretch and from one to the next; rows of a piece of it.
STRETCH, HOP, PIECE = 10 * PER_SECOND, 5 * PER_SECOND, PER_SECOND // 2
#: Values that describe each piece, and the stretch as a whole.
MOVING, STILL = 4 * len(CENTRES), finished.FEATURES
#: What is estimated; the second and third are of a whole stretch.
ESTIMATES = ("music over crowd, dB", "C80, dB", "log2 of the reverberation time in s")
MEMBERS = 5
_WIDTH, _HIDDEN, _DILATIONS, _DROPOUT = 24, 24, (1, 2, 4), 0.2
#: Stretches that are heard at once, so that memory stays flat.
_BATCH = 64


@dataclass(frozen=True)
class Scene:
    """What was heard of crowd and room.

    Attributes:
        snr_db: (n,) music over crowd and handling noise, one value per 50 ms.
        c80_db: clarity; rt60_s: reverberation time (T20).
        c80_told, rt60_told: whether they were heard; otherwise they are what is typical.
    """

    snr_db: np.ndarray
    c80_db: float
    rt60_s: float
    c80_told: bool
    rt60_told: bool


def starts(rows: int) -> list[int]:
    """First row of every stretch: half overlapping, the last ends with the recording."""
    return [*range(0, max(rows - STRETCH, 0), HOP), max(rows - STRETCH, 0)]


def pieces(levels: Levels) -> np.ndarray:
    """(pieces, 68) float32 of one stretch, unaffected by a constant gain. Per band: mean power of each half second
    against that of the stretch and against its own lowest, steps from row to row, flatness."""
    short = -len(levels) % PIECE
    band, flatness = (
        np.pad(rows.astype(np.float64), ((0, short), (0, 0)), mode="edge").reshape(-1, PIECE, len(CENTRES))
        for rows in (levels.band_db, levels.flatness_db)
    )
    whole = 10 * np.log10((10 ** (band / 10)).mean((0, 1)) + 1e-15)
    mean = 10 * np.log10((10 ** (band / 10)).mean(1) + 1e-15)
    flat = band.reshape(-1, len(CENTRES))
    steps = np.abs(np.diff(flat, axis=0, prepend=flat[:1])).reshape(band.shape).mean(1)
    parts = [(mean - whole) / 10, (mean - band.min(1)) / 10, steps / 5, flatness.mean(1) / 5 + 0.5]
    return np.clip(np.concatenate(parts, axis=1), -6, 6).astype(np.float32)


def features(levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    """(stretches, pieces, 68) and (stretches, 85) float32, see `pieces` and `finished.features`."""
    moving, still = [], []
    for first in starts(len(levels)):
        at = slice(first, first + STRETCH)
        part = Levels(levels.band_db[at], levels.flatness_db[at], levels.loudest_db[at])
        moving.append(pieces(part))
        still.append(finished.features(part)[0])
    return np.stack(moving), np.stack(still)


class Member(nn.Module):
    """(batch, pieces, 68) and (batch, 85) normalised features to (batch, pieces) and (batch, 2), normalised, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(MOVING + STILL, _WIDTH, 1)
        self.layers = nn.ModuleList(nn.Conv1d(_WIDTH, _WIDTH, 3, padding=d, dilation=d) for d in _DILATIONS)
        self.crowd = nn.Conv1d(_WIDTH, 1, 1)
        self.hidden = nn.Linear(STILL + 2 * _WIDTH, _HIDDEN)
        self.room = nn.Linear(_HIDDEN, 2)
        self.drop = nn.Dropout(_DROPOUT)

    def forward(self, moving: Tensor, still: Tensor) -> tuple[Tensor, Tensor]:
        """Run."""
        beside = still[:, :, None].expand(-1, -1, moving.shape[1])
        x = self.drop(nn.functional.gelu(self.first(torch.cat([moving.transpose(1, 2), beside], 1))))
        for layer in self.layers:
            x = x + self.drop(nn.functional.gelu(layer(x)))
        hidden = nn.functional.gelu(self.hidden(torch.cat([still, x.mean(2), x.amax(2)], 1)))
        return self.crowd(x)[:, 0], self.room(self.drop(hidden))


class SceneNet(nn.Module):
    """All members with what normalises them. `typical` and `spread` are of ESTIMATES; `share` of what is heard beside
    the typical value counts, 0 where nothing does."""

    def __init__(self) -> None:
        super().__init__()
        for name, count in (("moving", MOVING), ("still", STILL)):
            self.register_buffer(f"{name}_mean", torch.zeros(count))
            self.register_buffer(f"{name}_scale", torch.ones(count))
        self.register_buffer("typical", torch.zeros(len(ESTIMATES)))
        self.register_buffer("spread", torch.ones(len(ESTIMATES)))
        self.register_buffer("share", torch.zeros(len(ESTIMATES)))
        self.members = nn.ModuleList(Member() for _ in range(MEMBERS))

    def normalised(self, moving: Tensor, still: Tensor) -> tuple[Tensor, Tensor]:
        """Features as the members take them."""
        return (
            ((moving - self.moving_mean) / self.moving_scale).clamp(-5, 5),
            ((still - self.still_mean) / self.still_scale).clamp(-5, 5),
        )

    def forward(self, moving: Tensor, still: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, pieces) music over crowd in dB; (batch, 2) C80 in dB and log2 of the reverberation time in s."""
        given = self.normalised(moving, still)
        told = [member(*given) for member in self.members]
        crowd, room = (torch.stack(side).mean(0) for side in zip(*told, strict=True))
        weight = self.share * self.spread
        return self.typical[0] + weight[0] * crowd, self.typical[1:] + weight[1:] * room


def load(path: Path = WEIGHTS) -> SceneNet:
    """The network in the listener's file. UserError where the file holds none of this form."""
    model = SceneNet()
    held = read_part(PREFIX, path)
    if {k: v.shape for k, v in held.items()} != {k: v.shape for k, v in model.state_dict().items()}:
        raise UserError(f"{path} holds no weights that hear crowd and room; python -m resonate.restore.diagnosis."
                        "fit_scene adds them.")  # fmt: skip
    model.load_state_dict(held)
    return model.eval()


@cache
def shipped() -> SceneNet:
    """The network of the repo."""
    return load()


def hear(levels: Levels, model: SceneNet | None = None) -> Scene:
    """Crowd over time, each row from all stretches that it lies in, and the room, in the median over stretches; always
    on the CPU."""
    model = model or shipped()
    rows, first = len(levels), starts(len(levels))
    total, count = np.zeros(rows), np.zeros(rows)
    rooms = []
    for at in range(0, len(first), _BATCH):
        here = first[at : at + _BATCH]
        offset, end = here[0], min(here[-1] + STRETCH, rows)
        near = slice(offset, end)
        part = Levels(levels.band_db[near], levels.flatness_db[near], levels.loudest_db[near])
        with torch.inference_mode():
            crowd, room = model(*(torch.from_numpy(x) for x in features(part)))
        rooms.append(room.numpy())
        for one, start in zip(np.repeat(crowd.numpy(), PIECE, axis=1), starts(end - offset), strict=True):
            inside = slice(offset + start, min(offset + start + STRETCH, rows))
            total[inside] += one[: inside.stop - inside.start]
            count[inside] += 1
    c80, log_rt60 = np.median(np.concatenate(rooms), axis=0)
    _, c80_told, rt60_told = (bool(share > 0) for share in model.share)
    return Scene((total / count).astype(np.float32), float(c80), float(2**log_rt60), c80_told, rt60_told)
