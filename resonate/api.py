"""Restore and degrade from Python: the code of infer.py for one recording, and the capture chain for one song.

Importing this module loads nothing heavy; networks, codecs and settings are loaded by the calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from resonate import RATE


@dataclass(frozen=True)
class Restored:
    """A finished restoration: its folder, the files in it, its report, and whether it was there before the call."""

    folder: Path
    files: tuple[Path, ...]
    report: Mapping[str, Any]
    already: bool


def restore(path: str | Path, output: str | Path, *, preset: str | None = None, **settings: Any) -> Restored:
    """Restore one recording into a folder below `output`.

    `preset` names a file of configs/restore; `settings` are those of infer.py (nested: `**{"master.loudness": -14}`).

    Raises:
        UserError: the recording, a setting or the output cannot be used.
    """
    from resonate.audio import probe
    from resonate.errors import UserError
    from resonate.restore.arguments import parse
    from resonate.restore.command import read_config, ready
    from resonate.restore.pipeline import restore as run

    named = {} if preset is None else {"restore": preset}
    words = [f"{name}={_word(value)}" for name, value in (named | settings).items()]
    arguments = parse([*words, "--", str(path)])
    if arguments.output or arguments.reference or len(arguments.inputs) > 1:
        raise UserError("restore() takes one recording and no reference; use infer.py for several or to compare.")
    config, _ = read_config(arguments)
    recording = Path(path).expanduser()
    with ready(config, {recording: probe(recording)}, Path(output).expanduser()) as it:
        outcome = run(recording, it.folders[recording], config, it.models)
    files = tuple(sorted(p for p in outcome.folder.rglob("*") if p.is_file()))
    return Restored(outcome.folder, files, outcome.report, outcome.already)


@dataclass(frozen=True)
class Degraded:
    """A simulated capture on disk: its folder and files, the chain's parameters (plain numbers, which rebuild it) and
    what was measured on it (SNR, direct-to-reverberant ratio, ...)."""

    folder: Path
    files: tuple[Path, ...]
    params: Mapping[str, Any]
    measures: Mapping[str, Any]

    @property
    def capture(self) -> Path:
        """What the phone recorded."""
        return self.folder / "capture.wav"

    @property
    def reference(self) -> Path:
        """The clean song on the capture's clock."""
        return self.folder / "reference.wav"


#: Length in seconds that `degrade` takes: the chain works on the whole stretch in memory.
SHORTEST, LONGEST = 1.0, 900.0


def degrade(
    path: str | Path,
    output: str | Path,
    *,
    preset: str = "default",
    seed: int = 0,
    start: float = 0.0,
    duration: float | None = None,
    bank: str | Path | Sequence[str | Path] | None = None,
) -> Degraded:
    """Make of one song what a phone in the crowd would have recorded, below `output`.

    `path` is a finished mix or a folder with stems (docs/data.md), of which `duration` seconds from `start` on are
    taken; `preset` names a file of configs/degrade (near, mid, far, brutal or default); the same `seed` gives the same
    capture. `bank`: folders of crowds, rooms and phones; None is the starter bank of the repo.

    Written are capture.wav, reference.wav (the clean song) and the capture's parts on its clock, 44.1 kHz 32-bit float:
    capture = music + crowd + handling + distortion; and params.json with parameters and measures.

    Raises:
        UserError: the song, a setting or the output cannot be used, or `output` holds such a capture already.
    """
    from resonate.errors import UserError

    presets = {file.stem: file for file in sorted(_PRESETS.glob("*.yaml"))}
    if preset not in presets:
        raise UserError(f"preset={preset} is not known: choose one of {', '.join(presets)}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed={seed}: take a whole number from 0 on.")
    song, name = _song(Path(path).expanduser())
    length = song.duration - start if duration is None else duration
    if not (start >= 0.0 and SHORTEST <= length <= LONGEST and start + length <= song.duration + 0.01):
        raise UserError(
            f"start={start:g} and duration={duration}: {name} lasts {song.duration:.1f} s, of which {SHORTEST:g} to "
            f"{LONGEST:g} s can be taken."
        )
    folder = Path(output).expanduser() / name
    if folder.exists():
        raise UserError(f"{folder} exists and is left alone: choose another output.")
    return _degrade(song, folder, presets[preset], seed, start, length, bank)


#: Named severities of the capture chain.
_PRESETS = Path(__file__).parents[1] / "configs" / "degrade"


def _song(path: Path) -> tuple[Any, str]:
    """The song at a path, a folder of stems or a finished mix, and its name."""
    from resonate.data.music import AUDIO_SUFFIXES, Song, scan_music
    from resonate.errors import UserError

    if path.is_dir():
        songs = scan_music(path)
        if len(songs) != 1:
            raise UserError(f"{path} holds {len(songs)} songs; give the folder of one.")
        return songs[0], path.resolve().name
    if not path.is_file() or path.suffix.lower() not in AUDIO_SUFFIXES:
        raise UserError(f"{path} is neither a song nor a folder with the stems of one.")
    return Song(path.stem, path.stem, "train", mixture=path), path.stem


def _degrade(song: Any, folder: Path, preset: Path, seed: int, start: float, length: float, bank: Any) -> Degraded:
    import torch
    import yaml

    from resonate import audio
    from resonate.data.excerpts import STARTER_BANK
    from resonate.data.music import load_song
    from resonate.degrade import Bank, CaptureChain, ChainConfig
    from resonate.errors import UserError

    material = Bank.load(bank or STARTER_BANK, "all")
    chain = CaptureChain(material, ChainConfig(**yaml.safe_load(preset.read_text("utf-8"))))
    stems = torch.from_numpy(load_song(song, start, length)[0])[None]
    params = chain.from_seed(seed, stems.shape[-1])
    made = chain.apply(stems, [params])
    tracks = {
        "capture": made.capture, "reference": made.stems_dry.sum(1), "music": made.stems_wet.sum(1),
        "crowd": made.crowd, "handling": made.handling, "distortion": made.distortion,
    }  # fmt: skip
    facts = {"song": song.name, "preset": preset.stem, "seed": seed, "params": params, "measures": made.measures[0]}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place until all of it is there.
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as aside:
            part = Path(aside) / folder.name
            part.mkdir()
            for name, track in tracks.items():
                audio.write(part / f"{name}.wav", track[0].numpy(), RATE)
            (part / "params.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            part.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): choose another output.") from error
    return Degraded(folder, tuple(sorted(folder.iterdir())), params, made.measures[0])


def _word(value: Any) -> str:
    return str(value) if isinstance(value, (str, Path)) else json.dumps(value)
