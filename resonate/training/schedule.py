"""Optimiser and learning-rate schedule, the same for both models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

#: Where HTDemucs's transformer sits.
TRANSFORMER = "crosstransformer."


@dataclass
class OptimiserConfig:
    """AdamW with warm-up and cosine decay.

    Attributes:
        lr: peak learning rate.
        weight_decay: of matrices; vectors (biases, norms, scales) have none.
        transformer_decay: of the matrices of HTDemucs's transformer.
        warmup_steps: steps of linear rise.
        final_share: share of ``lr`` that is left at the last step.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01
    transformer_decay: float = 0.05
    warmup_steps: int = 100
    final_share: float = 0.02


def parameter_groups(model: nn.Module, config: OptimiserConfig) -> list[dict[str, Any]]:
    """Trainable parameters by weight decay: matrices, vectors, and the transformer's matrices where there are any."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    inside = [p for name, p in trained if p.ndim > 1 and name.startswith(TRANSFORMER)]
    groups = [{"params": [p for name, p in trained if p.ndim > 1 and not name.startswith(TRANSFORMER)],
               "weight_decay": config.weight_decay},
              {"params": [p for _, p in trained if p.ndim <= 1], "weight_decay": 0.0}]
    return [*groups, {"params": inside, "weight_decay": config.transformer_decay}] if inside else groups


def build_optimiser(model: nn.Module, config: OptimiserConfig, max_steps: int) -> dict[str, Any]:
    """What ``configure_optimizers`` returns for ``model``."""
    optimiser = torch.optim.AdamW(parameter_groups(model, config), lr=config.lr)

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        progress = min(1.0, (step - config.warmup_steps) / max(1, max_steps - config.warmup_steps))
        return config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * progress))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
