"""The sounds of a result folder that the page shows, each one or more files added together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from resonate import STEMS, audio
from resonate.errors import UserError

#: Samples per block that is read.
BLOCK = 1 << 16


@dataclass(frozen=True)
class Sound:
    """`files` of equal rate and length whose sum is the sound; of it `seconds` from `start` s on. `ours`: whether the
    files are WAV files that Resonate wrote, which can be read without decoding all that lies before."""

    key: str
    label: str
    says: str
    files: tuple[Path, ...]
    start: float = 0.0
    seconds: float | None = None
    ours: bool = True

    @property
    def rate(self) -> int:
        """Sample rate of the files in Hz."""
        return audio.probe(self.files[0]).rate

    def cut(self, parts: Sequence[tuple[float, float]]) -> tuple[list[np.ndarray], int]:
        """(2, time) float32 per (start, seconds) of `parts`, in order, and the rate. Files of the result are read only
        where a part lies; others, as the recording itself, once through."""
        rate = self.rate
        spans = [(round((self.start + start) * rate), round(seconds * rate)) for start, seconds in parts]
        summed: list[np.ndarray] = []
        for n, file in enumerate(self.files):
            for k, piece in enumerate(_pieces(file, spans, self.ours)):
                if n:
                    summed[k] += audio.to_stereo(piece)[0]
                else:
                    summed.append(audio.to_stereo(piece)[0])
                del piece  # a piece may be a whole song: it is not kept while the next is read
        return summed, rate

    def read(self, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
        """((2, time) float32, rate) of a stretch that begins `start` s into the sound, or of all from there on."""
        if seconds is None and not self.ours:
            pieces = list(self.blocks())
            rate = self.rate
            if not pieces:
                raise audio.AudioError(f"{self.files[0]}: ends before {self.start:g} s.")
            return np.concatenate(pieces, axis=1)[:, round(start * rate) :], rate
        if seconds is None:  # what was read would be held twice while it is joined
            with _opened(self.files[0]) as file:
                whole = self.seconds if self.seconds is not None else file.frames / file.samplerate - self.start
            seconds = whole - start
        (piece,), rate = self.cut([(start, seconds)])
        return piece, rate

    def blocks(self) -> Iterator[np.ndarray]:
        """(2, n) float32 blocks of the whole sound, with flat memory."""
        rate = self.rate
        first = round(self.start * rate)
        last = None if self.seconds is None else first + round(self.seconds * rate)
        position = 0
        for parts in zip(*(_stream(file, self.ours) for file in self.files), strict=True):
            block = parts[0] if len(parts) == 1 else np.sum(parts, axis=0)
            cut = block[:, max(0, first - position) : None if last is None else max(0, last - position)]
            position += block.shape[1]
            if cut.shape[1]:
                yield audio.to_stereo(cut)[0]
            if last is not None and position >= last:
                return


def _stream(file: Path, ours: bool) -> Iterator[np.ndarray]:
    """(channels, n) float32 blocks. What Resonate wrote is read by libsndfile, which takes long blocks: over a show of
    hours the many short ones of a decoder cost minutes."""
    if not ours:
        yield from audio.stream(file)
        return
    with _opened(file) as sound:
        for block in sound.blocks(BLOCK, dtype="float32", always_2d=True):
            yield block.T


def _pieces(file: Path, spans: Sequence[tuple[int, int]], ours: bool) -> Iterator[np.ndarray]:
    """(channels, n) float32 per (first sample, count); shorter where the file ends."""
    if ours:
        with _opened(file) as sound:
            for first, count in spans:
                sound.seek(min(first, sound.frames))
                yield sound.read(count, dtype="float32", always_2d=True).T
        return
    found: list[list[np.ndarray]] = [[] for _ in spans]
    position = 0
    for block in audio.stream(file):
        for piece, (first, count) in zip(found, spans, strict=True):
            if first < position + block.shape[1] and position < first + count:
                piece.append(block[:, max(0, first - position) : first + count - position])
        position += block.shape[1]
        if position >= max(first + count for first, count in spans):
            break
    for piece in found:
        yield np.concatenate(piece, axis=1) if piece else np.zeros((2, 0), np.float32)


def _opened(file: Path) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{file} cannot be read as audio; restore the recording again.") from error


_STEM_WORDS = {"drums": "Drums", "bass": "Bass", "other": "Other", "vocals": "Vocals"}


def collect(folder: Path, report: Mapping[str, Any]) -> dict[str, Sound]:
    """key -> Sound, in the order of the players: input, revealed, restored, extended, the stems, removed, crowd.

    Those whose files are not there (no ledger) are left out. Without ledger the input is read where the report says
    it lies, unless it was changed since. Of a diagnosis alone there is the input at most. Raises UserError where there
    is no master.
    """
    ledger = folder / "ledger"
    settings, given = report.get("settings", {}), report.get("input", {})
    if not settings.get("diagnose_only") and not (folder / "master.wav").is_file():
        raise UserError(f"{folder} holds no master.wav; restore the recording first.")
    heard = []
    if (ledger / "removed.wav").is_file():
        # removed = input - revealed, so that the two together are the recording as it was read
        heard = [Sound("input", "Recording", "as it came in", (ledger / "removed.wav", ledger / "revealed.wav"))]
    elif given.get("sha256") == given.get("sha256_after", given.get("sha256")):
        heard = [Sound(
            "input", "Recording", "as it came in", (Path(str(given.get("path", ""))),),
            float(settings.get("start") or 0.0), settings.get("duration"), ours=False,
        )]  # fmt: skip
    sounds = [
        *heard,
        Sound("revealed", "Revealed", "what was captured, brought out; nothing added", (ledger / "revealed.wav",)),
        Sound("restored", "Restored", "the finished track, master.wav", (folder / "master.wav",)),
        Sound("extended", "Extended", "what was filled in where nothing was captured", (ledger / "extended.wav",)),
        *(
            Sound(stem, _STEM_WORDS[stem], f"restored stem, stems/{stem}.wav", (folder / "stems" / f"{stem}.wav",))
            for stem in reversed(STEMS)
        ),
        Sound("removed", "Removed", "recording less revealed", (ledger / "removed.wav",)),
        Sound("crowd", "Crowd", "what belongs to no instrument", (ledger / "crowd.wav",)),
    ]
    return {sound.key: sound for sound in sounds if all(file.is_file() for file in sound.files)}
