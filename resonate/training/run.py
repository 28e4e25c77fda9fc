"""One training run from one configuration: ``train(config)`` returns the measures and the objects it used."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    RichProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from omegaconf import OmegaConf

from resonate import __version__
from resonate.data.module import CaptureData, DataConfig
from resonate.degrade.chain import ChainConfig
from resonate.errors import UserError
from resonate.models.restorer import RestorerConfig
from resonate.models.separator import build_separator
from resonate.models.weights import SEPARATOR, load_restorer, load_separator, read_header
from resonate.training.callbacks import Checkpoints, ExportWeights, Listen, LogFigures, StopOnSignal, ramped_average
from resonate.training.restorer import RestorerTask, target_spectrum
from resonate.training.schedule import OptimiserConfig
from resonate.training.separator import SeparatorTask

log = logging.getLogger(__name__)


@dataclass
class ModelConfig:
    """Which model is trained.

    Attributes:
        kind: ``separator`` or ``restorer``.
        pretrained: ``null`` (from scratch), ``repo`` (the weights in the repo), ``htdemucs`` (downloaded on first use
            by the demucs package) or a path of weights that train.py wrote.
        options: settings of a new model; ignored where weights bring their own.
        stft_weight: weight of the separator's STFT loss.
        sdr_weight: weight per dB of the restorer's coherent SDR.
    """

    kind: str = "restorer"
    pretrained: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    stft_weight: float = 0.5
    sdr_weight: float = 0.5


@dataclass
class TrainerConfig:
    """How long and on what.

    Attributes:
        max_steps: optimiser steps.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        devices: Lightning's.
        strategy: Lightning's.
        precision: ``auto`` picks bf16-mixed on CUDA and CPU and 32-true on MPS.
        threads: CPU threads; 0 leaves torch's choice.
        valid_every: steps between validations and exports.
        checkpoint_every: steps between checkpoints.
        accumulate: batches per optimiser step.
        clip: gradient norm.
        ema: decay of the moving average of the weights, which rises to it over the first steps; 0 keeps none.
    """

    max_steps: int = 20000
    accelerator: str = "auto"
    devices: str = "auto"
    strategy: str = "auto"
    precision: str = "auto"
    threads: int = 0
    valid_every: int = 500
    checkpoint_every: int = 100
    accumulate: int = 1
    clip: float = 5.0
    ema: float = 0.999


@dataclass
class LoggerConfig:
    """Where figures go: ``kind`` is ``wandb`` (offline unless logged in) or ``csv``."""

    kind: str = "wandb"
    project: str = "resonate"


@dataclass
class CallbacksConfig:
    """What else happens during a run.

    Attributes:
        listen: validation examples logged as audio and spectrograms.
        patience: validations without a better ``valid/loss`` after which the run stops; 0 never stops early.
        progress: show a progress bar.
    """

    listen: int = 2
    patience: int = 0
    progress: bool = True


@dataclass
class TrainConfig:
    """A whole run; ``configs/`` fills it and the command line overrides it."""

    name: str = "run"
    output: str = "runs/${name}"
    seed: int = 1
    resume: str = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    degrade: ChainConfig = field(default_factory=ChainConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)


def train(config: TrainConfig) -> tuple[dict[str, float], dict[str, Any]]:
    """Train one model.

    Args:
        config: the structured configuration.

    Returns:
        the last measures by name, and the trainer, task and data module.

    Raises:
        UserError: before any long work, where the data, weights or settings cannot be used.
    """
    L.seed_everything(config.seed, verbose=False)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    data = CaptureData(config.data, config.degrade, config.trainer.max_steps, config.trainer.accumulate)
    data.setup()
    checkpoint = _resume_from(config, output)
    record = {"name": config.name, "seed": config.seed, "commit": _commit(), "version": __version__,
              "data": data.describe(), "config": OmegaConf.to_container(OmegaConf.structured(config))}
    if checkpoint is not None:
        _check_same(record, output)
    task = build_task(config, data, fresh=checkpoint is None)
    (output / "record.json").write_text(json.dumps(record, indent=1, default=str))
    trainer = build_trainer(config, output, without_paths(record))
    trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True)
    log.info("%s stands at step %d of %d", output, trainer.global_step, config.trainer.max_steps)
    if isinstance(trainer.logger, WandbLogger):
        _log_artifact(trainer.logger, output / "weights.safetensors", config.name)
    return {k: float(v) for k, v in trainer.callback_metrics.items()}, {"trainer": trainer, "task": task, "data": data}


def without_paths(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the last part of every path alone: exported weights travel, and nobody's folders with them."""
    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: short(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [short(v) for v in value]
        return Path(value).name if isinstance(value, str) and os.sep in value else value

    return short(record)


def _check_same(record: dict[str, Any], output: Path) -> None:
    """Refuse to resume a run that was made with another model or other data."""
    path = output / "record.json"
    if not path.is_file():
        return
    before = json.loads(path.read_text())["config"]
    now = json.loads(json.dumps(record["config"], default=str))
    fixed = (("model", "kind"), ("model", "options"), ("model", "pretrained"), ("data", "music"), ("data", "cache"),
             ("data", "batch_size"), ("data", "seed"))
    for group, key in fixed:
        if before[group].get(key) != now[group].get(key):
            raise UserError(f"{output} holds a run with {group}.{key}={before[group].get(key)}, not "
                            f"{now[group].get(key)}; choose another output=FOLDER, or resume=never to start over.")


def build_task(config: TrainConfig, data: CaptureData, fresh: bool = True) -> L.LightningModule:
    """The LightningModule for ``config.model``, with pretrained weights where they are asked for.

    ``fresh`` is False where a checkpoint will bring all weights.
    """
    model, steps = config.model, config.trainer.max_steps
    if model.kind == "restorer":
        if model.pretrained:
            loaded = load_restorer(_weights_path(model.pretrained, "restorer"))
            task = RestorerTask(loaded.config, config.optimiser, steps, sdr_weight=model.sdr_weight)
            task.model.load_state_dict(loaded.state_dict())
            return task
        options = dict(model.options)
        if "dilations" in options:
            options["dilations"] = tuple(options["dilations"])
        count = min(len(data.train), 64)
        target = target_spectrum([data.train[i]["dry"].sum(0) for i in range(count)]) if fresh else None
        return RestorerTask(RestorerConfig(**options), config.optimiser, steps, target, model.sdr_weight)
    if model.kind == "separator":
        network, settings = _separator(model)
        return SeparatorTask(network, settings, config.optimiser, steps, model.stft_weight)
    raise UserError(f"model.kind is {model.kind}; the choices are separator and restorer.")


def _separator(model: ModelConfig) -> tuple[torch.nn.Module, dict[str, Any]]:
    if not model.pretrained:
        return build_separator(**model.options), dict(model.options)
    if model.pretrained == "htdemucs":
        return _released_htdemucs()
    path = _weights_path(model.pretrained, "separator")
    settings = read_header(path, "separator")["settings"]
    return load_separator(path).requires_grad_(True), settings


def _released_htdemucs() -> tuple[torch.nn.Module, dict[str, Any]]:
    """The released weights through the demucs package, which downloads 81 MB on first use."""
    from demucs.pretrained import get_model

    log.info("Fetching htdemucs through the demucs package: 81 MB on first use.")
    try:
        bag = get_model("htdemucs")
    except (OSError, RuntimeError) as error:
        raise UserError("The htdemucs weights could not be downloaded; give a local file with model.pretrained=PATH, "
                        "or model.pretrained=repo for the small model of this repo.") from error
    network = bag.models[0]
    _, arguments = network._init_args_kwargs
    settings = {k: v for k, v in arguments.items() if k not in ("sources", "samplerate", "segment")}
    settings["segment"] = float(network.segment)
    return network, settings


def _weights_path(name: str, kind: str) -> Path:
    return (SEPARATOR.parent / f"{kind}.safetensors") if name == "repo" else Path(name)


def pick_precision(config: TrainerConfig) -> tuple[str, str]:
    """(accelerator, precision) with ``auto`` resolved for this machine."""
    accelerator = config.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    precision = config.precision
    if precision == "auto":
        half = "16-mixed" if accelerator == "gpu" and not torch.cuda.is_bf16_supported() else "bf16-mixed"
        precision = "32-true" if accelerator == "mps" else half
    return accelerator, precision


def build_trainer(config: TrainConfig, output: Path, record: dict[str, Any]) -> L.Trainer:
    """The Lightning trainer with its callbacks and logger."""
    settings = config.trainer
    accelerator, precision = pick_precision(settings)
    callbacks: list[L.Callback] = [
        Checkpoints(output / "checkpoints", filename="step{step}", auto_insert_metric_name=False, save_last=True,
                        every_n_train_steps=settings.checkpoint_every, save_top_k=1),
        Checkpoints(output / "checkpoints", filename="best", monitor="valid/loss", save_top_k=1,
                        enable_version_counter=False, save_on_train_epoch_end=False),
        LearningRateMonitor("step")]
    if config.callbacks.progress:
        callbacks.append(RichProgressBar())
    if config.callbacks.patience:
        callbacks.append(EarlyStopping("valid/loss", patience=config.callbacks.patience))
    averaging = None
    if settings.ema:
        averaging = WeightAveraging(avg_fn=ramped_average(settings.ema), use_buffers=False)
        callbacks.append(averaging)
    callbacks += [Listen(config.callbacks.listen), LogFigures(),
                  ExportWeights(output / "weights.safetensors", record, averaging),
                  # Behind the averaging, so that what it saves has this step's average.
                  StopOnSignal(output / "checkpoints" / "last.ckpt")]
    devices: Any = int(settings.devices) if settings.devices.isdigit() else settings.devices
    return L.Trainer(
        accelerator=accelerator, devices=devices, strategy=settings.strategy, precision=precision,
        max_steps=settings.max_steps, max_epochs=-1, accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip, val_check_interval=settings.valid_every * settings.accumulate,
        check_val_every_n_epoch=None, num_sanity_val_steps=0, log_every_n_steps=10, callbacks=callbacks,
        logger=_logger(config, output), enable_progress_bar=config.callbacks.progress, default_root_dir=output,
        use_distributed_sampler=False)


def _logger(config: TrainConfig, output: Path) -> Logger:
    if config.logger.kind == "csv":
        return CSVLogger(output, name="csv")
    if config.logger.kind != "wandb":
        raise UserError(f"logger.kind is {config.logger.kind}; the choices are wandb and csv.")
    logged_in = bool(os.environ.get("WANDB_API_KEY")) or "wandb" in _netrc()
    mode = os.environ.get("WANDB_MODE", "online" if logged_in else "offline")
    return WandbLogger(project=config.logger.project, name=config.name, save_dir=output, mode=mode,
                       config=OmegaConf.to_container(OmegaConf.structured(config)))


def _netrc() -> str:
    path = Path.home() / ".netrc"
    return path.read_text(errors="replace") if path.is_file() else ""


def _log_artifact(logger: WandbLogger, weights: Path, name: str) -> None:
    if weights.is_file():
        import wandb
        artifact = wandb.Artifact(f"{name}-weights", type="model")
        artifact.add_file(str(weights))
        logger.experiment.log_artifact(artifact)


def _resume_from(config: TrainConfig, output: Path) -> Path | None:
    if config.resume in ("never", ""):
        return None
    if config.resume != "auto":
        if not Path(config.resume).is_file():
            raise UserError(f"The checkpoint {config.resume} does not exist; use resume=auto, resume=never or a path.")
        return Path(config.resume)
    # Not best.ckpt: it is written in the middle of a validation.
    found = [p for p in (output / "checkpoints").glob("*.ckpt") if not p.name.startswith("best")]
    found.sort(key=lambda p: p.stat().st_mtime)
    return found[-1] if found else None


def _commit() -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False,
                              cwd=Path(__file__).parent)
    except OSError:  # no git on this machine
        return "unknown"
    return done.stdout.strip() or "unknown"
