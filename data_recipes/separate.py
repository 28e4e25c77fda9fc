"""Add to a rendered folder what the separator takes for music in its captures, for a restorer that hears it too.

    python -m data_recipes.separate data/cache --workers 2
    python train.py experiment=restorer data=cache data.cache=data/cache data.separated=true

writes data/cache/separated/: a tar for each shard, and index.json with the hash of the separator's weights. A run that
was stopped goes on where it was; a folder that another separator filled is refused.
"""

from __future__ import annotations

import json
import os
import signal
from collections import defaultdict
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

import torch
from demucs.htdemucs import HTDemucs
from rich.console import Console
from rich.progress import Progress

from data_recipes.common import parser, run
from data_recipes.render_shards import clean, lock, whole_tar, write_aside
from resonate.audio import sha256
from resonate.data import separated, shards
from resonate.errors import UserError
from resonate.evaluate.separation import separated_music
from resonate.models.demucs_files import find_weights
from resonate.models.weights import SEPARATOR, load_separator, read_header

Examples = list[dict[str, Any]]


def add(cache: Path, weights: Path = SEPARATOR, workers: int = 1) -> None:
    """Separate what is not yet separated in a rendered folder.

    Args:
        cache: as ``python -m data_recipes.render`` makes it.
        weights: of the separator.
        workers: processes, of one thread each.

    Raises:
        UserError: before any work for a folder or weights that do not serve; later for a process that ended.
    """
    if workers < 1:
        raise UserError(f"--workers must be at least 1, got {workers}.")
    by_shard: dict[str, Examples] = defaultdict(list)
    for example in shards.choose(cache, "all"):
        if "shard" not in example:
            raise UserError(f"{cache} has the older form of one file per example; render it again.")
        by_shard[example["shard"]].append(example)
    weights = find_weights(weights)
    read_header(weights, "separator")
    made_of = {"separator": sha256(weights), "captures": shards.read_index(cache)["key"]}
    out = cache / separated.FOLDER
    out.mkdir(exist_ok=True)
    with lock(out):
        clean(out)
        _scales(out, made_of, by_shard)
        todo = {name: by_shard[name] for name in sorted(by_shard) if not (out / name).is_file()}
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("Separating", total=sum(map(len, todo.values())))
            if min(workers, len(todo)) > 1:
                _spread(min(workers, len(todo)), (cache, todo, weights, made_of), lambda: bar.advance(task))
            elif todo:
                _write(cache, todo, weights, made_of, lambda: bar.advance(task))
        known = {**made_of, "scale": _scales(out, made_of, by_shard)}
        write_aside(out / "index.json", json.dumps(known, indent=1).encode())


def _scales(out: Path, made_of: dict[str, str], by_shard: dict[str, Examples]) -> dict[str, list[float]]:
    """The scales of every example that is there. UserError for what another separator made, or other captures."""
    scales = {}
    for name, examples in by_shard.items():
        if (out / name).is_file():
            details = separated.read_details(out / name)
            if any(d.get(key) != value for d in details for key, value in made_of.items()) or (
                    {d["file"] for d in details} != {example["file"] for example in examples}):
                raise UserError(f"{out} holds what another separator made, or of other captures; remove it first.")
            scales.update((d["file"], d["scale"]) for d in details)
    return scales


def _spread(count: int, job: tuple[Path, dict[str, Examples], Path, dict[str, str]], told: Callable[[], None]) -> None:
    """The work of :func:`_write` in so many processes, which end with this one."""
    cache, todo, weights, made_of = job
    context = get_context("spawn")
    said, names = context.Queue(), list(todo)
    jobs = [context.Process(target=_work, daemon=True, args=(
        said, os.getpid(), cache, {name: todo[name] for name in names[k::count]}, weights, made_of))
        for k in range(count)]
    try:
        for process in jobs:
            process.start()
        while True:
            running = any(process.is_alive() for process in jobs)
            try:
                word = said.get(timeout=0.2)
            except Empty:
                if not running:
                    break
                continue
            if word:
                raise UserError(word)
            told()
        if failed := [process.exitcode for process in jobs if process.exitcode]:
            raise UserError(f"A process ended by itself (status {failed[0]}), perhaps for want of memory; the same "
                            "command goes on, with fewer --workers.")
    finally:
        for process in jobs:
            process.terminate()
            process.join()
        clean(cache / separated.FOLDER)


def _work(said: Any, parent: int, *job: Any) -> None:
    """What one process does; what goes wrong is said to the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process

    def told() -> None:
        if os.getppid() != parent:
            raise UserError("The run that this process belongs to has ended.")
        said.put("")

    try:
        _write(*job, told)
    except (UserError, OSError) as error:
        said.put(str(error))


def _write(cache: Path, todo: dict[str, Examples], weights: Path, made_of: dict[str, str],
           told: Callable[[], None]) -> None:
    """Write the tars of some shards; `told` is called after every example."""
    torch.set_num_threads(1)
    model = load_separator(weights)
    for name, examples in todo.items():
        with whole_tar(cache / separated.FOLDER / name) as tar:
            for example in examples:
                tar.write(_sample(cache, example, model, made_of))
                told()


def _sample(cache: Path, example: dict[str, Any], model: HTDemucs, made_of: dict[str, str]) -> dict[str, Any]:
    rows = torch.from_numpy(shards.read_audio(cache, example, slice(len(shards.ROWS))))
    heard = torch.stack([separated_music(model, sound) for sound in (rows[0], rows[6:10].sum(0))])
    files, scales = shards.encode(heard.numpy())
    details = json.dumps({**made_of, "scale": scales}, sort_keys=True).encode()
    return {"__key__": example["file"], "json": details, **dict(zip(separated.SUFFIXES, files, strict=True))}


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
