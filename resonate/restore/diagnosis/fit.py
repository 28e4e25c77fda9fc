"""Train the listener on simulated captures: python -m resonate.restore.diagnosis.fit --music FOLDER --bank FOLDER.

Each capture is rendered once without gain control; then curves of simulated gain controls are laid on its levels, so
that few captures show many curves. About ten minutes for 90 captures on one CPU core.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from resonate import RATE
from resonate.degrade import agc
from resonate.errors import command
from resonate.models.weights import write_tensors
from resonate.restore.diagnosis.levels import STEP, Levels, measure_levels, running_mean
from resonate.restore.diagnosis.listener import HORIZON, WEIGHTS, Listener, features
from resonate.restore.diagnosis.truth import Source, captures

log = logging.getLogger(__name__)

#: Least and greatest SNR in dB that the network is asked to tell apart.
SNR_RANGE = (-15.0, 30.0)


@dataclass(frozen=True)
class Example:
    """Levels of a capture without gain control, (k, n) gain curves in dB that could have acted on it, and the truth.
    A finished mix is an example, too: `captured` is False as long as no gain acts on it."""

    levels: Levels
    curves: np.ndarray
    snr_db: np.ndarray
    rt60_s: float
    c80_db: float
    captured: bool = True


def gain_curves(capture: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, n) curves in dB, one value per 50 ms, that simulated gain controls take on (2, samples); one in four is
    flat."""
    total = torch.from_numpy(capture)
    rms = max(float(total.square().mean().sqrt()), 1e-6)
    rows = -(-capture.shape[1] // STEP)
    out = np.zeros((count, rows), dtype=np.float32)
    for curve in out[count // 4 :]:
        params = agc.sample(rng, float(rng.uniform()), 0.0)
        gain = agc.gain(total, params, rms * 10 ** (rng.normal(0, 3) / 20)).numpy()
        padded = np.pad(gain, (0, rows * STEP - len(gain)), mode="edge")
        curve[:] = 10 * np.log10(np.square(padded.reshape(rows, STEP)).mean(1))
    return out


def with_gain(levels: Levels, gain_db: np.ndarray) -> Levels:
    """`levels` as they are after a gain (n,) in dB."""
    return Levels(levels.band_db + gain_db[:, None], levels.flatness_db, levels.loudest_db + gain_db)


def loss(output: Tensor, gain: Tensor, snr: Tensor, rooms: Tensor, captured: Tensor) -> Tensor:
    """Mean absolute errors: gain (less its mean over the horizon, done before), SNR, log RT60 and C80; cross-entropy of
    `captured`."""
    room = torch.stack([output[:, 2].mean(-1), output[:, 3].mean(-1)], -1)
    return (
        (output[:, 0] - gain / 5).abs().mean()
        + 0.3 * (output[:, 1] - snr / 10).abs().mean()
        + 0.2 * (room - rooms).abs().mean()
        + 0.1 * nn.functional.binary_cross_entropy_with_logits(output[:, 4].mean(-1), captured)
    )


def train(
    examples: Sequence[Example], minutes: float, seed: int = 0, batch: int = 12, start: Listener | None = None
) -> Listener:
    """Train for `minutes` of wall time with a one-cycle schedule, from new weights or on from `start`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = start or Listener()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    rows = min(len(e.levels) for e in examples)
    begun, step = time.monotonic(), 0
    while (share := (time.monotonic() - begun) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(1.0, 20 * share + 0.02) * (1 - share)
        chosen = [examples[i] for i in rng.integers(len(examples), size=batch)]
        curves = [e.curves[rng.integers(len(e.curves))] for e in chosen]
        x = [features(with_gain(e.levels, g))[:, :rows] for e, g in zip(chosen, curves, strict=True)]
        x = np.stack(x) * (1 + 0.05 * rng.standard_normal((batch, x[0].shape[0], 1), dtype=np.float32))
        target = [(g - running_mean(g, HORIZON))[:rows] for g in curves]
        rooms = [[np.log(max(e.rt60_s, 0.1)), e.c80_db / 10] for e in chosen]
        value = loss(
            model(torch.from_numpy(x)),
            torch.from_numpy(np.stack(target)),
            torch.from_numpy(np.stack([e.snr_db[:rows] for e in chosen])),
            torch.tensor(rooms, dtype=torch.float32),
            torch.tensor([float(e.captured or np.std(g) > 0.5) for e, g in zip(chosen, curves, strict=True)]),
        )
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            log.info("step %d, %.0f %% of the time, loss %.3f", step, 100 * share, float(value.detach()))
    return model.eval()


def make_examples(source: Source, count: int, seconds: float, seed: int, curves: int = 16) -> list[Example]:
    """Render `count` captures without gain control and lay `curves` curves on each."""
    out = []
    for truth in captures(source, count, seconds, seed, agc_share=0.0):
        rng = np.random.default_rng([seed, len(out), 1])
        levels = measure_levels(truth.capture)
        snr = np.clip(truth.snr_db[: len(levels)], *SNR_RANGE)
        measures = truth.measures
        curve = gain_curves(truth.capture, curves, rng)[:, : len(levels)]
        out.append(Example(levels, curve, snr, measures["rt60_s"], measures["c80_db"]))
        if len(out) % 3 == 0:
            out.append(finished_mix(source.stems(rng, seconds).sum(0), curves, rng))
    return out


def finished_mix(x: np.ndarray, curves: int, rng: np.random.Generator) -> Example:
    """The example that a finished mix (2, samples) makes: no crowd, hardly a room; half of its curves are flat."""
    levels = measure_levels(x)
    curve = np.concatenate([np.zeros((curves, len(levels)), np.float32), gain_curves(x, curves, rng)])
    return Example(levels, curve, np.full(len(levels), SNR_RANGE[1], np.float32), 0.15, 25.0, captured=False)


@command
def main(words: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--music", type=Path, required=True, help="folder of songs; those of split train are used")
    parser.add_argument("--bank", type=Path, default=None, help="bank folder (default: the one of the repo)")
    parser.add_argument("--captures", type=int, default=90)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    source = Source.load(arguments.music, arguments.bank, "train")
    examples = make_examples(source, arguments.captures, arguments.seconds, arguments.seed)
    model = train(examples, arguments.minutes)
    # What tells captures from finished mixes lies in the same file.
    held = load_file(str(WEIGHTS)) | {name: value.contiguous() for name, value in model.state_dict().items()}
    write_tensors(held, arguments.output)
    log.info("%d captures of %.0f s at %d Hz; written to %s", len(examples), arguments.seconds, RATE, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
