"""What has been scored already: a small file per recording and system, so that a killed run goes on where it was.

A file's name is a hash of all that its content depends on: the code and packages behind the figures, the recording's
source, the system with its settings and weights, and the extras asked for. What does not depend on a change is found
again: new weights leave the rivals' figures as they are, and one more system costs one more system.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from resonate.errors import UserError
from resonate.evaluate.picture import Panel

PACKAGE = Path(__file__).resolve().parents[1]
#: Parts of the package on which no figure of one recording depends; weights count by the system that uses them.
APART = ("report/", "training/", "weights/", "data/module.py", "data/examples.py", "data/stream.py",
         "degrade/pictures.py", *(f"evaluate/{name}.py" for name in (
    "__main__", "answers", "bootstrap", "catalogue", "demo", "listening", "listening_material", "multipass", "page",
    "picture", "publish", "results", "scorecard", "separation", "settings", "stem_aims", "success", "table", "tracking",
    "worst")))  # fmt: skip
#: Packages whose versions shape figures.
LIBRARIES = ("numpy", "scipy", "torch", "demucs", "av", "soxr", "noisereduce", "nara-wpe", "pystoi", "zimtohrli",
             "visqol-python", "onnxruntime", "basic-pitch")  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What is known of one system on one recording.

    row: the fields of a `run.Row`, or None where the system could not run, for the `reason`; panels: for the picture;
    spent: core seconds, of system and judging together.
    """

    row: dict[str, Any] | None
    reason: str = ""
    panels: list[Panel] = field(default_factory=list)
    spent: float = 0.0


def describe(paths: Iterable[Path]) -> str:
    """Names, sizes and times of change of files; of folders, of all files below."""
    lines = []
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                facts = file.stat()
                lines.append(f"{file} {facts.st_size} {facts.st_mtime_ns}")
    return "\n".join(lines)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


@lru_cache(maxsize=2)
def code(restoring: bool) -> str:
    """Hash of the package's code and bank (but for APART) and of the versions of LIBRARIES; of the code that restores
    only for systems that do."""
    apart = APART if restoring else (*APART, "restore/")
    digest = hashlib.sha256("\n".join(f"{name} {_version(name)}" for name in LIBRARIES).encode())
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE).as_posix()
        if path.is_file() and "__pycache__" not in name and not name.startswith(apart):
            digest.update(name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


class Store:
    """Entries below a folder, which keeps itself out of version control. UserError where it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".gitignore").write_text("*\n", "utf-8")
        except OSError as error:
            raise UserError(f"store={folder}: cannot be written ({error.strerror}); choose another folder.") from error

    def _path(self, *words: str) -> Path:
        text = chr(0).join(words).encode("utf-8", "surrogateescape")
        return self.folder / f"{hashlib.sha256(text).hexdigest()[:32]}.npz"

    def get(self, *words: str) -> Entry | None:
        """What was put under the same words; None where there is nothing, or a damaged file."""
        try:
            with np.load(self._path(*words), allow_pickle=False) as content:
                facts = json.loads(str(content["facts"]))
                panels = [Panel(name, content[f"panel{k}"], seconds)
                          for k, (name, seconds) in enumerate(facts["panels"])]  # fmt: skip
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        return Entry(facts["row"], facts["reason"], panels, facts["spent"])

    def put(self, entry: Entry, *words: str) -> None:
        """Keep an entry, in one step. UserError where it cannot be written."""
        path = self._path(*words)
        part = path.with_name(f".{path.stem}.{os.getpid()}.part")
        facts = {"row": entry.row, "reason": entry.reason, "spent": entry.spent,
                 "panels": [(panel.name, panel.seconds) for panel in entry.panels]}  # fmt: skip
        arrays = {f"panel{k}": panel.levels for k, panel in enumerate(entry.panels)}
        try:
            with part.open("wb") as handle:
                np.savez_compressed(handle, facts=np.array(json.dumps(facts)), **arrays)
            os.replace(part, path)
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}); choose another store=.") from error
