"""Which song, artist, room, device or crowd recording belongs to train, valid or test (`splits.yaml`)."""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import yaml

from resonate.errors import UserError

SPLITS = ("train", "valid", "test")
#: Share of unlisted songs of the user that validate.
VALID_SHARE = 0.1
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


def assign(songs: Iterable[tuple[str, str]], given: Mapping[tuple[str, str], str] | None = None,
           ) -> dict[tuple[str, str], str]:
    """Give every (song, artist) of one folder a split: the song's entry in `splits.yaml`, else its artist's, else the
    one in `given` (where not empty), else by the hash of the artist's name (the song's, where the artist is unknown or
    the only one): a tenth is valid, the rest train. Nothing is test unless it is listed.

    A hash depends on nothing but the name, so a song stays where it is when others are added or taken away. One song
    may move: where none of two or more songs is valid by its hash, the one with the lowest hash stands in, until a
    song with a lower one is added. Where all are valid by their hash, the one with the highest trains.
    """
    given = given or {}
    out: dict[tuple[str, str], str] = {}
    rest = []
    for key in songs:
        song, artist = key
        listed = split_of("songs", song) or (split_of("artists", artist) if artist else None) or given.get(key)
        if listed:
            out[key] = listed
        else:
            rest.append(key)
    by_artist = len({artist.casefold() for _, artist in rest if artist}) > 1
    units = {(song, artist): artist if artist and by_artist else f"{artist}/{song}" for song, artist in rest}
    order = sorted(set(units.values()), key=_fraction)
    chosen = {unit: "valid" if _fraction(unit) < VALID_SHARE else "train" for unit in order}
    if len(order) == 1:
        chosen[order[0]] = "train"
    elif order and "valid" not in chosen.values():
        chosen[order[0]] = "valid"
    elif order and "train" not in chosen.values():
        chosen[order[-1]] = "train"
    return out | {key: chosen[unit] for key, unit in units.items()}


def _fraction(name: str) -> float:
    """A number in [0, 1) that depends on the name only, without regard to case."""
    return int.from_bytes(hashlib.sha256(name.casefold().encode()).digest()[:6], "big") / 2**48
