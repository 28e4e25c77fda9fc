"""Render MIDI songs to stems (drums, bass, other), in quantity: training material for the separator.

    python -m data_recipes.midi_stems --out data/midi                        # the songs of Freedoom (BSD)
    python -m data_recipes.midi_stems --out data/midi --midi my_midi/ --licence CC0-1.0 --packages

writes data/midi/<song>__<n>/{drums,bass,other}.flac (44.1 kHz, 24 bit, one clock and one gain per song) and songs.tsv.
Rendition 0 is the song as written; further ones have another soundfont, key, tempo and drum kit. All renditions of a
song are in one split. Vocals are known to be silent (column `silent`), unless a choir plays. A run that was stopped
goes on where it was.
"""

import hashlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_recipes import deb, synth, wad
from data_recipes.common import (
    SONG_COLUMNS,
    earlier_songs,
    parser,
    run,
    safe_name,
    shippable,
    whole_song,
    write_table,
)
from resonate import RATE, audio
from resonate.audio import sha256
from resonate.data import splits
from resonate.errors import UserError

log = logging.getLogger(__name__)

#: Package -> (licence of its MIDI files, artist). GPL music is rendered only on request: shipped weights never hear it.
PACKAGES = {"freedoom": ("BSD-3-Clause", "Freedoom project"), "openttd-openmsx": ("GPL-2", "OpenMSX")}
MIN_SECONDS = 30.0
_MIDI = (".mid", ".midi")
#: Drum kits of General MIDI that further renditions choose from: standard, room, power, electronic, TR-808, jazz.
_KITS = (0, 8, 16, 24, 25, 32)
#: How far under and over "other" drums and bass may lie, in dB. Soundfonts differ by 20 dB in what they make of one
#: song; beyond these a stem is brought to the nearer end, as a sound engineer would.
_BALANCE = {"drums": (-6.0, 6.0), "bass": (-8.0, 4.0)}
_PEAK = 0.9
_SILENT = 1e-4  # a stem whose peak lies this far under that of the mix sounds nowhere


@dataclass(frozen=True)
class Source:
    """One MIDI song: its name, bytes, licence, artist and where it comes from."""

    name: str
    data: bytes
    licence: str
    artist: str
    origin: str


@dataclass(frozen=True)
class Rendition:
    """How a song is rendered: soundfont, semitones, tempo (1 = as written), drum kit (None: as written), reverb."""

    font: synth.Soundfont
    transpose: int = 0
    tempo: float = 1.0
    kit: int | None = None
    room: float = 0.2
    reverb: float = 0.9


def from_package(package: str, debs: Path | None, cache: Path) -> list[Source]:
    """The MIDI songs of a Debian package: .mid files and the MIDI lumps (D_*) of WAD files."""
    folder = cache / "unpacked" / package
    if not folder.is_dir():
        deb.unpack(deb.obtain(package, debs, cache / "debs"), folder)
    licence, artist = PACKAGES[package]
    songs = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        inside = f"debian:{package}:{path.name}"
        if path.suffix.lower() == ".wad":
            songs += [Source(safe_name(f"{path.stem}_{name}"), data, licence, artist, f"{inside}:{name}")
                      for name, data in wad.lumps(path) if name.startswith("D_") and data[:4] == b"MThd"]
        elif path.suffix.lower() in _MIDI:
            songs.append(Source(safe_name(f"{package}_{path.stem}"), path.read_bytes(), licence, artist, inside))
    if not songs:
        raise UserError(f"The package {package} holds no MIDI song; this release has another version of it.")
    return songs


