"""Train what hears crowd and room: python -m resonate.restore.diagnosis.fit_scene --cache CACHE ... [--seed 0]
[--output FILE].

Learns from the captures of rendered caches, split train: each as it is and once more with its crowd up to 8 dB louder
or softer. Five networks learn, each without the songs of one of five parts; what each says of the songs that it has
not heard gives the figures that are printed, and how far the estimates are drawn towards the typical value. The room is
judged on captures whose room no other capture has. An estimate whose error is not a tenth less than that of the typical
value is not used. Replaces this part of the listener's file alone. A few minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resonate.data import shards
from resonate.errors import UserError, command
from resonate.restore.diagnosis.fit import SNR_RANGE
from resonate.restore.diagnosis.levels import PER_SECOND, STEP, measure_levels
from resonate.restore.diagnosis.listener import WEIGHTS, write_part
from resonate.restore.diagnosis.scene import ESTIMATES, MEMBERS, PIECE, PREFIX, STRETCH, Member, SceneNet, features

log = logging.getLogger(__name__)

#: Seconds over which music over crowd is taken, and most that the crowd of a second version is changed by, in dB.
_OVER, _CHANGE_DB = 3, 8.0
#: Passes over the examples, batch, learning rate, weight decay, noise on the normalised features.
EPOCHS, BATCH, LR, DECAY, NOISE = 20, 64, 3e-3, 0.05, 0.3
#: Weight of the room in the loss beside the crowd.
_ROOM_WEIGHT = 0.3
#: Most of the typical value's error that an estimate may have on songs that were left out.
_WORTH = 0.9
_SHARES = np.linspace(0.0, 1.0, 21)


@dataclass(frozen=True)
class Example:
    """A stretch of 10 s and what is true of it.

    Attributes:
        moving, still: (20, 68) and (85,), as `scene.features` gives them.
        snr_db: (20,) music over crowd and handling; room: C80 in dB and log2 of the reverberation time in s.
        songs: whose music plays; room_name: which room it is. changed: whether the crowd was made louder or softer.
    """

    moving: np.ndarray
    still: np.ndarray
    snr_db: np.ndarray
    room: tuple[float, float]
    songs: frozenset[str]
    room_name: str
    changed: bool


def music_over_crowd(capture: np.ndarray, wet: np.ndarray, snr_db: float, playing: np.ndarray) -> np.ndarray:
    """(n,) dB of captured music over crowd and handling, over 3 s around each row of 50 ms, within SNR_RANGE.

    What is neither music nor crowd (overload, codec) follows the music; its share is such that the ratio of the whole,
    where music plays (`playing`, bool per row), is `snr_db`.
    """
    music, rest = (_powers(x) for x in (wet, capture - wet))
    inside = music[playing].sum(), rest[playing].sum()
    share = max(inside[1] - inside[0] / 10 ** (snr_db / 10), 0.0) / max(inside[0], 1e-12)
    noise = np.maximum(rest - share * music, 0.05 * rest) + 1e-12
    over = np.ones(_OVER * PER_SECOND + 1)
    ratio = [np.convolve(power, over, mode="same") for power in (music + 1e-12, noise)]
    return np.clip(10 * np.log10(ratio[0] / ratio[1]), *SNR_RANGE).astype(np.float32)


def _powers(x: np.ndarray) -> np.ndarray:
    rows = x.shape[1] // STEP
    return np.square(x[:, : rows * STEP].reshape(2, rows, STEP), dtype=np.float64).mean((0, 2))


def examples(folder: Path, split: str, seed: int, changed: bool = True) -> Iterator[Example]:
    """The captures of a rendered cache, each followed, with `changed`, by a version with more or less crowd. UserError
    where they are not of 10 s."""
    entries = shards.choose(folder, split)
    rooms = _rooms(folder, entries)
    for i, entry in enumerate(entries):
        rng = np.random.default_rng([seed, i])
        rows = shards.read_audio(folder, entry, slice(5))
        capture, wet = rows[0], rows[1:].sum(0)
        if capture.shape[1] != STRETCH * STEP:
            raise UserError(f"{folder} holds captures of other lengths than 10 s; render them with seconds=10.")
        at = (np.arange(STRETCH) + 0.5) / PER_SECOND
        playing = ~np.any([(at > first) & (at < last) for first, last in entry["gaps"]] or [at < 0], axis=0)
        measures = entry["measures"]
        ratio = music_over_crowd(capture, wet, measures["snr_db"], playing)
        room = measures["c80_db"], float(np.log2(max(measures["rt60_s"], 0.1)))
        for change in (0.0, float(rng.uniform(-_CHANGE_DB, _CHANGE_DB)))[: 1 + changed]:
            x = capture if change == 0 else wet + np.float32(10 ** (change / 20)) * (capture - wet)
            moving, still = features(measure_levels(x))
            snr = np.clip(ratio - change, *SNR_RANGE).reshape(-1, PIECE).mean(1)
            yield Example(moving[0], still[0], snr, room, frozenset(entry["songs"]), rooms[entry["file"]], change != 0)
        if i % 200 == 199:
            log.info("%s: %d captures", folder.name, i + 1)


def _rooms(folder: Path, entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Example -> the name or number of its room."""
    venues = {
        details["file"]: details["params"]["venue"]
        for shard in sorted({entry["shard"] for entry in entries})
        for details in shards.read_details(folder / shard)
    }
    return {name: venue["room"] or f"{venue['kind']} {venue['seed']}" for name, venue in venues.items()}


