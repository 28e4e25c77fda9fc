"""This project's own chain as a system: `infer.py` up to the premaster, any preset, any stage off.

`resonate PRESET -STAGE -STAGE`: PRESET is a file of configs/restore/ (or `extend`, the default mode); a STAGE may be

  restore      the restorer's gains (strength.gain=0)        extend    the filled bands (strength.extension=0)
  precondition the linear clean-up and repairs                GROUP     any group of settings: its switches off
  NAME         a stage of the chain that can be left out, or a switch of that name in any group
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from resonate.errors import UserError
from resonate.evaluate.rivals import Case, NotAvailable
from resonate.models.weights import RESTORER, SEPARATOR
from resonate.restore.arguments import Arguments
from resonate.restore.array import restore_array
from resonate.restore.command import CONFIGS, read_config
from resonate.restore.config import RestoreConfig
from resonate.restore.work import Models

_SHORT = {"restore": {"strength": {"gain": 0.0}}, "extend": {"strength": {"extension": 0.0}},
          "crowd": {"strength": {"crowd": 0.0}}}


def presets() -> list[str]:
    """Names that may follow `resonate`."""
    return sorted({"extend", *(p.stem for p in (CONFIGS / "restore").glob("*.yaml"))})


def parse(name: str) -> tuple[str, tuple[str, ...]]:
    """'resonate extend -restore' -> ('extend', ('restore',)). UserError for a preset or stage that is not there."""
    words = name.split()[1:]
    if not words or words[0] not in presets():
        raise UserError(f"There is no system '{name}'; after resonate comes one of: {', '.join(presets())}.")
    off = []
    for word in words[1:]:
        if not word.startswith("-") or len(word) == 1:
            raise UserError(f"There is no system '{name}'; a stage is switched off with -STAGE, as -restore.")
        off.append(word[1:])
    settings(words[0], tuple(off))
    return words[0], tuple(off)


def _changed(config: Any, values: dict[str, Any]) -> Any:
    return replace(config, **{k: _changed(getattr(config, k), v) if isinstance(v, dict) else v
                              for k, v in values.items()})  # fmt: skip


def _switched_off(group: Any) -> Any:
    """A group of settings with every switch false and every filter frequency zero."""
    off = {f.name: False for f in fields(group) if isinstance(getattr(group, f.name), bool)}
    off |= {f.name: 0.0 for f in fields(group) if f.name.endswith("_hz") and isinstance(getattr(group, f.name), float)}
    return replace(group, **off)


def without(config: RestoreConfig, stage: str) -> RestoreConfig:
    """`config` with one stage off. UserError for a name that nothing has."""
    if stage in _SHORT:
        return _changed(config, _SHORT[stage])
    stages = getattr(config, "stages", None)
    if stages is not None and stage in stages:
        from resonate.restore.stages import REQUIRED

        if stage not in REQUIRED:
            return replace(config, stages=[s for s in stages if s != stage])
    group = getattr(config, stage, None)
    if is_dataclass(group) and _switched_off(group) != group:
        return replace(config, **{stage: _switched_off(group)})
    for f in fields(config):
        inner = getattr(config, f.name)
        if is_dataclass(inner) and isinstance(getattr(inner, stage, None), bool):
            return replace(config, **{f.name: replace(inner, **{stage: False})})
    raise UserError(f"There is no stage '{stage}' that can be switched off; try -restore, -extend or -precondition.")


@lru_cache(maxsize=64)
def settings(preset: str, off: tuple[str, ...]) -> RestoreConfig:
    """The checked settings of one system."""
    words = ["mode=extend"] if preset == "extend" else [f"restore={preset}"]
    config, _ = read_config(Arguments(overrides=words))
    for stage in off:
        config = without(config, stage)
    return replace(config, device="cpu")


@lru_cache(maxsize=2)
def _models(separator: str | None, restorer: str | None) -> Models:
    for given, path in ((separator, SEPARATOR), (restorer, RESTORER)):
        if given is None and not path.is_file():
            raise NotAvailable(f"{path.name} is not there")
    models = Models(replace(RestoreConfig(), separator=separator, restorer=restorer, device="cpu"))
    models.check()
    return models


def check(separator: str | None = None, restorer: str | None = None) -> None:
    """UserError for weights that cannot be used; missing weights of the repo only leave the systems out."""
    with suppress(NotAvailable):
        _models(separator, restorer)


def run(
    case: Case, preset: str, off: tuple[str, ...] = (), separator: str | None = None, restorer: str | None = None
) -> dict[str, np.ndarray]:
    """`revealed` and `extended`, (4, 2, T) each, as `restore_array` gives them."""
    return restore_array(case.capture, settings(preset, off), _models(separator, restorer))


def weights(separator: str | None = None, restorer: str | None = None) -> dict[str, Path]:
    """The files of weights in use, those of the repo where none are named, as far as they are there."""
    both = ((separator, SEPARATOR), (restorer, RESTORER))
    paths = [Path(given).expanduser() if given else own for given, own in both]
    return {path.name: path for path in paths if path.is_file()}
