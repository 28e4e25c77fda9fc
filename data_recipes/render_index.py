"""What lies beside the shards: the index that training reads, and the manifest of all audio that went in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_recipes.common import read_table, write_table
from data_recipes.render_config import Plan
from data_recipes.render_shards import present, shard_path, write_aside
from resonate import RATE
from resonate.data.music import scan_music
from resonate.data.shards import CROWD, FORMAT, ROWS, read_details
from resonate.errors import UserError

#: What only the JSON in the shards holds: it rebuilds an example, and is long or said once for all.
NOT_INDEXED = ("params", "key", "settings", "index")
INDEX, MANIFEST = "index.json", "manifest.tsv"
COLUMNS = ("kind", "file", "name", "artist", "licence", "source", "sha256", "examples", "note")


def check_folder(plan: Plan) -> None:
    """Raises UserError where the output holds something else than what the plan would make."""
    path = plan.out / INDEX
    if not path.is_file():
        if present(plan.out):
            raise UserError(f"{plan.out} holds shards but no {INDEX}; remove them or choose another out=FOLDER.")
        return
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        key, before = index["key"], index["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged or not a renderer's; choose another out=FOLDER.") from error
    if key != plan.settings.key:
        now = json.loads(json.dumps(asdict(plan.settings)))
        other = [name for name in now if not isinstance(before, dict) or before.get(name) != now[name]]
        raise UserError(f"{plan.out} holds shards made with other settings ({', '.join(other)}); choose another "
                        "out=FOLDER, or remove it.")


def write_index(plan: Plan) -> list[dict[str, Any]]:
    """Writes index.json and manifest.tsv from the shards that are there; returns the examples' JSON (see
    `shards.read_details`). Raises UserError for a shard that is damaged or made with other settings."""
    details = []
    for shard in present(plan.out):
        path = shard_path(plan.out, shard)
        found = read_details(path)
        if len(found) != plan.settings.per_shard or any(d.get("key") != plan.settings.key for d in found):
            raise UserError(f"{path} is not whole or was made with other settings; remove it and render again.")
        details += found
    examples = [{name: value for name, value in d.items() if name not in NOT_INDEXED} for d in details]
    rows = [*ROWS, *[CROWD] * plan.settings.crowd]
    index = {"format": FORMAT, "rate": RATE, "rows": rows, "key": plan.settings.key,
             "settings": asdict(plan.settings), "examples": examples}
    write_aside(plan.out / INDEX, json.dumps(index, indent=1).encode())
    write_table(plan.out / MANIFEST, COLUMNS, _manifest(plan, details))
    return details


def _manifest(plan: Plan, details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per file that went into the examples: every file of their songs, every recording the chain drew."""
    songs = Counter(name for d in details for name in set(d["songs"]))
    drawn = Counter(text for d in details for text in set(_texts(d["params"])))
    return sorted([*_music_rows(plan, songs), *_bank_rows(plan, drawn)], key=lambda row: row["file"])


def _music_rows(plan: Plan, used: Counter[str]) -> Iterator[dict[str, Any]]:
    for folder, _ in plan.music:
        table = {row.get("file"): row for row in read_table(Path(folder) / "songs.tsv")}
        for song in scan_music(folder):
            for path in song.files if used[song.name] else ():
                file = path.relative_to(folder).as_posix()
                row = table.get(file, {})
                yield {"kind": "music", "file": f"{Path(folder).name}/{file}", "name": song.name,
                       "artist": song.artist, "licence": song.licence, "source": row.get("source", ""),
                       "sha256": row.get("sha256", ""), "note": row.get("note", ""), "examples": used[song.name]}


def _bank_rows(plan: Plan, used: Counter[str]) -> Iterator[dict[str, Any]]:
    seen = set()
    for folder in plan.bank:
        for row in read_table(Path(folder) / "bank.tsv"):
            if used[row["file"]] and row["file"] not in seen:
                seen.add(row["file"])
                source = " ".join(filter(None, (row.get("source"), row.get("origin"))))
                yield {**row, "file": f"{Path(folder).name}/{row['file']}", "name": row.get("group", ""),
                       "source": source, "examples": used[row["file"]]}


def _texts(value: Any) -> Iterator[str]:
    """Every text anywhere in the parameters; those that are names in the bank are what the chain drew."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for part in value.values() for text in _texts(part))
    elif isinstance(value, list | tuple):
        yield from (text for part in value for text in _texts(part))


def used_licences(plan: Plan) -> dict[str, int]:
    """Licence -> files in the manifest."""
    return dict(Counter(row["licence"] for row in read_table(plan.out / MANIFEST)))

