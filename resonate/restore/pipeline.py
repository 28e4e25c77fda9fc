"""One recording through all stages, into a finished result folder or none."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import resonate
from resonate.audio import sha256
from resonate.errors import UserError
from resonate.restore import results
from resonate.restore.config import RestoreConfig
from resonate.restore.deliver import Ledger, Master, Stems
from resonate.restore.networks import Remix, Restore, Separate
from resonate.restore.prepare import Diagnose, Ingest, Precondition
from resonate.restore.work import Models, Stage, Work

log = logging.getLogger(__name__)

#: Goes up when the report's fields or the result's files change.
FORMAT = 1

DIAGNOSIS: tuple[Stage, ...] = (Ingest(), Diagnose())
RESTORATION: tuple[Stage, ...] = (Precondition(), Separate(), Restore(), Remix(), Ledger(), Stems(), Master())

_PACKAGES = ("torch", "demucs", "av", "numpy", "scipy", "soxr")


@dataclass
class Outcome:
    """What became of a recording: its folder, its report, and whether it had been there already."""

    folder: Path
    report: dict[str, Any]
    already: bool = False


def restore(
    path: Path,
    folder: Path,
    config: RestoreConfig,
    models: Models,
    tell: Callable[[str, float], None] = lambda stage, share: None,
) -> Outcome:
    """Restore `path` into `folder` (master, stems, ledger, report) or, with `diagnose_only`, write its report alone.

    Nothing is at `folder` until all of it is. The input is opened read-only and hashed before and after.

    Raises:
        UserError: the recording or the weights cannot be used, or `folder` holds something that must not be replaced.
    """
    digest = sha256(path)
    weights = {} if config.diagnose_only else _weights(models)
    identity = {
        "settings": config.identity(),
        "input": digest,
        "format": FORMAT,
        "version": resonate.__version__,
        "weights": {name: item["sha256"] for name, item in weights.items()},
    }
    key = results.settings_key(identity)
    if results.finished(folder, key, config.overwrite):
        return Outcome(folder, results.read_report(folder) or {}, already=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    with scratch_folder(folder) as scratch:
        result = scratch / "result"
        result.mkdir()
        work = Work(path, scratch, result, config, models, tell)
        try:
            stages = DIAGNOSIS if config.diagnose_only else DIAGNOSIS + RESTORATION
            report = {
                "format": FORMAT,
                "resonate": resonate.__version__,
                "name": folder.name,
                "settings_key": key,
                "mode": config.mode,
                "seed": config.seed,
                "device": models.device,
                "weights": weights,
                "settings": asdict(config),
                "versions": _versions(),
            }
            report["stages"] = [_run(stage, work) for stage in stages]
        finally:
            work.close()
        if sha256(path) != digest:
            raise UserError(f"{path}: the file changed while it was being read; restore it again once it is complete.")
        report |= {
            "input": _input(work, digest),
            "diagnosis": work.diagnosis,
            "notes": work.notes,
            "timings": {stage["name"]: stage["seconds"] for stage in report["stages"]},
        }
        _finish(work, report)
        results.move_in_place(result, folder)
    return Outcome(folder, report)


def _run(stage: Stage, work: Work) -> dict[str, Any]:
    begun = time.perf_counter()
    work.tell(stage.name, 0.0)
    effect = stage.run(work)
    seconds = round(time.perf_counter() - begun, 3)
    log.info("%s: %s took %.2f s: %s", work.path.name, stage.name, seconds, effect)
    return {"name": stage.name, "settings": stage.settings(work.config), "effect": effect, "seconds": seconds}


def _finish(work: Work, report: dict[str, Any]) -> None:
    """Drop what was not asked for, add the files' hashes, make the page, write report.json."""
    if not work.config.ledger and work.config.mode == "extend":
        shutil.rmtree(work.result / "work", ignore_errors=True)
    if not work.config.diagnose_only:
        report["files"] = {
            file.relative_to(work.result).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
            for file in sorted(work.result.rglob("*"))
            if file.is_file()
        }
        # Matplotlib and the encoders are only needed, and loaded, here.
        from resonate.report.page import build

        begun = time.perf_counter()
        work.tell("report", 0.0)
        build(work.result, report)
        report["timings"]["report"] = round(time.perf_counter() - begun, 3)
    # Names may hold bytes that are no text; they are kept as JSON's \\u escapes.
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    (work.result / "report.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _weights(models: Models) -> dict[str, dict[str, str]]:
    return {
        name: {"path": str(path), "sha256": sha256(path)}
        for name, path in (("separator", models.separator_path), ("restorer", models.restorer_path))
    }


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _input(work: Work, digest: str) -> dict[str, Any]:
    return {
        "name": work.path.name,
        "path": str(work.path.absolute()),
        "bytes": work.path.stat().st_size,
        "sha256": digest,
        "sha256_after": digest,
        "rate": work.rate,
        "samples": work.samples,
        "seconds": round(work.samples / work.rate, 6),
        "source": asdict(work.source),
    }


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder`, gone afterwards; what a killed run left there is cleared first.

    UserError where another run works on the same result.
    """
    # A hash: a name may be as long as the file system allows.
    scratch = folder.parent / f".work-{hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:16]}"
    scratch.mkdir(exist_ok=True)
    handle = os.open(scratch, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another run is working on {folder}; wait for it, or choose another output.") from None
        for item in scratch.iterdir():
            shutil.rmtree(item) if item.is_dir() else item.unlink()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch)
    finally:
        os.close(handle)
