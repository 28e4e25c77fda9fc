"""What a stopped run left, and where the next one goes on.

Each stage works in a folder of its own whose name holds a key: a hash over the recording's content, the settings of
this and all earlier stages, the weights they use and the versions of the libraries. A finished stage leaves `done.json`
with its account and the names of all arrays that later stages may read; it is written after them and in one step, so
it never speaks of what is not there. Stages that go block by block also leave `progress.json` while they run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from resonate.audio import Source
from resonate.models.stats import RecordingStats
from resonate.restore.config import RestoreConfig
from resonate.restore.scratch import DONE, OLD
from resonate.restore.store import Store, reopen
from resonate.restore.work import Stage, Work

#: Seconds between two notes of a stage's progress; at most this much work is done twice.
EVERY = 3.0

#: Folder of a stage in which it leaves its part of the result.
OUT = "out"

#: Fields of `Work` that belong to a run and not to what the stages found out.
_OF_THE_RUN = {
    "path", "folder", "result", "config", "models", "tell", "track", "store", "progress", "retired",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A stage, the key of its result and the folder it works in."""

    stage: Stage
    key: str
    folder: Path

    @property
    def out(self) -> Path:
        """Its part of the result folder."""
        return self.folder / OUT


def digest(content: Any) -> str:
    """A hash over JSON-able content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def plan(
    stages: Sequence[Stage], config: RestoreConfig, root: dict[str, Any], files: dict[str, str], scratch: Path
) -> list[Step]:
    """The steps below the folder `scratch`.

    Args:
        stages: in their order.
        config: settings.
        root: what shapes every stage (the recording's hash, versions, seed, device).
        files: hashes of what single stages use: name -> SHA-256.
        scratch: folder of the run.
    """
    key, steps = digest(root), []
    for stage in stages:
        used = {name: files.get(name) for name in getattr(stage, "networks", ())}
        key = digest([key, stage.name, stage.settings(config), used])
        steps.append(Step(stage, key, scratch / f"{stage.name}-{key[:16]}"))
    return steps


class Marks:
    """Progress of the stage that works in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.json"
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            if any((folder / name).stat().st_size != size for name, size in kept["files"].items()):
                raise ValueError("an array has another size")
            self.done, self._before = int(kept["done"]), float(kept["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            self.done, self._before = 0, 0.0
        self._begun = self._last = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time that the stage took so far, in all runs."""
        return self._before + time.perf_counter() - self._begun

    def mark(self, done: int, stores: Iterable[Store], force: bool = False) -> None:
        """Blocks up to `done` are written to `stores`; noted every few seconds, or now with `force`."""
        if not force and time.perf_counter() - self._last < EVERY:
            return
        files = {}
        for store in stores:
            store.sync()
            files[store.path.relative_to(self._path.parent).as_posix()] = store.bytes
        write_json(self._path, {"done": done, "seconds": round(self.seconds, 3), "files": files})
        self._last = time.perf_counter()


def write_json(path: Path, content: Any) -> None:
    """Write in one step, and to the disk."""
    part = path.with_suffix(".part")
    with open(part, "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(content, file, default=_encode)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"__array__": [value.dtype.str, list(value.shape), data]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, RecordingStats):
        return {"__stats__": {f.name: getattr(value, f.name) for f in fields(value)}}
    if isinstance(value, Source):
        return {"__source__": asdict(value)}
    raise TypeError(f"{type(value).__name__} cannot be kept between runs")


def _decode(value: dict[str, Any]) -> Any:
    if "__array__" in value:
        kind, shape, data = value["__array__"]
        return np.frombuffer(base64.b64decode(data), kind).reshape(shape).copy()
    if "__stats__" in value:
        return RecordingStats(**value["__stats__"])
    return Source(**value["__source__"]) if "__source__" in value else value


def _read(step: Step) -> dict[str, Any] | None:
    try:
        done = json.loads((step.folder / DONE).read_text(encoding="utf-8"), object_hook=_decode)
        return done if done["key"] == step.key and _out_files(step) == done["out"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _out_files(step: Step) -> dict[str, int]:
    """Name -> bytes of what a step left for the result."""
    files = (file for file in step.out.rglob("*") if file.is_file())
    return {file.relative_to(step.out).as_posix(): file.stat().st_size for file in files}


def resume(work: Work, steps: Sequence[Step], scratch: Path) -> list[dict[str, Any]]:
    """Bring `work` to where the last run came and clear away what is of no use; the accounts of the finished stages."""
    finished: list[dict[str, Any]] = []
    for step in steps:
        done = _read(step)
        if done is None:
            break
        finished.append(done)
    while finished and not _load(work, finished[-1], scratch):
        finished.pop()
    useful = {step.folder.name for step in steps[: len(finished) + 1]}
    for item in scratch.iterdir():
        if item.is_dir() and item.name not in useful and item.name != OLD:
            shutil.rmtree(item)
    return [done["account"] for done in finished]


def _load(work: Work, done: dict[str, Any], scratch: Path) -> bool:
    """Take tracks and findings from the account of a finished stage; False where an array is gone."""
    found: dict[str, dict[str, Any]] = {"track": {}, "store": {}}
    try:
        for kind, items in found.items():
            for name, about in done[kind].items():
                items[name] = reopen(scratch / about["file"], about["is"])
    except FileNotFoundError:
        for item in [*found["track"].values(), *found["store"].values()]:
            item.close()
        return False
    work.track, work.store = found["track"], found["store"]
    for name, value in done["state"].items():
        setattr(work, name, value)
    return True


def begin(work: Work, step: Step) -> Marks:
    """Let `work` write to the step's folder, which is empty unless the stage had got to somewhere."""
    marks = Marks(step.folder)
    if marks.done == 0 and step.folder.exists():
        shutil.rmtree(step.folder)
    step.out.mkdir(parents=True, exist_ok=True)
    work.folder, work.result, work.progress = step.folder, step.out, marks
    return marks


def finish(work: Work, step: Step, account: dict[str, Any], scratch: Path, keep: bool) -> None:
    """Note that the step is done, then free what no later stage needs (unless `keep`)."""
    arrays = {"track": work.track, "store": work.store}
    for items in arrays.values():
        for item in items.values():
            item.sync()
    out = _out_files(step)
    for name in out:
        _sync(step.out / name)
    done = {
        "key": step.key,
        "account": account,
        "out": out,
        "state": {f.name: getattr(work, f.name) for f in fields(work) if f.name not in _OF_THE_RUN},
    }
    for kind, items in arrays.items():
        done[kind] = {
            name: {"file": item.path.relative_to(scratch).as_posix(), "is": item.describe()}
            for name, item in items.items()
        }
    write_json(step.folder / DONE, done)
    work.release(delete=not keep)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def assemble(steps: Sequence[Step], result: Path) -> None:
    """The folder `result` from what all steps left for it: hard links, or copies where the disk has no links."""
    if result.exists():
        shutil.rmtree(result)
    result.mkdir()
    for step in steps:
        for name in sorted(_out_files(step)):
            target = result / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            try:
                os.link(step.out / name, target)
            except OSError:
                shutil.copyfile(step.out / name, target)