def from_folder(folder: Path, licence: str, artist: str) -> list[Source]:
    """The .mid files below a folder of the user's own; the name of a song is its path in it."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name one with .mid files.")
    songs = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in _MIDI and p.is_file()):
        name = path.relative_to(folder).with_suffix("").as_posix()
        songs.append(Source(safe_name(name.replace("/", "_")), path.read_bytes(), licence, artist, f"own:{name}"))
    if not songs:
        raise UserError(f"{folder} holds no .mid file; name a folder with MIDI songs.")
    return songs


def rendition(song: str, number: int, fonts: list[synth.Soundfont]) -> Rendition:
    """Rendition `number` of a song: 0 as written, others varied; soundfonts take turns from one that the name draws."""
    first = int(hashlib.sha256(song.encode()).hexdigest(), 16)
    font = fonts[(first + number) % len(fonts)]
    if number == 0:
        return Rendition(font)
    rng = np.random.default_rng([first % 2**32, number])
    return Rendition(font, int(rng.integers(-4, 5)), float(np.round(rng.uniform(0.9, 1.12), 3)),
                     int(rng.choice(_KITS)), float(np.round(rng.uniform(0.1, 0.6), 2)),
                     float(np.round(rng.uniform(0.2, 0.9), 2)))


def stems(data: bytes, name: str, how: Rendition) -> tuple[dict[str, np.ndarray], list[str]]:
    """Render a song.

    Returns:
        group -> (2, time) float32 at 44.1 kHz, all of one length, under one gain that puts the highest peak of the
        stems and of their sum at 0.9; and the names of the stems that are known to be silent. A group that plays no
        note is absent: drums are then silent, while the bass line may be played by an instrument of "other", so the
        bass is unknown. Vocals are silent unless a choir plays, which may pass for them.

    Raises:
        UserError: no readable MIDI, shorter than 30 s, or silent.
    """
    from data_recipes import midi_groups  # here: mido is an extra

    midi = midi_groups.read(data, name)
    if midi.length < MIN_SECONDS:
        raise UserError(f"{name} is shorter than {MIN_SECONDS:.0f} s.")
    parts = midi_groups.take_apart(midi, how.transpose, how.tempo, how.kit)
    made = {group: synth.render(part, how.font, how.room, how.reverb) for group, part in parts.files.items()}
    length = max((x.shape[1] for x in made.values()), default=0)
    made = {group: np.pad(x, ((0, 0), (0, length - x.shape[1]))) for group, x in made.items()}
    top = max((float(np.abs(x).max(initial=0.0)) for x in made.values()), default=0.0)
    made = balance({group: x for group, x in made.items() if np.abs(x).max() > _SILENT * top})
    if not made:
        raise UserError(f"{name} is silent with this soundfont.")
    mix = sum(made.values(), np.zeros((2, length), np.float32))
    top = float(np.abs(mix).max())
    end = _end(mix, top)
    gain = np.float32(_PEAK / max(top, *(float(np.abs(x).max()) for x in made.values())))
    silent = [s for s, quiet in (("drums", not parts.notes["drums"]), ("vocals", not parts.choir)) if quiet]
    return {group: x[:, :end] * gain for group, x in made.items()}, silent


def balance(stems: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The stems with drums and bass brought into a usual range of levels against "other", where they lie outside."""
    if "other" not in stems:
        return stems
    other = active_level(stems["other"])
    levels = {group: active_level(x) - other for group, x in stems.items()}
    wanted = {group: float(np.clip(level, *_BALANCE.get(group, (level, level)))) for group, level in levels.items()}
    return {group: x * np.float32(10 ** ((wanted[group] - levels[group]) / 20)) for group, x in stems.items()}


def active_level(x: np.ndarray) -> float:
    """RMS level in dB of where something plays: blocks of 0.4 s within 25 dB of the loudest; (2, time) in."""
    block = round(0.4 * RATE)
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % block)))
    power = np.square(padded).reshape(2, -1, block).mean((0, 2))
    return float(10 * np.log10(power[power >= power.max() * 10**-2.5].mean() + 1e-12))


