"""Separators on whole captures: ``python -m resonate.evaluate.separation A.safetensors B.safetensors --cache FOLDER``.

Per stem and severity: the capture itself as the estimate of every stem, then each model, with how many captures a
figure comes from. The references are the stems as captured; with ``--clean`` the models get the sum of the clean stems,
with ``--masks`` the recording is also shared out among the stems, as restoring does it: their sum stays what it was.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from demucs.htdemucs import HTDemucs
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from resonate import STEMS
from resonate.data import shards
from resonate.errors import UserError, command
from resonate.evaluate import measures, stems
from resonate.evaluate.stem_aims import INPUT, Aim, aims
from resonate.evaluate.table import write_json, write_text
from resonate.models.demucs_files import find_weights
from resonate.models.restorer import apply_gain, stft
from resonate.models.separator import apply_separator, segment_samples
from resonate.models.stats import measure_stats
from resonate.models.weights import load_separator
from resonate.restore import grid
from resonate.restore.networks import magnitude, ratio_masks, stem_masks

#: Upper ends of the severities that count as each of the named ones (`configs/degrade` names their middles).
BINS = {"near": 0.3, "mid": 0.575, "far": 0.825, "brutal": 1.0}
#: Blocks start this share of a block after one another, as in restoring.
STRIDE = 0.75
Item = TypeVar("Item")


def severity_bin(severity: float) -> str:
    """near, mid, far or brutal for a severity in [0, 1]."""
    return next(name for name, end in BINS.items() if severity < end or name == "brutal")


def separate(model: HTDemucs, x: Tensor, stride: float = STRIDE, offset: float = 0.0) -> np.ndarray:
    """Separate a whole recording on the grid that restoring uses.

    Args:
        model: in eval mode; the result comes from its device.
        x: (2, samples), 44.1 kHz.
        stride: from one block to the next, in blocks, 0.5 to 1.
        offset: the grid begins so many blocks before the recording.

    Returns:
        (sources, 2, samples) float32.
    """
    device, block = next(model.parameters()).device, segment_samples(model)
    before, hop, length = round(block * offset), max(int(block * stride), -(-block // 2)), x.shape[-1]
    x = torch.nn.functional.pad(x, (before, 0))
    fader, places, pieces = grid.Crossfader(block, hop), grid.starts(x.shape[-1], block, hop), []
    for start in places:
        piece = x[:, start:start + block].to(device).float()
        piece = torch.nn.functional.pad(piece, (0, block - piece.shape[-1]))
        with torch.no_grad():
            y = apply_separator(model, piece[None])[0].float().cpu().numpy()
        pieces.append(fader.push(y, last=start == places[-1]))
    return np.concatenate(pieces, -1)[..., before:before + length]


def separated_music(model: HTDemucs, x: Tensor) -> Tensor:
    """(2, samples): the sum of the stems that :func:`separate` gives of (2, samples)."""
    return torch.from_numpy(separate(model, x)[: len(STEMS)].sum(0))


def shared(estimates: np.ndarray, x: np.ndarray, exponent: float = 1.0) -> np.ndarray:
    """The recording under the stems' masks as restoring makes them: (4, 2, T), whose sum is the recording.

    Args:
        estimates: (4 or more, 2, T); sources beyond the stems do not count.
        x: (2, T), the recording, 44.1 kHz.
        exponent: of the magnitudes that are compared; restoring takes 1, and 2 makes shares of the powers.
    """
    parts = stft(torch.from_numpy(np.ascontiguousarray(estimates[: len(STEMS)], np.float32)))
    masks = stem_masks(ratio_masks(magnitude(parts) ** exponent, measure_stats(x).in_band))
    whole = torch.from_numpy(np.ascontiguousarray(x, np.float32))[None].expand(len(STEMS), -1, -1)
    return apply_gain(whole, torch.from_numpy(masks)).numpy()


def score(estimates: np.ndarray, wet: np.ndarray, present: np.ndarray, capture: np.ndarray | None = None,
          crowd: np.ndarray | None = None) -> dict[str, float]:
    """Figures of one recording's stems, and where ``capture`` is given of the crowd under their sum.

    Args:
        estimates: (4 or more, 2, T); sources beyond the stems do not count.
        wet: (4, 2, T) references.
        present: (4,) bool, which stems are known apart; the others count as part of "other".
        capture: (2, T), the recording.
        crowd: (2, T), what ``noise_attenuation`` follows; without it all that the recording holds beside the music.
    """
    values = stems.scores(estimates[: len(STEMS)], wet, None, present)
    if capture is not None:
        music = wet.sum(0)
        noise = capture - music if crowd is None else crowd
        before = measures.project(capture, music, noise)
        after = measures.project(estimates[: len(STEMS)].sum(0), music, noise)
        for name in ("noise_attenuation", "music_distortion"):
            values[name] = getattr(measures, name)(before, after)
    return {name: value for name, value in values.items() if np.isfinite(value)}


def as_input(capture: np.ndarray) -> np.ndarray:
    """The recording itself as the estimate of each stem, (4, 2, T)."""
    return np.broadcast_to(capture, (len(STEMS), *capture.shape))


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` of ``items``, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[i] for i in places]


def choose(cache: Path, split: str, limit: int = 0) -> list[dict[str, Any]]:
    """The examples of a rendered folder that have stems, at most ``limit`` (0: all), spread over the severities.

    Raises UserError where there are none.
    """
    examples = [example for example in shards.choose(cache, split) if not example["mix_only"]]
    if not examples:
        raise UserError(f"{cache} holds only finished mixes in the split '{split}', which have no stems to compare.")
    if limit and limit < len(examples):
        examples = spread(sorted(examples, key=lambda example: example["severity"]), limit)
    return examples


def read(cache: Path, example: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Capture (2, T), captured stems (4, 2, T), clean stems (4, 2, T) and, where the cache has it, the crowd (2, T)."""
    rows = shards.read_audio(cache, example)
    return rows[0], rows[1:5], rows[6:10], shards.crowd_of(rows)


