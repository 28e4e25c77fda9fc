"""One recording through all stages, into a finished result folder or none."""

from __future__ import annotations

import json
import logging
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

import resonate
from resonate.audio import AudioError, sha256
from resonate.restore import checkpoint, results
from resonate.restore.checkpoint import Step
from resonate.restore.config import RestoreConfig
from resonate.restore.expected import expected
from resonate.restore.scratch import OWNER, clear, move_in_place, scratch_folder
from resonate.restore.stages import chain
from resonate.restore.work import Models, Work
from resonate.usage import peak_mb

log = logging.getLogger(__name__)

#: Goes up when the report's fields, the result's files or what a stage makes of the same settings change.
FORMAT = 6

_PACKAGES = ("torch", "demucs", "av", "numpy", "scipy", "soxr")


@dataclass
class Outcome:
    """What became of a recording: its folder, its report, and whether it had been there already."""

    folder: Path
    report: dict[str, Any]
    already: bool = False

    def told(self) -> list[str]:
        """What a reader must know before trusting the result: the notes, and in a sentence what the checks of
        faithfulness took back."""
        from resonate.report import words

        taken_back = words.taken_back(self.report)
        return [*self.report["notes"], *([words.vetoes(taken_back)] if taken_back else [])]


@dataclass(frozen=True)
class _Identity:
    """What a result is made of: files of the weights, hashes of these and of a tonal reference, hash of the recording
    (`common["input"]`) with the versions, and the key of it all with the settings."""

    weights: dict[str, Any]
    hashes: dict[str, str]
    common: dict[str, Any]
    key: str


def _identity(path: Path, config: RestoreConfig, models: Models) -> _Identity:
    weights = models.weights()
    hashes = {name: item["sha256"] for name, item in weights.items()}
    if config.tonal_reference and not config.diagnose_only:
        hashes["tonal_reference"] = sha256(config.tonal_reference)
    common = {"input": sha256(path), "format": FORMAT, "version": resonate.__version__}
    key = checkpoint.digest(common | {"settings": config.identity(), "weights": hashes})
    return _Identity(weights, hashes, common, key)


def is_done(path: Path, folder: Path, config: RestoreConfig, models: Models) -> bool:
    """Whether `folder` holds exactly this result, so that :func:`restore` has nothing to do. UserError where it holds
    something that must not be replaced."""
    # The recording is only read, for its hash, where there is something to compare it with.
    return results.occupied(folder) and results.finished(
        folder, _identity(path, config, models).key, config.overwrite, config.part
    )


