"""Training throughput of this repo's step and of demucs's own solver, on the same model, batch and machine in one run.

    python benchmarks/training.py [--threads 1] [--steps 3] [--options depth=4 channels=16]
    python benchmarks/training.py --released          # the released size: from demucs's own file and back, time, memory

Demucs's solver needs its extra (``pip install demucs[train]``); without it its row is left out and the table says so.
``--released`` saves the released architecture (41.5 M, random weights) in the package's own format, loads
it from there, trains it a few steps, exports it, loads it again by this repo and by demucs, and compares their outputs.
"""

from __future__ import annotations

import argparse
import copy
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from demucs.hf import load_safetensors_model
from demucs.htdemucs import HTDemucs
from demucs.states import save_with_checksum, serialize_model
from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resonate import RATE, STEMS
from resonate.memory import keep_freed_memory
from resonate.models.separator import build_separator
from resonate.models.weights import load_separator, save_weights
from resonate.training.config import ModelConfig, TrainerConfig
from resonate.training.run import pick_precision
from resonate.training.schedule import OptimiserConfig
from resonate.training.separator import SeparatorTask
from resonate.training.start import start_separator
from resonate.usage import peak_mb

#: The small model of the repo.
SMALL = Path(__file__).parents[1] / "configs" / "model" / "htdemucs_small.yaml"
RELEASED = {"segment": Fraction(39, 5), "bottom_channels": 512}
LEARNING_RATE = 1e-4


def timed(step: Callable[[], object], steps: int) -> tuple[float, float]:
    """Median seconds of a step on the clock and of processor time, after one step for warming up."""
    clock, processor = [], []
    for _ in range(steps + 1):
        begun, used = time.perf_counter(), time.process_time()
        step()
        clock.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    return statistics.median(clock[1:]), statistics.median(processor[1:])


def peak_memory() -> float:
    """GB that this process has held at most."""
    return peak_mb() / 1e3


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


def released(steps: int, batch: int, seconds: float) -> Table:
    """The released architecture from demucs's own file through training to an export that demucs loads."""
    table = Table(title=f"Released architecture, batch of {batch} x {seconds:g} s, {torch.get_num_threads()} threads",
                  show_header=False, title_justify="left")
    fresh = HTDemucs(sources=list(STEMS), samplerate=RATE, **RELEASED)
    precision = pick_precision(TrainerConfig(accelerator="cpu"))[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_with_checksum(serialize_model(fresh, OmegaConf.create({})), folder / "955717e8.th")
        del fresh
        model, settings = start_separator(ModelConfig(kind="separator", pretrained=name))
        table.add_row("weights", f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M, from 955717e8-*.th")
        before = peak_memory()
        stems = 0.1 * torch.randn(batch, len(STEMS), 2, int(seconds * RATE))
        model.requires_grad_(True)
        clock, processor = timed(our_step(model, stems, precision == "bf16-mixed", 0.5), steps - 1)
        table.add_row("steps", f"{steps}, {precision}")
        table.add_row("time per step", f"{clock:.1f} s, {processor:.1f} s of processor time")
        table.add_row("peak memory", f"{peak_memory():.2f} GB, of which {before:.2f} GB before training")
        exported = save_weights(model, folder / "weights.safetensors", "separator", settings)
        x = 0.1 * torch.randn(1, 2, RATE)
        with torch.no_grad():
            outputs = [m.eval()(x) for m in (model, load_separator(exported), load_safetensors_model(exported))]
    equal = all(torch.equal(outputs[0], other) for other in outputs[1:])
    table.add_row("trained, loaded again, loaded by demucs", "equal outputs" if equal else "DIFFERENT OUTPUTS")
    return table


def compare(settings: dict[str, Any], given: argparse.Namespace) -> Table:
    """This repo's step beside that of demucs's solver, from the same weights on the same batch."""
    model = build_separator(**settings)
    stems = 0.1 * torch.randn(given.batch, len(STEMS), 2, int(given.seconds * RATE))
    count, notes = sum(p.numel() for p in model.parameters()), []
    table = Table(title=f"{count / 1e6:.1f} M weights, batch of {given.batch} x {given.seconds:g} s, "
                        f"{torch.get_num_threads()} threads", title_justify="left")
    for name in ("", "s per step", "CPU s per step", "s of audio per s", "per CPU s"):
        table.add_column(name, justify="right" if name else "left")

    def add(name: str, step: Callable[[], object]) -> None:
        clock, processor = timed(step, given.steps)
        audio = given.batch * given.seconds
        table.add_row(name, *(f"{x:.2f}" for x in (clock, processor, audio / clock, audio / processor)))

    with tempfile.TemporaryDirectory() as folder:
        try:
            add("demucs's solver, fp32, L1", their_step(copy.deepcopy(model), stems, Path(folder)))
        except ImportError as error:
            notes.append(f"Demucs's solver is not installed ({error.name}): pip install 'demucs[train]'.")
    add("train.py, fp32, L1 alone, before it keeps freed memory", our_step(copy.deepcopy(model), stems, False, 0.0))
    # It cannot be taken back, so what follows has it.
    keep_freed_memory()
    add("train.py, fp32, L1 alone", our_step(copy.deepcopy(model), stems, False, 0.0))
    add("train.py, fp32, L1 + STFT", our_step(copy.deepcopy(model), stems, False, 0.5))
    if pick_precision(TrainerConfig(accelerator="cpu"))[1] == "bf16-mixed":
        add("train.py, bf16, L1 + STFT", our_step(copy.deepcopy(model), stems, True, 0.5))
    else:
        notes.append("No bf16: this CPU has no instructions for it, and emulating them takes minutes per step.")
    table.caption = escape(" ".join(notes))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's choice")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--options", nargs="*", default=[], metavar="NAME=VALUE",
                        help="settings of the small model to change, such as depth=4")
    parser.add_argument("--released", action="store_true", help="the released size instead of the repo's small one")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    console = Console()
    if given.released:
        keep_freed_memory()
        console.print(released(given.steps, given.batch, given.seconds))
        return
    settings = OmegaConf.merge(OmegaConf.load(SMALL).options, OmegaConf.from_dotlist(given.options))
    console.print(compare(OmegaConf.to_container(settings), given))


if __name__ == "__main__":
    main()
