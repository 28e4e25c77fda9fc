"""What infer.py costs: peak memory over the length of a recording, time against the networks alone, share per stage.

    python benchmarks/restore.py --minutes 5 20 60            # the whole question; about an hour of one core
    python benchmarks/restore.py --minutes 5 20 60 --weights tiny
    python benchmarks/restore.py --minutes 5

Each recording is made up (noise with a beat, from a fixed seed) and restored by infer.py in a process of its own in a
temporary folder, whose disk needs some 100 MB a minute. `--weights tiny` takes untrained networks of a few thousand
weights: memory and the stages around the networks in a fraction of the time, but no pace of the networks. `--weights
released` takes the size of the released htdemucs (41.5 M) with `restorer_base` (8.3 M), untrained: what those pay
around the networks who restore with larger ones.

Stages and networks are told in wall and in CPU seconds, and compared wall with wall and CPU with CPU. On a machine at
rest, with one thread, the two agree; on a busy one the CPU seconds are the ones to go by, since other work does not
slow down all stages, and the networks timed after them, alike.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from resonate import RATE
from resonate.audio_wav import WavWriter
from resonate.models.restorer import Restorer, RestorerConfig
from resonate.models.separator import apply_separator, build_separator, segment_samples
from resonate.models.stats import HOP, measure_stats
from resonate.models.weights import RESTORER, SEPARATOR, load_restorer, load_separator, save_weights
from resonate.restore.config import RestoreConfig
from resonate.restore.networks import RESTORE_BLOCK, RESTORE_HOP
from resonate.usage import peak_mb

ROOT = Path(__file__).parents[1]

_BASE = OmegaConf.to_container(OmegaConf.load(ROOT / "configs" / "model" / "restorer_base.yaml").options)
#: Separator's and restorer's settings of untrained networks: a few thousand weights, and large ones.
SIZES = {
    "tiny": ({"segment": 5.0, "channels": 8, "depth": 4, "t_layers": 0}, {"width": 8, "dilations": (1, 2)}),
    "released": ({"segment": 7.8, "bottom_channels": 512}, _BASE),
}


def untrained(folder: Path, size: str) -> tuple[Path, Path]:
    """Untrained networks of a size of `SIZES`."""
    torch.manual_seed(0)
    settings, restorer = SIZES[size]
    config = RestorerConfig(**restorer)
    return (
        save_weights(build_separator(**settings), folder / "separator.safetensors", "separator", settings),
        save_weights(Restorer(config), folder / "restorer.safetensors", "restorer", config.to_dict()),
    )


def make(path: Path, minutes: float) -> Path:
    """A stereo recording of that length, 16 bit, 44.1 kHz."""
    rng, length = np.random.default_rng(0), round(60 * minutes * RATE)
    with WavWriter(path, RATE, 2, length, "PCM_16") as file:
        for start in range(0, length, RATE):
            t = np.arange(start, min(start + RATE, length)) / RATE
            beat = np.exp(-(t % 0.5) / 0.05)
            x = 0.1 * beat * rng.standard_normal((2, len(t))) + 0.1 * np.sin(2 * np.pi * (110 + 55 * (t // 2 % 4)) * t)
            file.write((x + 0.01 * rng.standard_normal(x.shape)).astype(np.float32))
    return path


def measure(path: Path, output: Path, words: list[str]) -> tuple[list[float], dict[str, tuple[float, float]]]:
    """Wall s, CPU s, peak resident MB up to the master and with the page; (wall s, CPU s) by stage, of infer.py."""
    command = [sys.executable, str(ROOT / "infer.py"), str(path), "-o", str(output), *words]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"infer.py ended with status {process.returncode}")
    wall = time.perf_counter() - begun
    peak = peak_mb(usage)
    log = max(output.glob(".hydra/*/infer.log")).read_text(encoding="utf-8")
    stages = re.findall(r": (\w+) took ([\d.]+) s \(CPU ([\d.]+) s, peak (\d+) MB\)", log)
    before_page = next(float(megabytes) for name, _, _, megabytes in stages if name == "master")
    timings = {name: (float(took), float(computed)) for name, took, computed, _ in stages}
    return [wall, usage.ru_utime + usage.ru_stime, before_page, peak], timings


def bare(separator: Path, restorer: Path) -> dict[str, tuple[float, float]]:
    """(wall s, CPU s) per second of recording of the networks alone on the pipeline's grids, best of three."""
    first, second = load_separator(separator), load_restorer(restorer)
    rng = np.random.default_rng(0)
    block = segment_samples(first)
    x = torch.from_numpy(0.1 * rng.standard_normal((1, 2, max(block, RESTORE_BLOCK * HOP))).astype(np.float32))
    stats = measure_stats(x[0])
    jobs = {
        "separate": (lambda: apply_separator(first, x[..., :block]), block * RestoreConfig().separate.stride / RATE),
        "restore": (lambda: second(x[..., : RESTORE_BLOCK * HOP], stats), RESTORE_HOP * HOP / RATE),
    }
    paces = {}
    with torch.inference_mode():
        for name, (job, seconds) in jobs.items():
            times = []
            for _ in range(4):
                begun, computed = time.perf_counter(), time.process_time()
                job()
                times.append((time.perf_counter() - begun, time.process_time() - computed))
            wall, cpu = zip(*times[1:], strict=True)
            paces[name] = min(wall) / seconds, min(cpu) / seconds
    return paces


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0, 20.0])
    parser.add_argument("--weights", choices=("repo", *SIZES), default="repo")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's temporary folder)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        weights = (SEPARATOR, RESTORER) if options.weights == "repo" else untrained(folder, options.weights)
        # Noise with a beat passes for a finished mix, which would be left as it is.
        words = [f"separator={weights[0]}", f"restorer={weights[1]}", f"threads={options.threads}", "device=cpu",
                 "clean.bypass=false"]
        table = Table(title=f"infer.py, {options.weights} weights, {options.threads} thread(s)")
        for column in ("minutes", "wall s", "CPU s", "peak MB", "peak MB with page", "wall s per s"):
            table.add_column(column, justify="right")
        timings: dict[str, tuple[float, float]] = {}
        peaks: list[list[float]] = []
        for minutes in options.minutes:
            path = make(folder / f"{minutes:g}.wav", minutes)
            figures, timings = measure(path, folder / "out", words)
            pace = figures[0] / minutes / 60
            table.add_row(f"{minutes:g}", *(f"{value:.0f}" for value in figures), f"{pace:.3f}")
            peaks.append(figures[2:])
            seconds = 60 * minutes
            path.unlink()
        console.print(table)
        for what, column in zip(("up to the master", "with the page"), zip(*peaks, strict=True), strict=True):
            console.print(f"largest peak over smallest, {what}: {max(column) / min(column):.3f}")
        paces = bare(*weights)
    table = Table(title=f"stages of the last one, {seconds:.0f} s of sound")
    for column in ("stage", "wall s per s", "CPU s per s", "share of CPU", "networks, wall", "networks, CPU"):
        table.add_column(column, justify="right" if column != "stage" else "left")
    total = [sum(column) for column in zip(*timings.values(), strict=True)]
    for stage, (wall, cpu) in timings.items():
        alone = [f"{pace:.4f}" for pace in paces.get(stage, ())]
        share = f"{100 * cpu / total[1]:.1f} %"
        table.add_row(stage, f"{wall / seconds:.4f}", f"{cpu / seconds:.4f}", share, *alone)
    bare_sum = [sum(column) for column in zip(*paces.values(), strict=True)]
    sums = [f"{value / seconds:.4f}" for value in total]
    table.add_row("together", *sums, "100 %", *(f"{value:.4f}" for value in bare_sum))
    console.print(table)
    for n, kind in enumerate(("wall", "CPU")):
        for what, took in (("all stages", total[n]), ("all but the page", total[n] - timings["report"][n])):
            console.print(f"{what} over the bare forward passes, {kind}: {took / seconds / bare_sum[n]:.2f}")


if __name__ == "__main__":
    main()
