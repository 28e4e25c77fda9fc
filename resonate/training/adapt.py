"""Training a part of a network: frozen modules and low-rank updates of matrices.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from resonate.errors import UserError


def _matching(model: nn.Module, patterns: Sequence[str], setting: str) -> list[str]:
    """Names of the parameters that match any of ``patterns``; UserError for a pattern that matches nothing."""
    names = [name for name, _ in model.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        hits = {n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n, f"{pattern}.*")}
        if not hits:
            modules = ", ".join(name for name, _ in model.named_children())
            raise UserError(f"{setting}: {pattern} names nothing in the model; its modules are {modules}, and patterns "
                            "such as 'encoder.*' choose among them.")
        found |= hits
    return [name for name in names if name in found]


def freeze(model: nn.Module, patterns: Sequence[str]) -> int:
    """Leave the parameters whose names match as they are; returns how many numbers that holds fixed.

    Args:
        model: its parameters are changed in place.
        patterns: of shell style, on names of parameters or modules: ``encoder.*``, ``crosstransformer``.
    """
    names = _matching(model, patterns, "model.freeze")
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return sum(model.get_parameter(name).numel() for name in names)


class LowRank(nn.Module):
    """weight + up @ down, the second factor beginning at zero; rows of ``weight`` are its first dimension."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        self.down = nn.Parameter(torch.empty(rank, columns, dtype=weight.dtype, device=weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, dtype=weight.dtype, device=weight.device))
        nn.init.normal_(self.down, std=columns ** -0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight in use, shaped as ``weight``."""
        return weight + (self.up @ self.down).reshape(weight.shape)


def add_lora(model: nn.Module, rank: int, patterns: Sequence[str]) -> int:
    """Hold the matching matrices (linear layers, attention projections, 1x1 convolutions) and train low-rank updates.

    Everything else stays trainable unless frozen.

    Args:
        model: changed in place; :func:`merged` undoes it.
        rank: of the updates, >= 1.
        patterns: as :func:`freeze` takes them.

    Returns:
        how many numbers the updates hold.
    """
    added = 0
    for name in _matching(model, patterns, "model.lora_targets"):
        weight = model.get_parameter(name)
        if weight.ndim < 2 or weight[0].numel() != weight.shape[1] or min(weight.shape[:2]) <= rank:
            continue
        owner, _, leaf = name.rpartition(".")
        update = LowRank(weight.detach(), rank)
        weight.requires_grad_(False)
        parametrize.register_parametrization(model.get_submodule(owner), leaf, update)
        added += sum(p.numel() for p in update.parameters())
    if not added:
        raise UserError(f"model.lora_rank={rank} finds no matrix larger than that in model.lora_targets; lower the "
                        "rank or name other modules.")
    return added


def merged(model: nn.Module) -> nn.Module:
    """``model``, or where it has low-rank updates a copy with the updates in its weights."""
    if not any(parametrize.is_parametrized(module) for module in model.modules()):
        return model
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            weights = {name: getattr(module, name).detach().clone() for name in module.parametrizations}
            # Not torch's remove_parametrizations, which changes a class that the copy shares with its original.
            module.__class__ = type(module).__bases__[0]
            del module.parametrizations
            for name, weight in weights.items():
                module.register_parameter(name, nn.Parameter(weight))
    return model
