"""Every system under one interface: a `Case` in, an `Output` out.

A system raises `NotAvailable`, with the reason, where it cannot run on a case; it is then left out and named. Names:

  input, gate, ...           those of `rivals.RIVALS`
  oracle stems               ratio masks of the true stems on the recording: how far masks could go
  demucs                     untuned Demucs, where its weights are given (`demucs=PATH`) or lie in torch's cache
  resonate PRESET            this project's chain with configs/restore/PRESET.yaml (reveal, extend, gentle, ...)
  resonate PRESET -STAGE     the same with a stage off (several may follow); see `ours`
  command                    the program of `system.command`

Groups of names: `rivals`, all that is not this project's; `presets`, all presets; `stages`, the default preset with
each of its stages off.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import yaml

from resonate import RATE, STEMS
from resonate.audio import sha256
from resonate.errors import UserError
from resonate.evaluate import command, ours
from resonate.evaluate.rivals import RIVALS, Case, NotAvailable, istft, stft
from resonate.evaluate.store import describe
from resonate.models.released import RELEASED
from resonate.restore.diagnosis.listener import WEIGHTS as LISTENER

#: The name under which older versions of demucs's package keep what they have downloaded.
CACHED_DEMUCS = "955717e8-8726e21a.th"
#: What can be switched off: the linear clean-up and all repairs, each repair alone (hum, events, declipping), the
#: restorer's gains, the separator's mask against the crowd, the filled bands, the veto of unfaithful stretches, and the
#: bypass of clean material.
STAGES_OFF = tuple(f"resonate extend -{part}" for part in (
    "precondition", "hum", "events", "declip", "restore", "crowd", "extend", "veto", "clean"))  # fmt: skip


@dataclass(frozen=True)
class Output:
    """What a system made. mix: (2, T); stems: (4, 2, T) or None; extended: (2, T), the part that was filled in, or
    None where that is not known."""

    mix: np.ndarray
    stems: np.ndarray | None = None
    extended: np.ndarray | None = None


System = Callable[[Case], Output]


@dataclass(frozen=True)
class Settings:
    """What systems need beside their names: weights of Demucs and of this project, a user's command and its name."""

    demucs: str | None = None
    separator: str | None = None
    restorer: str | None = None
    command: str | None = None
    name: str = "command"
    timeout: float = 600.0


def expand(names: list[str]) -> list[str]:
    """The names with groups spelt out, each once, in the order given."""
    groups = {
        "rivals": (*RIVALS, "demucs", "oracle stems"),
        # The default preset is mode extend, too.
        "presets": tuple(f"resonate {preset}" for preset in ours.presets() if preset != "default"),
        "stages": STAGES_OFF,
    }
    return list(dict.fromkeys(single for name in names for single in groups.get(name, (name,))))


def recording(case: Case) -> Output:
    """The recording itself; as the mixture it stands for each of its stems: what separation has to beat."""
    return Output(case.capture, np.stack([case.capture] * len(STEMS)))


def _rival(name: str, case: Case) -> Output:
    return recording(case) if name == "input" else Output(RIVALS[name](case))


def oracle_stems(case: Case) -> Output:
    """Ratio masks |S_k|^2 / (sum |S|^2 + |N|^2) of the true captured stems on the recording."""
    if case.stems_wet is None or case.noise is None:
        raise NotAvailable("needs the stems and the noise apart")
    spectrum = stft(case.capture)
    power = np.stack([np.square(np.abs(stft(stem))) for stem in case.stems_wet])
    total = power.sum(axis=0) + np.square(np.abs(stft(case.noise))) + 1e-20
    stems = np.stack([istft(spectrum * (p / total), case.capture.shape[-1]) for p in power])
    return Output(stems.sum(axis=0), stems)


def demucs_weights(given: str | None) -> Path:
    """The weights of untuned Demucs: those named, else what the demucs package has downloaded before. Never fetches.

    Raises NotAvailable where none are at hand, UserError where the named ones are missing.
    """
    if given is not None:
        path = Path(given).expanduser()
        if not path.exists():
            raise UserError(f"demucs={given}: there is no such file or folder.")
        return path
    import torch
    from demucs.hf import DEFAULT_NAMESPACE, hf_repo_name
    from huggingface_hub import try_to_load_from_cache

    repository = f"{DEFAULT_NAMESPACE}/{hf_repo_name(RELEASED)}"
    places = [Path(torch.hub.get_dir()) / "checkpoints" / CACHED_DEMUCS]
    listed = try_to_load_from_cache(repository, f"{RELEASED}.yaml")
    if isinstance(listed, str):
        (signature,) = yaml.safe_load(Path(listed).read_text("utf-8"))["models"]
        found = try_to_load_from_cache(repository, f"{signature}.safetensors")
        places += [Path(found)] if isinstance(found, str) else []
    for path in places:
        if path.is_file():
            return path
    raise NotAvailable("its weights are not at hand; name them with demucs=PATH")


