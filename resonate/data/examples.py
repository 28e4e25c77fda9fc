"""Training examples: captures from a rendered cache, or made on the fly.

Every dataset here is a pure function of (seed, index), so a run that resumes sees the examples it would have seen.
An example is a dict of tensors: ``capture`` (2, T), ``wet`` (4, 2, T), ``dry`` (4, 2, T), ``early`` (2, T),
``present`` (4,) bool and the recording's ``ltas_db``, ``floor_db``, ``in_band``, (1025,) each. 44.1 kHz throughout.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from resonate import RATE
from resonate.data.excerpts import Excerpts
from resonate.degrade.chain import CaptureChain
from resonate.errors import UserError
from resonate.models.stats import RecordingStats, measure_stats

log = logging.getLogger(__name__)

Example = dict[str, Tensor]
_FIELDS = ("ltas_db", "floor_db", "in_band")


def stats_tensors(stats: RecordingStats) -> Example:
    """The statistics that the restorer reads, as tensors of 1025 values."""
    return {name: torch.as_tensor(getattr(stats, name)) for name in _FIELDS}


def read_index(folder: str | Path) -> dict:
    """The index of a rendered cache; raises UserError where ``folder`` is none."""
    path = Path(folder) / "index.json"
    try:
        index = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no rendered cache ({path.name} is missing or damaged); make one with "
                        "python -m data_recipes.render.") from error
    if index.get("format") != 1 or index.get("rate") != RATE:
        raise UserError(f"{path} has a format or sample rate that this version cannot read; render the cache again.")
    return index


class CachedCaptures(Dataset):
    """Random crops of the captures in rendered caches.

    Args:
        folders: rendered caches; examples are drawn evenly from all of them.
        split: which split of theirs to take.
        seconds: length of a crop; None gives whole examples in order, one per index.
        length: number of examples to pretend to have; with crops it is the number drawn in a whole run.
        seed: of the draw.
        stems_only: leave out finished mixes, whose stems are unknown.
    """

    def __init__(self, folders: Sequence[str | Path], split: str, seconds: float | None, length: int | None = None,
                 seed: int = 0, stems_only: bool = False) -> None:
        self.items: list[tuple[Path, dict]] = []
        for folder in folders:
            for example in read_index(folder)["examples"]:
                if example["split"] == split and not (stems_only and example["mix_only"]):
                    self.items.append((Path(folder), example))
        if not self.items:
            raise UserError(f"No example of the {split} split is in {', '.join(map(str, folders))}; render some with "
                            f"python -m data_recipes.render --split {split}.")
        self.samples = None if seconds is None else int(seconds * RATE)
        shortest = min(example["seconds"] for _, example in self.items)
        if seconds is not None and shortest < seconds:
            raise UserError(f"The cache holds examples of {shortest:g} s, shorter than data.seconds={seconds:g}; "
                            "lower data.seconds or render longer ones.")
        self.length = len(self.items) if length is None else length
        self.seed = seed
        self._stats: dict[int, Example] = {}

    def __len__(self) -> int:
        return self.length

    def _stats_of(self, item: int, capture: np.ndarray) -> Example:
        if item not in self._stats:
            self._stats[item] = stats_tensors(measure_stats(capture.astype(np.float32)))
        return self._stats[item]

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([self.seed, index])
        item = index if self.samples is None else int(rng.integers(len(self.items)))
        folder, meta = self.items[item]
        rows = np.load(folder / meta["file"], mmap_mode="r")
        stats = self._stats_of(item, rows[0])
        start, stop = 0, rows.shape[-1]
        if self.samples is not None:
            start = int(rng.integers(max(1, stop - self.samples + 1)))
            stop = start + self.samples
        audio = torch.from_numpy(rows[:, :, start:stop].astype(np.float32))
        return {"capture": audio[0], "wet": audio[1:5], "early": audio[5], "dry": audio[6:10],
                "present": torch.tensor(meta["present"]), **stats}


class FreshCaptures(Dataset):
    """Captures made on the fly: a stretch of music, through the capture chain.

    Args:
        excerpts: where the music comes from.
        chain: the capture chain.
        length: number of examples.
        seed: of all draws.
    """

    def __init__(self, excerpts: Excerpts, chain: CaptureChain, length: int, seed: int = 0) -> None:
        self.excerpts = excerpts
        self.chain = chain
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([self.seed, index])
        excerpt = self.excerpts.draw(rng)
        params = self.chain.sample(rng, excerpt.stems.shape[-1])
        with torch.no_grad():
            capture = self.chain.apply(torch.from_numpy(excerpt.stems)[None], [params])
        heard = capture.capture[0]
        return {"capture": heard, "wet": capture.stems_wet[0], "early": capture.stems_early[0].sum(0),
                "dry": capture.stems_dry[0], "present": torch.from_numpy(excerpt.present),
                **stats_tensors(measure_stats(heard))}
