"""Add to a rendered folder what the separator takes for music in its captures, for a restorer that hears it too.

    python -m data_recipes.separate data/cache --workers 2
    python train.py experiment=restorer data.cache=data/cache data.separated=true

writes data/cache/separated/: a tar for each shard, and index.json with the hash of the separator's weights. A run that
was stopped goes on where it was; a folder that another separator filled is refused.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from demucs.htdemucs import HTDemucs
from rich.console import Console
from rich.progress import track

from data_recipes.common import parser, run
from data_recipes.render_shards import clean, lock, write_aside
from resonate import STEMS
from resonate.audio import sha256
from resonate.data import separated, shards
from resonate.errors import UserError
from resonate.evaluate.separation import separate
from resonate.models.weights import SEPARATOR, load_separator, read_header


def add(cache: Path, weights: Path = SEPARATOR, workers: int = 1) -> None:
    """Separate what is not yet separated in a rendered folder.

    Args:
        cache: as ``python -m data_recipes.render`` makes it.
        weights: of the separator.
        workers: processes, of one thread each.

    Raises:
        UserError: before any work for a folder or weights that do not serve.
    """
    if workers < 1:
        raise UserError(f"--workers must be at least 1, got {workers}.")
    by_shard: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for example in shards.choose(cache, "all"):
        if "shard" not in example:
            raise UserError(f"{cache} has the older form of one file per example; render it again.")
        by_shard[example["shard"]].append(example)
    read_header(weights, "separator")
    separator, out = sha256(weights), cache / separated.FOLDER
    out.mkdir(exist_ok=True)
    with lock(out):
        clean(out)
        _scales(out, separator, by_shard)
        todo = [name for name in sorted(by_shard) if not (out / name).is_file()]
        context = get_context("spawn")
        with ProcessPoolExecutor(min(workers, max(1, len(todo))), context) as pool:
            jobs = [pool.submit(_write, cache, name, by_shard[name], weights, separator) for name in todo]
            try:
                for job in track(as_completed(jobs), "Separating", len(jobs), console=Console(stderr=True)):
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        known = {"separator": separator, "scale": _scales(out, separator, by_shard)}
        write_aside(out / "index.json", json.dumps(known, indent=1).encode())


def _scales(out: Path, separator: str, by_shard: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """The scale of every example that is there. UserError for what another separator made, or other captures."""
    scales = {}
    for name, examples in by_shard.items():
        if (out / name).is_file():
            details = shards.read_details(out / name)
            if any(d.get("separator") != separator for d in details):
                raise UserError(f"{out} holds what another separator made; remove it first.")
            if {d["file"] for d in details} != {example["file"] for example in examples}:
                raise UserError(f"{out / name} belongs to other captures; remove it first.")
            scales.update((d["file"], float(d["scale"])) for d in details)
    return scales


@lru_cache(maxsize=1)
def _model(weights: Path) -> HTDemucs:
    torch.set_num_threads(1)
    return load_separator(weights)


def _write(cache: Path, name: str, examples: list[dict[str, Any]], weights: Path, separator: str) -> None:
    target = cache / separated.FOLDER / name
    part = target.with_name(f".{name}.{os.getpid()}.part")
    try:
        with part.open("wb") as handle:
            with wds.TarWriter(handle, user="", group="", mode=0o644, encoder=False, mtime=0) as tar:
                for example in examples:
                    capture = torch.from_numpy(shards.read_audio(cache, example, slice(1))[0])
                    music = separate(_model(weights), capture)[: len(STEMS)].sum(0)
                    files, scales = shards.encode(music[None])
                    details = json.dumps({"separator": separator, "scale": scales[0]}).encode()
                    tar.write({"__key__": example["file"], "json": details, separated.SUFFIX: files[0]})
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def main(words: list[str] | None = None) -> None:
    """Command line."""
    options = parser(__doc__)
    options.add_argument("cache", type=Path, help="rendered folder")
    options.add_argument("--separator", type=Path, default=SEPARATOR, help="weights of the separator")
    options.add_argument("--workers", type=int, default=1, help="processes")
    given = options.parse_args(words)
    add(given.cache, given.separator, given.workers)


if __name__ == "__main__":
    run(main)
