"""Folders of music: which songs are in them, which stems a song has, and reading a stretch of one.

Layouts that `scan_music` takes, in any depth below the folder and mixed as you like:

    my_music/Song A/vocals.wav, drums.wav, bass.wav, other.wav     one folder per song (also mixture.wav)
    my_music/Song B/drums__HATS.m4a, drums__KICK.m4a, ...          several files per stem are summed
    my_music/train/Song C/mixture.wav, drums.wav, ...              MUSDB18-HQ: its test folder is the test split
    my_music/Finished song.flac                                    a finished mix, stems unknown

A `songs.tsv` in the folder, as the recipes write it, says more about them. Its columns, all but the first of which may
be left out: song (name of its folder, or of its file without the suffix), artist, licence, split, silent: stems that
are known to be silent, separated by commas ("vocals" for an instrumental). A stem that has no file and is not listed
there is unknown.
"""

import csv
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from resonate import RATE, STEMS, audio
from resonate.data import splits
from resonate.errors import UserError

log = logging.getLogger(__name__)

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".m4a", ".mp4", ".aac", ".ogg", ".opus", ".aif", ".aiff", ".wma", ".webm"}
)
_STEM = re.compile(r"^(drums|bass|other|vocals|mixture|mix)(?=$|[\s_.\-(\d])", re.IGNORECASE)
# Formats in which libsndfile jumps to a sample; audio.read decodes from the beginning, which for a stretch in the
# middle of a song costs as much as all that lies before it.
SEEKABLE = frozenset({".wav", ".flac"})
_MARGIN = 0.05  # s read on both sides of a stretch, so that the resampler's ends fall outside it


@dataclass(frozen=True)
class Song:
    """One song on disk. `stems` maps a stem name to its files, which are summed and all start at 0 on one clock;
    `silent` names stems that are known to be silent from end to end."""

    name: str
    artist: str
    split: str
    stems: dict[str, list[Path]] = field(default_factory=dict)
    mixture: Path | None = None
    licence: str = "unknown"
    silent: frozenset[str] = frozenset()

    @property
    def mix_only(self) -> bool:
        """Whether there are no stems, only the finished mix (of which stems may be known to be silent)."""
        return not self.stems

    @property
    def present(self) -> np.ndarray:
        """(4,) bool in the order of `resonate.STEMS`: which stems are known, because the song has them apart or because
        they are silent. Any other may sound inside "other" (the bass of a song whose pads and bass are one file), so
        its target is unknown, not silence."""
        return np.array([self.knows(stem) for stem in STEMS])

    def knows(self, stem: str) -> bool:
        """Whether the song has a stem apart, or is known to be without it."""
        return stem in self.stems or stem in self.silent

    @property
    def files(self) -> list[Path]:
        """Every file that `load_song` reads."""
        return [f for files in self.stems.values() for f in files] if self.stems else [self.mixture]

    @property
    def duration(self) -> float:
        """Length in seconds of the longest file, from its header."""
        return max(duration_of(f) for f in self.files)


@lru_cache(maxsize=4096)
def header_of(path: Path) -> tuple[int, float]:
    """(sample rate, length in seconds) as the header states them. Raises UserError naming a file that is not audio."""
    if path.suffix.lower() in SEEKABLE:
        try:
            info = soundfile.info(str(path))
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path} cannot be read as audio; replace it or take it out of the music.") from error
        return info.samplerate, info.frames / info.samplerate
    probe = audio.probe(path)
    return probe.rate, probe.expected / probe.rate


def duration_of(path: Path) -> float:
    """Length in seconds as the header states it. Raises UserError naming a file that is not audio."""
    return header_of(path)[1]


