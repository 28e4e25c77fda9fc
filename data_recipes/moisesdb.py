"""Use MoisesDB (240 songs in tracks by instrument), as it comes from its zip file.

    python -m data_recipes.moisesdb --source moisesdb_v0.1/ --out data/moisesdb

reads the data.json of every song, maps its stems to drums, bass, vocals and other (all else), checks the files and
writes links and songs.tsv. Splits go by the hash of the artist. MoisesDB is under CC-BY-NC-SA, so licence=cc leaves it
out.
"""

import json
from pathlib import Path

from data_recipes import layouts
from data_recipes.common import run
from resonate.data import splits
from resonate.data.music import Song
from resonate.errors import UserError

ORIGIN = layouts.Origin("MoisesDB", "CC-BY-NC-SA-4.0", "https://github.com/moises-ai/moises-db")
#: Names of stems in data.json; the first three are stems here too, all others are "other".
STEM_NAMES = ("vocals", "bass", "drums", "other", "guitar", "other_plucked", "percussion", "piano", "other_keys",
              "bowed_strings", "wind")


def songs(source: Path) -> list[Song]:
    """The songs below a MoisesDB folder (of one provider or of all). Raises UserError naming what does not fit."""
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; name the one that MoisesDB was unpacked to.")
    found = [_song(path) for path in sorted(source.glob("*/data.json")) + sorted(source.glob("*/*/data.json"))]
    if not found:
        raise UserError(f"{source} holds no <song>/data.json; name the folder that MoisesDB was unpacked to.")
    return found


def _song(path: Path) -> Song:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        tracks = [(stem["stemName"], f"{track['id']}.{track['extension']}")
                  for stem in about["stems"] for track in stem["tracks"]]
        name, artist = str(about.get("song") or "untitled"), str(about.get("artist") or "")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the data.json of a MoisesDB song; unpack MoisesDB again.") from error
    stems: dict[str, list[Path]] = {}
    for stem, file in tracks:
        if stem not in STEM_NAMES:
            raise UserError(f"{path} names the stem {stem!r}, which MoisesDB does not have; its stems are "
                            f"{', '.join(STEM_NAMES)}.")
        track = path.parent / stem / file
        # What data.json says is followed, but not out of the song's folder.
        if Path(file).name != file or not track.is_file():
            raise UserError(f"{track} is named in {path.name} but is not there; unpack MoisesDB again.")
        stems.setdefault(stem if stem in ("vocals", "bass", "drums") else "other", []).append(track)
    if not stems:
        raise UserError(f"{path} names no tracks; unpack MoisesDB again.")
    return Song(f"{artist} - {name} ({path.parent.name[:8]})", artist, splits.by_hash("artists", artist or name),
                stems, None, ORIGIN.licence)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    layouts.command(argv, __doc__, "folder with a folder and data.json per song", songs, ORIGIN)


if __name__ == "__main__":
    run(main)