@lru_cache(maxsize=1)
def _demucs_model(path: Path):
    from resonate.models.demucs_files import find_weights
    from resonate.models.weights import load_separator

    return load_separator(find_weights(path))


def demucs(settings: Settings, case: Case) -> Output:
    """Untuned Demucs on blocks that overlap by a quarter; the mix is the sum of its stems."""
    import torch

    from resonate.models.separator import apply_separator, segment_samples
    from resonate.restore import grid

    model = _demucs_model(demucs_weights(settings.demucs))
    block = segment_samples(model)
    hop, n = round(0.75 * block), case.capture.shape[-1]
    places = grid.starts(n, block, hop)
    fader, out = grid.Crossfader(block, hop), np.zeros((2 * len(STEMS), places[-1] + block), np.float32)
    padded = np.pad(case.capture, ((0, 0), (0, places[-1] + block)))
    for i, start in enumerate(places):
        x = torch.from_numpy(np.ascontiguousarray(padded[:, start : start + block]))[None]
        with torch.inference_mode():
            y = apply_separator(model, x)[0, : len(STEMS)].reshape(2 * len(STEMS), block).numpy()
        stretch = fader.push(y, last=i == len(places) - 1)
        out[:, start : start + stretch.shape[1]] = stretch
    stems = out[:, :n].reshape(len(STEMS), 2, n)
    return Output(stems.sum(axis=0), stems)


def _ours(settings: Settings, preset: str, off: tuple[str, ...], case: Case) -> Output:
    parts = ours.run(case, preset, off, settings.separator, settings.restorer)
    stems = parts["revealed"] + parts["extended"]
    return Output(stems.sum(axis=0), stems, parts["extended"].sum(axis=0))


def build(names: list[str], settings: Settings) -> dict[str, System]:
    """Name -> system, in the order given, the input first. UserError for what is not there."""
    systems: dict[str, System] = {}
    for name in ("input", *names):
        if name in RIVALS:
            systems[name] = partial(_rival, name)
        elif name == "oracle stems":
            systems[name] = oracle_stems
        elif name == "demucs":
            systems[name] = partial(demucs, settings)
        elif name.startswith("resonate "):
            preset, off = ours.parse(name)
            ours.check(settings.separator, settings.restorer)
            systems[name] = partial(_ours, settings, preset, off)
        elif name == "command":
            continue
        else:
            choices = [*RIVALS, "oracle stems", "demucs", "resonate PRESET", "command", "rivals", "presets", "stages"]
            raise UserError(f"There is no system '{name}'; choose of: {', '.join(choices)}.")
    if settings.demucs is not None:
        demucs_weights(settings.demucs)
    if "command" in names and settings.command is None:
        raise UserError('The system \'command\' needs system.command="tool {input} {output}".')
    if settings.command is not None:
        words = command.split(settings.command)
        if settings.name in systems:
            raise UserError(f"system.name={settings.name} is taken; choose another name for the command.")
        systems[settings.name] = partial(_command, words, settings.timeout)
    return systems


def identity(name: str, settings: Settings) -> str:
    """Names what shapes a system's output beside the code: settings, hashes of weights, the command."""
    if name.startswith("resonate "):
        # The listener decides what passes as a finished mix.
        used = {**ours.weights(settings.separator, settings.restorer), "listener": LISTENER}
        hashes = [f"{role} {_hash(path, path.stat().st_mtime_ns)}" for role, path in used.items()]
        return "\n".join((repr(ours.settings(*ours.parse(name))), *hashes))
    if name == "demucs":
        try:
            return describe([demucs_weights(settings.demucs)])
        except NotAvailable:
            return "absent"
    if name != settings.name:
        return ""
    # Of a program and the files that it is given, what they are now: their author goes on working on them.
    files = [Path(shutil.which(word) or word) for word in shlex.split(settings.command)]
    return f"{settings.command} {settings.timeout} {describe(file for file in files if file.is_file())}"


@lru_cache(maxsize=8)
def _hash(path: Path, changed: int) -> str:
    return sha256(path)


def _command(words: list[str], timeout: float, case: Case) -> Output:
    return Output(command.run(words, case.capture, RATE, timeout))