def restore(
    path: Path,
    folder: Path,
    config: RestoreConfig,
    models: Models,
    tell: Callable[[str, float], None] = lambda stage, share: None,
) -> Outcome:
    """Restore `path` into `folder` (master, stems, ledger, report) or, with `diagnose_only`, write its report
    and page alone.

    Nothing is at `folder` until all of it is. A run that was stopped goes on where it stopped; of one whose settings
    have changed, only the stages that the change touches are run again. The input is opened read-only and hashed before
    it is read, after, and at the end.

    Raises:
        UserError: the recording or the weights cannot be used, or `folder` holds something that must not be replaced.
        OSError: the disk is full, or fails; what is done so far is kept.
    """
    stages, made = chain(config), _identity(path, config, models)
    if results.finished(folder, made.key, config.overwrite, config.part):
        if not config.keep:
            clear(folder, config.part)
        return Outcome(folder, results.read_report(folder) or {}, already=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    versions = _versions()
    with scratch_folder(folder, config.keep, config.part) as scratch:
        owner = {"folder": folder.name, "name": path.name, "path": str(path.absolute()), "sha256": made.common["input"]}
        checkpoint.write_json(scratch / OWNER, owner)
        work = Work(path, scratch, scratch, config, models, tell)
        root = made.common | {"seed": config.seed, "device": models.device, "versions": versions}
        steps = checkpoint.plan(stages, config, root, made.hashes, scratch)
        try:
            accounts = _run_all(work, steps, scratch, made.common["input"])
        finally:
            work.close()
        report = {
            "format": FORMAT,
            "resonate": resonate.__version__,
            "name": folder.name,
            "settings_key": made.key,
            "mode": config.mode,
            "seed": config.seed,
            "device": models.device,
            "weights": made.weights,
            "settings": asdict(config),
            "versions": versions,
            "stages": accounts,
            "input": _input(work, made.common["input"]),
            "diagnosis": work.diagnosis,
            "expected": expected(work.diagnosis, config.mode, made.weights),
            "notes": work.notes,
            "timings": {account["name"]: account["seconds"] for account in accounts},
        }
        result = scratch / "result"
        checkpoint.assemble(steps, result)
        _finish(work, report, result)
        move_in_place(result, folder, scratch)
    return Outcome(folder, report)


def _run_all(work: Work, steps: Sequence[Step], scratch: Path, before: str) -> list[dict[str, Any]]:
    """The accounts of all stages, for the report; those that an earlier run finished are not run again."""
    accounts = checkpoint.resume(work, steps, scratch)
    if accounts:
        log.info("%s: goes on after %s", work.path.name, accounts[-1]["name"])
    for step in steps[len(accounts) :]:
        stage, marks, computed = step.stage, checkpoint.begin(work, step), process_time()
        work.tell(stage.name, 0.0)
        torch.manual_seed(work.config.seed)
        effect = stage.run(work)
        if stage.name == "ingest" and sha256(work.path) != before:
            raise AudioError(
                f"{work.path}: the file changed while it was being read; restore it again once it is complete."
            )
        seconds = round(marks.seconds, 3)
        account = {
            "name": stage.name, "settings": stage.settings(work.config), "effect": effect, "seconds": seconds,
        }  # fmt: skip
        checkpoint.finish(work, step, account, scratch, work.config.keep)
        log.info(
            "%s: %s took %.2f s (CPU %.2f s, peak %.0f MB): %s",
            work.path.name, stage.name, seconds, process_time() - computed, peak_mb(), effect,
        )  # fmt: skip
        accounts.append(account)
    return accounts


def _finish(work: Work, report: dict[str, Any], result: Path) -> None:
    """Drop what was not asked for, add the files' hashes, make the page, write report.json."""
    if not work.config.ledger and work.config.mode == "extend":
        shutil.rmtree(result / "work", ignore_errors=True)
    if not work.config.diagnose_only:
        report["files"] = {
            file.relative_to(result).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
            for file in sorted(result.rglob("*"))
            if file.is_file()
        }
    # Matplotlib and the encoders are only needed, and loaded, here.
    from resonate.report.page import build

    begun, computed = perf_counter(), process_time()
    work.tell("report", 0.0)
    build(result, report)
    seconds = report["timings"]["report"] = round(perf_counter() - begun, 3)
    log.info(
        "%s: report took %.2f s (CPU %.2f s, peak %.0f MB)",
        work.path.name, seconds, process_time() - computed, peak_mb(),
    )  # fmt: skip
    # Names may hold bytes that are no text; they are kept as JSON's \\u escapes.
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    (result / "report.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _input(work: Work, before: str) -> dict[str, Any]:
    """Facts about the recording. What happens to the file once it was read cannot touch the result: it is noted."""
    try:
        after: str | None = sha256(work.path)
        size: int | None = work.path.stat().st_size
    except OSError:
        after = size = None
    if after != before:
        work.notes.append(
            "the file was changed, moved or deleted after it had been read; the result is of what it held before"
        )
    return {
        "name": work.path.name,
        "path": str(work.path.absolute()),
        "bytes": size,
        "sha256": before,
        "sha256_after": after,
        "rate": work.rate,
        "samples": work.samples,
        "seconds": round(work.samples / work.rate, 6),
        "source": asdict(work.source),
    }
