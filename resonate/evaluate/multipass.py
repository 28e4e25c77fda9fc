"""What more passes of the separator gain and cost: ``python -m resonate.evaluate.multipass WEIGHTS --cache FOLDER``.

The passes are those of ``separate.*`` in infer.py: runs on shifted grids averaged, a run on the sum of the stems, a run
on what is in no stem, and more overlap. Every plan is compared with a single pass on the same captures.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from demucs.htdemucs import HTDemucs
from rich.console import Console
from rich.progress import track

from resonate import RATE, STEMS
from resonate.errors import command
from resonate.evaluate import separation
from resonate.evaluate.bootstrap import interval
from resonate.evaluate.table import write_json, write_text
from resonate.models.demucs_files import find_weights
from resonate.models.weights import SEPARATOR, load_separator
from resonate.restore.config import Separate
from resonate.restore.separation import passes

ONE = "one pass"
PLANS = {
    ONE: Separate(),
    "blocks overlap by a half": Separate(stride=0.5),
    "2 shifts averaged": Separate(shifts=2),
    "4 shifts averaged": Separate(shifts=4),
    "again, on the stems' sum": Separate(again=True),
    "residual re-fed": Separate(residual=True),
    "2 shifts, residual": Separate(shifts=2, residual=True),
}
MEASURES = ("stems_si_sdr", "stems_sdr", "noise_attenuation", "music_distortion")
RESAMPLES = 2000
#: dB of SI-SDR below which a gain is not worth another pass.
LEAST_DB = 0.1


@dataclass
class Found:
    """Figures of captures: of each its song and length in s, and per plan its processor time in s and its measures,
    NaN where a measure has no value."""

    songs: list[str] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    plans: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def change(self, plan: str, measure: str) -> tuple[float, float, float]:
        """(mean, low, high) of a plan's change against one pass, capture by capture, with its 95 % interval; NaN where
        there are too few captures."""
        change = np.subtract(self.plans[plan][measure], self.plans[ONE][measure])
        kept = np.isfinite(change)
        bounds = interval(change[kept], np.array(self.songs)[kept], RESAMPLES) or (float("nan"),) * 2
        return float(change[kept].mean()) if kept.any() else float("nan"), *bounds

    def winner(self) -> str:
        """The plan that gains most SI-SDR, of those that gain `LEAST_DB` and whose interval lies above zero; one pass
        where there is none."""
        changes = {plan: self.change(plan, "stems_si_sdr") for plan in self.plans if plan != ONE}
        won = [plan for plan, (mean, low, _) in changes.items() if low > 0 and mean >= LEAST_DB]
        return max(won, key=lambda plan: changes[plan][0], default=ONE)


def separate_by(model: HTDemucs, x: torch.Tensor, plan: Separate) -> np.ndarray:
    """Stems (4, 2, samples) of a whole recording (2, samples), by the passes that restoring makes under ``plan``."""
    stems = np.zeros((len(STEMS), *x.shape), np.float32)
    for run in passes(plan):
        heard = run.recording * x + run.stems * torch.from_numpy(stems.sum(0))
        found = separation.separate(model, heard, plan.stride, run.offset)[: len(STEMS)]
        stems = np.float32(run.former) * stems + np.float32(run.new) * found
    return stems


def measure(model: HTDemucs, cache: Path, split: str, limit: int = 0) -> Found:
    """Figures of every plan on the captures of a rendered folder that have stems.

    Args:
        model: in eval mode.
        cache: rendered folder.
        split: which captures.
        limit: at most so many, spread over the severities; 0 for all.
    """
    found = Found()
    separation.separate(model, torch.zeros(2, RATE))  # the first run costs more, and is none of the plans'
    for example in track(separation.choose(cache, split, limit), "Separating", console=Console(stderr=True)):
        capture, wet, _, crowd = separation.read(cache, example)
        found.songs.append(example["song"])
        found.lengths.append(capture.shape[-1] / RATE)
        for name, plan in PLANS.items():
            begun = time.process_time()
            stems = separate_by(model, torch.from_numpy(capture), plan)
            found.seconds[name].append(time.process_time() - begun)
            values = separation.score(stems, wet, np.array(example["present"]), capture, crowd)
            for measured in MEASURES:
                found.plans[name][measured].append(values.get(measured, float("nan")))
    return found


def rows(found: Found) -> separation.Shown:
    """Gain against cost: per plan its processor time per second of sound, and each measure's change."""
    single, lines = sum(found.seconds[ONE]), []
    for plan, values in found.plans.items():
        if plan == ONE:
            cells = [f"{np.nanmean(values[name]):.2f}" if np.isfinite(values[name]).any() else "-" for name in MEASURES]
        else:
            cells = [_words(*found.change(plan, name)) for name in MEASURES]
        cost = sum(found.seconds[plan])
        lines.append([plan, f"{cost / sum(found.lengths):.3f}", f"{cost / max(single, 1e-9):.1f}", *cells])
    title = (f"One pass, and changes against it (95 % interval), {len(found.songs)} captures of "
             f"{len(set(found.songs))} songs; best: {found.winner()}")
    return title, ["", "CPU s per s", "times", *MEASURES], lines


def _words(mean: float, low: float, high: float) -> str:
    if not np.isfinite(mean):
        return "-"
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})" if np.isfinite(low) else f"{mean:+.2f}"


@command
def main(words: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m resonate.evaluate.multipass", description=__doc__)
    parser.add_argument("weights", nargs="?", default=str(SEPARATOR), help="separator weights (default: the repo's)")
    parser.add_argument("--cache", required=True, type=Path, help="rendered folder (python -m data_recipes.render)")
    parser.add_argument("--split", default="valid", help="train, valid, test or all (default: valid)")
    parser.add_argument("--limit", type=int, default=0, help="at most so many captures, spread over the severities")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    given = parser.parse_args(words)
    found = measure(load_separator(find_weights(given.weights)), given.cache, given.split, given.limit)
    if given.markdown:
        write_text(given.markdown, separation.markdown(rows(found)))
    if given.json:
        write_json(given.json, {"winner": found.winner(), **asdict(found)})
    Console().print(separation.table(rows(found)))
    return 0


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    sys.exit(main())
