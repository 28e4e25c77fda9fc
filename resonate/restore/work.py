"""What the stages of one restoration share, and the interface that every stage has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from demucs.htdemucs import HTDemucs

from resonate import RATE
from resonate.audio import Source, resampled_length, sha256
from resonate.errors import UserError
from resonate.models.demucs_files import find_weights
from resonate.models.released import RELEASED, check_hash, fetch_released
from resonate.models.restorer import Restorer
from resonate.models.selfcheck import check_device
from resonate.models.stats import RecordingStats
from resonate.models.weights import RESTORER, SEPARATOR, load_restorer, load_separator, read_header
from resonate.restore.config import RestoreConfig
from resonate.restore.diagnosis.listener import WEIGHTS as LISTENER
from resonate.restore.operator import frame_count
from resonate.restore.store import Store, Track

#: Shorter recordings are refused, in seconds.
SHORTEST = 0.5


def output_rate(rate: int) -> int:
    """48 kHz for the family of 8, 16, 32, 48 and 96 kHz, 44.1 kHz for all other rates."""
    return 48000 if rate % 4000 == 0 else 44100


def find_device(name: str) -> str:
    """`auto` becomes cuda, mps or cpu, the first that is there. UserError for one that is not."""
    kind, colon, number = name.partition(":")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        return next(k for k, usable in there.items() if usable)
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not there[kind] or (colon and not (number.isdecimal() and int(number) < count)):
        raise UserError(f"device={name} is not on this machine: choose auto or cpu.")
    return name


class Models:
    """The two networks, loaded when first needed and kept for the next recording, and the files of all weights.

    With `diagnose_only` the listener's are the only ones in use. On MPS each network is compared with the CPU as it is
    loaded; UserError where the device computes something else.
    """

    def __init__(self, config: RestoreConfig) -> None:
        self.separator_path = Path(config.separator).expanduser() if config.separator else SEPARATOR
        self.restorer_path = Path(config.restorer).expanduser() if config.restorer else RESTORER
        self.device = find_device(config.device)
        self._diagnose_only = config.diagnose_only

    def check(self) -> None:
        """Read the files in use once, load nothing. UserError where one is missing, damaged or of another kind.

        `separator=htdemucs`, where no file is called so, means the released weights; they are fetched here.
        """
        if not LISTENER.is_file():
            raise UserError(f"{LISTENER} is missing, which diagnosis needs; install Resonate again.")
        check_hash(LISTENER)
        if self._diagnose_only:
            return
        if str(self.separator_path) == RELEASED and not self.separator_path.exists():
            self.separator_path = fetch_released()
        self.separator_path = find_weights(self.separator_path)
        for path, kind in ((self.separator_path, "separator"), (self.restorer_path, "restorer")):
            read_header(path, kind)
            check_hash(path)

    def load(self) -> None:
        """Load both now, where they are in use: what is wrong with their numbers shows before any work. UserError as
        :meth:`check`."""
        if not self._diagnose_only:
            _ = self.separator, self.restorer

    def weights(self) -> dict[str, dict[str, str]]:
        """Path and SHA-256 of the files in use, by what they are weights of."""
        paths = {"listener": LISTENER}
        if not self._diagnose_only:
            paths |= {"separator": self.separator_path, "restorer": self.restorer_path}
        return {name: {"path": str(path), "sha256": sha256(path)} for name, path in paths.items()}

    @cached_property
    def separator(self) -> HTDemucs:
        """The separator, in eval mode."""
        model = load_separator(self.separator_path, self.device)
        self._compare(model)
        return model

    @cached_property
    def restorer(self) -> Restorer:
        """The restorer, in eval mode."""
        model = load_restorer(self.restorer_path, self.device)
        if model.config.correction:
            raise UserError(
                f"{self.restorer_path} turns the captured phase (correction={model.config.correction:g}), which the "
                "ledger's gains cannot hold; give weights without a correction."
            )
        self._compare(model)
        return model

    def _compare(self, model: HTDemucs | Restorer) -> None:
        if torch.device(self.device).type == "mps":
            check_device(model, self.device)


class Progress(Protocol):
    """How far a stage is that goes block by block; kept on disk, so that a stopped run goes on inside it."""

    #: Blocks that are on the disk already.
    done: int

    def mark(self, done: int, stores: Iterable[Store], force: bool = False) -> None:
        """Blocks up to `done` are written to `stores`; noted every few seconds, or now with `force`."""
        ...


class NoProgress:
    """Nothing is kept: for runs in a temporary folder."""

    done = 0

    def mark(self, done: int, stores: Iterable[Store], force: bool = False) -> None:
        """Does nothing."""


@dataclass
class Work:
    """One recording on its way. `folder` holds the running stage's arrays; what it writes below `result` becomes part
    of the result folder. Tracks and stores of earlier stages are there for reading alone.

    Set by ingest: `source`, `rate` and `samples` (the recording's own), `track["input"]` (stereo, at its rate) and
    `track["ingested"]` (44.1 kHz). Set by diagnose: `stats` (of all of it) and `parts` ((first frame, statistics) of
    each, where its band moves); by choose: `made_from`.
    `silent` is set once nothing is left to restore.
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
    parts: list[tuple[int, RecordingStats]] = field(default_factory=list)
    made_from: str = "mix"
    diagnosis: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    track: dict[str, Track] = field(default_factory=dict)
    store: dict[str, Store] = field(default_factory=dict)
    progress: Progress = field(default_factory=NoProgress)
    retired: list[Store] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Samples at 44.1 kHz."""
        return resampled_length(self.samples, self.rate, RATE)

    @property
    def frames(self) -> int:
        """STFT frames at 44.1 kHz."""
        return frame_count(self.length)

    def stats_at(self, first: int, count: int = 1) -> RecordingStats:
        """Statistics of the part that the middle of the frames [first, first + count) belongs to."""
        assert self.stats is not None
        begun = [stats for start, stats in self.parts if start <= first + count // 2]
        return begun[-1] if begun else self.stats

    @property
    def output_rate(self) -> int:
        """Rate of master and stems."""
        return output_rate(self.rate)

    @property
    def output_length(self) -> int:
        """Samples of master and stems: round(n * r_out / r_in)."""
        return resampled_length(self.samples, self.rate, self.output_rate)

    def new_track(self, name: str, channels: int = 2, length: int | None = None, rate: int = RATE) -> Track:
        """A track of zeros in the stage's folder, 44.1 kHz and as long as the recording unless told.

        It takes the place of an earlier stage's track of that name, which can be read until the stage ends. Where the
        stage goes on after a stop, what it wrote before is in it.
        """
        length = self.length if length is None else length
        self._retire(self.track, name)
        self.track[name] = Track(self.folder / f"{name}.npy", channels, length, rate, keep=self.progress.done > 0)
        return self.track[name]

    def new_store(self, name: str, row: tuple[int, ...], dtype: str) -> Store:
        """An array with a row per STFT frame, kept in the result's work folder; otherwise as :meth:`new_track`."""
        folder = self.result / "work"
        folder.mkdir(exist_ok=True)
        self._retire(self.store, name)
        self.store[name] = Store(folder / f"{name}.npy", self.frames, row, dtype, keep=self.progress.done > 0)
        return self.store[name]

    def _retire(self, items: dict[str, Any], name: str) -> None:
        if name in items:
            self.retired.append(items.pop(name))

    def drop(self, name: str) -> None:
        """Say that no later stage needs this track; its disk space is freed once the stage has ended."""
        self._retire(self.track, name)

    def discard(self, name: str) -> None:
        """Delete a track that this stage made and needs no more, at once."""
        track = self.track.pop(name)
        track.close()
        track.path.unlink(missing_ok=True)

    def release(self, delete: bool = True) -> None:
        """Close, and delete, the tracks that were dropped or replaced; seal the others."""
        for item in self.retired:
            item.close()
            if delete and isinstance(item, Track):
                item.path.unlink(missing_ok=True)
        self.retired.clear()
        for item in [*self.track.values(), *self.store.values()]:
            item.seal()

    def close(self) -> None:
        """Close all arrays."""
        for item in [*self.track.values(), *self.store.values(), *self.retired]:
            item.close()


class Stage(Protocol):
    """One step. `run` reads and adds tracks of `work` and returns its effect, JSON-able, for the report.

    A run that is stopped goes on from the last finished stage, so `settings` names all that shapes the stage's result
    and that no earlier stage has named, and what it leaves for later stages lies in `work`. A class attribute
    `networks`, a tuple, names the files that it uses: weights, as :meth:`Models.weights` calls them, or
    "tonal_reference".
    """

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
