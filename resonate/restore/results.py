"""Result folders: their names, and whether one may be replaced."""

from __future__ import annotations

import json
import os
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resonate.audio import sha256
from resonate.errors import UserError
from resonate.restore.config import part_of
from resonate.restore.scratch import owners

#: Folder below the output for the run's configuration and log. No result is called so.
RUNS = ".hydra"


def _fold(name: str) -> str:
    """How file systems that ignore case and Unicode form see a name."""
    return unicodedata.normalize("NFC", name).casefold()


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a result folder, or None where there is none that can be read."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and "settings_key" in report else None


def folder_names(inputs: list[Path], output: Path) -> list[str]:
    """A folder name per input: its name without suffix; `a.mp4` beside an `a.m4a` becomes `a_mp4`.

    A name that an earlier run gave to another recording, finished or stopped, counts as taken.
    """
    taken, names = {_fold(RUNS)}, []
    stopped: dict[str, list[dict[str, Any]]] = {}
    for note in owners(output):
        stopped.setdefault(_fold(str(note["folder"])), []).append(note)
    for path in inputs:
        stem = path.stem if path.stem.strip(". ") else "recording"
        suffix = path.suffix.lstrip(".")
        candidates = [stem, *([f"{stem}_{suffix}"] if suffix else [])]
        candidates += [f"{candidates[-1]}_{i}" for i in range(2, len(inputs) + 1000)]
        for name in candidates:
            report = read_report(output / name)
            known = [*([report.get("input", {})] if report else []), *stopped.get(_fold(name), [])]
            if _fold(name) not in taken and not any(_is_another(item, path) for item in known):
                break
        taken.add(_fold(name))
        names.append(name)
    return names


def _is_another(known: dict[str, Any], path: Path) -> bool:
    """Whether the recording of a result or of a stopped run is another file: of another name, or of another folder and
    with other content. A file that changed in its place, or moved, is the same recording."""
    if _fold(str(known.get("name"))) != _fold(path.name):
        return True
    if "sha256" not in known or known.get("path") == str(path.absolute()):
        return False
    return known["sha256"] != sha256(path)


def check_output(output: Path) -> bool:
    """Make the output folder and try to write in it; whether it is new. UserError where that fails."""
    try:
        is_new = not output.exists()
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise UserError(
            f"The output folder {output} cannot be written ({error.strerror}); name another with output=FOLDER."
        ) from None
    return is_new


def check_outside(folder: Path, files: Iterable[Path]) -> None:
    """UserError where one of `files`, which a run reads, lies in the result folder that the run would replace."""
    if not folder.is_dir():
        return
    for file in files:
        # By what the folders are, not by their names: a file system may ignore case.
        if any(parent.samefile(folder) for parent in file.resolve().parents):
            raise UserError(
                f"{file} lies in the result folder {folder}, which would be replaced; move it out of there, or choose "
                "another output."
            )


def occupied(folder: Path) -> bool:
    """Whether there is anything at `folder` but an empty folder."""
    return os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir()))


def _complete(folder: Path, report: dict[str, Any]) -> bool:
    """Whether all files that a report lists are there, in their size."""
    try:
        return all((folder / name).stat().st_size == about["bytes"] for name, about in report.get("files", {}).items())
    except (FileNotFoundError, NotADirectoryError):
        return False


def finished(folder: Path, key: str, overwrite: bool, part: str = "") -> bool:
    """Whether `folder` already holds exactly this result, which is whole or a `part` (a preview, a diagnosis), with all
    its files. One that lacks files may be made again, without a word.

    Raises:
        UserError: it holds another result and `overwrite` is off, a whole one that only a part would replace, or
            something that is no result at all.
    """
    if not occupied(folder):
        return False
    report = read_report(folder)
    if report is None:
        raise UserError(f"{folder} exists and is not a result of Resonate; it is left alone: choose another output.")
    if report["settings_key"] == key:
        return _complete(folder, report)
    settings = report.get("settings", {})
    if part and not part_of(settings):
        raise UserError(
            f"{folder} holds a whole restoration, which a preview or a diagnosis does not replace; choose another "
            "output for it."
        )
    if not overwrite and not settings.get("diagnose_only"):
        raise UserError(
            f"{folder} holds a result made with other settings or weights, or from another state of the "
            "recording; add overwrite=true to replace it, or choose another output."
        )
    return False
