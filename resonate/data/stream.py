"""Training from shards as a stream, for sets that are too large or too far away to read at random.

WebDataset opens the shards (local files, http(s), s3, gs), shuffles their order anew in every pass, and deals them out
to the processes and to their workers; the order within a process passes through a buffer.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from braceexpand import UnbalancedBracesError, braceexpand
from torch.utils.data import IterableDataset

from resonate import RATE
from resonate.data.examples import Example, as_example, stats_tensors
from resonate.data.shards import ROWS, decode, row_names
from resonate.errors import UserError
from resonate.models.stats import measure_stats

#: Crops that wait in the shuffle buffer of each worker (a 6 s crop takes 11 MB).
BUFFER = 24
_REMOTE = re.compile(r"(https?|s3|gs)://", re.IGNORECASE)


def expand(pattern: Any) -> list[str]:
    """Shards from "path/train-{000000..000099}.tar" or a list of such patterns.

    Raises UserError for a pattern with unbalanced braces, a local shard that does not exist, or another scheme than
    http, https, s3 and gs (webdataset would run commands after "pipe:").
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    try:
        urls = [url for one in patterns for url in braceexpand(str(one))]
    except UnbalancedBracesError as error:
        raise UserError(f"data.shards={pattern} has a brace without its partner; write {{000000..000099}}.") from error
    for url in urls:
        if _REMOTE.match(url):
            continue
        if not Path(url).is_file():
            raise UserError(f"The shard {url} does not exist; data.shards takes paths such as "
                            "shards/train-{000000..000099}.tar and http(s), s3 or gs addresses.")
    # An absolute path cannot be taken for one of webdataset's schemes.
    return [url if _REMOTE.match(url) else str(Path(url).resolve()) for url in urls]


class StreamedCaptures(IterableDataset):
    """Random crops from a stream of shards, without end. Examples are those of `CachedCaptures`, without `crowd`.

    A run that resumes does not find the place where it stopped: it goes on with another order of the shards, drawn from
    (`seed`, `start`), and draws other crops.

    Args:
        urls: shards, as `expand` gives them.
        seconds: length of a crop; shorter examples raise UserError.
        seed: of all draws.
        start: examples that the run has seen.
        stems_only: leave out finished mixes, whose stems are unknown.
    """

    def __init__(self, urls: list[str], seconds: float, seed: int = 0, start: int = 0,
                 stems_only: bool = False) -> None:
        self.urls, self.samples = urls, int(seconds * RATE)
        self.seed, self.start, self.stems_only = seed, start, stems_only

    def __iter__(self) -> Iterator[Example]:
        rank, world, worker, workers = wds.utils.pytorch_worker_info()
        if len(self.urls) < world * workers:
            raise UserError(f"{len(self.urls)} shards are too few for {world} processes with {workers} workers each; "
                            "lower data.workers or name more shards.")
        rng = np.random.default_rng([self.seed, self.start, rank, worker])
        for number in itertools.count():
            # The order of the shards is the same everywhere, so that their parts do not overlap.
            urls = list(self.urls)
            random.Random(f"{self.seed} {self.start} {number}").shuffle(urls)
            empty = True
            try:
                for example in self._pass(urls, rng):
                    empty = False
                    yield example
            except (OSError, tarfile.TarError) as error:
                raise UserError(f"A shard cannot be read to its end: {error}. Remove or render it again.") from error
            if empty:
                raise UserError(f"The shards {self.urls[0]} ... hold no example to train on; name others.")

    def _pass(self, urls: list[str], rng: np.random.Generator) -> wds.DataPipeline:
        return wds.DataPipeline(
            wds.SimpleShardList(urls), wds.split_by_node, wds.split_by_worker, wds.tarfile_to_samples(),
            lambda samples: (self._crop(sample, rng) for sample in samples if self._wanted(sample)),
            wds.shuffle(BUFFER, initial=BUFFER, seed=int(rng.integers(2**31))))

    def _wanted(self, sample: dict[str, Any]) -> bool:
        return not (self.stems_only and _details(sample).get("mix_only"))

    def _crop(self, sample: dict[str, Any], rng: np.random.Generator) -> Example:
        try:
            details = _details(sample)
            known = [bool(known) for known in details["present"]]
            flacs = list(zip((sample[name] for name in row_names(details)), details["scale"], strict=True))[: len(ROWS)]
            whole = decode(*flacs[0])
            if whole.shape[-1] < self.samples:
                raise UserError(f"{sample['__url__']} holds examples of {whole.shape[-1] / RATE:g} s, shorter than "
                                "data.seconds; lower that.")
            start = int(rng.integers(whole.shape[-1] - self.samples + 1))
            stop = start + self.samples
            rows = np.stack([whole[:, start:stop], *(decode(*flac, start, stop) for flac in flacs[1:])])
        except (KeyError, ValueError, TypeError) as error:
            raise _strange(sample) from error
        return as_example(torch.from_numpy(rows), known) | stats_tensors(measure_stats(whole))


def _details(sample: dict[str, Any]) -> dict[str, Any]:
    try:
        details = json.loads(sample["json"])
    except (KeyError, ValueError) as error:
        raise _strange(sample) from error
    if not isinstance(details, dict):
        raise _strange(sample)
    return details


def _strange(sample: dict[str, Any]) -> UserError:
    return UserError(f"{sample['__key__']} in {sample['__url__']} is no example of a rendered shard.")
