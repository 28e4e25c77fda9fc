"""Saving and loading the weights that the pipeline uses: safetensors with the model's settings in the header.

Nothing here unpickles. The header's JSON holds plain settings of a class chosen by ``kind``, never a class to import.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from demucs.htdemucs import HTDemucs
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from resonate import STEMS
from resonate.errors import UserError
from resonate.models.restorer import Restorer, RestorerConfig
from resonate.models.separator import build_separator

FOLDER = Path(__file__).parents[1] / "weights"
SEPARATOR = FOLDER / "separator.safetensors"
RESTORER = FOLDER / "restorer.safetensors"
_KEY = "resonate"


def save_weights(model: nn.Module, path: str | Path, kind: str, settings: dict[str, Any],
                 record: dict[str, Any] | None = None) -> Path:
    """Write ``model`` atomically.

    Args:
        model: its parameters and buffers are stored as float32.
        path: ends in ``.safetensors``.
        kind: ``separator`` or ``restorer``.
        settings: plain values that build the same model again.
        record: how it was trained (steps, seed, data, figures); kept in the header.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().float().cpu().contiguous() for k, v in model.state_dict().items()}
    header = {_KEY: json.dumps({"kind": kind, "settings": settings, "record": record or {}})}
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(state, temporary, metadata=header)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def read_header(path: str | Path, kind: str) -> dict[str, Any]:
    """Settings and record of a weights file, read without loading its tensors.

    Raises:
        UserError: the file is missing, not safetensors, or not of this kind.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"The {kind} weights {path} do not exist; give a .safetensors file that train.py wrote.")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "null"))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a safetensors file that can be read; train.py writes such files.") from error
    if not isinstance(header, dict) or not isinstance(header.get("settings"), dict):
        raise UserError(f"{path} does not say which model it belongs to; only weights that train.py wrote can be used.")
    if header.get("kind") != kind:
        raise UserError(f"{path} holds weights of a {header.get('kind')}, not of a {kind}.")
    return header


#: Settings that decide size or bounds, and the range a file may ask for. The file is untrusted: it must not make the
#: program allocate without end, nor widen the bounds that mode=reveal promises.
_RANGES: dict[str, tuple[float, float]] = {
    "width": (1, 2048), "min_gain_db": (-120, -1), "max_gain_db": (1, 24), "eq_range_db": (0, 40),
    "segment": (0.5, 60), "channels": (1, 512), "channels_time": (1, 512), "depth": (1, 8), "nfft": (256, 16384),
    "growth": (1, 4), "t_layers": (0, 32), "bottom_channels": (0, 4096), "t_heads": (1, 64),
    "t_hidden_scale": (0.5, 16), "dconv_depth": (1, 8), "dconv_comp": (0.5, 64), "kernel_size": (1, 64),
    "stride": (1, 16), "time_stride": (1, 16),
}


def _check_ranges(settings: dict[str, Any], path: str | Path) -> None:
    for name, value in settings.items():
        low, high = _RANGES.get(name, (-1e6, 1e6))
        numbers = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int | float)]
        if len(numbers) > 64 or not all(low <= v <= high for v in numbers):
            raise UserError(f"{path} asks for {name}={value}, which no model of this project has; it is damaged.")


def _fill(model: nn.Module, path: str | Path, device: str | torch.device) -> nn.Module:
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise UserError(f"The weights in {path} do not fit the model it describes; the file is damaged.") from error
    return model.to(device).eval().requires_grad_(False)


def load_separator(path: str | Path = SEPARATOR, device: str | torch.device = "cpu") -> HTDemucs:
    """The separator stored in ``path``, in eval mode. Raises UserError as :func:`read_header` does."""
    settings = read_header(path, "separator")["settings"]
    _check_ranges(settings, path)
    try:
        model = build_separator(**settings)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError) as error:
        raise UserError(f"The settings in {path} build no separator; it is damaged or from another version.") from error
    if tuple(model.sources[:4]) != STEMS:
        raise UserError(f"{path} separates {', '.join(model.sources)}; it must be {', '.join(STEMS)}, in this order.")
    return _fill(model, path, device)


def load_restorer(path: str | Path = RESTORER, device: str | torch.device = "cpu") -> Restorer:
    """The restorer stored in ``path``, in eval mode. Raises UserError as :func:`read_header` does."""
    settings = read_header(path, "restorer")["settings"]
    _check_ranges(settings, path)
    try:
        model = Restorer(RestorerConfig(**{**settings, "dilations": tuple(settings["dilations"])}))
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"The settings in {path} build no restorer; it is damaged or from another version.") from error
    return _fill(model, path, device)