def compare(models: dict[str, HTDemucs], cache: Path, split: str, limit: int = 0, clean: bool = False,
            target: str = "wet", exponents: Sequence[float] = ()) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Score models on the captures of a rendered cache.

    Args:
        models: by name, in eval mode.
        cache: rendered folder.
        split: which captures.
        limit: at most so many, spread evenly over them; 0 for all.
        clean: give the models the sum of the clean stems in place of the capture, and score against these.
        target: ``wet``, the captured stems, or ``dry``, the clean ones.
        exponents: each model as masks on the recording besides, see :func:`shared`.

    Returns:
        severity ("all" for all of them), system ("input" for the recording itself), measure, values.
    """
    found: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for example in track(choose(cache, split, limit), "Separating", console=Console(stderr=True)):
        capture, wet, dry, crowd = read(cache, example)
        heard = dry.sum(0) if clean else capture
        reference = dry if clean or target == "dry" else wet
        outputs = {INPUT: as_input(heard), **{name: separate(model, torch.from_numpy(heard))
                                              for name, model in models.items()}}
        outputs |= {f"{name}, masks^{e:g}": shared(outputs[name], heard, e)
                    for name in models for e in exponents}
        around = None if clean or target == "dry" else capture
        for system, estimates in outputs.items():
            values = score(estimates, reference, np.array(example["present"]), around, crowd)
            for place in ("all",) if clean else (severity_bin(example["severity"]), "all"):
                for name, value in values.items():
                    found[place][system][name].append(value)
    return found


def origin(words: Sequence[str], cache: Path, split: str, limit: int = 0) -> str:
    """The command, and what stands behind its figures: captures and songs by severity, the recordings of crowds, rooms
    and phones in them, the render's seed, and what the crowd's figure follows."""
    examples = choose(cache, split, limit)
    index, places, drawn = shards.read_index(cache), defaultdict(list), defaultdict(set)
    for example in examples:
        for place in (severity_bin(example["severity"]), "all"):
            places[place].append(example["song"])
    wanted = {example["file"] for example in examples}
    for shard in sorted({example["shard"] for example in examples if "shard" in example}):
        for details in shards.read_details(cache / shard):
            if details["file"] in wanted:
                params = details["params"]
                drawn["crowd recording"] |= {layer["name"] for layer in params["crowd"]["layers"]}
                drawn["measured room"] |= {params["venue"]["room"]}
                drawn["measured phone"] |= {params["capsule"]["device"]}
    counted = {place: f"{_count(songs, 'capture')} of {_count(set(songs), 'song')}" for place, songs in places.items()}
    severities = ", ".join(f"{place} {counted[place]}" for place in BINS if place in counted)
    sources = ", ".join(_count(names - {""}, kind) for kind, names in drawn.items())
    settings = index.get("settings", {})
    render = f"render of seed {settings['seed']}" if "seed" in settings else "a render without settings"
    crowd = "the crowd alone" if settings.get("crowd") else "all that is no music in the recording"
    return (f"`python -m resonate.evaluate.separation {shlex.join(words)}`: {counted['all']} ({severities}; "
            f"{sources + '; ' if sources else ''}{render}). noise_attenuation follows {crowd}.\n")


def _count(things: Collection[str], word: str) -> str:
    return f"{len(things)} {word}{'s' * (len(things) != 1)}"


#: A heading, the names of the columns, and the rows.
Shown = tuple[str, list[str], list[list[str]]]


def rows(place: str, systems: dict[str, dict[str, list[float]]]) -> Shown:
    """One severity: SI-SDR per stem with the change against the recording, the number of captures, and the crowd."""
    count = max(len(values) for measures_of in systems.values() for values in measures_of.values())
    extra = [name for name in ("stems_sdr", "noise_attenuation", "music_distortion") if name in systems[INPUT]]
    lines = []
    for system, values in systems.items():
        cells = []
        for stem in (*STEMS, "stems"):
            mine, base = values.get(f"{stem}_si_sdr", []), systems[INPUT].get(f"{stem}_si_sdr", [])
            change = "" if system == INPUT or not mine else f" ({np.mean(mine) - np.mean(base):+.1f})"
            cells.append(f"{np.mean(mine):.1f}{change}, {len(mine)}" if mine else "-")
        cells += [f"{np.mean(values[name]):.1f}, {len(values[name])}" if values.get(name) else "-" for name in extra]
        lines.append([system, *cells])
    title = f"{place} ({count} captures): SI-SDR in dB (change), number of captures"
    return title, ["", *STEMS, "mean", *extra], lines


def aim_rows(found: list[Aim]) -> Shown:
    """What was asked for and what was found."""
    return ("What is asked of training on captures, in dB", ["", "at least", "found", "recordings", ""],
            [[aim.says, f"{aim.wanted:+g}", f"{aim.found:+.1f}", str(aim.count),
              "met" if aim.met else f"missed by {aim.wanted - aim.found:.1f}"] for aim in found])


def table(shown: Shown) -> Table:
    """For the screen."""
    title, names, lines = shown
    out = Table(title=title, title_justify="left")
    for name in names:
        out.add_column(name, justify="right" if name else "left")
    for line in lines:
        out.add_row(*line)
    return out


def markdown(shown: Shown) -> str:
    """For a page in `docs/`."""
    title, names, lines = shown
    written = [f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *lines)]
    return f"{title}\n\n" + "\n".join(written) + "\n"


@command
def main(words: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m resonate.evaluate.separation", description=__doc__)
    parser.add_argument("weights", nargs="+", help="separator weights: files of train.py or demucs, or folders")
    parser.add_argument("--cache", required=True, type=Path, help="rendered folder (python -m data_recipes.render)")
    parser.add_argument("--split", default="test", help="train, valid, test or all (default: test)")
    parser.add_argument("--limit", type=int, default=0, help="at most so many captures, spread over the severities")
    parser.add_argument("--clean", action="store_true", help="separate the sum of the clean stems")
    parser.add_argument("--target", choices=("wet", "dry"), default="wet", help="references: captured or clean stems")
    parser.add_argument("--masks", type=float, nargs="+", default=[], metavar="EXPONENT",
                        help="also the recording shared out by the stems' magnitudes to this power; restoring takes 1")
    parser.add_argument("--aims", action="store_true",
                        help="two weights, before and after training on captures: also on the clean stems' sum, and "
                        "whether what is asked is met")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--markdown", type=Path, help="write the tables there")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves torch's choice")
    given = parser.parse_args(words)
    if given.threads:
        torch.set_num_threads(given.threads)
    models = {_short(name, given.weights): load_separator(find_weights(name)) for name in given.weights}
    if given.aims and (len(models) != 2 or given.clean or given.target == "dry"):
        raise UserError("--aims takes two weights, before and after, and neither --clean nor --target dry.")
    if not all(0 < exponent < 100 for exponent in given.masks):
        raise UserError("--masks takes exponents above 0 and below 100; restoring takes 1.")
    # Before the work, which what it reads in the shards could otherwise cost.
    begun = origin(words or sys.argv[1:], given.cache, given.split, given.limit) if given.markdown else ""
    found = compare(models, given.cache, given.split, given.limit, given.clean, given.target, given.masks)
    shown, figures = [rows(place, found[place]) for place in (*BINS, "all") if place in found], {**found}
    if given.aims:
        clean = compare(models, given.cache, given.split, given.limit, clean=True)
        shown += [rows("clean", clean["all"]), aim_rows(aims(found, clean, *models))]
        figures["clean"] = clean["all"]
    if given.json:
        write_json(given.json, figures)
    if given.markdown:
        write_text(given.markdown, "\n".join([begun, *map(markdown, shown)]))
    console = Console()
    for one in shown:
        console.print(table(one))
    return 0


def _short(name: str, names: list[str]) -> str:
    """The file's name alone, or with its folder's where two files have the same."""
    path = Path(name)
    alone = [other for other in names if Path(other).stem == path.stem]
    return path.stem if len(alone) == 1 else "/".join(path.with_suffix("").parts[-2:])


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    sys.exit(main())