def scan_music(folder: str | Path) -> list[Song]:
    """All songs below `folder`, sorted by name, each with its split: a folder called test is the test split, then comes
    what `splits.yaml` lists, then the column split of songs.tsv, then `resonate.data.splits.assign`.

    Raises UserError naming the folder or file: no such folder, no audio in it, a folder in which some files are named
    after stems and others are not, an empty file, a link to nothing, a MUSDB `.stem.mp4` (five streams in one file), a
    songs.tsv that cannot be understood.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder of music; give one folder per song with stems, or finished mixes.")
    table = _read_table(root / "songs.tsv")
    by_folder: dict[Path, list[Path]] = {}
    # People keep their music behind links, which rglob does not follow.
    for path in sorted(Path(place) / name for place, _, names in os.walk(root, followlinks=True) for name in names):
        parts = path.relative_to(root).parts
        if path.suffix.lower() in AUDIO_SUFFIXES and not any(p.startswith(".") for p in parts):
            if not path.is_file():
                raise UserError(f"{path} is a link to a file that is not there; restore the file or remove the link.")
            by_folder.setdefault(path.parent, []).append(path)
    if not by_folder:
        raise UserError(f"{root} holds no audio; put songs in it (wav, flac, m4a, mp3, ogg), one folder per song.")
    found = [song for place, files in by_folder.items() for song in _songs_in(root, place, files, table)]
    kept = [song for song in found if not splits.is_reserved(song.name)]
    for song in found:
        if splits.is_reserved(song.name):
            log.warning("%s is reserved for evaluation and left out", song.name)
    listed = {(s.name, s.artist): table.get(s.name, {}).get("split") or "" for s in kept}
    assigned = splits.assign(listed, listed)
    done = [s if s.split else replace(s, split=assigned[s.name, s.artist]) for s in kept]
    return sorted(done, key=lambda s: (s.name, str(s.files[0])))


def _read_table(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle, delimiter="\t"))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as tab-separated text in UTF-8.") from None
    if rows and "song" not in rows[0]:
        raise UserError(f"{path} has no column called song; its first line names the columns, separated by tabs.")
    for row in rows:
        if row.get("split") and row["split"] not in splits.SPLITS:
            raise UserError(f"{path} puts {row['song']} into the split {row['split']!r}; choose one of "
                            f"{', '.join(splits.SPLITS)}.")
        if strange := _silent(row) - set(STEMS):
            raise UserError(f"{path} calls {sorted(strange)[0]!r} of {row['song']} silent; stems are "
                            f"{', '.join(STEMS)}.")
    return {row["song"]: row for row in rows}


def _silent(row: dict[str, str]) -> frozenset[str]:
    return frozenset(stem.strip() for stem in (row.get("silent") or "").split(",") if stem.strip())


def _songs_in(root: Path, place: Path, files: list[Path], table: dict[str, dict[str, str]]) -> Iterable[Song]:
    for path in files:
        if path.name.lower().endswith(".stem.mp4"):
            raise UserError(f"{path} holds all stems in one file; use MUSDB18-HQ, which has one wav per stem.")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty; remove it or copy it again.")
    matches = {path: _STEM.match(path.stem) for path in files}
    if not any(matches.values()):
        for path in files:
            yield _song(path.stem, _split_of(root, path.parent), {}, path, table)
        return
    strange = [path for path, match in matches.items() if not match]
    if strange:
        raise UserError(f"{strange[0]} lies beside stems but its name says no stem; begin it with "
                        f"{', '.join(STEMS)} or mixture, or move it out of the song's folder.")
    stems: dict[str, list[Path]] = {}
    mixture = None
    for path, match in matches.items():
        stem = match.group(1).lower()
        if stem in STEMS:
            stems.setdefault(stem, []).append(path)
        elif mixture is None:
            mixture = path
        else:
            raise UserError(f"{path} is a second mixture of one song; keep one.")
    yield _song(place.resolve().name, _split_of(root, place.parent) if place != root else "", stems, mixture, table)


def _split_of(root: Path, place: Path) -> str:
    """test within a folder called so, in any depth (MUSDB18-HQ ships train/ and test/): its songs stay test songs."""
    return "test" if "test" in (root.name, *place.relative_to(root).parts) else ""


def _song(name: str, split: str, stems: dict[str, list[Path]], mixture: Path | None, table: dict) -> Song:
    row = table.get(name, {})
    silent = _silent(row)
    if both := sorted(silent & set(stems)):
        raise UserError(f"songs.tsv calls {both[0]} of {name} silent, but {stems[both[0]][0]} is there; remove one of "
                        "them.")
    return Song(name, row.get("artist") or "", split, stems, mixture, row.get("licence") or "unknown", silent)


def load_song(song: Song, start: float = 0.0, duration: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A stretch of a song as stems.

    Args:
        song: as `scan_music` gives it.
        start: seconds, >= 0.
        duration: seconds; None reads to the end.

    Returns:
        stems (4, 2, T) float32 at 44.1 kHz in the order of `resonate.STEMS`, zeros past the end of a file, and
        present (4,) bool. A stem known to be silent is present with zeros. A finished mix comes whole as "other", with
        nothing present but what is silent in it: "other" is then the sum of all stems that are not present.

    Raises:
        UserError (AudioError): a file cannot be decoded.
    """
    if duration is None:
        duration = song.duration - start
    length = round(duration * RATE)
    out = np.zeros((len(STEMS), 2, length), np.float32)
    groups = song.stems if song.stems else {"other": [song.mixture]}
    for stem, files in groups.items():
        for path in files:
            out[STEMS.index(stem)] += read_stretch(path, start, length)
    return out, song.present


def read_stretch(path: Path, start: float, length: int) -> np.ndarray:
    """`length` samples of 44.1 kHz stereo from `start` seconds on, (2, length) float32, zeros past the end."""
    out = np.zeros((2, length), np.float32)
    total = duration_of(path)
    if start >= total or length == 0:
        return out
    before = min(_MARGIN, start)
    samples, rate = _read(path, start - before, before + length / RATE + _MARGIN)
    stereo, _ = audio.to_stereo(samples)
    if rate != RATE:
        stereo = audio.resample(stereo, rate, RATE)
    skip = round(before * RATE)
    stereo = stereo[:, skip : skip + length]
    out[:, : stereo.shape[1]] = stereo
    return out


def _read(path: Path, start: float, duration: float) -> tuple[np.ndarray, int]:
    if path.suffix.lower() not in SEEKABLE:
        piece = audio.read(path, start=start, duration=duration)
        return piece.samples, piece.rate
    try:
        with soundfile.SoundFile(str(path)) as handle:
            handle.seek(min(round(start * handle.samplerate), handle.frames))
            frames = handle.read(round(duration * handle.samplerate), dtype="float32", always_2d=True)
            return np.ascontiguousarray(frames.T), handle.samplerate
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path} cannot be read as audio; replace it or take it out of the music.") from error
