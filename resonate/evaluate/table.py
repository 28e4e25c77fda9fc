"""Score tables on the terminal, and files written in one step."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from resonate.errors import UserError
from resonate.evaluate.catalogue import CHANGES, MEASURES


def _cell(name: str, value: float | None, base: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    digits = MEASURES[name].digits
    text = f"{value:.{digits}f}"
    if base is None or not math.isfinite(base) or not math.isfinite(value):
        return text
    change = value - base
    if abs(change) < 0.5 * 10.0**-digits:
        return f"{text} ({0:.{digits}f})"
    # Where nothing is best, what counts is the distance from it.
    gain = change * MEASURES[name].better if MEASURES[name].better else abs(base) - abs(value)
    colour = "green" if gain > 0 else "red"
    return f"{text} [{colour}]({change:+.{digits}f})[/{colour}]"


def build(
    rows: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
    *,
    title: str,
    verdicts: Mapping[str, str] | None = None,
    caption: str | None = None,
) -> Table:
    """A table of systems (rows, the first being the input) by measures (columns).

    Cells are in the measures' units, with the change against the first row in brackets, green where it is for the
    better. The arrow in a header says which way is better.
    """
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(f"{name} {MEASURES[name].arrow}", justify="right", overflow="fold")
    if verdicts is not None:
        table.add_column("verdict")
    first = next(iter(rows.values()), {})
    for system, values in rows.items():
        base = {} if values is first else first
        cells = [_cell(name, values.get(name), None if name in CHANGES else base.get(name)) for name in columns]
        table.add_row(system, *cells, *([verdicts.get(system, "")] if verdicts is not None else []))
    return table


def legend(columns: Sequence[str]) -> str:
    """One line per column: what it says and what cheats it."""
    return "\n".join(f"{name}: {MEASURES[name].says}; cheat: {MEASURES[name].cheat}" for name in columns)


def plain(value: Any) -> Any:
    """`value` with NaN and infinities as None, so that strict JSON readers take it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.floating):
        value = float(value)
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def check_place(path: Path) -> None:
    """UserError, before any work, where `path` is no file name or its folder cannot be had."""
    if path.suffix != ".json":
        raise UserError(f"json={path}: the name must end in .json; CSV and page take the same name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}; choose another place.") from error


def write_text(path: Path, text: str) -> None:
    """Write a file in one step. Raises UserError where the place cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, "utf-8", "backslashreplace")
        os.replace(temporary, path)
    except OSError as error:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        raise UserError(f"Cannot write {path}: {error.strerror}; choose another place.") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` in one step. Raises UserError where the place cannot be written."""
    write_text(path, json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
