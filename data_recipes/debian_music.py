"""Build a dataset of finished mixes from Debian packages of free games, with the licence of every file.

    python -m data_recipes.debian_music --out data/debian                    # through apt-get download
    python -m data_recipes.debian_music --out data/debian --debs DOWNLOADS   # from a folder of .deb files

writes data/debian/<package>__<title>.flac (44.1 kHz stereo) and songs.tsv. A file is taken when debian/copyright (or,
for a package whose copyright file is free text, the whole package) puts it under CC0, CC-BY, CC-BY-SA, public domain
or MIT (with --allow-gpl also under the GPL, which weights to be shipped must not hear), when it is stereo at 44.1 kHz
or more, at least 30 s long, not silent and not a copy of another. What was left out, and why, is in left_out.tsv.
Column `silent` of songs.tsv: "vocals" where a song is known to have none.
"""

import hashlib
import logging
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_recipes import archives, deb
from data_recipes.common import (
    SONG_COLUMNS,
    earlier_songs,
    parser,
    read_at_rate,
    read_table,
    run,
    safe_name,
    shippable,
    write_table,
)
from data_recipes.debian_packages import PACKAGES, Package
from resonate import RATE, audio
from resonate.audio import sha256
from resonate.data import splits
from resonate.data.licences import classify
from resonate.data.music import AUDIO_SUFFIXES, duration_of
from resonate.errors import UserError

log = logging.getLogger(__name__)

MIN_SECONDS = 30.0
MIN_RMS = 1e-3
#: How left_out.tsv begins a reason that is a licence.
_LICENCE = "licence "
#: The two files of a Frets on Fire song.
_HALVES = ("guitar.ogg", "song.ogg")


def build(packages: list[str], out: Path, debs: Path | None, cache: Path,
          allow_gpl: bool = False) -> list[dict[str, object]]:
    """Build the dataset; returns the rows of songs.tsv. Packages that are already in it are kept as they are, unless
    GPL music of theirs was left out that is allowed now."""
    songs = earlier_songs(out)
    for row in songs:  # what is known of a song may have been added since it was built
        package, _, title = str(row["song"]).partition("__")
        row["silent"] = PACKAGES[package].silent(title) if package in PACKAGES else row.get("silent", "")
    left: list[dict[str, object]] = [dict(r) for r in read_table(out / "left_out.tsv")]
    again = {r["source"] for r in left if allow_gpl and _copyleft(str(r["reason"]).removeprefix(_LICENCE))}
    songs = [r for r in songs if r["source"] not in again & {f"debian:{package}" for package in packages}]
    done = {str(r["source"]) for r in songs}
    seen = {str(r["note"]).removeprefix("fingerprint=") for r in songs}
    for package in packages:
        if f"debian:{package}" in done:
            log.info("%s: already there", package)
            write_table(out / "songs.tsv", SONG_COLUMNS, songs)
            continue
        path = deb.obtain(package, debs, cache / "debs")
        folder = cache / "unpacked" / package
        _unpack(path, folder, PACKAGES[package])
        # Songs of an unfinished package lie where no scan of the folder finds them: they have no licence yet.
        part = out / f".{package}.part"
        shutil.rmtree(part, ignore_errors=True)
        new, not_taken = _build_package(package, folder, part, seen, allow_gpl)
        for row in new:
            os.replace(part / str(row["file"]), out / str(row["file"]))
        shutil.rmtree(part, ignore_errors=True)
        songs += new
        left = [r for r in left if r["source"] != f"debian:{package}"] + not_taken
        write_table(out / "left_out.tsv", ("source", "file", "reason"), left)
        write_table(out / "songs.tsv", SONG_COLUMNS, songs)
        shutil.rmtree(folder)
        minutes = sum(float(str(r["seconds"])) for r in new) / 60
        log.info("%s: %d songs, %.0f min; %d files left out", package, len(new), minutes, len(not_taken))
    return songs


def _unpack(path: Path, folder: Path, package: Package) -> None:
    if not package.archive:
        deb.unpack(path, folder)
        return
    archives.unpack_some(path, folder, package.archive, lambda name: (
        name.startswith(package.tops) and Path(name).suffix.lower() in AUDIO_SUFFIXES))


def _copyleft(licence: str) -> bool:
    return classify(licence) == "copyleft"


def _build_package(package: str, folder: Path, out: Path, seen: set[str],
                   allow_gpl: bool) -> tuple[list[dict], list[dict]]:
    place = PACKAGES[package]
    copyright_file = deb.rights_of(folder, package)
    songs, left = [], []
    root = folder / place.prefix
    for title, files in sorted(_titles(root, place.tops).items()):
        tails = [place.source_prefix + path.relative_to(root).as_posix() for path in files]
        licences, holders = (dict.fromkeys(words) for words in zip(*map(copyright_file.of, tails), strict=True))
        licence, holder, tail = " and ".join(licences), ", ".join(filter(None, holders)), tails[0]
        try:
            reason = _reject(files, licences, allow_gpl)
            x = None if reason else _mix(files)
        except UserError:
            reason, x = "cannot be decoded", None
        if x is not None:
            mark = fingerprint(x)
            reason = "a copy of another file" if mark in seen else "silent" if np.std(x) < MIN_RMS else ""
        if reason:
            left.append({"source": f"debian:{package}", "file": tail, "reason": reason})
            continue
        seen.add(mark)
        songs.append(_write(package, title, tail, x, licence, place.holder or holder, mark, out))
    return songs, left