def _end(mix: np.ndarray, top: float) -> int:
    """Where the last sound has died away (80 dB under the peak), plus half a second."""
    loud = np.flatnonzero(np.abs(mix).max(0) > 1e-4 * top)
    return min(mix.shape[1], int(loud[-1]) + RATE // 2)


def write_song(source: Source, number: int, fonts: list[synth.Soundfont], out: Path) -> list[dict[str, object]]:
    """Render and write one rendition, as a whole or not at all; returns its rows of songs.tsv."""
    how = rendition(source.name, number, fonts)
    made, silent = stems(source.data, source.name, how)
    name = f"{source.name}__{number}"
    licence = source.licence if source.licence == how.font.licence else f"{source.licence} and {how.font.licence}"
    rows = []
    with whole_song(out, name) as part:
        for group, x in made.items():
            path = part / f"{group}.flac"
            audio.write(path, x, RATE, subtype="PCM_24")
            level = 20 * np.log10(np.sqrt(np.mean(np.square(x))) + 1e-9)
            rows.append({
                "song": name, "artist": source.artist, "licence": licence,
                "shippable": "yes" if shippable(licence) else "no", "split": splits.by_hash("songs", source.name),
                "seconds": round(x.shape[1] / RATE, 2), "source": source.origin, "file": f"{name}/{group}.flac",
                "sha256": sha256(path), "silent": ",".join(silent),
                "note": f"font={how.font.name} transpose={how.transpose} tempo={how.tempo:g} kit={how.kit} "
                        f"rms={level:.1f}dB",
            })
    return rows


def build(sources: Iterable[Source], out: Path, fonts: list[synth.Soundfont], renditions: int = 2,
          workers: int = 1) -> list[dict[str, object]]:
    """Render all songs that are not there yet; returns the rows of songs.tsv. What was left out is in left_out.tsv."""
    rows = earlier_songs(out)
    done = {str(row["song"]) for row in rows}
    left: dict[str, str] = {}
    unique: dict[str, Source] = {}
    for source in sources:
        twin = unique.setdefault(hashlib.sha256(source.data).hexdigest(), source)
        if any(s.name == source.name and s is not source for s in unique.values()) and twin is source:
            raise UserError(f"Two different songs would be called {source.name}; rename one of the files.")
        if splits.is_reserved(source.name):
            left[source.name] = "reserved for an independent evaluation"
        elif twin is not source and twin.name != source.name:
            left[source.name] = f"a copy of {twin.name}"
    todo = [(s, n) for n in range(renditions) for s in unique.values() if not splits.is_reserved(s.name)]
    open_ = [(s, n) for s, n in todo if f"{s.name}__{n}" not in done]
    columns = (TextColumn("rendering MIDI"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, ThreadPoolExecutor(workers) as pool:
        task = progress.add_task("", total=len(todo), completed=len(todo) - len(open_))
        futures = {pool.submit(write_song, source, n, fonts, out): source for source, n in open_}
        try:
            for future in as_completed(futures):
                try:
                    rows += future.result()
                except UserError as error:
                    left[futures[future].name] = str(error)
                write_table(out / "songs.tsv", SONG_COLUMNS, rows)
                progress.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    write_table(out / "songs.tsv", SONG_COLUMNS, rows)
    write_table(out / "left_out.tsv", ("song", "reason"), [{"song": s, "reason": r} for s, r in left.items()])
    return rows


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parser(__doc__)
    args.add_argument("--out", type=Path, required=True, help="folder to write the dataset to")
    args.add_argument("--packages", nargs="*", default=["freedoom"], choices=list(PACKAGES), metavar="PACKAGE",
                      help=f"Debian packages with MIDI songs: {', '.join(PACKAGES)}")
    args.add_argument("--allow-gpl", action="store_true", help="take GPL music too (never for weights to be shipped)")
    args.add_argument("--midi", type=Path, help="your own folder of .mid files")
    args.add_argument("--licence", default="unknown", help="licence of your own MIDI files")
    args.add_argument("--artist", default="", help="artist of your own MIDI files")
    args.add_argument("--soundfonts", nargs="+", type=Path, help="your own soundfonts instead of the two of Debian")
    args.add_argument("--soundfont-licence", default="unknown", help="licence of your own soundfonts")
    args.add_argument("--renditions", type=int, default=2, help="renditions of each song")
    args.add_argument("--debs", type=Path, help="folder of .deb files, for machines without apt-get")
    args.add_argument("--cache", type=Path, help="where packages are kept and unpacked (default: OUT/.cache)")
    args.add_argument("--workers", type=int, default=1, help="songs rendered at a time")
    opts = args.parse_args(argv)
    synth.check()
    _check_mido()
    for package in opts.packages:
        if not shippable(PACKAGES[package][0]) and not opts.allow_gpl:
            raise UserError(f"{package} is under {PACKAGES[package][0]}, so weights trained on it are not to be "
                            "shipped; add --allow-gpl to take it.")
    if opts.renditions < 1 or opts.workers < 1:
        raise UserError("--renditions and --workers take whole numbers from 1 on.")
    earlier_songs(opts.out)  # a table of someone else's is refused before anything is downloaded
    cache = opts.cache or opts.out / ".cache"
    sources = [song for package in opts.packages for song in from_package(package, opts.debs, cache)]
    sources += from_folder(opts.midi, opts.licence, opts.artist) if opts.midi else []
    if not sources:
        raise UserError("There is nothing to render; name --packages or a folder of .mid files with --midi.")
    fonts = [synth.from_file(path, opts.soundfont_licence) for path in opts.soundfonts or ()]
    fonts = fonts or [synth.from_package(package, opts.debs, cache) for package in synth.PACKAGES]
    rows = build(sources, opts.out, fonts, opts.renditions, opts.workers)
    if not rows:
        raise UserError("None of these songs could be rendered; see left_out.tsv.")
    hours = sum({str(r["song"]): float(str(r["seconds"])) for r in rows}.values()) / 3600
    log.info("%d renditions, %.1f h in %s", len({r["song"] for r in rows}), hours, opts.out)


def _check_mido() -> None:
    try:
        import mido  # noqa: F401
    except ImportError:
        raise UserError("Reading MIDI needs mido; install it with pip install 'resonate[render]'.") from None


if __name__ == "__main__":
    run(main)
