"""Demucs's own file formats: its safetensors form (demucs 4.1) and its older ``.th`` packages.

Both name a class and its arguments. Demucs imports the named class, or unpickles it; here the name is only compared
with an allow-list, and a ``.th`` file is read by the restricted unpickler with stand-ins for the two names it needs.
"""

from __future__ import annotations

import inspect
import json
import pickle
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import yaml
from demucs.htdemucs import HTDemucs
from torch import Tensor

from resonate import RATE, STEMS
from resonate.audio import sha256
from resonate.errors import UserError
from resonate.models.separator import CROWD, arguments

#: Class names that a file may give.
CLASSES = {"demucs.htdemucs.HTDemucs": HTDemucs}
SUFFIXES = (".safetensors", ".th")
#: Options that need a package (xformers) or a part that no released model has.
_UNSUPPORTED = ("t_sparse_self_attn", "t_sparse_cross_attn", "wiener_iters", "end_iters", "wiener_residual")


class _Name:
    """Stands for the model's class while a package is read; it is never called."""


def _fraction(*parts: Any) -> Fraction:
    """Stands for ``fractions.Fraction``, which would take an exponent of any size. Pickles hold "a/b", or a and b."""
    text = "/".join(map(str, parts))
    if not re.fullmatch(r"\d{1,12}(/\d{1,12})?", text):
        raise pickle.UnpicklingError("a fraction that no segment is")
    return Fraction(text)


def metadata(settings: dict[str, Any]) -> dict[str, str]:
    """The header entries by which demucs 4.1 builds the model of ``settings`` from a safetensors file."""
    kwargs = arguments(settings)
    segment = kwargs["segment"]
    kwargs["segment"] = {"_type": "fraction", "numerator": segment.numerator, "denominator": segment.denominator}
    return {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(kwargs)}


def from_metadata(header: dict[str, str], path: Path) -> dict[str, Any]:
    """Settings of a safetensors file in demucs's form. Raises UserError for any other class or a damaged header."""
    if header.get("klass") not in CLASSES:
        raise UserError(f"{path} is for the class {header.get('klass')}; only {', '.join(CLASSES)} can be used.")
    if "structure" in header:
        raise UserError(f"{path} holds quantised weights, which cannot be trained; use the full ones.")
    try:
        args, kwargs = json.loads(header.get("args", "[]")), json.loads(header["kwargs"])
        if isinstance(segment := kwargs.get("segment"), dict):
            kwargs["segment"] = float(Fraction(int(segment["numerator"]), int(segment["denominator"])))
    except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(f"The header of {path} is damaged; copy or download the file again.") from error
    return _settings(args, kwargs, path)


def read_package(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(settings, state) of a ``.th`` package. Raises UserError for what is damaged or asks for anything else to run."""
    _check_name(path)
    allowed = [(_Name, name) for name in CLASSES] + [(_fraction, "fractions.Fraction")]
    try:
        with torch.serialization.safe_globals(allowed):
            package = torch.load(path, "cpu", weights_only=True)
        klass, args, kwargs, state = (package[key] for key in ("klass", "args", "kwargs", "state"))
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError, EOFError, OSError,
            AttributeError, ZeroDivisionError) as error:
        raise UserError(f"{path} is no package of demucs that can be read safely (it is damaged, or holds more than "
                        "plain values and an HTDemucs); use the safetensors form.") from error
    if klass is not _Name:
        raise UserError(f"{path} is for another class than {', '.join(CLASSES)}; only that can be used.")
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds quantised weights, which cannot be trained; use the full ones.")
    return _settings(args, kwargs, path), state


def _settings(args: Any, kwargs: Any, path: Path) -> dict[str, Any]:
    """Plain settings from the arguments of a file, checked."""
    parameters = inspect.signature(HTDemucs).parameters
    names = list(parameters)
    if not isinstance(kwargs, dict) or not isinstance(args, list | tuple):
        raise UserError(f"The arguments in {path} are damaged; copy or download the file again.")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    rate, channels = given.pop("samplerate", RATE), given.pop("audio_channels", 2)
    if (rate, channels) != (RATE, 2):
        raise UserError(f"{path} is for {channels} channels at {rate} Hz; it must be stereo at {RATE} Hz.")
    # Demucs, too, leaves out what its present class does not know. Its own files name what they leave at None, as
    # channels_time of the released weights.
    settings = {name: value for name, value in given.items()
                if name in names and (value is not None or parameters[name].default is not None)}
    for name in _UNSUPPORTED:
        if settings.get(name):
            raise UserError(f"{path} asks for {name}, which is not supported; use a model without it.")
    for name, value in settings.items():
        if isinstance(value, Fraction):
            settings[name] = float(value)
        elif not isinstance(value, bool | int | float | str | list | tuple | None):
            raise UserError(f"{path} gives {name} as a {type(value).__name__}; copy or download the file again.")
    sources = check_sources(settings.pop("sources", None), path)
    return settings if sources == STEMS else {**settings, "sources": list(sources)}


def check_sources(sources: Any, path: str | Path) -> tuple[str, ...]:
    """What a file gives as its sources, as a tuple; UserError for any but the stems, alone or with the crowd."""
    if not isinstance(sources, list | tuple) or tuple(sources) not in (STEMS, (*STEMS, CROWD)):
        named = ", ".join(map(str, sources)) if isinstance(sources, list | tuple) else sources
        raise UserError(f"{path} separates {named}; it must be {', '.join(STEMS)}, in this order, and may have {CROWD} "
                        "as a fifth.")
    return tuple(sources)


def find_weights(path: str | Path) -> Path:
    """The weights file that ``path`` means: a file, or a folder with one model, as demucs's ``--repo`` takes it.

    A folder may hold a bag (``NAME.yaml``) of one model. Raises UserError where there is no model or more than one.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"The weights {path} do not exist; name a .safetensors or .th file, or a folder with one.")
    models = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file())
    for bag in sorted(path.glob("*.yaml")):
        models = _of_bag(bag, models)
    if len(models) != 1:
        names = ", ".join(p.name for p in models) or "none"
        raise UserError(f"The folder {path} must hold one model to start from but has {names}; name the file.")
    return models[0]


def _of_bag(bag: Path, models: list[Path]) -> list[Path]:
    try:
        signatures = list(yaml.safe_load(bag.read_text("utf-8"))["models"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{bag} is no bag of models; remove it or name the weights file itself.") from error
    return [p for p in models if p.stem in signatures or p.stem.rsplit("-", 1)[0] in signatures]


def _check_name(path: Path) -> None:
    """Demucs writes the first eight digits of the SHA-256 into the name, as in 955717e8-8726e21a.th."""
    match = re.fullmatch(r".+-([0-9a-f]{8})", path.stem)
    if match and match[1] != sha256(path)[:8]:
        raise UserError(f"{path} is not the file its name says: it ends in {match[1]}, as a checksum does, and its own "
                        "differs; copy or download it again, or rename it where that is no checksum.")  # fmt: skip
