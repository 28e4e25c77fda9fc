"""Which song, artist, room, device or crowd recording belongs to train, valid or test (`splits.yaml`)."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

from resonate.errors import UserError

SPLITS = ("train", "valid", "test")
SPLITS_FILE = Path(__file__).with_name("splits.yaml")


@cache
def load() -> dict[str, dict[str, str]]:
    """The versioned table: kind (songs, artists, rooms, devices, crowd, handling, voices) -> name -> split.

    Names are compared without regard to case, so the keys come back in lower case. Raises UserError on an entry
    that is not one of `SPLITS`.
    """
    table = yaml.safe_load(SPLITS_FILE.read_text(encoding="utf-8"))
    kinds = {kind: names for kind, names in table.items() if isinstance(names, dict)}
    for kind, names in kinds.items():
        for name, split in names.items():
            if split not in SPLITS:
                raise UserError(f"splits.yaml puts {kind}/{name} into {split!r}; choose one of {', '.join(SPLITS)}.")
    return {kind: {str(name).casefold(): split for name, split in names.items()} for kind, names in kinds.items()}


@cache
def reserved() -> frozenset[str]:
    """Names (lower case) that are used neither in training nor in tests."""
    return frozenset(str(n).casefold() for n in yaml.safe_load(SPLITS_FILE.read_text(encoding="utf-8"))["reserved"])


def is_reserved(name: str) -> bool:
    """Whether a song or package is kept for an independent evaluation."""
    return name.casefold() in reserved()


def split_of(kind: str, name: str) -> str | None:
    """The listed split of `name`, or None where the table does not list it."""
    return load()[kind].get(name.casefold())


def by_hash(kind: str, name: str) -> str:
    """A split for an unlisted name that never changes: about 80/10/10 by the hash of the name."""
    listed = split_of(kind, name)
    if listed:
        return listed
    tenth = hashlib.sha256(f"{kind}/{name.casefold()}".encode()).digest()[0] * 10 // 256
    return {8: "valid", 9: "test"}.get(tenth, "train")


def assign(songs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Give every (song, artist) of one folder a split: the song's entry, else its artist's, else a share of the rest.

    The rest is put in the order of its hashes, so that it does not depend on the order on disk, and goes artist by
    artist where it has three or more, else song by song: below 10 of them one is valid and none test (a folder of two
    songs trains and validates), from 10 on a tenth each. A single song is train: there is nothing to validate on.
    """
    out: dict[tuple[str, str], str] = {}
    rest = []
    for song, artist in songs:
        listed = split_of("songs", song) or (split_of("artists", artist) if artist else None)
        if listed:
            out[song, artist] = listed
        else:
            rest.append((song, artist))
    several = len({artist for _, artist in rest if artist}) >= 3
    units = {key: (key[1] or key[0]) if several else "/".join(key) for key in rest}
    order = sorted(set(units.values()), key=lambda u: hashlib.sha256(u.casefold().encode()).digest())
    valid = 0 if len(order) < 2 else max(1, len(order) // 10)
    test = len(order) // 10
    split_by_unit = {u: "valid" if i < valid else "test" if i < valid + test else "train" for i, u in enumerate(order)}
    return out | {key: split_by_unit[unit] for key, unit in units.items()}
