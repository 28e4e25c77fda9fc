"""The data module: where training and validation captures come from, and how a run resumes in the middle."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Dataset, Sampler

from resonate.data.examples import CachedCaptures, FreshCaptures
from resonate.data.excerpts import Excerpts, Remix
from resonate.data.music import scan_music
from resonate.degrade.bank import Bank
from resonate.degrade.chain import CaptureChain, ChainConfig
from resonate.errors import UserError

log = logging.getLogger(__name__)

STARTER_BANK = Path(__file__).parents[1] / "bank"


@dataclass
class DataConfig:
    """Where examples come from. ``music``, ``bank`` and ``cache`` are one folder or a list of folders.

    Attributes:
        music: folders of songs (stems or finished mixes) for captures made on the fly.
        bank: folders of crowd, room and phone material; none means the starter bank of the repo.
        cache: rendered caches; where given, they are used instead of ``music``.
        seconds: length of a training example.
        batch_size: examples per step and device.
        workers: worker processes.
        valid_examples: examples in a validation run.
        stems_only: leave finished mixes out of a cache.
        seed: of every draw.
    """

    music: Any = None
    bank: Any = None
    cache: Any = None
    seconds: float = 6.0
    batch_size: int = 4
    workers: int = 0
    valid_examples: int = 16
    stems_only: bool = False
    seed: int = 1


def folders(value: Any) -> list[Path]:
    """One folder, a list of folders or None as a list of paths; raises UserError for one that does not exist."""
    paths = [] if value is None else list(value) if isinstance(value, list | tuple) else [str(value)]
    for path in paths:
        if not Path(path).is_dir():
            raise UserError(f"The folder {path} does not exist; name an existing one.")
    return [Path(path) for path in paths]


class _FromStep(Sampler[int]):
    """Indices in order, beginning after what the run has already seen; each of ``world`` processes takes its own."""

    def __init__(self, start: int, length: int, rank: int = 0, world: int = 1) -> None:
        self.start = start
        self.length = length
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start * self.world + self.rank, self.length * self.world, self.world))

    def __len__(self) -> int:
        return self.length


class CaptureData(L.LightningDataModule):
    """Captures for training and validation.

    Args:
        config: see :class:`DataConfig`.
        chain: settings of the capture chain for captures made on the fly.
        max_steps: optimiser steps of the whole run.
        accumulate: batches per optimiser step.
    """

    def __init__(self, config: DataConfig, chain: ChainConfig, max_steps: int, accumulate: int = 1) -> None:
        super().__init__()
        self.config = config
        self.chain = chain
        self.accumulate = accumulate
        self.total = max_steps * accumulate * config.batch_size

    def setup(self, stage: str | None = None) -> None:
        """Scan the sources once and refuse what cannot be trained on, before any long work."""
        del stage
        config = self.config
        if caches := folders(config.cache):
            self.train = CachedCaptures(caches, "train", config.seconds, self.total, config.seed, config.stems_only)
            self.valid: Dataset = CachedCaptures(caches, "valid", config.seconds, config.valid_examples,
                                                 config.seed + 1)
            return
        music = folders(config.music)
        if not music:
            raise UserError("There is nothing to train on; name a folder of songs with data.music=FOLDER or a rendered "
                            "cache with data.cache=FOLDER.")
        self.train = FreshCaptures(self._excerpts(music, "train", Remix()), self._chain("train"), self.total,
                                   config.seed)
        self.valid = FreshCaptures(self._excerpts(music, "valid", None), self._chain("valid"), config.valid_examples,
                                   config.seed + 1)

    def _excerpts(self, music: list[Path], split: str, remix: Remix | None) -> Excerpts:
        """Songs of a split; a folder too small to spare any uses those of the other, and the log says so.

        Songs of the test split are never used.
        """
        there = {song.split for folder in music for song in scan_music(folder)}
        other = "valid" if split == "train" else "train"
        if not there & {split, other}:
            raise UserError("All songs in data.music belong to the test split, which nothing is trained on; add songs.")
        if split not in there:
            log.warning("No song is in the %s split: those of the %s split serve for it, so validation figures come "
                        "from songs that training heard.", split, other)
            split = other
        return Excerpts([(folder, 1.0) for folder in music], split, self.config.seconds, remix)

    def _chain(self, split: str) -> CaptureChain:
        return CaptureChain(Bank.load(folders(self.config.bank) or [STARTER_BANK], split), self.chain)

    def describe(self) -> dict:
        """What the examples are made of, for the run's record."""
        if self.config.cache:
            made = (("train", self.train.items), ("valid", self.valid.items))
            # An example mixed from several songs names them all.
            return {split: {"examples": len(items), "songs": len({s for _, m in items for s in m["song"].split(" + ")})}
                    for split, items in made}
        return {split: {"songs": [song.name for song in data.excerpts.songs]}
                for split, data in (("train", self.train), ("valid", self.valid))}

    def train_dataloader(self) -> DataLoader:
        """Examples in order of their index, from the one after the last that a resumed run has seen."""
        seen = 0 if self.trainer is None else self.trainer.global_step * self.accumulate * self.config.batch_size
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(self.train, self.config.batch_size, sampler=_FromStep(seen, self.total, rank, world),
                          num_workers=self.config.workers, drop_last=True,
                          persistent_workers=self.config.workers > 0)

    def val_dataloader(self) -> DataLoader:
        """The same validation examples every time."""
        return DataLoader(self.valid, 1, num_workers=0)
