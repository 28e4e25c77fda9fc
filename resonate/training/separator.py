"""Fine-tuning (or training) HTDemucs on captures against the captured stems; crowd and handling are the residual."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from demucs.htdemucs import HTDemucs
from torch import Tensor

from resonate import STEMS
from resonate.data.examples import Example
from resonate.evaluate import measures
from resonate.models.separator import apply_separator, segment_samples
from resonate.training.losses import StemLoss, fold_missing
from resonate.training.schedule import OptimiserConfig, build_optimiser


class SeparatorTask(L.LightningModule):
    """One separator, its loss and its validation measures.

    Args:
        model: the network, new or with loaded weights.
        settings: plain values that build the model again.
        optimiser: see :class:`OptimiserConfig`.
        max_steps: of the whole run.
        stft_weight: weight of the STFT term of the loss.
    """

    kind = "separator"

    def __init__(self, model: HTDemucs, settings: dict[str, Any], optimiser: OptimiserConfig, max_steps: int,
                 stft_weight: float = 0.5) -> None:
        super().__init__()
        self.model = model
        self._settings = settings
        self._segment = model.segment
        self.loss = StemLoss(stft_weight)
        self.optimiser = optimiser
        self.max_steps = max_steps

    def settings(self) -> dict[str, Any]:
        """Plain values that build the model again."""
        return self._settings

    def training_step(self, batch: Example, index: int) -> Tensor:
        """Loss of one batch, at the level to which the capture is normalised."""
        estimate, target = self._estimate(batch)
        loss = self.loss(estimate, target, batch["present"])
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(estimate))
        return loss

    def _estimate(self, batch: Example) -> tuple[Tensor, Tensor]:
        capture = batch["capture"]
        scale = capture.mean(1).std(-1).clamp(min=1e-4)[:, None, None, None]
        estimate = apply_separator(self.model, capture).float() / scale
        # In train() HTDemucs takes the crop's length for its segment, and a longer block in use would be refused.
        self.model.segment = self._segment
        return estimate, batch["wet"] / scale

    def validation_step(self, batch: Example, index: int) -> dict[str, Tensor]:
        """Loss, SI-SDR of each stem and of the music as a whole, and that of the capture itself."""
        length = min(batch["capture"].shape[-1], segment_samples(self.model))
        batch = {k: v[..., :length] if k in ("capture", "wet") else v for k, v in batch.items()}
        estimate, target = self._estimate(batch)
        self.log("valid/loss", self.loss(estimate, target, batch["present"]), batch_size=1)
        capture = batch["capture"][0].float().cpu().numpy()
        folded = fold_missing(estimate, batch["present"])[0].float().cpu().numpy()
        wet = target[0].float().cpu().numpy()
        for name, known, value, reference in zip(STEMS, batch["present"][0], folded, wet, strict=True):
            if known and float(abs(reference).max()) > 1e-2:
                self.log(f"valid/{name}/si_sdr", measures.si_sdr(value, reference), batch_size=1)
                self.log(f"valid/{name}/input_si_sdr", measures.si_sdr(capture, reference), batch_size=1)
        if float(abs(wet.sum(0)).max()) > 1e-2:
            self.log("valid/music/si_sdr", measures.si_sdr(folded.sum(0), wet.sum(0)), batch_size=1)
            self.log("valid/music/input_si_sdr", measures.si_sdr(capture, wet.sum(0)), batch_size=1)
        return {"input": batch["capture"][0], "restored": torch.as_tensor(folded).sum(0), "reference": target[0].sum(0)}

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with warm-up and cosine decay."""
        return build_optimiser(self.model, self.optimiser, self.max_steps)
