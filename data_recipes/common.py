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

__all__ = ["BANK_COLUMNS", "SONG_COLUMNS", "parser", "read_at_rate", "read_table", "run", "safe_name", "shippable",
           "whole_folder", "whole_song", "write_table"]

SONG_COLUMNS = ("song", "artist", "licence", "shippable", "split", "seconds", "source", "file", "sha256", "note",
                "silent")
BANK_COLUMNS = ("file", "kind", "split", "group", "licence", "source", "origin", "sha256", "note")


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
def whole_folder(out: Path, table: str) -> Iterator[Path]:
    """A folder to build `out` in, which takes the place of what an earlier run made when the block ends; nothing is
    left behind where it fails.

    Raises UserError where `out` is something else: a file, or a folder that is not empty and has no `table`.
    """
    if out.exists() and not (out.is_dir() and ((out / table).is_file() or not any(out.iterdir()))):
        raise UserError(f"{out} holds something else; choose another --out.")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


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


def read_at_rate(path: Path, rate: int) -> np.ndarray:
    """A whole file as (channels, time) float32 at `rate`, all channels kept."""
    piece = audio.read(path)
    return piece.samples if piece.rate == rate else audio.resample(piece.samples, piece.rate, rate)


def safe_name(text: str) -> str:
    """A file name without separators or control characters."""
    return re.sub(r"[^\w .,&'()+\-]", "_", text).strip(" .") or "unnamed"