def _titles(root: Path, tops: tuple[str, ...]) -> dict[str, list[Path]]:
    """Title -> its file; guitar.ogg and song.ogg of a Frets on Fire song are its two halves and belong together, under
    the name of their folder. Where a name occurs twice, the path below `root` is added to it."""
    found: dict[tuple[Path, str], list[Path]] = {}
    for top in tops:
        for path in sorted((root / top).rglob("*")):
            if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file() and not path.is_symlink():
                half = path.name in _HALVES and all((path.parent / name).is_file() for name in _HALVES)
                found.setdefault((path.parent, path.parent.name) if half else (path, path.stem), []).append(path)
    counts = Counter(safe_name(name) for _, name in found)
    return {name if counts[safe_name(name)] == 1 else f"{name} ({'+'.join(place.relative_to(root).parts)})": files
            for (place, name), files in found.items()}


def _reject(files: list[Path], licences: Iterable[str], allow_gpl: bool) -> str:
    for licence in licences:
        if not shippable(licence) and not (allow_gpl and _copyleft(licence)):
            return f"{_LICENCE}{licence or 'not stated'}"
    for path in files:
        if duration_of(path) < MIN_SECONDS:
            return f"shorter than {MIN_SECONDS:.0f} s"
        probe = audio.probe(path)
        if probe.channels != 2 or probe.rate < RATE:
            return f"{probe.channels} channels at {probe.rate} Hz"
    return ""


def _mix(files: list[Path]) -> np.ndarray:
    parts = [read_at_rate(path, RATE) for path in files]
    total = np.zeros((2, max(p.shape[1] for p in parts)), np.float32)
    for part in parts:
        total[:, : part.shape[1]] += part
    peak = float(np.abs(total).max())
    return total * np.float32(0.98 / peak) if peak > 1 else total


def fingerprint(x: np.ndarray) -> str:
    """A hash of the rough loudness curve: the same for the same recording at another level or in another codec."""
    power = np.array([np.mean(part**2) for part in np.array_split(x.mean(0), 64)])
    steps = np.round(2 * np.log10(power / (power.max() + 1e-12) + 1e-6)).astype(np.int8)
    return hashlib.sha256(steps.tobytes() + str(round(x.shape[1] / RATE)).encode()).hexdigest()[:16]


def artist_name(holder: str) -> str:
    """The copyright holder as `splits.yaml` spells artists: ASCII, without years or addresses."""
    text = unicodedata.normalize("NFKD", holder).encode("ascii", "ignore").decode()
    plain = re.sub(r"\s*\(http.*?\)|\s*\(\s*\)|\s*\(modified by.*?\)|^commissioned by ", "", text)
    return plain.replace('"', "").strip(" ,")


def _write(package: str, title: str, tail: str, x: np.ndarray, licence: str, holder: str, mark: str,
           out: Path) -> dict[str, object]:
    name = safe_name(f"{package}__{title}")
    path = out / f"{name}.flac"
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, x, RATE, subtype="PCM_16")
    artist = artist_name(holder)
    return {
        "song": name, "artist": artist, "licence": licence, "shippable": "yes" if shippable(licence) else "no",
        "split": splits.by_hash("artists", artist), "seconds": round(x.shape[1] / RATE, 2),
        "source": f"debian:{package}", "file": path.name, "sha256": sha256(path), "note": f"fingerprint={mark}",
        "silent": PACKAGES[package].silent(safe_name(title)),
    }


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parser(__doc__)
    args.add_argument("--out", type=Path, required=True, help="folder to write the dataset to")
    args.add_argument("--debs", type=Path, help="folder of .deb files, for machines without apt-get")
    args.add_argument("--cache", type=Path, help="where packages are kept and unpacked (default: OUT/.cache)")
    args.add_argument("--packages", nargs="+", default=[name for name, about in PACKAGES.items() if not about.gpl],
                      help="which packages")
    args.add_argument("--allow-gpl", action="store_true", help="take GPL music too (never for weights to be shipped)")
    opts = args.parse_args(argv)
    for package in opts.packages:
        if splits.is_reserved(package):
            raise UserError(f"{package} is kept for an independent evaluation; choose another package.")
        if package not in PACKAGES:
            raise UserError(f"No recipe for the package {package}; choose from {', '.join(PACKAGES)}.")
        if PACKAGES[package].gpl and not opts.allow_gpl:
            raise UserError(f"The music of {package} is under the GPL, so weights trained on it are not to be shipped; "
                            "add --allow-gpl to take it.")
    songs = build(opts.packages, opts.out, opts.debs, opts.cache or opts.out / ".cache", opts.allow_gpl)
    if not songs:
        raise UserError("None of these packages gave a usable song; see left_out.tsv.")
    hours = sum(float(str(r["seconds"])) for r in songs) / 3600
    log.info("%d songs, %.1f h, %d artists in %s", len(songs), hours, len({r["artist"] for r in songs}), opts.out)


if __name__ == "__main__":
    run(main)
