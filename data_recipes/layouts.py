"""Bring a dataset of stems that is on disk into the form that training reads: links, checked, with a songs.tsv."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_recipes.common import SONG_COLUMNS, parser, safe_name, shippable, whole_folder, write_table
from resonate import STEMS
from resonate.data import checks, splits
from resonate.data.music import Song
from resonate.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """What all songs of a dataset have in common."""

    name: str
    licence: str
    source: str


def command(argv: list[str] | None, description: str, source_help: str, songs: Callable[[Path], Sequence[Song]],
            origin: Origin) -> None:
    """Command line of a dataset's recipe: build --out from the songs that `songs` finds in --source."""
    args = parser(description)
    args.add_argument("--source", type=Path, required=True, help=source_help)
    args.add_argument("--out", type=Path, required=True, help="folder to write the links and songs.tsv to")
    args.add_argument("--headers-only", action="store_true", help="do not decode every file to check it")
    opts = args.parse_args(argv)
    build(songs(opts.source), origin, opts.source, opts.out, not opts.headers_only)


def build(songs: Sequence[Song], origin: Origin, source: Path, out: Path,
          decode: bool = True) -> list[dict[str, object]]:
    """Check songs and link their files as out/<song>/<stem>[__n].wav, beside a songs.tsv; returns its rows.

    Nothing is copied: the dataset has to stay where it is. A folder that an earlier run made is replaced as a whole.

    Args:
        songs: with stems, names that differ, and a split each.
        origin: licence and source, written beside every song.
        source: the folder of the dataset; neither it nor `out` may lie in the other.
        out: the folder to make.
        decode: decode every file: finds damaged and silent ones, and mixtures that are not the sum of their stems.
            Otherwise only headers are read.

    Raises:
        UserError: two songs have one name, no song is left, or `out` holds something else. A song with a damaged file,
            or whose stems differ in length by more than 1 s, is left out: left_out.tsv names the file.
    """
    with whole_folder(out, origin.name, [source]) as part:
        songs = [replace(song, name=safe_name(song.name)) for song in songs if not splits.is_reserved(song.name)]
        if twice := sorted(name for name, count in Counter(song.name for song in songs).items() if count > 1):
            raise UserError(f"Two songs are called {twice[0]}; rename one of their folders.")
        kept, left = check(songs, decode)
        if not kept:
            raise UserError(f"None of the {len(songs)} songs can be used: {left[0]['reason']}" if left else
                            "There is no song in this dataset.")
        rows = [row for song in kept for row in _link(song, origin, part)]
        write_table(part / "songs.tsv", SONG_COLUMNS, rows)
        write_table(part / "left_out.tsv", ("song", "reason"), left)
    hours = sum(song.duration for song in kept) / 3600
    log.info("%s: %d songs, %.1f h, linked in %s, %d left out; licence %s", origin.name, len(kept), hours, out,
             len(left), origin.licence)
    return rows


def check(songs: Sequence[Song], decode: bool) -> tuple[list[Song], list[dict[str, str]]]:
    """The songs that can be used, and rows (song, reason) of those that cannot; what will be repaired is logged."""
    kept, left = [], []
    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        for song in progress.track(songs):
            try:
                for warning in checks.check([song]) + (checks.check_sound(song) if decode else []):
                    log.warning(warning)
                kept.append(song)
            except UserError as error:
                log.warning("left out: %s", error)
                left.append({"song": song.name, "reason": str(error)})
    return kept, left


def _link(song: Song, origin: Origin, part: Path) -> list[dict[str, object]]:
    folder = part / song.name
    folder.mkdir(parents=True)
    rows = []
    for stem in STEMS:
        files = song.stems.get(stem, [])
        for number, path in enumerate(files):
            link = folder / f"{stem}{f'__{number}' if len(files) > 1 else ''}{path.suffix.lower()}"
            link.symlink_to(path.resolve())
            rows.append({
                "song": song.name, "artist": song.artist, "licence": origin.licence,
                "shippable": "yes" if shippable(origin.licence) else "no", "split": song.split,
                "seconds": round(song.duration, 2), "source": origin.source,
                "file": f"{song.name}/{link.name}", "silent": ",".join(sorted(song.silent)),
            })
    return rows
