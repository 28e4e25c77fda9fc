"""Score tables: on the terminal, and as JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from resonate.errors import UserError
from resonate.evaluate.verdict import MEASURES

#: A change smaller than this is printed without colour.
VISIBLE_DB = 0.05


def _cell(name: str, value: float | None, base: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.1f}"
    if base is None or not math.isfinite(base) or not math.isfinite(value):
        return text
    change = value - base
    if abs(change) < VISIBLE_DB:
        return f"{text} (0.0)"
    colour = "green" if change * MEASURES[name].better > 0 else "red"
    return f"{text} [{colour}]({change:+.1f})[/{colour}]"


def build(
    rows: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
    *,
    title: str,
    verdicts: Mapping[str, str] | None = None,
    caption: str | None = None,
) -> Table:
    """A table of systems (rows, the first being the input) by measures (columns).

    Cells are dB, with the change against the first row in brackets, green where it is for the better. The arrow in a
    header says which way is better.
    """
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("")
    for name in columns:
        arrow = "↑" if MEASURES[name].better > 0 else "↓"
        table.add_column(f"{name} {arrow}", justify="right", overflow="fold")
    if verdicts is not None:
        table.add_column("verdict")
    first = next(iter(rows.values()), {})
    relative = {"noise_attenuation", "music_distortion"}  # changes already
    for system, values in rows.items():
        base = {} if values is first else first
        cells = [_cell(name, values.get(name), None if name in relative else base.get(name)) for name in columns]
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
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` in one step. Raises UserError where the place cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        os.replace(temporary, path)
    except OSError as error:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        raise UserError(f"Cannot write {path}: {error.strerror}; choose another place.") from error
