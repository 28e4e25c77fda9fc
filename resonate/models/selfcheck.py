"""Does a device compute what the CPU does? Before macOS 15.1 some operations on Apple's GPUs were silently wrong."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from resonate import RATE
from resonate.errors import UserError
from resonate.models.restorer import Restorer
from resonate.models.separator import apply_separator, segment_samples
from resonate.models.stats import measure_stats

SECONDS = 2.0
#: Largest difference from the CPU's result, relative to its peak.
TOLERANCE = 1e-2


def check_signal() -> Tensor:
    """(1, 2, samples) two seconds at 44.1 kHz: a chord, a decaying beat and a little noise, the same every time."""
    t = np.arange(int(SECONDS * RATE)) / RATE
    rng = np.random.default_rng(0)
    chord = sum(np.sin(2 * np.pi * f * t) / k for k, f in enumerate((110.0, 277.18, 659.26, 4000.0), 1))
    beat = np.exp(-((t * 4) % 1.0) * 12) * rng.standard_normal(len(t))
    x = 0.1 * np.stack([chord + beat, chord - 0.5 * beat]) + 1e-3 * rng.standard_normal((2, len(t)))
    return torch.from_numpy(x.astype(np.float32))[None]


def run(model: nn.Module, x: Tensor) -> Tensor:
    """What ``model`` makes of ``x``, both on one device, brought to the CPU: the stems, or the restored signal's gains
    and extension."""
    with torch.inference_mode():
        if isinstance(model, Restorer):
            # What is taken for music differs from what is heard, by a part that moves.
            out = model(x, measure_stats(x[0].cpu()), music=0.6 * x + 0.3 * x.roll(999, -1))
            # Gains with a correction are complex, and only the CPU is sure to put both kinds together.
            return torch.cat([out.gain.flatten().cpu(), out.extension.flatten().cpu()])
        return torch.cat([apply_separator(model, block) for block in x.split(segment_samples(model), -1)], -1).cpu()


def relative_peak_error(reference: Tensor, other: Tensor) -> float:
    """Largest absolute difference over the reference's peak; infinite where a value is no finite number."""
    if not bool(torch.isfinite(other).all()):
        return float("inf")
    return float((reference - other).abs().max() / reference.abs().max().clamp(min=1e-12))


def check_device(model: nn.Module, device: str | torch.device) -> float:
    """Run ``model`` on two seconds on the CPU and on ``device``; returns the relative peak error.

    Args:
        model: separator or restorer, on any device; it stays where and as it is.
        device: to be compared with the CPU.

    Raises:
        UserError: the results differ by more than `TOLERANCE`.
    """
    x = check_signal()
    here, there = copy.deepcopy(model).cpu().eval(), copy.deepcopy(model).to(device).eval()
    error = relative_peak_error(run(here, x), run(there, x.to(device)))
    if error > TOLERANCE:
        raise UserError(f"The device {device} computes other results than the CPU (relative error {error:.2g}); update "
                        "the system (macOS 15.1 or later) and torch, or use the CPU (infer.py: device=cpu, train.py: "
                        "trainer.accelerator=cpu).")
    return error
