"""The separator: demucs's Hybrid Transformer Demucs, at any size.

Rouard, Massa and Defossez, "Hybrid Transformers for Music Source Separation" (2023).
"""

from __future__ import annotations

from typing import Any

import torch
from demucs.htdemucs import HTDemucs
from torch import Tensor

from resonate import RATE, STEMS


def build_separator(segment: float = 6.0, sources: tuple[str, ...] = STEMS, **options: Any) -> HTDemucs:
    """A new HTDemucs for stereo at 44.1 kHz.

    Args:
        segment: seconds of audio that it sees at once, in training and in use.
        sources: names of its outputs, in order.
        options: any other argument of ``demucs.htdemucs.HTDemucs``.
    """
    return HTDemucs(sources=list(sources), samplerate=RATE, segment=segment, **options)


def segment_samples(model: HTDemucs) -> int:
    """Samples of the fixed block that ``model`` works on."""
    return int(model.segment * model.samplerate)


def apply_separator(model: HTDemucs, x: Tensor) -> Tensor:
    """Separate one block.

    The block is normalised as demucs does (mid channel to zero mean and unit deviation) and the stems are scaled back,
    so the result follows the input's level. Digital silence comes out as silence.

    Args:
        model: in eval mode.
        x: (batch, 2, samples), at most ``model.segment`` seconds at 44.1 kHz.

    Returns:
        (batch, sources, 2, samples).
    """
    mid = x.mean(1, keepdim=True)
    mean = mid.mean(-1, keepdim=True)
    deviation = mid.std(-1, keepdim=True)
    silent = deviation < 1e-7
    y = model((x - mean) / deviation.clamp(min=1e-7))
    y = y * deviation[:, None] + mean[:, None] / y.shape[1]
    return torch.where(silent[:, None], torch.zeros_like(y), y)
