"""Saving and loading the weights that the pipeline uses: safetensors with the model's settings in the header.

A separator's file is at the same time one in demucs 4.1's own form, and files that demucs or its users made are taken
as well (see `demucs_files`). The header's JSON holds plain settings of a class chosen by ``kind``; no class that a file
names is ever imported, and sizes are compared before anything is allocated.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from demucs.htdemucs import HTDemucs
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from resonate import STEMS
from resonate.errors import UserError
from resonate.models import demucs_files
from resonate.models.restorer import Restorer, RestorerConfig
from resonate.models.separator import build_separator

FOLDER = Path(__file__).parents[1] / "weights"
SEPARATOR = FOLDER / "separator.safetensors"
RESTORER = FOLDER / "restorer.safetensors"
_KEY = "resonate"


def write_tensors(state: dict[str, Tensor], path: Path, header: dict[str, str] | None = None) -> None:
    """Write tensors by name, and text by name, as a safetensors file, atomically; its folder must exist."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(state, temporary, metadata=header)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
    if kind == "separator":
        header.update(demucs_files.metadata(settings))
    write_tensors(state, path, header)
    return path


def read_header(path: str | Path, kind: str) -> dict[str, Any]:
    """Settings and record of a weights file, read without loading its tensors.

    Raises:
        UserError: the file is missing, not safetensors, or not of this kind.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"The {kind} weights {path} do not exist; give a .safetensors file that train.py wrote.")
    if kind == "separator" and path.suffix == ".th":
        return {"kind": kind, "settings": demucs_files.read_package(path)[0], "record": {}}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata.get(_KEY, "null"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a safetensors file that can be read; train.py writes such files.") from error
    if header is None and kind == "separator" and "klass" in metadata:
        return {"kind": kind, "settings": demucs_files.from_metadata(metadata, path), "record": {}}
    if not isinstance(header, dict) or not isinstance(header.get("settings"), dict):
        raise UserError(f"{path} does not say which model it belongs to; use weights that train.py or demucs wrote.")
    if header.get("kind") != kind:
        raise UserError(f"{path} holds weights of a {header.get('kind')}, not of a {kind}.")
    return header


#: Settings that decide size or bounds, and the range a file may ask for. The file is untrusted: it must not make the
#: program allocate without end, nor widen the bounds that mode=reveal promises.
_RANGES: dict[str, tuple[float, float]] = {
    "width": (1, 2048), "min_gain_db": (-120, -1), "max_gain_db": (1, 24), "eq_range_db": (0, 40),
    "faithful_share": (0, 1), "context": (0, 2048), "dilations": (1, 256), "correction": (0, 1),
    "segment": (0.5, 60), "channels": (1, 512), "channels_time": (1, 512), "depth": (1, 8), "nfft": (256, 16384),
    "growth": (1, 4), "t_layers": (0, 32), "bottom_channels": (0, 4096), "t_heads": (1, 64),
    "t_hidden_scale": (0.5, 16), "dconv_depth": (1, 8), "dconv_comp": (0.5, 64), "kernel_size": (1, 64),
    "stride": (1, 16), "time_stride": (1, 16),
}


def _check_ranges(settings: dict[str, Any], path: str | Path) -> None:
    for name, value in settings.items():
        low, high = _RANGES.get(name, (-1e6, 1e6))
        numbers = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int | float)]
        # A size written as a word ("1e999999999") would be worked out, whatever that takes.
        if len(numbers) > 64 or not all(low <= v <= high for v in numbers) or (name in _RANGES and not numbers):
            raise UserError(f"{path} asks for {name}={value}, which no model of this project has; it is damaged.")


def _load(build: Callable[[], nn.Module], path: Path, kind: str, device: str | torch.device) -> Any:
    """The model that ``build`` makes with the weights in ``path``, in eval mode.

    It is first built without memory and compared with the file, so that a damaged header allocates nothing.
    """
    try:
        state = demucs_files.read_package(path)[1] if path.suffix == ".th" else load_file(path)
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in build().state_dict().items()}
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file that can be read; train.py writes such files.") from error
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"The settings in {path} build no {kind}; it is damaged or from another version.") from error
    if wanted != {name: tensor.shape for name, tensor in state.items()}:
        raise UserError(f"The weights in {path} do not fit the model it describes; the file is damaged.")
    if not all(_finite(tensor) for tensor in state.values()):
        raise UserError(f"The weights in {path} are not all finite numbers; the file is damaged.")
    model = build()
    model.load_state_dict(state)
    return model.to(device).eval().requires_grad_(False)


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def load_separator(path: str | Path = SEPARATOR, device: str | torch.device = "cpu") -> HTDemucs:
    """The separator stored in ``path``, in eval mode: a file of train.py, or of demucs (.safetensors, .th).

    Raises UserError as :func:`read_header` does.
    """
    settings = read_header(path, "separator")["settings"]
    _check_ranges(settings, path)
    demucs_files.check_sources(settings.get("sources", STEMS), path)
    return _load(lambda: build_separator(**settings), Path(path), "separator", device)


def load_restorer(path: str | Path = RESTORER, device: str | torch.device = "cpu") -> Restorer:
    """The restorer stored in ``path``, in eval mode. Raises UserError as :func:`read_header` does."""
    settings = read_header(path, "restorer")["settings"]
    _check_ranges(settings, path)

    def build() -> Restorer:
        return Restorer(RestorerConfig(**settings))

    return _load(build, Path(path), "restorer", device)