@dataclass(frozen=True)
class _Table:
    """All examples as tensors, normalised: inputs (m, 20, 68) and (m, 85), wanted (m, 20) and (m, 2)."""

    moving: Tensor
    still: Tensor
    crowd: Tensor
    room: Tensor


def _normalise(model: SceneNet, given: Sequence[Example]) -> _Table:
    """Sets the buffers of `model` but `share`."""
    moving, still = (torch.from_numpy(np.stack([getattr(e, name) for e in given])) for name in ("moving", "still"))
    crowd = torch.from_numpy(np.stack([e.snr_db for e in given])).float()
    room = torch.tensor([e.room for e in given])
    model.moving_mean[:], model.moving_scale[:] = moving.mean((0, 1)), moving.std((0, 1)) + 0.01
    model.still_mean[:], model.still_scale[:] = still.mean(0), still.std(0) + 0.01
    own = torch.tensor([not e.changed for e in given])
    model.typical[:] = torch.stack([crowd[own].median(), *room[own].median(0).values])
    model.spread[:] = torch.stack([crowd[own].std(), *room[own].std(0)]) + 0.01
    crowd, room = (crowd - model.typical[0]) / model.spread[0], (room - model.typical[1:]) / model.spread[1:]
    return _Table(*model.normalised(moving, still), crowd, room)


