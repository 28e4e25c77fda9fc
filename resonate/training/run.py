"""One training run from one configuration: ``train(config)`` returns the measures and the objects it used."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from resonate.errors import UserError
from resonate.memory import keep_freed_memory
from resonate.models.selfcheck import check_device
from resonate.models.weights import read_header
from resonate.training.callbacks import (
    BEST,
    Checkpoints,
    ExportWeights,
    Listen,
    LogFigures,
    StopOnSignal,
    ramped_average,
)
from resonate.training.checks import check_checkpoint, check_files, check_settings
from resonate.training.config import TrainConfig, TrainerConfig
from resonate.training.heldout import data_for
from resonate.training.record import check_same, make_record, without_paths, write_record
from resonate.training.start import build_task, check_model

__all__ = ["TrainConfig", "build_task", "build_trainer", "pick_precision", "train", "without_paths"]

log = logging.getLogger(__name__)


def train(config: TrainConfig) -> tuple[dict[str, float], dict[str, Any]]:
    """Train one model.

    Args:
        config: the structured configuration.

    Returns:
        the last measures by name, and the trainer, task and data module.

    Raises:
        UserError: before any long work, where the data, weights or settings cannot be used.
    """
    config = _at_home(config)
    check_model(config.model)
    check_settings(config)
    check_accelerator(config.trainer.accelerator)
    L.seed_everything(config.seed, verbose=False)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    accelerator, _ = pick_precision(config.trainer)
    if accelerator == "cpu":
        keep_freed_memory()
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    data = data_for(config)
    data.setup()
    check_files(data)
    checkpoint = _resume_from(config, output)
    record = make_record(config, data)
    if checkpoint is not None:
        check_same(record, output)
    task = build_task(config, data, fresh=checkpoint is None)
    if checkpoint is not None:
        check_checkpoint(checkpoint, task)
    if accelerator == "mps":
        check_device(task.model, "mps")
    if checkpoint is None:
        _set_aside(output)
    write_record(record, output)
    trainer = build_trainer(config, output, without_paths(record))
    try:
        trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True)
    except UserError as error:
        raise UserError(_of_worker(str(error))) from error
    if checkpoint is not None and _exported(output / "weights.safetensors", task.kind) < trainer.global_step:
        # The run was stopped between its last step and the end of the validation after it.
        trainer.validate(task, data, verbose=False)
    log.info("%s stands at step %d of %d", output, trainer.global_step, config.trainer.max_steps)
    if isinstance(trainer.logger, WandbLogger):
        _log_artifact(trainer.logger, output / "weights.safetensors", config.name)
    return {k: float(v) for k, v in trainer.callback_metrics.items()}, {"trainer": trainer, "task": task, "data": data}


@rank_zero_only
def _set_aside(output: Path) -> None:
    """Keep a former run's checkpoints and weights where nothing takes them for this run's: neither a later resume=auto
    nor the search for the least loss."""
    checkpoints, aside = output / "checkpoints", output / "checkpoints-before"
    weights = [path for path in (output / "weights.safetensors", output / BEST) if path.is_file()]
    if not weights and not any(checkpoints.glob("*.ckpt")):
        return
    # One move of all at the end: what is stopped in between leaves nothing that the next start would throw away.
    checkpoints.mkdir(exist_ok=True)
    for path in weights:
        path.replace(checkpoints / path.name)
    if aside.exists():
        shutil.rmtree(aside)
    checkpoints.rename(aside)
    log.info("The checkpoints and weights of the run before are kept in %s.", aside)


def _exported(weights: Path, kind: str) -> int:
    """The step that exported weights are of; -1 without any."""
    return int(read_header(weights, kind)["record"].get("step", -1)) if weights.is_file() else -1


def _of_worker(text: str) -> str:
    """The sentence alone where a loader's process wraps it in its traceback."""
    return text.strip().splitlines()[-1].partition(": ")[2] if text.startswith("Caught UserError") else text


def _at_home(config: TrainConfig) -> TrainConfig:
    """``config`` with "~" expanded in paths that the run would else take literally."""
    def expanded(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [expanded(one) for one in value]
        return os.path.expanduser(value) if isinstance(value, str) else value

    return replace(config, output=expanded(config.output), resume=expanded(config.resume),
                   data=replace(config.data, shards=expanded(config.data.shards)))


def check_accelerator(name: str) -> None:
    """UserError for an accelerator that this machine lacks, or that nothing here runs on."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = {"auto": True, "cpu": True, "gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if name not in there:
        raise UserError(f"trainer.accelerator is {name}; the choices are {', '.join(there)}.")
    if not there[name]:
        raise UserError(f"trainer.accelerator={name} asks for what torch does not find on this machine; use "
                        f"{' or '.join(other for other in there if there[other])}.")


def pick_precision(config: TrainerConfig) -> tuple[str, str]:
    """(accelerator, precision) with ``auto`` resolved for this machine."""
    accelerator = config.accelerator
    if accelerator == "auto" or (accelerator == "gpu" and torch.backends.mps.is_available()):
        accelerator = "gpu" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    precision = config.precision
    if precision == "auto":
        if accelerator in ("gpu", "cuda"):
            # Older GPUs emulate bf16, slowly.
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            precision = "bf16-mixed" if native else "16-mixed"
        else:
            # A CPU without bf16 instructions emulates them, at a quarter of the speed of fp32.
            native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
            precision = "bf16-mixed" if accelerator == "cpu" and native else "32-true"
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
    # A separator of five levels has a time branch that ends before its transformer's last layer, whose weights no loss
    # reaches; DDP refuses such weights unless told to look for them.
    strategy = "ddp_find_unused_parameters_true" if settings.strategy == "ddp" else settings.strategy
    return L.Trainer(
        accelerator=accelerator, devices=devices, num_nodes=settings.num_nodes, strategy=strategy,
        precision=precision, max_steps=settings.max_steps, max_epochs=-1, accumulate_grad_batches=settings.accumulate,
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
    if weights.is_file() and logger.experiment is not None:
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
