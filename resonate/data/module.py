"""The data module: where training and validation captures come from, and how a run resumes in the middle."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Dataset, Sampler

from resonate.data.examples import CachedCaptures, Example, FreshCaptures
from resonate.data.excerpts import STARTER_BANK, Excerpts, Remix, bank_under
from resonate.data.licences import FILTERS
from resonate.data.music import scan_music
from resonate.degrade.chain import CaptureChain, ChainConfig
from resonate.errors import UserError

log = logging.getLogger(__name__)


@dataclass
class DataConfig:
    """Where examples come from. ``music``, ``bank`` and ``cache`` are one folder or a list of folders.

    Attributes:
        music: folders of songs (stems or finished mixes) for captures made on the fly.
        bank: folders of crowd, room and phone material; none means the starter bank of the repo.
        cache: rendered folders; where given, they are used instead of ``music``.
        shards: rendered shards to train on as a stream, such as "shards/train-{000000..000099}.tar" or addresses on
            http(s), s3 or gs; validation then comes from ``cache``.
        licence: of ``music`` and ``bank``: any, or cc for what is under CC0, CC-BY, CC-BY-SA, public domain, MIT, BSD
            or Apache. Rendered folders were filtered when they were rendered.
        seconds: length of a training example.
        batch_size: examples per step and device.
        workers: worker processes.
        valid_examples: examples in a validation run.
        stems_only: leave finished mixes out of a cache.
        curriculum: examples, counted over all processes, during which the severity drawn grows from mild to full; 0 for
            none. Not with ``shards``.
        in_memory: keep what is read from a cache in memory, the mid channel of its sums: 0.4 MB per second of captures.
            For the restorer, which hears mixes alone, on few cores.
        clean_share: share of the examples of a cache whose clean music stands in for the capture, so that a model
            learns to leave it as it is.
        tone_share: share of the examples whose music gets another balance of bands; with ``in_memory``.
        separated: give the restorer what the separator takes for music beside each capture of a cache, which
            ``python -m data_recipes.separate`` adds to it.
        seed: of every draw.
    """

    music: Any = None
    bank: Any = None
    cache: Any = None
    shards: Any = None
    licence: str = "any"
    seconds: float = 6.0
    batch_size: int = 4
    workers: int = 0
    valid_examples: int = 16
    stems_only: bool = False
    curriculum: int = 0
    in_memory: bool = False
    clean_share: float = 0.0
    tone_share: float = 0.0
    separated: bool = False
    seed: int = 1


def folders(value: Any) -> list[Path]:
    """One folder, a list of folders or None as a list of paths; raises UserError for one that does not exist."""
    words = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    paths = [Path(word).expanduser() for word in words]
    for path in paths:
        if not path.is_dir():
            raise UserError(f"The folder {path} does not exist; name an existing one.")
    return paths


#: Share of the training examples with ``separated`` in which it says nothing.
ALONE_SHARE = 0.1


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
        if config.batch_size < 1 or config.workers < 0:
            raise UserError(f"data.batch_size ({config.batch_size}) must be 1 or more, data.workers ({config.workers}) "
                            "0 or more.")
        if config.stems_only and not (config.cache or config.shards):
            raise UserError("data.stems_only leaves finished mixes of a rendered folder out; name one with "
                            "data.cache=FOLDER, or a folder without finished mixes with data.music.")
        if config.curriculum < 0:
            raise UserError(f"data.curriculum must be 0 or a number of examples, got {config.curriculum}.")
        if config.in_memory and (config.shards or not config.cache):
            raise UserError("data.in_memory keeps what is read from a rendered folder; name one with data.cache=FOLDER "
                            "and no data.shards.")
        if not 0 <= config.clean_share < 1 or (config.clean_share and (config.shards or not config.cache)):
            raise UserError(f"data.clean_share ({config.clean_share}) is a share from 0 to below 1 of the examples of "
                            "a rendered folder; name one with data.cache=FOLDER and no data.shards.")
        if not 0 <= config.tone_share <= 1 or (config.tone_share and not config.in_memory):
            raise UserError(f"data.tone_share ({config.tone_share}) is a share from 0 to 1 of examples that are kept "
                            "in memory; add data.in_memory=true.")
        if config.separated and (config.shards or not config.cache):
            raise UserError("data.separated reads what python -m data_recipes.separate keeps in a rendered folder; "
                            "name one with data.cache=FOLDER and no data.shards.")
        if config.licence not in FILTERS:
            raise UserError(f"data.licence is {config.licence}; the choices are {' and '.join(FILTERS)}.")
        if config.shards:
            self._setup_stream()
            return
        if caches := folders(config.cache):
            self.train = CachedCaptures(caches, "train", config.seconds, self.total, config.seed, config.stems_only,
                                        config.curriculum, config.in_memory, config.clean_share,
                                        config.tone_share, config.separated, ALONE_SHARE)
            self.valid: Dataset = self._valid_cache(caches)
            return
        music = folders(config.music)
        if not music:
            raise UserError("There is nothing to train on; name a folder of songs with data.music=FOLDER or a rendered "
                            "cache with data.cache=FOLDER.")
        self.train = FreshCaptures(self._excerpts(music, "train", Remix()), self._chain("train"), self.total,
                                   config.seed, config.curriculum)
        self.valid = FreshCaptures(self._excerpts(music, "valid", None), self._chain("valid"), config.valid_examples,
                                   config.seed + 1)

    def _setup_stream(self) -> None:
        from resonate.data.stream import StreamedCaptures, expand  # webdataset, for those who stream

        config = self.config
        caches = folders(config.cache)
        if not caches or config.curriculum:
            raise UserError("data.shards streams the training examples: name a rendered folder with valid shards by "
                            "data.cache=FOLDER, and leave data.curriculum at 0.")
        self.valid = self._valid_cache(caches)
        self.train = StreamedCaptures(expand(config.shards), config.seconds, config.seed,
                                      stems_only=config.stems_only)

    def _valid_cache(self, caches: list[Path]) -> CachedCaptures:
        return CachedCaptures(caches, "valid", self.config.seconds, self.config.valid_examples, self.config.seed + 1,
                              with_separated=self.config.separated)

    def _seen(self) -> int:
        """Examples that each process of a resumed run has trained on."""
        return 0 if self.trainer is None else self.trainer.global_step * self.accumulate * self.config.batch_size

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
        return Excerpts([(folder, 1.0) for folder in music], split, self.config.seconds, remix,
                        self.config.licence)

    def _chain(self, split: str) -> CaptureChain:
        bank = folders(self.config.bank) or [STARTER_BANK]
        return CaptureChain(bank_under(bank, split, self.config.licence), self.chain)

    def describe(self) -> dict:
        """What the examples are made of, for the run's record."""
        if self.config.shards:
            return {"train": {"shards": len(self.train.urls)}, "valid": {"examples": len(self.valid.items)}}
        if self.config.cache:
            made = (("train", self.train.items), ("valid", self.valid.items))
            # An example mixed from several songs names them all.
            songs = {split: {s for _, m in items for s in m["song"].split(" + ")} for split, items in made}
            separators = self.train.separators()
            known = {"separators": separators} if separators else {}
            return {split: {"examples": len(items), "songs": len(songs[split])} | known
                    for split, items in made}
        return {split: {"songs": [song.name for song in data.excerpts.songs]}
                for split, data in (("train", self.train), ("valid", self.valid))}

    def look(self, count: int) -> list[Example]:
        """The first ``count`` training examples, or as many as there are, for what has to be known before training."""
        if self.config.shards:
            return list(itertools.islice(self.train, count))
        return [self.train[i] for i in range(min(len(self.train), count))]

    def train_dataloader(self) -> DataLoader:
        """Examples in order of their index, from the one after the last that a resumed run has seen."""
        if self.config.shards:
            self.train.start = self._seen()
            return DataLoader(self.train, self.config.batch_size, num_workers=self.config.workers,
                              persistent_workers=self.config.workers > 0)
        seen = self._seen()
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(self.train, self.config.batch_size, sampler=_FromStep(seen, self.total, rank, world),
                          num_workers=self.config.workers, drop_last=True,
                          persistent_workers=self.config.workers > 0)

    def val_dataloader(self) -> DataLoader:
        """The same validation examples every time."""
        return DataLoader(self.valid, 1, num_workers=0)
