"""Shards: which there are, writing one, and what one job of a render does.

A shard is a pure function of settings, split and number, byte for byte: fixed order, names, times and owners in the
tar. It is written aside and renamed, so a shard that is there is whole; what a killed render leaves besides is removed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import webdataset as wds

from data_recipes.render_config import Plan
from data_recipes.render_examples import Renderer
from resonate.data.shards import encode, row_names
from resonate.data.splits import SPLITS
from resonate.errors import UserError

log = logging.getLogger(__name__)

#: Holds the process number of the render that is under way here; the jobs that it starts inherit it.
_RENDER = "RESONATE_RENDER_PROCESS"

Shard = tuple[str, int]
_NAME = re.compile(rf"({'|'.join(SPLITS)})-(\d{{6}})\.tar")


def shard_path(out: Path, shard: Shard) -> Path:
    """Where shard (split, number) lies."""
    return out / f"{shard[0]}-{shard[1]:06d}.tar"


def present(out: Path) -> list[Shard]:
    """The shards in `out`, by split and number."""
    names = [_NAME.fullmatch(path.name) for path in out.glob("*.tar")]
    found = [(match[1], int(match[2])) for match in names if match]
    return sorted(found, key=lambda shard: (SPLITS.index(shard[0]), shard[1]))


def missing(plan: Plan) -> list[Shard]:
    """The shards that the plan asks for and that are not there."""
    there = set(present(plan.out))
    wanted = [(split, number) for split, count in plan.shards.items() for number in range(count)]
    return [shard for shard in wanted if shard not in there]


def write_aside(target: Path, data: bytes) -> None:
    """Write a small file so that it is there whole or not at all."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, target)


def clean(out: Path) -> None:
    """Remove what a killed render left: partial files and the jobs' complaints."""
    for path in [*out.glob(".*.tar.*"), *out.glob(".*.part"), *out.glob(".failed-*")]:
        if path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """One render per folder and machine: a second one is refused with UserError. A killed one holds nothing."""
    with (out / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another render is writing to {out}; wait for it or choose another.") from error
        os.environ[_RENDER] = str(os.getpid())
        try:
            yield
        finally:
            os.environ.pop(_RENDER, None)


def _abandoned(parent: int) -> bool:
    """Whether this is a job whose render, the process `parent`, has ended. A render that does the work itself may lose
    the shell that started it (nohup) and go on."""
    return os.environ.get(_RENDER) != str(os.getpid()) and os.getppid() != parent


@contextmanager
def whole_tar(target: Path) -> Iterator[wds.TarWriter]:
    """A WebDataset tar that is written aside and renamed to `target` when the block ends; nothing is left behind where
    that fails. The same bytes whoever writes it and when."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as handle:
            with wds.TarWriter(handle, user="", group="", mode=0o644, encoder=False, mtime=0) as tar:
                yield tar
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def write_shard(renderer: Renderer, out: Path, number: int, parent: int) -> Path:
    """Render and write one shard; returns its path. Nothing is left behind where that fails, nor where the process
    `parent`, which started this one, has ended."""
    target = shard_path(out, (renderer.split, number))
    count = target.with_name(f".{target.name}.{os.getpid()}.count")
    size = renderer.settings.per_shard
    try:
        with whole_tar(target) as tar, count.open("wb", buffering=0) as tally:
            for index in range(number * size, (number + 1) * size):
                tar.write(_sample(renderer, index))
                tally.write(b".")  # for the progress bar
                if _abandoned(parent):
                    raise UserError("The render that this job belongs to has ended.")
    finally:
        count.unlink(missing_ok=True)
    return target


def _sample(renderer: Renderer, index: int) -> dict[str, Any]:
    rows, details = renderer.example(index)
    flacs, details["scale"] = encode(rows)
    text = json.dumps(details, sort_keys=True).encode()
    files = dict(zip(row_names(details), flacs, strict=True))
    return {"__key__": f"{renderer.split}-{index:08d}", "json": text, **files}


def examples_written(out: Path, todo: list[Shard], per_shard: int) -> int:
    """Examples of `todo` in shards that are done and in those that jobs, here or elsewhere, are writing."""
    done = sum(shard_path(out, shard).exists() for shard in todo)
    under_way = 0
    for path in out.glob(".*.count"):
        with suppress(FileNotFoundError):  # just finished
            under_way += path.stat().st_size
    return min(len(todo) * per_shard, done * per_shard + under_way)


def render_part(plan: Plan, todo: list[Shard], part: int) -> None:
    """One job: every `plan.workers`-th shard of `todo`, from number `part` on.

    What goes wrong with the music, the bank or the disk is left in a file for the process that started the jobs, which
    may be on another machine.
    """
    renderers: dict[str, Renderer] = {}
    parent = os.getppid()
    try:
        for split, number in todo[part :: plan.workers]:
            if split not in renderers:
                renderers[split] = Renderer(plan, split)
            write_shard(renderers[split], plan.out, number, parent)
            log.info("%s-%06d is written", split, number)
    except (UserError, OSError) as error:
        log.exception("part %d stopped", part)
        if _abandoned(parent):
            return  # nobody waits for the answer, and another render may be at work here
        reason = str(error) if isinstance(error, UserError) else f"{error.filename or plan.out}: {error.strerror}."
        write_aside(plan.out / f".failed-{part:05d}", reason.encode("utf-8", "backslashreplace"))


def failures(out: Path) -> list[str]:
    """What the jobs complained of."""
    return [path.read_text(encoding="utf-8") for path in sorted(out.glob(".failed-*"))]
