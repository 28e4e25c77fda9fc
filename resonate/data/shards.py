"""Rendered captures on disk: WebDataset tars beside an `index.json`, read at random without unpacking them.

    FOLDER/index.json              format, rate, rows, key, settings, and per example what is known of it
    FOLDER/train-000000.tar        per example KEY.json (all parameters and measures) and KEY.<row>.flac for every row
    FOLDER/train-000001.tar ...

A row is stereo FLAC of 16 bits, times its `scale` (a power of two just above its peak) in the example's entry: a fifth
of the size of float16 arrays, and a crop still starts at any sample. Nothing here unpickles or runs anything, and names
in the index stay inside the folder. Training and evaluation both read through this module; it also reads the older
form, one float16 `.npy` file per example.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import soundfile
from torch import Tensor

from resonate import RATE, STEMS
from resonate.errors import UserError

FORMAT = 2
#: One .npy and one .json file per example, which the first renderer wrote.
FORMAT_OF_FILES = 1
ROWS = ("capture", *(f"wet:{stem}" for stem in STEMS), "early", *(f"dry:{stem}" for stem in STEMS))
#: The last row, where it was asked for: the crowd as captured.
CROWD = "crowd"

_Rows = TypeVar("_Rows", np.ndarray, Tensor)
_AGAIN = "render it again with python -m data_recipes.render"


def read_index(folder: str | Path) -> dict[str, Any]:
    """The index of a rendered folder, with the name of its shard in each example (none in the older form).

    Raises UserError where `folder` is none, was written by another version, or names files outside itself.
    """
    path = Path(folder) / "index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        form, rate, rows, examples = index["format"], index["rate"], tuple(index["rows"]), index["examples"]
        names = {name for example in examples for name in (example["file"], example.get("shard", "-"))}
        splits = {example["split"] for example in examples}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no rendered cache ({path.name} is missing or damaged); make one with "
                        "python -m data_recipes.render.") from error
    known = rows in (ROWS, (*ROWS, CROWD)) if form == FORMAT else form == FORMAT_OF_FILES and len(rows) == len(ROWS)
    if not known or rate != RATE:
        raise UserError(f"{path} has a format that this version cannot read; {_AGAIN}.")
    if not all(isinstance(name, str) and Path(name).name == name for name in names | splits):
        raise UserError(f"{path} names a file outside its folder; {_AGAIN}.")
    return index


def choose(folder: str | Path, split: str) -> list[dict[str, Any]]:
    """The examples of one split ("all" for every one) in the order of the index; UserError where there are none."""
    examples = read_index(folder)["examples"]
    chosen = [example for example in examples if split in ("all", example["split"])]
    if not chosen:
        there = ", ".join(sorted({example["split"] for example in examples})) or "none"
        raise UserError(f"{folder} holds no examples of split '{split}'; it has: {there}.")
    return chosen


def members(shard: Path) -> Mapping[str, tuple[int, int]]:
    """Name -> (offset, size) in bytes of every plain file in a tar, which is looked through once and then remembered.

    UserError for a file that is no whole tar.
    """
    try:
        state = shard.stat()
        return _members(shard, state.st_size, state.st_mtime_ns)
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{shard} cannot be read as a shard; remove it and {_AGAIN}.") from error


@lru_cache(maxsize=4096)
def _members(shard: Path, size: int, changed: int) -> Mapping[str, tuple[int, int]]:
    del changed  # part of what is remembered, for a shard that is rendered again
    with tarfile.open(shard, "r:") as tar:
        found = {entry.name: (entry.offset_data, entry.size) for entry in tar if entry.isreg()}
    if any(offset + length > size for offset, length in found.values()):
        raise tarfile.ReadError("a member goes past the end")
    return MappingProxyType(found)


def read_audio(folder: str | Path, example: Mapping[str, Any], rows: slice = slice(None), start: int = 0,
               stop: int | None = None) -> np.ndarray:
    """Some rows of one example between two samples, by default all: (rows, 2, T) float32.

    Raises UserError for what is damaged or missing.
    """
    path = Path(folder) / example.get("shard", example["file"])
    try:
        if "shard" not in example:
            return np.load(path, "r", allow_pickle=False)[rows, :, start:stop].astype(np.float32)
        names, there = row_names(example), members(path)
        with path.open("rb") as handle:
            pieces = []
            for name, scale in list(zip(names, example["scale"], strict=True))[rows]:
                offset, size = there[f"{example['file']}.{name}"]
                handle.seek(offset)
                pieces.append(decode(handle.read(size), scale, start, stop))
        return np.stack(pieces)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{example['file']} in {path} cannot be read; {_AGAIN}.") from error


def crowd_of(rows: _Rows) -> _Rows | None:
    """The crowd as captured of all rows of one example, (2, T); None where the cache was rendered without it."""
    return rows[len(ROWS)] if len(rows) > len(ROWS) else None


def length_of(folder: str | Path, example: Mapping[str, Any]) -> int:
    """Samples per channel of one example."""
    if "shard" not in example:
        return np.load(Path(folder) / example["file"], "r", allow_pickle=False).shape[-1]
    return round(float(example["seconds"]) * RATE)


def row_names(example: Mapping[str, Any]) -> list[str]:
    """What stands behind the example's key in the names of its rows' files: "capture.flac", "wet_drums.flac" ...

    Raises ValueError where there are too few.
    """
    count = len(example["scale"])
    if count < len(ROWS):
        raise ValueError("rows are missing")
    return [f"{row.replace(':', '_')}.flac" for row in (*ROWS, CROWD)[:count]]


def encode(rows: np.ndarray) -> tuple[list[bytes], list[float]]:
    """(rows, 2, T) float32 of any level as one FLAC each, and the scales that `decode` multiplies them by."""
    files, scales = [], []
    for row in rows:
        peak = max(float(np.abs(row).max()), 2.0**-20) * 32768 / 32767
        scale = 2.0 ** math.ceil(math.log2(peak))
        handle = io.BytesIO()
        soundfile.write(handle, (row / scale).T, RATE, format="FLAC", subtype="PCM_16")
        files.append(handle.getvalue())
        scales.append(scale)
    return files, scales


def decode(data: bytes, scale: float, start: int = 0, stop: int | None = None) -> np.ndarray:
    """(2, stop - start) float32 of one row. Raises ValueError for what is no such FLAC or shorter."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as handle:
            if handle.format != "FLAC" or handle.channels != 2 or handle.samplerate != RATE:
                raise ValueError("not a row that was written here")
            handle.seek(start)
            count = handle.frames - start if stop is None else stop - start
            samples = handle.read(count, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError("not a FLAC") from error
    if len(samples) != count:
        raise ValueError("shorter than it should be")
    return np.ascontiguousarray(samples.T) * np.float32(scale)


def read_details(shard: Path) -> list[dict[str, Any]]:
    """The JSON of every example in a shard, with the chain's parameters and its key as `file`, in their order there."""
    details = []
    with shard.open("rb") as handle:
        for name, (offset, size) in members(shard).items():
            if name.endswith(".json"):
                handle.seek(offset)
                try:
                    details.append({**json.loads(handle.read(size)), "shard": shard.name, "file": Path(name).stem})
                except (ValueError, TypeError) as error:
                    raise UserError(f"{name} in {shard} is damaged; remove the shard and {_AGAIN}.") from error
    return details

