"""Seconds of audio per second of computing: the capture chain, a training step and a block of each shipped model.

    python benchmarks/speed.py [--threads 1]

Best of three after one warm-up; noise serves as music, the starter bank as everything else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from resonate import RATE
from resonate.data.examples import stats_tensors
from resonate.degrade.bank import Bank
from resonate.degrade.chain import CaptureChain, ChainConfig
from resonate.models.separator import apply_separator, segment_samples
from resonate.models.stats import measure_stats
from resonate.models.weights import load_restorer, load_separator
from resonate.training.restorer import RestorerTask
from resonate.training.schedule import OptimiserConfig
from resonate.training.separator import SeparatorTask

BANK = Path(__file__).parents[1] / "resonate" / "bank"


def best(job: Callable[[], object], seconds: float) -> float:
    """Seconds of audio per second of wall time."""
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        job()
        times.append(time.perf_counter() - begun)
    return seconds / min(times[1:])


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    rows = {}
    for name, codecs in (("capture chain, 10 s, with codecs", True), ("capture chain, 10 s, without", False)):
        chain = CaptureChain(Bank.load([BANK], "train"), ChainConfig(codecs=codecs))
        stems = torch.from_numpy(0.05 * rng.standard_normal((1, 4, 2, 10 * RATE)).astype(np.float32))
        params = chain.from_seed(1, 10 * RATE)
        rows[name] = best(lambda chain=chain, stems=stems, params=params: chain.apply(stems, [params]), 10)
    restorer, separator = load_restorer(), load_separator()
    x = torch.from_numpy(0.05 * rng.standard_normal((1, 2, 12 * RATE)).astype(np.float32))
    stats = measure_stats(x[0])
    with torch.inference_mode():
        rows["restorer, a block of 12 s, fp32"] = best(lambda: restorer(x, stats), 12)
        block = x[..., : segment_samples(separator)]
        rows["separator, a block, fp32"] = best(lambda: apply_separator(separator, block), block.shape[-1] / RATE)
    rows |= training(restorer, separator, rng)
    table = Table(title=f"seconds of stereo audio per second, {threads} thread(s), torch {torch.__version__}")
    table.add_column("")
    table.add_column("s/s", justify="right")
    for name, value in rows.items():
        table.add_row(name, f"{value:.1f}")
    Console().print(table)


def training(restorer: torch.nn.Module, separator: torch.nn.Module, rng: np.random.Generator) -> dict[str, float]:
    """One optimiser step of each model, batch 4 of 5 s, bf16."""
    audio = torch.from_numpy(0.05 * rng.standard_normal((4, 4, 2, 5 * RATE)).astype(np.float32))
    batch = {"capture": audio.sum(1), "wet": audio, "dry": audio, "present": torch.ones(4, 4, dtype=torch.bool)}
    batch |= {k: v.expand(4, -1) for k, v in stats_tensors(measure_stats(audio[0].sum(0))).items()}
    separator.requires_grad_(True).train()
    tasks = {
        "restorer, training step, bf16": RestorerTask(restorer.config, OptimiserConfig(), 1, restorer.target_db),
        "separator, training step, bf16": SeparatorTask(separator, {}, OptimiserConfig(), 1),
    }
    rows = {}
    for name, task in tasks.items():
        task.log = task.log_dict = lambda *_, **__: None  # no trainer is attached
        optimiser = torch.optim.AdamW(task.parameters())

        def step(task=task, optimiser=optimiser) -> None:
            with torch.autocast("cpu", torch.bfloat16):
                loss = task.training_step(batch, 0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        rows[name] = best(step, 20)
    return rows


if __name__ == "__main__":
    main()
