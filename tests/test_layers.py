"""Which part of the package imports which: data runs one way, and the networks know nobody."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import resonate

PACKAGE = Path(resonate.__file__).parent

#: Files of a part -> what they may import of the package beside each other and its constants.
MAY = {
    "audio*.py": {"errors"},
    "models/**/*.py": {"audio", "errors"},
    # Diagnosis is fitted to simulated captures of songs.
    "restore/**/*.py": {"audio", "errors", "usage", "faithfulness", "models", "degrade", "data"},
}
#: Files that look further, and at what: the reference that a user gives is measured, and the page is the last step.
FURTHER = {"restore/against.py": {"evaluate"}, "restore/pipeline.py": {"report"}}


def part(name: str) -> str:
    """A module below resonate, without its beginning -> the folder or file right below the package."""
    first = name.split(".")[0]
    return "audio" if first.startswith("audio") else first


def imported(path: Path) -> set[str]:
    """The parts of the package that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not read here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            below = PACKAGE / part(rest)
            # What is no module there is a constant of the package itself.
            if package == "resonate" and rest and (below.is_dir() or below.with_suffix(".py").is_file()):
                found.add(part(rest))
    return found


@pytest.mark.parametrize("files", MAY)
def test_a_part_imports_what_it_may(files):
    further, own = {}, part(files.split("/")[0].removesuffix("*.py"))
    paths = sorted(PACKAGE.glob(files))
    assert paths
    for path in paths:
        if more := imported(path) - MAY[files] - {own}:
            further[path.relative_to(PACKAGE).as_posix()] = more
    assert further == {name: more for name, more in FURTHER.items() if PACKAGE / name in paths}


def test_the_imports_of_a_file_are_seen():
    assert imported(PACKAGE / "restore" / "work.py") >= {"audio", "errors", "models", "restore"}
    assert {"errors", "models", "training"} <= imported(PACKAGE / "training" / "run.py")
    assert "data" in imported(PACKAGE / "training" / "heldout.py")
