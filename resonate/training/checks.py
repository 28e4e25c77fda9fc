"""What a run asks for and cannot have: said in one sentence before anything is trained."""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch

from resonate import RATE
from resonate.data import separated, shards
from resonate.data.module import CaptureData
from resonate.data.music import duration_of, read_stretch
from resonate.errors import UserError
from resonate.training.config import TrainConfig
from resonate.training.schedule import parameter_groups

#: Seconds that are decoded at both ends of a file before training.
_MOMENT = 0.1


def check_settings(config: TrainConfig) -> None:
    """Refuse numbers with which nothing can be trained. Raises UserError."""
    for name in ("max_steps", "valid_every", "checkpoint_every", "accumulate"):
        if getattr(config.trainer, name) < 1:
            raise UserError(f"trainer.{name} is {getattr(config.trainer, name)}; it must be 1 or more.")
    if not 0 < config.optimiser.lr < math.inf:
        raise UserError(f"optimiser.lr is {config.optimiser.lr}; it must be above 0 for anything to be learned.")
    for name in ("weight_decay", "transformer_decay"):
        if not 0 <= getattr(config.optimiser, name) < math.inf:
            raise UserError(f"optimiser.{name} is {getattr(config.optimiser, name)}; it must be 0 or more.")


def check_files(data: CaptureData) -> None:
    """Decode a moment at both ends of every file of music, or of every shard, all of whose files must be there.

    Raises UserError naming the first that cannot be read.
    """
    if data.config.shards:
        for url in data.train.urls:
            if Path(url).is_absolute():  # the others are addresses
                shards.members(Path(url))
    if data.config.cache:
        _check_cache([*([] if data.config.shards else data.train.items), *data.valid.items], data.config.separated)
    else:
        _check_music(data)


def _check_music(data: CaptureData) -> None:
    songs = {str(song.files[0]): song for dataset in (data.train, data.valid) for song in dataset.excerpts.songs}
    for song in songs.values():
        for path in song.files:
            for start in (0.0, max(0.0, duration_of(path) - _MOMENT)):
                if not bool(torch.from_numpy(read_stretch(path, start, int(_MOMENT * RATE))).isfinite().all()):
                    raise UserError(f"{path} holds values that are no numbers; export it again.")


def _check_cache(items: list[tuple[Path, dict[str, Any]]], with_separated: bool) -> None:
    files: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    for folder, example in items:
        files[folder / example.get("shard", example["file"])].append(example)
    heard = {folder: separated.Index(folder) for folder in {path.parent for path in files}} if with_separated else {}
    for path, examples in files.items():
        for example in examples if "shard" in examples[0] else ():
            _check_members(path, example)
        for example in (examples[0], examples[-1]):
            length = shards.length_of(path.parent, example) if "shard" in example else 1
            shards.read_audio(path.parent, example, slice(-1, None), max(0, length - int(_MOMENT * RATE)), length)
            if with_separated:
                for clean in (False, True):
                    heard[path.parent].read(example, max(0, length - int(_MOMENT * RATE)), length, clean)


def _check_members(shard: Path, example: Mapping[str, Any]) -> None:
    try:
        lacks = {f"{example['file']}.{name}" for name in shards.row_names(example)} - shards.members(shard).keys()
    except (KeyError, ValueError, TypeError):
        lacks = {f"what its index says of {example['file']}"}
    if lacks:
        raise UserError(f"{shard} lacks {min(lacks)}; remove it and render it again with python -m "
                        "data_recipes.render.")


def check_checkpoint(path: Path, task: L.LightningModule) -> None:
    """UserError for a checkpoint that cannot be read, or is of another model or of other trained weights."""
    instead = "name another with resume=PATH, or start over with resume=never"
    try:
        # Torch reads past a wrong checksum.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
        checkpoint = torch.load(path, "cpu", weights_only=True)
        shapes = {name: value.shape for name, value in checkpoint["state_dict"].items()}
        groups = [len(group["params"]) for group in checkpoint["optimizer_states"][0]["param_groups"]]
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, KeyError, IndexError,
            ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no checkpoint that can be read (it is damaged, or none of a run's checkpoints/; "
                        f"weights are for model.pretrained=FILE); remove it, {instead}.") from error
    if shapes != {name: value.shape for name, value in task.state_dict().items()}:
        raise UserError(f"The checkpoint {path} is of another model than the settings of this run make; {instead}.")
    if groups != [len(group["params"]) for group in parameter_groups(task.model, task.optimiser)]:
        raise UserError(f"The checkpoint {path} is of a run that trained other parts of the model (model.freeze, "
                        f"model.lora_rank); {instead}.")
