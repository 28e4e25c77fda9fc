"""The sounds of a result folder that the page shows, each one or more files added together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resonate import STEMS, audio
from resonate.errors import UserError


@dataclass(frozen=True)
class Sound:
    """`files` of equal rate and length whose sum is the sound; of it `seconds` from `start` s on."""

    key: str
    label: str
    says: str
    files: tuple[Path, ...]
    start: float = 0.0
    seconds: float | None = None

    @property
    def rate(self) -> int:
        """Sample rate of the files in Hz."""
        return audio.probe(self.files[0]).rate

    def read(self, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
        """((2, time) float32, rate) of a stretch that begins `start` s into the sound."""
        total: np.ndarray | None = None
        rate = 0
        for file in self.files:
            length = self.seconds if seconds is None else seconds
            heard = audio.read(file, start=self.start + start, duration=length)
            stereo, rate = audio.to_stereo(heard.samples)[0], heard.rate
            total = stereo if total is None else total + stereo
        assert total is not None
        return total, rate

    def blocks(self) -> Iterator[np.ndarray]:
        """(2, n) float32 blocks of the whole sound, with flat memory."""
        rate = self.rate
        first = round(self.start * rate)
        last = None if self.seconds is None else first + round(self.seconds * rate)
        position = 0
        for parts in zip(*(audio.stream(file) for file in self.files), strict=True):
            block = parts[0] if len(parts) == 1 else np.sum(parts, axis=0)
            cut = block[:, max(0, first - position) : None if last is None else max(0, last - position)]
            position += block.shape[1]
            if cut.shape[1]:
                yield audio.to_stereo(cut)[0]
            if last is not None and position >= last:
                return


_STEM_WORDS = {"drums": "Drums", "bass": "Bass", "other": "Other instruments", "vocals": "Vocals"}


def collect(folder: Path, report: Mapping[str, Any]) -> dict[str, Sound]:
    """key -> Sound, in the order of the players: input, revealed, restored, extended, the stems, removed, crowd.

    Those whose files are not there (no ledger) are left out. Without ledger the input is read where the report says
    it lies. Raises UserError where there is no master.
    """
    ledger = folder / "ledger"
    if not (folder / "master.wav").is_file():
        raise UserError(f"{folder} holds no master.wav; restore the recording first.")
    settings = report.get("settings", {})
    if (ledger / "removed.wav").is_file():
        # removed = input - revealed, so that the two together are the recording as it was read
        heard = Sound("input", "Recording", "as it came in", (ledger / "removed.wav", ledger / "revealed.wav"))
    else:
        heard = Sound(
            "input", "Recording", "as it came in", (Path(str(report.get("input", {}).get("path", ""))),),
            float(settings.get("start") or 0.0), settings.get("duration"),
        )  # fmt: skip
    sounds = [
        heard,
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
