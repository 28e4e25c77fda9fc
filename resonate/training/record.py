"""The record of a run: what it was made of, beside its weights and inside them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from resonate import __version__
from resonate.audio import sha256
from resonate.data import separated
from resonate.data.module import CaptureData, folders
from resonate.data.music import scan_music
from resonate.errors import UserError
from resonate.evaluate.table import write_text
from resonate.training.config import TrainConfig

log = logging.getLogger(__name__)

NAME = "record.json"
#: Of each audio file so much of its beginning enters the hash of the data, with its length.
_HEAD = 1 << 16
#: Settings without which a resumed run would be another run, or which a checkpoint brings along, so that new values
#: would do nothing.
_FIXED = (("model", "kind"), ("model", "options"), ("model", "pretrained"), ("model", "input"), ("model", "target"),
          ("model", "crowd_source"), ("model", "freeze"), ("model", "lora_rank"), ("model", "lora_targets"),
          ("data", "music"), ("data", "cache"), ("data", "separated"), ("data", "batch_size"), ("data", "seed"),
          ("optimiser", "lr"), ("optimiser", "weight_decay"), ("optimiser", "transformer_decay"),
          ("trainer", "accumulate"))
#: Groups of settings that shape the training; a change half-way is told.
_TOLD = ("data", "degrade", "model", "optimiser", "trainer")


def make_record(config: TrainConfig, data: CaptureData) -> dict[str, Any]:
    """Name, seed, commit, versions, data and every setting of a run, as JSON takes it. ``data`` is set up."""
    packages = {name: version(name) for name in ("torch", "lightning", "demucs")}
    return {"name": config.name, "seed": config.seed, "commit": _commit(), "version": __version__,
            "versions": {"python": platform.python_version(), **packages}, "data_hash": data_hash(data),
            "data": data.describe(), "config": OmegaConf.to_container(OmegaConf.structured(config))}


def data_hash(data: CaptureData) -> str:
    """SHA-256 over what the examples are made of.

    For a rendered folder its index, and that of what is separated of it where that is heard; for music the name, length
    and first 64 KiB of every file; for streamed shards their addresses.
    """
    digest = hashlib.sha256()
    for folder in folders(data.config.cache):
        digest.update(sha256(folder / "index.json").encode())
        if data.config.separated:
            digest.update(sha256(folder / separated.FOLDER / "index.json").encode())
    if data.config.shards:
        digest.update("\n".join(data.train.urls).encode())
    elif not data.config.cache:
        for folder in folders(data.config.music):
            for path in sorted({file for song in scan_music(folder) for file in song.files}):
                with path.open("rb") as handle:
                    head = handle.read(_HEAD)
                digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode(errors="replace") + head)
    return digest.hexdigest()


@rank_zero_only
def write_record(record: dict[str, Any], output: Path) -> None:
    """``output``/record.json, in one step."""
    write_text(output / NAME, json.dumps(record, indent=1, default=str))


def check_same(record: dict[str, Any], output: Path) -> None:
    """Refuse to resume a run that was made with another model or other data, and warn of other changes."""
    path = output / NAME
    if not path.is_file():
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    before, now = stored["config"], json.loads(json.dumps(record["config"], default=str))
    defaults = OmegaConf.to_container(OmegaConf.structured(TrainConfig))
    for group, key in _FIXED:
        # Runs of earlier versions lack settings; they had what is the default now.
        first, second = (config.get(group, {}).get(key, defaults[group][key]) for config in (before, now))
        if first != second:
            raise UserError(f"{output} holds a run with {group}.{key}={first}, not {second}; choose another "
                            "output=FOLDER, or resume=never to start over.")
    if stored.get("data_hash", record["data_hash"]) != record["data_hash"]:
        raise UserError(f"The files that the run in {output} was trained on have changed; choose another "
                        "output=FOLDER, or resume=never to start over.")
    changed = [f"{group}.{key} was {before[group][key]}, now {value}" for group in _TOLD
               for key, value in now.get(group, {}).items() if before.get(group, {}).get(key, value) != value]
    if changed:
        log.warning("The run goes on with other settings: %s.", "; ".join(changed))


def without_paths(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the last part of every path alone: exported weights travel, and nobody's folders with them."""
    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: short(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [short(v) for v in value]
        return Path(value).name if isinstance(value, str) and os.sep in value else value

    return short(record)


def _commit() -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False,
                              cwd=Path(__file__).parent)
    except OSError:  # no git on this machine
        return "unknown"
    return done.stdout.strip() or "unknown"
