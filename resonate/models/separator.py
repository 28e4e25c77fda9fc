"""The separator: demucs's Hybrid Transformer Demucs, at any size.

Rouard, Massa and Defossez, "Hybrid Transformers for Music Source Separation" (2023).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import torch
from demucs.htdemucs import HTDemucs
from torch import Tensor

from resonate import RATE, STEMS

#: The optional fifth source: all that a capture holds beside the music.
CROWD = "crowd"
SEGMENT = 6.0


def arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``demucs.htdemucs.HTDemucs`` that plain ``settings`` stand for."""
    segment = Fraction(settings.get("segment", SEGMENT)).limit_denominator(RATE)
    fixed = {"sources": list(settings.get("sources", STEMS)), "samplerate": RATE, "segment": segment}
    return {**settings, **fixed}


def build_separator(**settings: Any) -> HTDemucs:
    """A new HTDemucs for stereo at 44.1 kHz.

    Args:
        settings: ``segment``, seconds of audio that it sees at once, in training and in use (6 by default);
            ``sources``, names of its outputs in order (the four stems by default); any other argument of
            ``demucs.htdemucs.HTDemucs``.
    """
    return HTDemucs(**arguments(settings))


def segment_samples(model: HTDemucs) -> int:
    """Samples of the fixed block that ``model`` works on."""
    return int(model.segment * model.samplerate)


@contextmanager
def keep_segment(model: HTDemucs) -> Iterator[None]:
    """In train() HTDemucs takes the crop's length for its segment, and a longer block in use would be refused."""
    segment = model.segment
    try:
        yield
    finally:
        model.segment = segment


def apply_separator(model: HTDemucs, x: Tensor) -> Tensor:
    """Separate one block.

    The block is normalised as demucs does (mid channel to zero mean and unit deviation) and the stems are scaled back,
    so the result follows the input's level. Digital silence comes out as silence.

    Args:
        model: in eval mode, or being trained.
        x: (batch, 2, samples), at most ``model.segment`` seconds at 44.1 kHz in eval mode.

    Returns:
        (batch, sources, 2, samples).
    """
    mid = x.mean(1, keepdim=True)
    mean = mid.mean(-1, keepdim=True)
    deviation = mid.std(-1, keepdim=True)
    silent = deviation < 1e-7
    with keep_segment(model):
        y = model((x - mean) / deviation.clamp(min=1e-7))
    y = y * deviation[:, None]
    y[:, : len(STEMS)] += mean[:, None] / len(STEMS)
    return torch.where(silent[:, None], torch.zeros_like(y), y)


def add_crowd_source(model: HTDemucs, settings: dict[str, Any]) -> tuple[HTDemucs, dict[str, Any]]:
    """A copy of ``model`` with the crowd as a fifth source, and its settings.

    The sources are slices of the output channels of the two last layers, so the four stems come out as before; the
    crowd's weights begin at zero. Returns the model as it is where it has that source.
    """
    if CROWD in model.sources:
        return model, settings
    settings = {**settings, "sources": [*model.sources, CROWD]}
    wider, old = build_separator(**settings), model.state_dict()
    state = {}
    for name, weight in wider.state_dict().items():
        state[name] = torch.zeros_like(weight)
        state[name][tuple(map(slice, old[name].shape))] = old[name]
    wider.load_state_dict(state)
    return wider.to(next(model.parameters()).device).train(model.training), settings