def _fit(member: Member, table: _Table, chosen: np.ndarray, rng: np.random.Generator, epochs: int) -> None:
    """Train on the `chosen` examples: mean absolute errors, one warm-up, a rate that falls to nothing."""
    optimiser = torch.optim.AdamW(member.parameters(), lr=LR, weight_decay=DECAY)
    steps = max(1, epochs * len(chosen) // BATCH)
    member.train()
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = LR * min(1.0, (step + 1) / 50) * (1 - step / steps)
        at = torch.from_numpy(rng.choice(chosen, BATCH))
        moving, still = table.moving[at], table.still[at]
        moving = moving + NOISE * torch.randn(BATCH, 1, moving.shape[2]) + 0.3 * NOISE * torch.randn_like(moving)
        crowd, room = member(moving, still + NOISE * torch.randn_like(still))
        loss = (crowd - table.crowd[at]).abs().mean() + _ROOM_WEIGHT * (room - table.room[at]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    member.eval()


def train(given: Sequence[Example], seed: int = 0, epochs: int = EPOCHS) -> SceneNet:
    """Fit all members and the shares; logs the errors on songs that were left out. UserError for too few songs."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = SceneNet()
    table = _normalise(model, given)
    names = sorted(set().union(*(e.songs for e in given)))
    if len(names) < MEMBERS:
        raise UserError(f"There are captures of {len(names)} songs; at least {MEMBERS} are needed to leave some out.")
    part = dict(zip(names, rng.permutation(len(names)) % MEMBERS, strict=True))
    parts = [{part[song] for song in e.songs} for e in given]
    rooms = Counter(e.room_name for e in given if not e.changed)
    said, true = [[] for _ in ESTIMATES], [[] for _ in ESTIMATES]
    for k, member in enumerate(model.members):
        _fit(member, table, np.flatnonzero([k not in songs for songs in parts]), rng, epochs)
        at = np.flatnonzero([songs == {k} and not e.changed for songs, e in zip(parts, given, strict=True)])
        alone = torch.tensor([rooms[given[i].room_name] == 1 for i in at], dtype=torch.bool)
        with torch.inference_mode():
            crowd, room = member(table.moving[at], table.still[at])
        for side, (c, r) in ((said, (crowd, room)), (true, (table.crowd[at], table.room[at]))):
            for into, values in zip(side, (c.flatten(), *r[alone].T), strict=True):
                into.append(values)
    for k, name in enumerate(ESTIMATES):
        model.share[k] = _share(torch.cat(said[k]).numpy(), torch.cat(true[k]).numpy(), float(model.spread[k]), name)
    return model.eval()


def _share(said: np.ndarray, true: np.ndarray, spread: float, name: str) -> float:
    """How much of (m,) normalised estimates counts: what makes the mean error least, 0 where that is hardly less."""
    errors = np.array([np.abs(share * said - true).mean() for share in _SHARES])
    best = int(errors.argmin())
    used = float(_SHARES[best]) if errors[best] < _WORTH * errors[0] else 0.0
    log.info("%s: mean error on songs left out %.2f, typical value %.2f; share %.2f, used %.2f",
             name, spread * errors[best], spread * errors[0], _SHARES[best], used)  # fmt: skip
    return used


def errors(model: SceneNet, given: Sequence[Example]) -> dict[str, tuple[float, float, float, float]]:
    """Per estimate: median and mean error over the examples, then those of the typical value. The error of music over
    crowd of one example is its median over time."""
    with torch.inference_mode():
        crowd, room = model(*(torch.from_numpy(np.stack([getattr(e, n) for e in given])) for n in ("moving", "still")))
    typical = model.typical.numpy()
    snr, rooms = np.stack([e.snr_db for e in given]), np.array([e.room for e in given])
    off = [np.median(np.abs(crowd.numpy() - snr), axis=1), *np.abs(room.numpy() - rooms).T]
    usual = [np.median(np.abs(typical[0] - snr), axis=1), *np.abs(typical[1:] - rooms).T]
    return {
        name: (float(np.median(a)), float(a.mean()), float(np.median(b)), float(b.mean()))
        for name, a, b in zip(ESTIMATES, off, usual, strict=True)
    }


@command
def main(words: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, nargs="+", required=True, help="rendered folders")
    parser.add_argument("--report", type=Path, nargs="*", default=[], help="rendered folders whose split valid is "
                        "judged afterwards; nothing is learned from them")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="file of the listener, whose other weights stay")
    given = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    learned: list[Example] = []
    for k, folder in enumerate(given.cache):
        learned += examples(folder, "train", given.seed + k)
    model = train(learned, given.seed, given.epochs)
    for folder in given.report:
        for name, figures in errors(model, list(examples(folder, "valid", 0, changed=False))).items():
            log.info("%s, %s: median %.2f, mean %.2f; typical value %.2f, %.2f", folder.name, name, *figures)
    write_part(model, PREFIX, given.output)


if __name__ == "__main__":
    sys.exit(main())
