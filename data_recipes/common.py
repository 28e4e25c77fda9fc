"""What the recipes share: the command's frame and the tables of songs and recordings."""

import argparse
import csv
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from resonate import audio
from resonate.data.licences import shippable
from resonate.errors import UserError, command

__all__ = ["BANK_COLUMNS", "MARK", "SONG_COLUMNS", "earlier_songs", "parser", "read_at_rate", "read_table", "run",
           "safe_name", "shippable", "whole_folder", "whole_song", "write_table"]

SONG_COLUMNS = ("song", "artist", "licence", "shippable", "split", "seconds", "source", "file", "sha256", "note",
                "silent")
BANK_COLUMNS = ("file", "kind", "split", "group", "licence", "source", "origin", "sha256", "note")
#: File in a folder made as a whole; it holds the name of the recipe that may replace the folder.
MARK = ".made-by"


def run(main: Callable[[list[str] | None], None]) -> None:
    """Run a recipe's main as a command (see `resonate.errors.command`), and exit."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(command(main)(None))


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser that prints its defaults."""
    first = description.strip().split("\n\n")[0]
    return argparse.ArgumentParser(description=first, formatter_class=argparse.ArgumentDefaultsHelpFormatter)


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a tab-separated table atomically, sorted by its first column; names that are not UTF-8 are escaped."""
    names = list(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as handle:
        writer = csv.DictWriter(handle, names, delimiter="\t", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: str(row[names[0]])))
    os.replace(part, path)


@contextmanager
def whole_folder(out: Path, recipe: str, sources: Iterable[Path]) -> Iterator[Path]:
    """A folder to build `out` in, which takes the place of what an earlier run of `recipe` made when the block ends;
    nothing is left behind where it fails.

    Raises UserError where `out` is something else (a file, or a folder that is not empty and lacks the recipe's mark),
    and where one of the `sources` lies in it or it lies in one of them.
    """
    out = out.resolve()  # of a link, the folder is replaced that it leads to, maybe on another disk
    mark = out / MARK
    mine = mark.is_file() and mark.read_bytes().strip() == recipe.encode()
    if out.exists() and not (mine or (out.is_dir() and not any(out.iterdir()))):
        raise UserError(f"{out} holds something else than what this recipe made; choose another --out or remove it.")
    for source in (path.resolve() for path in sources):
        if out == source or out in source.parents or source in out.parents:
            raise UserError(f"{source} is read, so it cannot lie in --out {out} or around it; choose another --out.")
    part, old = (out.with_name(f".{out.name}.{word}") for word in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        (part / MARK).write_text(f"{recipe}\n", encoding="utf-8")
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(out, old)
        os.replace(part, out)
    finally:
        if old.exists() and not out.exists():
            os.replace(old, out)
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def whole_song(out: Path, name: str) -> Iterator[Path]:
    """A folder to write a song's files in, which becomes `out`/`name`, in place of an earlier one, when the block ends;
    nothing is left behind where it fails. No scan of `out` finds it until then."""
    part = out / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(out / name, ignore_errors=True)
        part.rename(out / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated table; empty where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def earlier_songs(out: Path) -> list[dict[str, object]]:
    """The rows of out/songs.tsv whose files are there. Raises UserError for a table that no recipe wrote: it would be
    overwritten."""
    path = out / "songs.tsv"
    try:
        rows = read_table(path)
    except (UnicodeDecodeError, csv.Error):
        rows = [{}]
    if rows and not rows[0].keys() >= set(SONG_COLUMNS) - {"silent"}:
        raise UserError(f"{path} was not written by a recipe, which would overwrite it; choose another --out.")
    return [dict(row) for row in rows if row["file"] and (out / row["file"]).is_file()]


def read_at_rate(path: Path, rate: int) -> np.ndarray:
    """A whole file as (channels, time) float32 at `rate`, all channels kept."""
    piece = audio.read(path)
    return piece.samples if piece.rate == rate else audio.resample(piece.samples, piece.rate, rate)


def safe_name(text: str) -> str:
    """A file name without separators or control characters."""
    return re.sub(r"[^\w .,&'()+\-]", "_", text).strip(" .") or "unnamed"
