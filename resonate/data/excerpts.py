"""Draw stretches of music to degrade: which song, where, and for training a mix of stems across songs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np

from resonate import RATE, STEMS, audio
from resonate.data.checks import check
from resonate.data.licences import allowed
from resonate.data.music import Song, load_song, scan_music
from resonate.degrade.bank import Bank
from resonate.errors import UserError

log = logging.getLogger(__name__)

STARTER_BANK = Path(__file__).parents[1] / "bank"
QUIET, SILENT = 10 ** (-45 / 20), 10 ** (-80 / 20)
TRIES = 12


@dataclass(frozen=True)
class Remix:
    """How training excerpts are varied.

    Attributes:
        share: part of the excerpts of songs with stems in which drums, bass or vocals come from another song.
        swap: chance for each such stem to be exchanged.
        stem_gain_db: each stem's level is moved by up to this much, in remixed excerpts twice as much.
        speed: largest change of speed (and pitch), as a fraction; remixed excerpts only.
    """

    share: float = 0.6
    swap: float = 0.6
    stem_gain_db: float = 3.0
    speed: float = 0.08


@dataclass(frozen=True)
class Excerpt:
    """stems (4, 2, T) float32 at 44.1 kHz in the order of `resonate.STEMS`; a finished mix lies whole in "other".

    present: (4,) which stems are known apart; song: names of the songs used, joined by " + "; start in seconds.
    """

    stems: np.ndarray
    present: np.ndarray
    mix_only: bool
    song: str
    start: float
    songs: tuple[str, ...] = field(default=())


class Excerpts:
    """Excerpts of one split from several music folders.

    Args:
        folders: (folder, weight) pairs; the folder of an excerpt is drawn by weight, the song by its length.
        split: train, valid, test, or all.
        seconds: length of an excerpt.
        remix: variation for training, or None for songs as they are.
        licence: any, or cc for songs under free licences only.

    Raises:
        UserError: a folder is not music (see `scan_music`), none has a song of this split, or a song's files do not
            fit together (see `resonate.data.checks`).
    """

    def __init__(self, folders: Sequence[tuple[str | Path, float]], split: str, seconds: float,
                 remix: Remix | None = None, licence: str = "any") -> None:
        self.seconds, self.remix = seconds, remix
        self.length = round(seconds * RATE)
        names = ", ".join(str(folder) for folder, _ in folders)
        sets = [([s for s in scan_music(folder) if split in ("all", s.split)], weight) for folder, weight in folders]
        if not any(songs for songs, _ in sets):
            raise UserError(f"{names}: no song is of the {split} split; say which are, by a folder {split}/ that holds "
                            "them or in the column split of songs.tsv (docs/data.md).")  # fmt: skip
        if wanted := allowed(licence):
            sets = [([s for s in songs if wanted(s.licence)], weight) for songs, weight in sets]
            if not any(songs for songs, _ in sets):
                raise UserError(f"{names}: no song of the {split} split is under a free licence; name the licences in "
                                "the column licence of songs.tsv, or leave licence= out.")  # fmt: skip
        sets = [([s for s in songs if s.duration >= seconds], weight) for songs, weight in sets if songs]
        self.sets = [(songs, weight) for songs, weight in sets if songs and weight > 0]
        if not self.sets:
            raise UserError(f"{names}: no song of the {split} split is {seconds:g} s long; add songs or take shorter "
                            "excerpts.")  # fmt: skip
        for warning in check(self.songs):
            log.warning(warning)
        self.donors = {stem: [s for s in self.songs if stem in s.stems] for stem in ("drums", "bass", "vocals")}

    @property
    def songs(self) -> list[Song]:
        """Every song that may be drawn."""
        return [song for songs, _ in self.sets for song in songs]

    def draw(self, rng: np.random.Generator) -> Excerpt:
        """One excerpt, the first of `TRIES` that is not near silence, else the loudest of them. A pure function of the
        generator's state. UserError where all of them are silent."""
        weights = np.array([weight for _, weight in self.sets])
        songs = self.sets[rng.choice(len(self.sets), p=weights / weights.sum())][0]
        tries = []
        for _ in range(TRIES):
            song = _by_length(rng, songs)
            # Of a finished mix only stems that are silent in it can be changed: an instrumental gets vocals.
            mixable = self.remix is not None and bool(song.stems or song.silent)
            remixed = mixable and rng.random() < self.remix.share
            speed = 1 + rng.uniform(-1, 1) * self.remix.speed if remixed else 1.0
            stems, start = self._stretch(rng, song, speed)
            tries.append((_level(stems.sum(0)), song, mixable, remixed, speed, stems, start))
            if tries[-1][0] > QUIET:
                break
        level, song, mixable, remixed, speed, stems, start = max(tries, key=itemgetter(0))
        if level < SILENT:
            raise UserError(f"{song.name} is silent nearly everywhere; take it out of the music folder.")
        used = [song.name]
        if mixable:
            if remixed:
                used += self._exchange(rng, song, stems, speed)
            reach = self.remix.stem_gain_db * (2 if remixed else 1)
            stems *= 10 ** (rng.uniform(-reach, reach, (len(STEMS), 1, 1)) / 20).astype(np.float32)
        stems = _set_level(rng, stems)
        return Excerpt(stems, song.present, song.mix_only, " + ".join(used), start, tuple(used))

    def _stretch(self, rng: np.random.Generator, song: Song, speed: float = 1.0) -> tuple[np.ndarray, float]:
        need = self.seconds * speed
        start = float(rng.uniform(0, max(0.0, song.duration - need)))
        stems, _ = load_song(song, start, need)
        if speed != 1.0:
            stems = audio.resample(stems, round(RATE * speed), RATE)
        out = np.zeros((len(STEMS), 2, self.length), np.float32)
        n = min(self.length, stems.shape[-1])
        out[..., :n] = stems[..., :n]
        return out, start

    def _exchange(self, rng: np.random.Generator, song: Song, stems: np.ndarray, speed: float) -> list[str]:
        """Replace stems in place by those of other songs. "other" stays: where a song keeps its bass in there, a
        second bass would sound that no target knows, so only stems that the song has apart, or is without, are
        exchanged."""
        used = []
        for stem, donors in self.donors.items():
            others = [d for d in donors if d.name != song.name]
            # Vocals and bass are silent in most places of some songs: there an exchange is worth most.
            chance = self.remix.swap if _level(stems[STEMS.index(stem)]) > QUIET / 3 else 0.9
            if not song.knows(stem) or not others or rng.random() >= chance:
                continue
            donor = _by_length(rng, others)
            only = Song(donor.name, donor.artist, donor.split, {stem: donor.stems[stem]})
            for _ in range(5):
                piece = self._stretch(rng, only, speed)[0][STEMS.index(stem)]
                if _level(piece) > QUIET:
                    break
            stems[STEMS.index(stem)] = piece[::-1] if rng.random() < 0.5 else piece
            used.append(donor.name)
        return used


def bank_under(folders: Sequence[str | Path], split: str, licence: str) -> Bank:
    """The bank of one split, of it what `licence=` lets through (see `resonate.data.licences.allowed`)."""
    bank, wanted = Bank.load(list(folders), split), allowed(licence)
    return bank if wanted is None else Bank(tuple(item for item in bank.entries if wanted(item.licence)))


def _by_length(rng: np.random.Generator, songs: list[Song]) -> Song:
    lengths = np.array([song.duration for song in songs])
    return songs[rng.choice(len(songs), p=lengths / lengths.sum())]


def _level(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x)) + 1e-20))


def _set_level(rng: np.random.Generator, stems: np.ndarray) -> np.ndarray:
    """Bring the mix to -20..-14 dBFS RMS, as finished music is, but no peak above 1."""
    mix = stems.sum(0)
    gain = 10 ** (rng.uniform(-20, -14) / 20) / _level(mix)
    return stems * np.float32(min(gain, 1.0 / max(float(np.abs(mix).max()), 1e-9)))
