"""Fine-tuning (or training) HTDemucs on captures against the captured stems; crowd and handling are the residual."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import lightning as L
import numpy as np
import torch
from demucs.htdemucs import HTDemucs
from torch import Tensor

from resonate import RATE, STEMS
from resonate.data.examples import Example
from resonate.evaluate import separation
from resonate.models.separator import CROWD, apply_separator
from resonate.training.config import ModelConfig
from resonate.training.losses import StemLoss
from resonate.training.schedule import OptimiserConfig, build_optimiser

_OTHER = STEMS.index("other")
#: Seconds of each validation capture that are logged as audio.
LISTEN_SECONDS = 12.0


def remix(stems: Tensor, present: Tensor, generator: torch.Generator) -> Tensor:
    """Exchange stems among the examples of a batch, where nothing has been captured yet.

    Each stem's known versions are dealt out anew. "other" stays, because it may hold stems that are not known apart.

    Args:
        stems: (batch, 4, 2, samples).
        present: (batch, 4) bool; unchanged by the exchange.
        generator: of the draw, on the CPU.
    """
    mixed = stems.clone()
    for stem in range(len(STEMS)):
        known = torch.nonzero(present[:, stem].cpu())[:, 0]
        if stem != _OTHER and len(known) > 1:
            order = known[torch.randperm(len(known), generator=generator)]
            mixed[known.to(stems.device), stem] = stems[order.to(stems.device), stem]
    return mixed


class SeparatorTask(L.LightningModule):
    """One separator, its loss and its validation measures.

    Args:
        model: the network, new or with loaded weights.
        settings: plain values that build the model again.
        optimiser: see :class:`OptimiserConfig`.
        max_steps: of the whole run.
        config: loss, target and input.
        seed: of the remix.
    """

    kind = "separator"

    def __init__(self, model: HTDemucs, settings: dict[str, Any], optimiser: OptimiserConfig, max_steps: int,
                 config: ModelConfig | None = None, seed: int = 1) -> None:
        super().__init__()
        self.model = model
        self._settings = settings
        self.config = config or ModelConfig()
        self.seed = seed
        self.loss = StemLoss(self.config.stft_weight)
        self.optimiser = optimiser
        self.max_steps = max_steps
        self._scores: dict[str, list[float]] = defaultdict(list)

    def settings(self) -> dict[str, Any]:
        """Plain values that build the model again."""
        return self._settings

    def heard_and_target(self, batch: Example, index: int = -1) -> tuple[Tensor, Tensor]:
        """(batch, 2, samples) that the model hears and (batch, sources, 2, samples) that it should give.

        ``index`` of the batch is >= 0 in training, where stems may be remixed.
        """
        dry = batch["dry"]
        if self.config.input == "dry":
            if self.config.remix and index >= 0:
                numbers = (self.seed, self.global_step, index, self.global_rank)
                seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
                dry = remix(dry, batch["present"], torch.Generator().manual_seed(seed))
            return dry.sum(1), dry
        capture, wet = batch["capture"], batch["wet"]
        if self.config.target == "dry":
            # The phone's level is not in the clean stems.
            level = _rms(wet.sum(1)) / _rms(dry.sum(1)).clamp(min=1e-5)
            return capture, dry * level[:, None, None, None]
        if CROWD in self.model.sources:
            # Crowd, handling, and what overload and codec made of the whole: the five sum to the capture.
            wet = torch.cat([wet, (capture - wet.sum(1))[:, None]], 1)
        return capture, wet

    def training_step(self, batch: Example, index: int) -> Tensor:
        """Loss of one batch, at the level to which the capture is normalised."""
        heard, target = self.heard_and_target(batch, index)
        scale = _scale(heard)
        estimate = apply_separator(self.model, heard).float() / scale
        loss = self.loss(estimate, target / scale, batch["present"])
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(estimate))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the figures of the last validation."""
        self._scores.clear()

    def validation_step(self, batch: Example, index: int) -> dict[str, Tensor]:
        """Loss and figures of one whole capture, separated block by block in full precision."""
        heard, target = self.heard_and_target(batch)
        with torch.autocast(self.device.type, enabled=False):
            estimate = torch.from_numpy(separation.separate(self.model, heard[0])).to(heard.device)
            scale = _scale(heard)
            loss = self.loss(estimate[None] / scale, target / scale, batch["present"])
        self.log("valid/loss", loss, batch_size=1)
        self._add_scores(batch, heard, estimate, target)
        length = int(LISTEN_SECONDS * RATE)
        sounds = {"input": heard[0], **dict(zip(self.model.sources, estimate, strict=True)),
                  **{f"{name}_reference": x for name, x in zip(STEMS, target[0], strict=False)}}
        return {name: x[:, :length] for name, x in sounds.items()}

    def _add_scores(self, batch: Example, heard: Tensor, estimate: Tensor, target: Tensor) -> None:
        wet = target[0, : len(STEMS)].float().cpu().numpy()
        present = batch["present"][0].cpu().numpy()
        capture = heard[0].float().cpu().numpy()
        groups = [separation.severity_bin(float(batch["severity"][0])), ""] if "severity" in batch else [""]
        for prefix, estimates in (("", estimate.cpu().numpy()), ("input_", separation.as_input(capture))):
            for name, value in separation.score(estimates, wet, present).items():
                stem, _, measure = name.partition("_")
                for group in groups:
                    place = "/".join(part for part in ("valid", group, stem, prefix + measure) if part)
                    self._scores[place].append(value)

    def on_validation_epoch_end(self) -> None:
        """Log each figure's mean, over all captures and over those of each severity."""
        for place, values in self._scores.items():
            self.log(place, float(np.mean(values)))

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with warm-up and cosine decay."""
        return build_optimiser(self.model, self.optimiser, self.max_steps)


def _rms(x: Tensor) -> Tensor:
    """(batch, 2, samples) to (batch,)."""
    return x.square().mean((1, 2)).sqrt()


def _scale(heard: Tensor) -> Tensor:
    """(batch, 1, 1, 1): the deviation to which :func:`apply_separator` brings the mid channel."""
    return heard.mean(1).std(-1).clamp(min=1e-4)[:, None, None, None]
