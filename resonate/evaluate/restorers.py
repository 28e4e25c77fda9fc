"""Restorers alone on whole captures: ``python -m resonate.evaluate.restorers A.safetensors B.safetensors --cache DIR``.

Each network hears the capture itself, without the rest of `infer.py`, and where it wants to what the separator
takes for music in it; what it makes of it in both modes is measured against the clean mix. NAME-alone=FILE keeps that
second opinion from a network. With ``--hours`` the figures are drawn over the hours that each had been trained.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from resonate.data import shards
from resonate.errors import UserError, command
from resonate.evaluate import cases, measures
from resonate.evaluate.alignment import to_mid
from resonate.evaluate.rivals import Case
from resonate.evaluate.separation import Shown, markdown, separated_music, spread, table
from resonate.evaluate.table import write_text
from resonate.models.restorer import Restorer, apply_gain, stft
from resonate.models.stats import RecordingStats, bin_frequencies, measure_stats
from resonate.models.weights import SEPARATOR, load_restorer, load_separator
from resonate.restore.networks import share_of_music_db, smoothed_mask

INPUT = "input"
#: Ends the given names of networks that are given no opinion.
ALONE = "-alone"
#: Which way is better, and what it is called in the table.
BETTER = {"f_sdr": 1, "lsd": -1, "lsd_low": -1, "lsd_high": -1, "lsd_air": -1, "balance_error": -1, "gap_db": -1,
          "noise_attenuation": 1}
#: Which modes each figure is of in the picture.
_DRAWN = (("f_sdr", ("reveal", "extend")), ("lsd", ("extend",)), ("balance_error", ("extend",)),
          ("noise_attenuation", ("reveal", "extend")))


def balance_error(output: np.ndarray, reference: np.ndarray) -> float:
    """Mean difference of the long-term levels in thirds of an octave, 40 Hz to 16 kHz, whatever the overall level; dB.

    Blind to level and to everything that moves; a matched long-term spectrum cheats it.

    Args:
        output, reference: (2, T) at 44.1 kHz, aligned.
    """
    centres = 40.0 * 2.0 ** (np.arange(27) / 3)
    octaves = np.log2(np.maximum(bin_frequencies(), 1.0)[None] / centres[:, None])
    triangles = np.maximum(1 - 3 * np.abs(octaves), 0)
    levels = []
    for x in (output, reference):
        bands = triangles @ measures.frame_power(to_mid(x)).mean(0)
        levels.append(10 * np.log10(bands / bands.sum() + 1e-6))
    difference = levels[0] - levels[1]
    return float(np.abs(difference - difference.mean()).mean())


_load = lru_cache(maxsize=1)(load_separator)


def opinion(models: Iterable[Restorer], capture: np.ndarray, separator: Path = SEPARATOR, wanted: bool = False
            ) -> Tensor | None:
    """(1, 2, T), what a separator takes for music in (2, T); None where none of the models hears it, unless it is
    `wanted` for something else."""
    if not wanted and not any(model.config.hears_music for model in models):
        return None
    return separated_music(_load(separator), torch.from_numpy(capture))[None]


def restore(model: Restorer, capture: np.ndarray, stats: RecordingStats, music: Tensor | None = None,
            crowd: Tensor | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the modes reveal and extend make of (2, T) with these statistics and this `opinion`, by mode, and what
    extend adds, (2, T); the gains are multiplied by mask `crowd` (1025, frames)."""
    mask = torch.ones(()) if crowd is None else crowd
    x = torch.from_numpy(capture)[None]
    with torch.inference_mode():
        faithful = model(x, stats, extension_strength=0.0, faithful=True, music=music)
        full = model(x, stats, music=music)
        outputs = {"reveal": apply_gain(x, faithful.gain * mask),
                   "extend": apply_gain(x, full.gain * mask) + full.extension}
    return {mode: y[0].numpy() for mode, y in outputs.items()}, full.extension[0].numpy()


def score(output: np.ndarray, case: Case) -> dict[str, float]:
    """Figures of one output, (2, T)."""
    values = {"f_sdr": measures.f_sdr(output, case.reference), **measures.lsd_bands(output, case.reference),
              "balance_error": balance_error(output, case.reference)}
    if case.gaps.any():
        values["gap_db"] = measures.gap_db(output, case.gaps)
    if case.wet is not None and case.interferer is not None:
        before = measures.project(case.capture, case.wet, case.interferer)
        after = measures.project(output, case.wet, case.interferer)
        values["noise_attenuation"] = measures.noise_attenuation(before, after)
    return {name: value for name, value in values.items() if np.isfinite(value)}


def heard(cache: Path, split: str, limit: int, words: str) -> Iterator[Case]:
    """Captures of a rendered cache with music, from mild to severe, at most `limit` (0: all) spread over the
    severities; `words` stand before the progress. Raises UserError where there are none."""
    examples = sorted(shards.choose(cache, split), key=lambda e: e["severity"])
    for example in track(spread(examples, limit) if limit else examples, words, console=Console(stderr=True)):
        case = cases.cached(cache, example)
        if np.abs(case.reference).max() > 1e-3:
            yield case


