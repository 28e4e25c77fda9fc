"""Make voices in quantity: spoken lines sung to drawn melodies, as songs that hold vocals and nothing else.

    python -m data_recipes.sung_voices --out data/voices                     # the unit voices of 0 A.D. (CC-BY-SA)
    python -m data_recipes.sung_voices --out data/voices --packages --speech my_speech/ --licence CC0-1.0

writes data/voices/<speaker>__<n>/vocals.flac (44.1 kHz stereo, 24 bit) and songs.tsv, in which drums, bass and other
are known to be silent: given beside other music, they are laid over it wherever stems are remixed. A speaker is a
folder of --speech, or what stands before "__" in a file's name; all songs of a speaker are in one split. How speech is
made to sing: `data_recipes.singing`. A run that was stopped goes on where it was.
"""

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy import signal

from data_recipes import archives, deb, singing
from data_recipes.common import (
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
from data_recipes.debian_packages import PACKAGES
from resonate import RATE, audio
from resonate.audio import sha256
from resonate.data import splits
from resonate.data.music import AUDIO_SUFFIXES
from resonate.errors import UserError

log = logging.getLogger(__name__)

#: Package -> (folder of its spoken lines inside the archive of `debian_packages`, speaker in a path there).
SPOKEN = {"0ad-data": ("audio/voice/", re.compile(r"voice/(\w+)/civ/civ_((?:fe)?male)_"))}
SILENT = "drums,bass,other"
_MIN_LINES = 3
_PEAK = 0.9


@dataclass(frozen=True)
class Speaker:
    """One person: name, files with lines, licence, whose the recordings are, where they come from."""

    name: str
    files: tuple[Path, ...]
    licence: str
    holder: str
    origin: str


def from_package(package: str, debs: Path | None, cache: Path) -> list[Speaker]:
    """The speakers of a Debian package whose lines may be used for weights that are shipped."""
    place, (top, pattern) = PACKAGES[package], SPOKEN[package]
    folder = cache / "unpacked" / f"{package}-speech"
    if not folder.is_dir():
        path = deb.obtain(package, debs, cache / "debs")
        archives.unpack_some(path, folder, place.archive, lambda name: (
            name.startswith(top) and Path(name).suffix.lower() in AUDIO_SUFFIXES))
    rights = deb.rights_of(folder, package)
    found: dict[tuple[str, str, str], list[Path]] = {}
    root = folder / place.prefix
    for path in sorted((root / top).rglob("*")):
        inside = path.relative_to(root).as_posix()
        match = pattern.search(inside)
        licence, holder = rights.of(place.source_prefix + inside)
        if match and path.is_file() and shippable(licence):
            found.setdefault(("_".join(match.groups()), licence, holder), []).append(path)
    if not found:
        raise UserError(f"The package {package} holds no spoken line; this release has another version of it.")
    return [Speaker(safe_name(f"{package}_{name}"), tuple(files), licence, holder, f"debian:{package}")
            for (name, licence, holder), files in found.items()]


def from_folder(folder: Path, licence: str) -> list[Speaker]:
    """The speakers of the user's own folder: one per sub-folder, or per name before "__"."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name one with recordings of single voices.")
    found: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file()):
        name = path.stem.partition("__")[0] if path.parent == folder else path.parent.relative_to(folder).as_posix()
        found.setdefault(safe_name(name.replace("/", "_")), []).append(path)
    if not found:
        raise UserError(f"{folder} holds no audio; name a folder with recordings of single voices.")
    return [Speaker(name, tuple(files), licence, "", f"own:{name}") for name, files in found.items()]


def song(lines: list[singing.Speech], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """(2, time) float32 at 44.1 kHz, peak 0.9: lines sung one after the other by one singer made of the speaker, with
    pauses, for some doubled and for most in a little room, as studio vocals are."""
    singer = singing.Singer.draw(rng, singing.pitch_of(lines))
    length = round(seconds * RATE)
    out = np.zeros((2, length), np.float32)
    at = int(rng.uniform(0, 0.5) * RATE)
    doubled = rng.random() < 0.3
    while at < length:
        line = singing.sing(lines[rng.integers(len(lines))], singer, rng)
        line *= np.float32(10 ** (rng.uniform(-3, 3) / 20) / (np.sqrt(np.mean(np.square(line))) + 1e-9))
        end = min(length, at + len(line))
        if doubled:
            out[:, at:end] += _doubled(line, rng)[:, : end - at]
        else:
            out[:, at:end] += line[: end - at]
        at = end + int(rng.choice([0.1, 0.3, 0.8, 2.0]) * rng.uniform(0.5, 1.5) * RATE)
    if rng.random() < 0.7:
        out = _room(out, rng)
    return out * np.float32(_PEAK / max(float(np.abs(out).max()), 1e-9))


def _doubled(line: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A line with two detuned and delayed copies of itself left and right."""
    sides = []
    for sign in (-1, 1):
        other = audio.resample(line[None], round(RATE * (1 + sign * rng.uniform(0.002, 0.006))), RATE)[0]
        delay = int(rng.uniform(0.01, 0.03) * RATE)
        copy = np.zeros_like(line)
        n = min(len(line) - delay, len(other))
        copy[delay : delay + n] = other[:n]
        sides.append(line + np.float32(0.7) * copy)
    return np.stack(sides)


def _room(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exponentially decaying noise beside the voice, 10 to 24 dB under it."""
    time = np.arange(int(rng.uniform(0.3, 1.5) * RATE)) / RATE
    tail = rng.standard_normal((2, len(time))) * np.exp(-6.9 * time / time[-1])
    b, a = signal.butter(1, [2 * 200 / RATE, 2 * 6000 / RATE], "bandpass")
    tail = signal.lfilter(b, a, tail)
    wet = signal.fftconvolve(x, tail, axes=1)[:, : x.shape[1]]
    gain = 10 ** (rng.uniform(-24, -10) / 20) * np.sqrt(np.mean(np.square(x)) / (np.mean(np.square(wet)) + 1e-20))
    return (x + gain * wet).astype(np.float32)


def write_song(speaker: Speaker, lines: list[singing.Speech], number: int, seconds: float,
               out: Path) -> dict[str, object]:
    """Make and write one song, as a whole or not at all; returns its row of songs.tsv."""
    name = f"{speaker.name}__{number}"
    first = int(hashlib.sha256(speaker.name.encode()).hexdigest(), 16) % 2**32
    with whole_song(out, name) as part:
        x = song(lines, seconds, np.random.default_rng([first, number]))
        audio.write(part / "vocals.flac", x, RATE, subtype="PCM_24")
    by = f" by {speaker.holder}" if speaker.holder else ""
    file = f"{name}/vocals.flac"
    return {
        # The person is the artist, who decides the split: one holder may have the recordings of many.
        "song": name, "artist": speaker.name, "licence": speaker.licence,
        "shippable": "yes" if shippable(speaker.licence) else "no", "split": splits.by_hash("voices", speaker.name),
        "seconds": round(seconds, 2), "source": speaker.origin, "file": file, "sha256": sha256(out / file),
        "silent": SILENT, "note": f"{len(speaker.files)} files of speech{by}, sung",
    }


def build(speakers: list[Speaker], out: Path, songs: int, seconds: float) -> list[dict[str, object]]:
    """Make all songs that are not there yet; returns the rows of songs.tsv. What was left out is in left_out.tsv."""
    rows = earlier_songs(out)
    done = {str(row["song"]) for row in rows}
    left = []
    for speaker in track(speakers, "making speech sing"):
        open_ = [n for n in range(songs) if f"{speaker.name}__{n}" not in done]
        if not open_:
            continue
        lines = [line for path in speaker.files if (line := _line(path)) is not None]
        if len(lines) < _MIN_LINES:
            left.append({"speaker": speaker.name, "reason": f"fewer than {_MIN_LINES} files with a voice in them"})
            continue
        for number in open_:
            rows.append(write_song(speaker, lines, number, seconds, out))
            write_table(out / "songs.tsv", SONG_COLUMNS, rows)
    write_table(out / "left_out.tsv", ("speaker", "reason"), left)
    return rows


def _line(path: Path) -> singing.Speech | None:
    """A file's speech, its mid channel brought to one level, or None where hardly any of it is voiced."""
    x = read_at_rate(path, RATE).mean(0)
    return singing.analyse(x / max(float(np.abs(x).max()), 1e-9)) if len(x) > RATE // 5 else None


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parser(__doc__)
    args.add_argument("--out", type=Path, required=True, help="folder to write the dataset to")
    args.add_argument("--packages", nargs="*", default=list(SPOKEN), choices=list(SPOKEN), metavar="PACKAGE",
                      help=f"Debian packages with spoken lines: {', '.join(SPOKEN)}")
    args.add_argument("--speech", type=Path, help="your own folder of recorded voices, a sub-folder per speaker")
    args.add_argument("--licence", default="unknown", help="licence of your own recordings")
    args.add_argument("--songs", type=int, default=4, help="songs per speaker")
    args.add_argument("--seconds", type=float, default=45.0, help="length of a song")
    args.add_argument("--debs", type=Path, help="folder of .deb files, for machines without apt-get")
    args.add_argument("--cache", type=Path, help="where packages are kept and unpacked (default: OUT/.cache)")
    opts = args.parse_args(argv)
    if opts.songs < 1 or not 10 <= opts.seconds <= 600:
        raise UserError("--songs takes whole numbers from 1 on, --seconds 10 to 600.")
    # Before anything is downloaded: what is needed, and whether --out holds a table of someone else's.
    singing.vocoder()
    earlier_songs(opts.out)
    cache = opts.cache or opts.out / ".cache"
    speakers = from_folder(opts.speech, opts.licence) if opts.speech else []
    speakers += [speaker for package in opts.packages for speaker in from_package(package, opts.debs, cache)]
    if not speakers:
        raise UserError("There is nothing to sing; name --packages or a folder of voices with --speech.")
    rows = build(speakers, opts.out, opts.songs, opts.seconds)
    if not rows:
        raise UserError("None of these voices could be made to sing; see left_out.tsv.")
    log.info("%d songs, %.0f min, %d speakers in %s", len(rows),
             sum(float(str(row["seconds"])) for row in rows) / 60, len(speakers), opts.out)


if __name__ == "__main__":
    run(main)
