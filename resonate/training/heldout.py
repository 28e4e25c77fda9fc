"""The separator's data: whole held-out captures to validate on, and mixtures of clean stems to learn from first."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch.utils.data import Dataset

from resonate.data.examples import CachedCaptures, Example, FreshCaptures
from resonate.data.excerpts import Excerpts
from resonate.data.module import CaptureData, folders
from resonate.errors import UserError
from resonate.evaluate.separation import spread
from resonate.training.config import TrainConfig

log = logging.getLogger(__name__)
_NO_STEMS = "The valid split holds only finished mixes: validation compares the sum of the stems, and none by itself."


class CleanMixtures(Dataset):
    """Stretches of clean stems, without a capture; a pure function of (seed, index).

    Args:
        excerpts: where the music comes from.
        length: number of examples.
        seed: of all draws.
    """

    def __init__(self, excerpts: Excerpts, length: int, seed: int) -> None:
        self.excerpts, self.length, self.seed = excerpts, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        excerpt = self.excerpts.draw(np.random.default_rng([self.seed, index]))
        stems = torch.from_numpy(excerpt.stems)
        return {"capture": stems.sum(0), "wet": stems, "dry": stems, "present": torch.from_numpy(excerpt.present)}


class FreshWhole(Dataset):
    """Captures made on the fly whose severities are spread evenly over the chain's range, with their severity.

    Args:
        captures: where music and chain come from.
        excerpts: of the length wanted.
        length: number of examples.
    """

    def __init__(self, captures: FreshCaptures, excerpts: Excerpts, length: int) -> None:
        self.captures, self.excerpts, self.length = captures, excerpts, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([self.captures.seed, index])
        excerpt, chain = self.excerpts.draw(rng), self.captures.chain
        low, high = chain.config.severity
        severity = low + (high - low) * (index + 0.5) / self.length
        params = chain.sample(rng, excerpt.stems.shape[-1], severity)
        with torch.no_grad():
            capture = chain.apply(torch.from_numpy(excerpt.stems)[None], [params])
        return {"capture": capture.capture[0], "wet": capture.stems_wet[0], "dry": capture.stems_dry[0],
                "present": torch.from_numpy(excerpt.present), "severity": torch.tensor(severity)}


class CachedWhole(Dataset):
    """Whole rendered captures, evenly spread over their severities, with their severity.

    Args:
        captures: in order, uncropped. Finished mixes, which have no stems to compare, are left out if there are others.
        length: at most so many.
    """

    def __init__(self, captures: CachedCaptures, length: int) -> None:
        self.captures, self.items = captures, captures.items
        known = [i for i, (_, example) in enumerate(self.items) if not example["mix_only"]]
        if not known:
            log.warning(_NO_STEMS)
        places = sorted(known or range(len(self.items)), key=lambda i: self.items[i][1]["severity"])
        self.chosen = spread(places, length)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Example:
        example = self.captures[self.chosen[index]]
        severity = self.items[self.chosen[index]][1]["severity"]
        return {**{k: example[k] for k in ("capture", "wet", "dry", "present")},
                "severity": torch.tensor(float(severity))}


class SeparatorData(CaptureData):
    """As its base, but validating on whole captures, and with clean mixtures where no capture is wanted.

    Finished mixes train, but validate only where no song of the split has stems.

    Args:
        config: of the run.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config.data, config.degrade, config.trainer.max_steps, config.trainer.accumulate)
        self.valid_seconds = config.trainer.valid_seconds
        self.clean = config.model.input == "dry"

    def setup(self, stage: str | None = None) -> None:
        """As its base."""
        if self.config.in_memory:
            raise UserError("data.in_memory sums the stems, which the separator learns from; leave it out.")
        if self.config.separated:
            raise UserError("data.separated is for the restorer, which hears what a separator made; leave it out.")
        super().setup(stage)
        count = self.config.valid_examples
        if count < 1:
            raise UserError(f"data.valid_examples must be at least 1, got {count}.")
        if isinstance(self.valid, CachedCaptures):
            self.valid = CachedWhole(CachedCaptures(folders(self.config.cache), "valid", None), count)
            return
        songs = self.valid.excerpts.songs
        known = [song for song in songs if song.stems]
        if not known:
            log.warning(_NO_STEMS)
        seconds = min(self.valid_seconds, max(song.duration for song in known or songs))
        longer = Excerpts([(folder, 1.0) for folder in folders(self.config.music)], songs[0].split, seconds,
                          licence=self.config.licence)
        if known:
            sets = [([song for song in songs if song.stems], weight) for songs, weight in longer.sets]
            longer.sets = [(songs, weight) for songs, weight in sets if songs]
        if self.clean:
            self.train = CleanMixtures(self.train.excerpts, self.total, self.config.seed)
            self.valid = CleanMixtures(longer, count, self.config.seed + 1)
        else:
            self.valid = FreshWhole(self.valid, longer, count)


def data_for(config: TrainConfig) -> CaptureData:
    """The data module of a run."""
    if config.model.kind == "separator":
        return SeparatorData(config)
    return CaptureData(config.data, config.degrade, config.trainer.max_steps, config.trainer.accumulate)