def compare(models: dict[str, Restorer], cache: Path, split: str, limit: int = 0, crowd: float = 0.0,
            separator: Path = SEPARATOR, alone: Collection[str] = ()) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Score models on the captures of a rendered cache.

    Args:
        models: by name.
        cache: rendered folder, of which `split` is taken.
        limit: at most so many captures; 0 for all.
        crowd: share of the separator's mask against the crowd beside the gains.
        separator: weights.
        alone: names of models that are not told what the separator takes for music.

    Returns:
        (system, mode) -> figures per capture; ("input", "") for the recording itself. Silent references are left out.
    """
    found: dict[tuple[str, str], list[dict[str, float]]] = {(INPUT, ""): []}
    for case in heard(cache, split, limit, "Restoring"):
        hearing = [model for name, model in models.items() if name not in alone]
        stats, music = measure_stats(case.capture), opinion(hearing, case.capture, separator, crowd > 0)
        mask = None
        if crowd > 0 and music is not None:
            share_db = share_of_music_db(stft(music[0]), stft(torch.from_numpy(case.capture)))
            mask = torch.from_numpy(smoothed_mask(share_db, stats.in_band, crowd))
        found[INPUT, ""].append(score(case.capture, case))
        for name, model in models.items():
            heard_too = None if name in alone else music
            outputs, _ = restore(model, case.capture, stats, heard_too, mask)
            for mode, output in outputs.items():
                found.setdefault((name, mode), []).append(score(output, case))
    return found


def mean(values: Sequence[dict[str, float]], name: str) -> float:
    """Mean of a figure over the captures that have it; NaN where none has."""
    known = [v[name] for v in values if name in v]
    return float(np.mean(known)) if known else float("nan")


def rows(found: dict[tuple[str, str], list[dict[str, float]]], crowd: float = 0.0) -> Shown:
    """Mean change against the recording itself, whose own figures come first, and the worst fall of f_sdr."""
    before = found[INPUT, ""]
    lines = [["input", *(f"{mean(before, name):.1f}" for name in BETTER), ""]]
    for (system, mode), values in found.items():
        if system == INPUT:
            continue
        changes = [{name: after[name] - first[name] for name in after if name in first}
                   for after, first in zip(values, before, strict=True)]
        worst = min(change["f_sdr"] for change in changes)
        lines.append([f"{system}, {mode}", *(f"{mean(changes, name):+.1f}" for name in BETTER), f"{worst:+.1f}"])
    with_it = f"with {crowd:g} of the mask against the crowd" if crowd else "alone"
    title = f"{len(before)} captures: the recording's own figures, and the change by each network {with_it}"
    return title, ["", *BETTER, "worst f_sdr"], lines


def draw(found: dict[tuple[str, str], list[dict[str, float]]], hours: dict[str, float], path: Path) -> None:
    """Figures over hours of training, as a picture; systems without hours are left out."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(_DRAWN), figsize=(3.2 * len(_DRAWN), 2.8), layout="constrained")
    for axis, (name, modes) in zip(axes, _DRAWN, strict=True):
        for mode in modes:
            points = sorted((hours[system], mean(found[system, mode], name)) for system in hours)
            axis.plot(*zip(*points, strict=True), marker="o", label=mode)
        axis.axhline(mean(found[INPUT, ""], name), color="grey", linestyle=":", label="input")
        axis.set_title(f"{name}, {'higher' if BETTER[name] > 0 else 'lower'} is better", fontsize=9)
        axis.set_xlabel("core hours")
        axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


@command
def main(words: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="restorer weights; NAME=FILE gives one another name in the table")
    parser.add_argument("--cache", type=Path, required=True, help="rendered folder")
    parser.add_argument("--split", default="valid", choices=("train", "valid", "test"))
    parser.add_argument("--limit", type=int, default=0, help="at most so many captures, spread over the severities")
    parser.add_argument("--crowd", type=float, default=0.0,
                        help="share of the separator's mask beside the gains, as strength.crowd of infer.py")
    parser.add_argument("--separator", type=Path, default=SEPARATOR,
                        help="weights of the separator that a restorer may hear (default: the repo's)")
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")
    parser.add_argument("--hours", type=float, nargs="+", help="hours that each of the weights had been trained")
    parser.add_argument("--picture", type=Path, help="with --hours: picture of the figures over them")
    given = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    if bool(given.hours) != bool(given.picture) or (given.hours and len(given.hours) != len(given.weights)):
        raise UserError("--hours takes as many numbers as there are weights, and goes with --picture.")
    models: dict[str, Restorer] = {}
    alone: list[str] = []
    for word in given.weights:
        name, _, path = word.rpartition("=")
        models[name or Path(path).stem] = load_restorer(path)
        alone += [name] * name.endswith(ALONE)
    if not 0 <= given.crowd <= 1:
        raise UserError(f"--crowd is a share from 0 to 1, got {given.crowd:g}.")
    found = compare(models, given.cache, given.split, given.limit, given.crowd, given.separator, alone)
    shown = rows(found, given.crowd)
    Console().print(table(shown))
    if given.markdown:
        write_text(given.markdown, markdown(shown))
    if given.picture:
        draw(found, dict(zip(models, given.hours, strict=True)), given.picture)


if __name__ == "__main__":
    sys.exit(main())
