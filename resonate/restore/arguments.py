"""The command line of infer.py, read before Hydra sees any of it, so that names are taken literally.

Hydra's grammar refuses or rewrites quotes, commas, brackets, `=` and names that look like numbers. What follows
`input=`, `output=`, `reference=`, `tonal_reference=`, `separator=` and `restorer=` is a name, and so is any word that
is a file.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from resonate.audio import SUFFIXES
from resonate.errors import UserError

#: Keys whose values are names.
NAMES = ("input", "output", "reference", "tonal_reference", "separator", "restorer")

_OVERRIDE = re.compile(r"^[~+]{0,2}[A-Za-z_][\w./@-]*=", re.A)


@dataclass
class Arguments:
    """Names as given, and what is left for Hydra."""

    inputs: list[str] = field(default_factory=list)
    output: str | None = None
    reference: str | None = None
    tonal_reference: str | None = None
    separator: str | None = None
    restorer: str | None = None
    overrides: list[str] = field(default_factory=list)
    help: bool = False


def parse(argv: list[str]) -> Arguments:
    """Sort words into names and overrides. UserError for an option that is not known or lacks its value."""
    out, words, literal = Arguments(), list(argv), False
    while words:
        word = words.pop(0)
        if literal:
            out.inputs.append(word)
        elif word == "--":
            literal = True
        elif word in ("-h", "--help"):
            out.help = True
        elif word in ("-o", "--output"):
            if not words:
                raise UserError(f"{word} needs the name of a folder after it.")
            out.output = words.pop(0)
        elif word.startswith("--output="):
            out.output = word.removeprefix("--output=")
        elif _is_override(word):
            key, value = word.split("=", 1)
            if key not in NAMES:
                out.overrides.append(word)
            elif not value:
                raise UserError(f"{key}= needs a name after it.")
            elif key == "input":
                out.inputs.append(value)
            else:
                setattr(out, key, value)
        elif word.startswith("-") and not os.path.lexists(word):
            raise UserError(f"There is no option {word}, and no file of that name; infer.py --help lists the options.")
        else:
            out.inputs.append(word)
    return out


def _is_override(word: str) -> bool:
    """Whether a word sets something. One that is the name of an existing file does not, unless it names one anyhow."""
    if not _OVERRIDE.match(word):
        return False
    key, value = word.split("=", 1)
    named = key in NAMES and key != "output" and os.path.lexists(os.path.expanduser(value))
    return named or not os.path.lexists(word)


def find_inputs(names: list[str], failures: dict[Path, str] | None = None) -> list[Path]:
    """Files for names, globs and folders, in their order, each once.

    A name that exists is never taken for a glob. A folder stands for the recordings in it (by suffix, sorted, not those
    of its own folders). UserError for a name that fits nothing and a folder without recordings; where `failures` is
    given and there is more than that one, such a name goes there with the sentence.
    """
    if not names:
        raise UserError("No recording is given: name one, as in infer.py input=show.m4a output=out/.")
    asked = [path for name in names for path in _fitting(name)]
    found: list[Path] = []
    for path in asked:
        try:
            found += _recordings(path)
        except UserError as error:
            if failures is None or len(asked) == 1:
                raise
            failures[path] = str(error)
    unique = {os.path.abspath(path): path for path in reversed(found)}
    return [path for path in found if unique.pop(os.path.abspath(path), None) is not None]


def _fitting(name: str) -> list[Path]:
    """The files and folders that a name or a glob stands for; the name itself where there are none."""
    path = Path(name)
    if not os.path.lexists(path) and name.startswith("~"):
        path = path.expanduser()
    if os.path.lexists(path) or not glob.has_magic(name):
        return [path]
    return [Path(match) for match in sorted(glob.glob(str(path)))] or [path]


def _recordings(path: Path) -> list[Path]:
    if path.is_dir():
        return _in_folder(path)
    if not os.path.lexists(path):
        raise UserError(f"{path}: there is no such file.")
    return [path]


def _in_folder(folder: Path) -> list[Path]:
    try:
        files = sorted(
            p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
        )
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}).") from None
    if not files:
        raise UserError(f"{folder}: there are no recordings in this folder.")
    return files
