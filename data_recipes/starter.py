"""Build the starter dataset: the album "Everything is Free" as four stems per song, and a bank of crowds and rooms.

    python -m data_recipes.starter --out data/starter                       # files at their origin, by checksum
    python -m data_recipes.starter --out data/starter --source ../mirror    # from a local mirror

writes

    data/starter/music/<Song>/{drums,bass,other,vocals}.flac    44.1 kHz, 24 bit; a stem that the song lacks is absent
    data/starter/music/songs.tsv                                song, artist, licence, split, source
    data/starter/bank/{crowd,rooms,devices,handling}/   and bank.tsv with split and licence per file
    data/starter/voices/                                sung notes, and voices.tsv
"""

import logging
import shutil
from pathlib import Path

import numpy as np

from data_recipes import bank_names
from data_recipes.common import (
    BANK_COLUMNS,
    SONG_COLUMNS,
    earlier_songs,
    parser,
    read_at_rate,
    run,
    safe_name,
    shippable,
    whole_song,
    write_table,
)
from data_recipes.fetch import Fetcher, NoOrigin, table
from resonate import RATE, STEMS, audio
from resonate.audio import sha256
from resonate.data import splits
from resonate.errors import UserError

log = logging.getLogger(__name__)

ALBUM = "music/everything_is_free/"
ARTIST = "Software-Entwicklungskit"


def build_music(fetcher: Fetcher, out: Path, only: list[str] | None = None) -> list[dict[str, object]]:
    """Sum the album's stems into four per song below `out`, and write songs.tsv; returns its rows, among them those of
    songs that were there already."""
    songs: dict[str, list[dict[str, str]]] = {}
    for row in table():
        if row["file"].startswith(ALBUM):
            songs.setdefault(row["file"].removeprefix(ALBUM).split("/")[0], []).append(row)
    rows = earlier_songs(out)
    for name, files in sorted(songs.items()):
        if splits.is_reserved(name) or (only and name not in only):
            continue
        rows = [row for row in rows if row["song"] != name] + _build_song(fetcher, name, files, out)
        write_table(out / "songs.tsv", SONG_COLUMNS, rows)
        log.info("%s: %d files summed to %d stems", name, len(files), sum(r["song"] == name for r in rows))
    return rows


def _build_song(fetcher: Fetcher, name: str, files: list[dict[str, str]], out: Path) -> list[dict[str, object]]:
    sums = {stem: stem_sum(fetcher, files, stem) for stem in STEMS}
    sums = {stem: x for stem, x in sums.items() if x is not None}
    length = max(x.shape[1] for x in sums.values())
    # One gain for the whole song, so that the balance stays; FLAC is integer and cannot hold a peak above 1.
    peak = max(float(np.abs(x).max()) for x in sums.values())
    gain = min(1.0, 0.98 / peak)
    rows = []
    with whole_song(out, name) as part:
        for stem, x in sums.items():
            path = part / f"{stem}.flac"
            padded = np.pad(x, ((0, 0), (0, length - x.shape[1]))) * np.float32(gain)
            audio.write(path, padded, RATE, subtype="PCM_24")
            rows.append({
                "song": name, "artist": ARTIST, "licence": files[0]["licence"], "shippable": "yes",
                "split": splits.split_of("songs", name), "seconds": round(length / RATE, 2),
                "source": files[0]["source"], "file": f"{name}/{stem}.flac", "sha256": sha256(path),
                "note": f"gain={gain:.4f}",
            })
    return rows


def stem_sum(fetcher: Fetcher, files: list[dict[str, str]], stem: str) -> np.ndarray | None:
    """All files whose name begins with `stem`__ decoded (edit lists obeyed), resampled and summed from 0 on.

    (2, time) float32 at 44.1 kHz, or None where the song has no such file. What a name says after the prefix does not
    count: "other__PAD + BASS" is other.
    """
    total: np.ndarray | None = None
    for row in files:
        if not Path(row["file"]).name.startswith(f"{stem}__"):
            continue
        x, _ = audio.to_stereo(read_at_rate(fetcher.get(row), RATE))
        if total is None:
            total = x.astype(np.float32)
            continue
        if x.shape[1] > total.shape[1]:
            total = np.pad(total, ((0, 0), (0, x.shape[1] - total.shape[1])))
        total[:, : x.shape[1]] += x
    return total


def build_bank(fetcher: Fetcher, out: Path) -> list[dict[str, object]]:
    """Copy crowd, rooms, devices, handling and voices into a bank folder with bank.tsv; returns its rows.

    Files are copied as they are. GPL crowds are included: they may serve in training, but not be bundled.
    """
    rows = []
    for row in table():
        if row["file"].startswith("music/"):
            continue
        kind, group = bank_names.place(row["file"])
        try:
            path = fetcher.get(row)
        except NoOrigin as error:
            log.warning("left out: %s", error)
            continue
        # Voices are raw material for crowds, not recordings of a crowd: they lie beside the bank, not in it.
        place = out if kind != "voices" else out.parent
        target = place / kind / f"{group}__{safe_name(Path(row['file']).stem)}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(path, part)
        part.replace(target)
        rows.append({
            "file": f"{kind}/{target.name}", "kind": kind, "split": splits.by_hash(kind, group), "group": group,
            "licence": row["licence"], "source": row["source"], "origin": row["origin"], "sha256": sha256(target),
            "note": row["note"],
        })
    write_table(out / "bank.tsv", BANK_COLUMNS, [r for r in rows if r["kind"] != "voices"])
    write_table(out.parent / "voices" / "voices.tsv", BANK_COLUMNS, [r for r in rows if r["kind"] == "voices"])
    return rows


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parser(__doc__)
    args.add_argument("--out", type=Path, required=True, help="folder to write the dataset to")
    args.add_argument("--source", type=Path, help="local mirror of the files of sources.tsv; else their origin")
    args.add_argument("--debs", type=Path, help="folder of .deb files for what comes from Debian")
    args.add_argument("--cache", type=Path, help="where downloads are kept (default: OUT/cache)")
    args.add_argument("--songs", nargs="*", help="only these songs")
    args.add_argument("--part", choices=["all", "music", "bank"], default="all", help="what to build")
    opts = args.parse_args(argv)
    fetcher = Fetcher(opts.source, opts.cache or opts.out / "cache", opts.debs)
    unknown = set(opts.songs or ()) - {r["file"].removeprefix(ALBUM).split("/")[0] for r in table()}
    if unknown:
        raise UserError(f"The album has no song {sorted(unknown)[0]}; see data_recipes/sources.tsv.")
    if opts.part in ("all", "music"):
        rows = build_music(fetcher, opts.out / "music", opts.songs)
        kept = {r["song"] for r in rows if shippable(str(r["licence"]))}
        log.info("%d songs in %s", len(kept), opts.out / "music")
    if opts.part in ("all", "bank"):
        log.info("%d files in %s", len(build_bank(fetcher, opts.out / "bank")), opts.out / "bank")


if __name__ == "__main__":
    run(main)
