"""The bank: crowd, room, device and handling recordings that the capture chain draws from.

A bank is a folder with `bank.tsv` (columns file, kind, split, group, licence, source, origin, sha256,
note) and the files it names. Several folders can be merged; an empty bank is allowed, everything is
then synthesised.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resonate import RATE
from resonate.errors import UserError

KINDS = ("crowd", "rooms", "devices", "handling")
SPLITS = ("train", "valid", "test", "all")
#: Columns of bank.tsv that a recording cannot do without.
NEEDED = ("file", "kind", "split", "group", "licence")


@dataclass(frozen=True)
class BankItem:
    """One recording: its name (path inside the bank) is what parameters store; note: what it holds, in words."""

    name: str
    kind: str
    split: str
    group: str
    licence: str
    path: Path
    note: str = ""


@dataclass
class Bank:
    """Items by kind, with decoded audio kept in memory (about 20 MB per minute of stereo)."""

    entries: tuple[BankItem, ...] = ()
    _audio: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: str | Path | Sequence[str | Path], split: str = "train") -> "Bank":
        """Read one bank folder or several; `split` is train, valid, test or all.

        Raises UserError when a folder has no bank.tsv or none that can be read, a row lacks a column or names an
        unknown kind or split or a missing file.
        """
        if split not in SPLITS:
            raise UserError(f"Unknown split {split!r}: choose one of {', '.join(SPLITS)}.")
        folders = [folder] if isinstance(folder, (str, Path)) else list(folder)
        entries: dict[str, BankItem] = {}
        for root in map(Path, folders):
            for item in _read_table(root):
                if split in ("all", item.split) or item.split == "all":
                    entries.setdefault(item.name, item)
        return cls(tuple(sorted(entries.values(), key=lambda item: item.name)))

    def items(self, kind: str) -> list[BankItem]:
        """All items of a kind, sorted by name (so that draws do not depend on the file system)."""
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
        return [item for item in self.entries if item.kind == kind]

    def item(self, name: str) -> BankItem:
        """The item of a name. Raises UserError for a name that is not in the bank."""
        match = next((entry for entry in self.entries if entry.name == name), None)
        if match is None:
            raise UserError(f"The bank holds no {name!r}: load the bank these parameters were drawn from.")
        return match

    def audio(self, item: BankItem | str) -> np.ndarray:
        """(channels, time) float32 at 44.1 kHz. Raises UserError for a name that is not in the bank."""
        name = item if isinstance(item, str) else item.name
        if name not in self._audio:
            self._audio[name] = _read(self.item(name).path)
        return self._audio[name]


def _read_table(root: Path) -> list[BankItem]:
    table = root / "bank.tsv"
    if not table.is_file():
        raise UserError(f"{root} is not a bank: it has no bank.tsv.")
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} is not tab-separated text in UTF-8 ({error}).") from error
    items = []
    for row in rows:
        if lacking := [column for column in NEEDED if row.get(column) is None]:
            name = row.get("file") or "a recording"
            raise UserError(f"{table} has no column {lacking[0]} for {name}; the first line names the columns, tabs "
                            "separate them.")
        path = root / row["file"]
        if row["kind"] not in KINDS:
            raise UserError(f"{table} gives {row['file']} the unknown kind {row['kind']!r}.")
        if row["split"] not in SPLITS:
            raise UserError(f"{table} puts {row['file']} into the split {row['split']!r}; choose one of "
                            f"{', '.join(SPLITS)}.")
        if not path.is_file():
            raise UserError(f"{table} names {row['file']}, which does not exist.")
        items.append(BankItem(*(row[column] for column in NEEDED), path, row.get("note") or ""))
    return items


def _read(path: Path) -> np.ndarray:
    # Imported here so that synthesised banks work without the decoder libraries.
    from resonate import audio

    recording = audio.read(path)
    samples = audio.resample(recording.samples, recording.rate, RATE)
    return np.ascontiguousarray(samples, dtype=np.float32)
