"""Callbacks: stopping on SIGTERM, before/after audio for the tracker, and the weights that infer.py takes."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from resonate import RATE
from resonate.models.weights import read_header, save_weights
from resonate.training.adapt import merged

matplotlib.use("Agg")
log = logging.getLogger(__name__)

BEST = "best.safetensors"


def ramped_average(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Exponential moving average whose decay rises with the number of updates, (1 + n) / (10 + n), up to ``decay``, so
    that the average of a short run is not made of its initial weights."""
    def average(mean: Tensor, current: Tensor, count: Tensor) -> Tensor:
        return torch.lerp(current, mean, ((1 + count) / (10 + count)).clamp(max=decay).to(mean.dtype))

    return average


class Checkpoints(ModelCheckpoint):
    """Lightning's, without a last save when training ends: by then the averaged weights have replaced the current ones,
    and a run that went on from there would not be the one that was stopped."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing."""


class StopOnSignal(L.Callback):
    """On SIGTERM finishes the step, saves ``last.ckpt`` and ends the run in order, so that ``resume=auto`` goes on.

    At the last step it has the run validated, whatever the interval, so that the last weights carry their own figures.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.asked = False
        self._previous: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over SIGTERM from Lightning, whose handler ends the run without a checkpoint. It is set up by now."""
        self._previous = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: Any) -> None:
        self.asked = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
                           batch_idx: int) -> None:
        """Stop here if asked to."""
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not between_steps or trainer.should_stop:
            return
        # One process may get the signal alone, and all of them have to save.
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer.save_checkpoint(self.checkpoint)
            log.info("SIGTERM: saved step %d to %s", trainer.global_step, self.checkpoint)
            # Lightning would validate once more, for minutes that whoever sent the signal may not give.
            trainer.limit_val_batches = 0
            trainer.should_stop = True
        elif trainer.global_step >= trainer.max_steps:
            # Lightning validates once, and no more, before it stops where it is asked to.
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give SIGTERM back."""
        signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)


class Listen(L.Callback):
    """Logs input, restored and reference of the first validation examples as audio and spectrograms."""

    def __init__(self, examples: int = 2) -> None:
        self.examples = examples

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
                                batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log one example; a run without a W&B logger has nowhere to put it."""
        if batch_idx >= self.examples or not isinstance(trainer.logger, WandbLogger) or trainer.sanity_checking:
            return
        import wandb
        sounds = {name: audio.detach().float().cpu().mean(0).numpy() for name, audio in outputs.items()}
        sounds = {name: 0.5 * x / max(float(np.abs(x).max()), 1e-6) for name, x in sounds.items()}
        content = {f"audio/{batch_idx}/{name}": wandb.Audio(x, sample_rate=RATE) for name, x in sounds.items()}
        content[f"spectrograms/{batch_idx}"] = wandb.Image(_spectrograms(sounds))
        trainer.logger.experiment.log({**content, "trainer/global_step": trainer.global_step})


def _spectrograms(sounds: dict[str, np.ndarray]) -> np.ndarray:
    """Spectrograms side by side as an RGB picture (height, width, 3) uint8."""
    window = torch.hann_window(2048)
    columns = []
    for x in sounds.values():
        z = torch.stft(torch.from_numpy(x), 2048, 1024, window=window, return_complex=True).abs()
        levels = (20 * torch.log10(z + 1e-4) + 40).clamp(-40, 40).flip(0)[::2] / 80 + 0.5
        columns.append(np.pad(levels.numpy(), ((0, 0), (0, 8))))
    picture = matplotlib.colormaps["magma"](np.concatenate(columns, 1))[..., :3]
    return (picture * 255).astype(np.uint8)


class LogFigures(L.Callback):
    """Writes each validation's figures to the log, where a run without a screen can be followed."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One line."""
        # Those of single severities are left to the tracker.
        figures = {k: float(v) for k, v in trainer.callback_metrics.items()
                   if k.startswith(("valid/", "train/")) and k.count("/") < 3}
        log.info("step %d: %s", trainer.global_step, ", ".join(f"{k} {v:.2f}" for k, v in sorted(figures.items())))


class ExportWeights(L.Callback):
    """Writes the weights as safetensors after each validation and at the end, with the run's record, and beside them
    as ``best.safetensors`` those of the validation with the least loss.

    They are the moving average, where one is kept: validation runs on it, and training ends with it. So this callback
    stands after the averaging one, which takes the average away again before validation ends.

    Args:
        path: of the last weights.
        record: how they came about; kept in their header.
        averaging: the averaging callback, if there is one.
    """

    def __init__(self, path: Path, record: dict[str, Any], averaging: WeightAveraging | None = None) -> None:
        self.path = path
        self.record = record
        self.averaging = averaging
        self._least = math.inf

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A run that goes on knows its best weights so far."""
        best = self.path.with_name(BEST)
        if trainer.global_step and best.is_file():
            figures = read_header(best, pl_module.kind)["record"].get("figures", {})
            self._least = float(figures.get("valid/loss", math.inf))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Export what validation has just measured."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        average = getattr(self.averaging, "_average_model", None)
        model = merged(pl_module.model if average is None else average.module.model)
        self._export(trainer, pl_module, model, self.path)
        loss = float(trainer.callback_metrics.get("valid/loss", math.nan))
        if loss < self._least:
            self._least = loss
            self._export(trainer, pl_module, model, self.path.with_name(BEST))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Export the last weights."""
        if trainer.is_global_zero:
            self._export(trainer, pl_module, merged(pl_module.model), self.path)

    def _export(self, trainer: L.Trainer, pl_module: L.LightningModule, model: torch.nn.Module, path: Path) -> None:
        figures = {k: round(float(v), 6) for k, v in trainer.callback_metrics.items() if k.startswith("valid/")}
        save_weights(model, path, pl_module.kind, pl_module.settings(),
                     {**self.record, "step": trainer.global_step, "figures": figures})
