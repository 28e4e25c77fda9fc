"""Training throughput of this repo's step and of demucs's own solver, on the same model, batch and machine in one run.

    python benchmarks/training.py [--threads 2] [--steps 5] [--released]

Demucs's solver needs its extra (``pip install demucs[train]``); without it its rows are left out and the table says so.
``--released`` measures one step, and the peak of memory, at the size of the released htdemucs (41.5 M).
"""

from __future__ import annotations

import argparse
import copy
import logging
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from demucs.htdemucs import HTDemucs
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from resonate import RATE, STEMS
from resonate.models.separator import build_separator
from resonate.training.config import ModelConfig
from resonate.training.schedule import OptimiserConfig
from resonate.training.separator import SeparatorTask

#: The small model of the repo.
SMALL = Path(__file__).parents[1] / "configs" / "model" / "htdemucs_small.yaml"
RELEASED = {"segment": Fraction(39, 5), "bottom_channels": 512}
LEARNING_RATE = 1e-4


def timed(step: Callable[[], object], steps: int) -> float:
    """Median seconds of a step, after one for warming up."""
    times = []
    for _ in range(steps + 1):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def our_step(model: HTDemucs, stems: torch.Tensor, half: bool, stft_weight: float) -> Callable[[], object]:
    """Forward, loss, backward, clipping and AdamW as the trainer does them."""
    config = ModelConfig(kind="separator", stft_weight=stft_weight)
    task = SeparatorTask(model.train(), {}, OptimiserConfig(lr=LEARNING_RATE), 1000, config)
    task.log = lambda *_, **__: None
    optimiser = task.configure_optimizers()["optimizer"]
    batch = {"capture": stems.sum(1), "wet": stems, "dry": stems,
             "present": torch.ones(len(stems), len(STEMS), dtype=torch.bool)}

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = task.training_step(batch, 0)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()

    return step


class Batches:
    """A loader of one batch."""

    def __init__(self, stems: torch.Tensor) -> None:
        self.stems = stems

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield self.stems


def their_step(model: HTDemucs, stems: torch.Tensor, folder: Path) -> Callable[[], object]:
    """One epoch of one batch of ``demucs.solver.Solver``, without augmentation, weight averages or quantisation."""
    from demucs.solver import Solver
    from dora.conf import DoraConfig
    from dora.xp import XP

    none: dict[str, Any] = {"batch": [], "epoch": []}
    args = OmegaConf.create({
        "quant": {"diffq": None, "qat": None}, "ema": none, "dset": {"samplerate": RATE, "shift": 0},
        "augment": {"shift_same": False, "flip": False, "scale": {"proba": 0}, "remix": {"proba": 0}},
        "continue_pretrained": None, "continue_from": None, "max_batches": None, "misc": {"num_prints": 0},
        "valid_apply": False, "optim": {"loss": "l1", "clip_grad": 5.0}, "weights": [1.0] * len(STEMS),
        "svd": {"penalty": 0}, "flag": None, "debug": False})
    place = XP(DoraConfig(dir=folder), args, [], delta=[])
    place.folder.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=LEARNING_RATE)
    with place.enter():
        solver = Solver({"train": Batches(stems), "valid": []}, model, optimiser, args)
    return lambda: solver._run_one_epoch(0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's choice")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--released", action="store_true", help="the released size instead of the repo's small one")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    settings = RELEASED if given.released else OmegaConf.to_container(OmegaConf.load(SMALL).options)
    model = build_separator(**settings)
    stems = 0.1 * torch.randn(given.batch, len(STEMS), 2, int(given.seconds * RATE))
    rows: dict[str, Callable[[], object]] = {
        "train.py, bf16, L1 + STFT": our_step(copy.deepcopy(model), stems, True, 0.5),
        "train.py, fp32, L1 + STFT": our_step(copy.deepcopy(model), stems, False, 0.5),
        "train.py, fp32, L1 alone": our_step(copy.deepcopy(model), stems, False, 0.0)}
    note = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows["demucs's solver, fp32, L1"] = their_step(copy.deepcopy(model), stems, Path(folder))
        except ImportError as error:
            note = f"Demucs's solver is not installed ({error.name}): pip install 'demucs[train]'."
        count = sum(p.numel() for p in model.parameters())
        table = Table(title=f"{count / 1e6:.1f} M weights, batch of {given.batch} x {given.seconds:g} s, "
                            f"{torch.get_num_threads()} threads", caption=note)
        for name in ("", "s per step", "s of audio per s"):
            table.add_column(name, justify="right" if name else "left")
        for name, step in rows.items():
            seconds = timed(step, given.steps)
            table.add_row(name, f"{seconds:.2f}", f"{given.batch * given.seconds / seconds:.2f}")
    Console().print(table)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    Console().print(f"Peak memory of the process, with {len(rows)} copies of the model: {peak / 1e9:.2f} GB.")


if __name__ == "__main__":
    main()
