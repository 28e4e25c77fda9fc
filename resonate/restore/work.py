"""What the stages of one restoration share, and the interface that every stage has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from demucs.htdemucs import HTDemucs

from resonate import RATE
from resonate.audio import Source, resampled_length
from resonate.errors import UserError
from resonate.models.restorer import Restorer
from resonate.models.stats import RecordingStats
from resonate.models.weights import RESTORER, SEPARATOR, load_restorer, load_separator, read_header
from resonate.restore.config import RestoreConfig
from resonate.restore.operator import frame_count
from resonate.restore.store import Store, Track

log = logging.getLogger(__name__)

#: Shorter recordings are refused, in seconds.
SHORTEST = 0.5


def output_rate(rate: int) -> int:
    """48 kHz for the family of 8, 16, 32, 48 and 96 kHz, 44.1 kHz for all other rates."""
    return 48000 if rate % 4000 == 0 else 44100


def find_device(name: str) -> str:
    """`auto` becomes cuda, mps or cpu, the first that is there. UserError for one that is not."""
    kind = name.split(":")[0]
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        return next(k for k, usable in there.items() if usable)
    if not there[kind]:
        raise UserError(f"device={name} is not on this machine: choose auto or cpu.")
    return name


class Models:
    """The two networks, loaded when first needed and kept for the next recording."""

    def __init__(self, config: RestoreConfig) -> None:
        self.separator_path = Path(config.separator).expanduser() if config.separator else SEPARATOR
        self.restorer_path = Path(config.restorer).expanduser() if config.restorer else RESTORER
        self.device = find_device(config.device)

    def check(self) -> None:
        """Read the files' headers alone. UserError where one is missing or of another kind."""
        read_header(self.separator_path, "separator")
        read_header(self.restorer_path, "restorer")

    @cached_property
    def separator(self) -> HTDemucs:
        """The separator, in eval mode."""
        return load_separator(self.separator_path, self.device)

    @cached_property
    def restorer(self) -> Restorer:
        """The restorer, in eval mode."""
        return load_restorer(self.restorer_path, self.device)


@dataclass
class Work:
    """One recording on its way. `folder` holds the arrays between the stages, `result` becomes the result folder.

    Set by ingest: `source`, `rate` and `samples` (the recording's own), `track["input"]` (stereo, at its rate) and
    `track["ingested"]` (44.1 kHz). Set by diagnose: `stats`. `silent` is set once nothing is left to restore.
    """

    path: Path
    folder: Path
    result: Path
    config: RestoreConfig
    models: Models
    tell: Callable[[str, float], None] = lambda stage, share: None
    source: Source | None = None
    rate: int = 0
    samples: int = 0
    silent: bool = False
    stats: RecordingStats | None = None
    diagnosis: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    track: dict[str, Track] = field(default_factory=dict)
    store: dict[str, Store] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Samples at 44.1 kHz."""
        return resampled_length(self.samples, self.rate, RATE)

    @property
    def frames(self) -> int:
        """STFT frames at 44.1 kHz."""
        return frame_count(self.length)

    @property
    def output_rate(self) -> int:
        """Rate of master and stems."""
        return output_rate(self.rate)

    @property
    def output_length(self) -> int:
        """Samples of master and stems: round(n * r_out / r_in)."""
        return resampled_length(self.samples, self.rate, self.output_rate)

    def new_track(self, name: str, channels: int = 2, length: int | None = None, rate: int = RATE) -> Track:
        """A track of zeros in the scratch folder, 44.1 kHz and as long as the recording unless told."""
        length = self.length if length is None else length
        self.track[name] = Track(self.folder / f"{name}.npy", channels, length, rate)
        return self.track[name]

    def drop(self, name: str) -> None:
        """Free the disk space of a track that no later stage needs."""
        track = self.track.pop(name)
        track.close()
        track.path.unlink()

    def new_store(self, name: str, row: tuple[int, ...], dtype: str) -> Store:
        """An array with a row per STFT frame, kept in the result's work folder."""
        folder = self.result / "work"
        folder.mkdir(exist_ok=True)
        self.store[name] = Store(folder / f"{name}.npy", self.frames, row, dtype)
        return self.store[name]

    def close(self) -> None:
        """Close all arrays."""
        for item in [*self.track.values(), *self.store.values()]:
            item.close()


class Stage(Protocol):
    """One step. `run` reads and adds tracks of `work` and returns its effect, JSON-able, for the report."""

    name: str

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """What of the settings shapes this stage."""
        ...

    def run(self, work: Work) -> dict[str, Any]:
        """Do it. Raises UserError where the recording cannot be used."""
        ...


def to_db(value: float) -> float | None:
    """20 log10, rounded; None for zero."""
    return round(float(20 * np.log10(value)), 2) if value > 0 else None


def finite(values: np.ndarray, what: str) -> np.ndarray:
    """`values`, or a UserError where a network gave NaN or infinity."""
    if not np.isfinite(values).all():
        raise UserError(
            f"The {what} gave numbers that are not finite: its weights are damaged or do not fit; give others."
        )
    return values
