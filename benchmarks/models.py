"""Size of each restorer in configs/model: parameters, multiply-adds per second of audio, memory of a training step.

    python benchmarks/models.py [NAME ...] [--batch 4] [--seconds 5]

Multiply-adds are those of matrix products and convolutions in one forward pass, counted by torch; the memory is the
rise of the process's peak over a step in fp32, each model in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path

import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from resonate import RATE
from resonate.data.examples import stats_tensors
from resonate.models.restorer import RestorerConfig
from resonate.models.stats import HOP, measure_stats
from resonate.training.restorer import RestorerTask
from resonate.training.schedule import OptimiserConfig
from resonate.usage import peak_mb

CONFIGS = Path(__file__).parents[1] / "configs" / "model"


def measure(name: str, batch: int, seconds: float) -> tuple[float, float, float, float]:
    """Parameters in millions, 1e9 multiply-adds per second of audio, reach in s, MB of a training step."""
    torch.set_num_threads(1)
    options = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml").options)
    config = RestorerConfig(**options)
    task = RestorerTask(config, OptimiserConfig(), 1)
    second = 0.1 * torch.randn(1, 2, RATE)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        task.model(second, measure_stats(second[0]))
    heard = 0.1 * torch.randn(batch, 2, int(seconds * RATE))
    example = {"capture": heard, "wet": 0.7 * heard[:, None], "dry": 0.5 * heard[:, None]}
    example |= {k: v.expand(batch, -1) for k, v in stats_tensors(measure_stats(heard[0])).items()}
    before = peak_mb()
    task.losses(example)["loss"].backward()
    count = sum(p.numel() for p in task.model.parameters())
    reach = task.model.network.reach * HOP / RATE
    return count / 1e6, counted.get_total_flops() / 2e9, reach, peak_mb() - before


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=sorted(p.stem for p in CONFIGS.glob("restorer_*.yaml")))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    table = Table(title=f"training step: batch {given.batch} of {given.seconds:g} s, fp32, torch {torch.__version__}")
    for column in ("model", "parameters, M", "G multiply-adds per s", "reach either way, s", "training step, MB"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name in given.names:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(measure, (name, given.batch, given.seconds))
        table.add_row(name, *(f"{value:.2f}" for value in row))
    Console().print(table)


if __name__ == "__main__":
    main()
