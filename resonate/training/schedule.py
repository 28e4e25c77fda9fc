"""Optimiser and learning-rate schedule, the same for both models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass
class OptimiserConfig:
    """AdamW with warm-up and cosine decay.

    Attributes:
        lr: peak learning rate.
        weight_decay: of matrices; vectors (biases, norms, scales) have none.
        warmup_steps: steps of linear rise.
        final_share: share of ``lr`` that is left at the last step.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    final_share: float = 0.02


def build_optimiser(model: nn.Module, config: OptimiserConfig, max_steps: int) -> dict[str, Any]:
    """What ``configure_optimizers`` returns for ``model``."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": matrices, "weight_decay": config.weight_decay},
                                   {"params": vectors, "weight_decay": 0.0}], lr=config.lr)

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        progress = min(1.0, (step - config.warmup_steps) / max(1, max_steps - config.warmup_steps))
        return config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * progress))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
