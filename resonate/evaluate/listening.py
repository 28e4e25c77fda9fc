"""`python -m resonate.evaluate.listening`: a blind listening test of restorations, and what came of it.

  build RUN_FOLDER... -o FOLDER         FOLDER/listening.html, one file that works without network
  build EVALUATION.json -o FOLDER       the same of recordings and systems that python -m resonate.evaluate scored
  results FILE.json...                  the saved answers of one or more listeners as tables

`build` asks by ABX whether the restored sound can be told from the recording (Clark 1982), and by a page after ITU-R
BS.1534-3 (MUSHRA) how good recording, restorations, a low-passed anchor and, if there is one, a hidden reference sound.
All versions of an excerpt are equally loud (ITU-R BS.1770-4) and in step.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import logging
import math
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from resonate import RATE, audio
from resonate.errors import UserError, command
from resonate.evaluate import answers, table
from resonate.evaluate.answers import FORMAT
from resonate.evaluate.listening_material import (
    RECORDINGS,
    Material,
    is_evaluation,
    of_evaluation,
    of_run,
    run_labels,
)
from resonate.report import embed
from resonate.report.previews import loudness

BIT_RATE = 256_000
#: Excerpts are as loud as this, or softer where a peak would exceed PEAK (before the codec, which may add to it).
TARGET_LUFS, PEAK = -20.0, 0.7
#: The codec's change of loudness is undone to this, in at most so many attempts.
NEAR_LU, ROUNDS = 0.1, 4
FADE_SECONDS = 0.02

log = logging.getLogger(__name__)


def build(
    sources: Sequence[Path], out: Path, references: Sequence[Path] = (), *, seed: int = 0, trials: int = 12,
    excerpts: int = 2, seconds: float = 8.0, systems: Sequence[str] = (), recordings: int = RECORDINGS,
) -> Path:  # fmt: skip
    """Write out/listening.html from result folders of infer.py, or the JSON of evaluations; returns its path.

    Per recording: `trials` ABX pages, and one page to rate for each of `excerpts` stretches of `seconds` s, the middles
    of equal parts of the recording. `references`: none, or one recording of the true sound per result folder, as long
    as it and at most 0.1 s off. Of an evaluation `recordings` are taken, and `systems` (its own, where none is named)
    are heard. The same seed gives the same page. Raises UserError, before anything is written.
    """
    _check(sources, references, trials, excerpts, seconds, recordings)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder; choose another place.")
    rng = np.random.default_rng(seed)
    clips: list[dict[str, str]] = []
    abx: list[dict[str, Any]] = []
    rated: list[dict[str, Any]] = []
    labels: list[str] = []
    for found in _materials(sources, references, systems, recordings, excerpts, seconds):
        labels.append(f"{found.label} [{len(labels) + 1}]" if found.label in labels else found.label)
        groups = []
        for start, versions in found.excerpts:
            numbers = {}
            for name, sound in _matched(versions, f"{labels[-1]} from {start:.1f} s on").items():
                numbers[name] = len(clips)
                clips.append({"version": name, "sound": base64.b64encode(sound).decode("ascii")})
            groups.append((start, numbers))
        for trial in range(trials):
            start, numbers = groups[trial % len(groups)]
            first = int(rng.integers(2))
            # Each X is drawn for itself: only then are the right answers of a guesser binomial with p = 1/2.
            about = {"kind": "abx", "run": labels[-1], "at": start}
            a, b, x = (numbers[found.pair[n]] for n in (first, 1 - first, rng.integers(2)))
            abx.append({**about, "a": a, "b": b, "x": x})
        for start, numbers in groups:
            order = rng.permutation(list(numbers.values())).tolist()
            about = {"kind": "mushra", "run": labels[-1], "at": start}
            rated.append({**about, "clips": order, "reference": numbers.get("reference")})
        log.info("%s: %d excerpts", labels[-1], len(groups))
    pages = [part[n] for part in (abx, rated) for n in rng.permutation(len(part))]
    digest = hashlib.sha256(json.dumps([pages, clips]).encode()).hexdigest()[:12]
    data = {"format": FORMAT, "test": digest, "seed": seed, "pages": pages, "clips": clips}
    path = out / "listening.html"
    table.write_text(path, _page(f"Listening test: {', '.join(labels)}", data))
    return path


def _materials(
    sources: Sequence[Path], references: Sequence[Path], systems: Sequence[str], recordings: int, excerpts: int,
    seconds: float,
) -> Iterator[Material]:  # fmt: skip
    runs = [source for source in sources if not is_evaluation(source)]
    named = iter(zip(run_labels(runs), [*references] or [None] * len(runs), strict=True))
    for source in sources:
        if is_evaluation(source):
            yield from of_evaluation(source, systems, recordings, excerpts, seconds)
        else:
            label, reference = next(named)
            yield of_run(source, label, reference, excerpts, seconds)


def _check(
    sources: Sequence[Path], references: Sequence[Path], trials: int, excerpts: int, seconds: float, recordings: int
) -> None:
    if not 0 <= trials <= 200 or not 1 <= excerpts <= 20 or not 2.0 <= seconds <= 30.0 or not 1 <= recordings <= 50:
        raise UserError(
            f"trials={trials}, excerpts={excerpts}, seconds={seconds} and recordings={recordings} are too few or too "
            "many for a listener; take 0 to 200 trials, 1 to 20 excerpts, 2 to 30 seconds and 1 to 50 recordings."
        )
    if len({source.resolve() for source in sources}) < len(sources):
        raise UserError("The same result is given twice; give each once.")
    runs = sum(not is_evaluation(source) for source in sources)
    if references and len(references) != runs:
        raise UserError(f"{runs} result folders but {len(references)} references; give one for each, in order.")


def _matched(versions: Mapping[str, np.ndarray], where: str) -> dict[str, bytes]:
    """AAC files of one loudness: TARGET_LUFS, or as much as the highest peak allows, with short fades at the ends."""
    levels = {name: loudness(samples, RATE) for name, samples in versions.items()}
    silent = [name for name, value in levels.items() if not math.isfinite(value)]
    if silent:
        raise UserError(f"{where}: {' and '.join(silent)} silent; take another number of excerpts, or longer ones.")
    room = [levels[name] + 20.0 * math.log10(PEAK / np.abs(samples).max()) for name, samples in versions.items()]
    return {name: _encoded(samples, min(TARGET_LUFS, *room)) for name, samples in versions.items()}


def _encoded(samples: np.ndarray, target: float) -> bytes:
    """AAC of (2, time) samples, `target` LUFS loud once decoded: the codec drops part of what is noise-like."""
    ramp = np.minimum(1.0, np.arange(samples.shape[1], dtype=np.float32) / (FADE_SECONDS * RATE))
    samples = samples * ramp * ramp[::-1]
    gain_db = target - loudness(samples, RATE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.m4a"
        for _ in range(ROUNDS):
            audio.encode(path, samples * np.float32(10.0 ** (gain_db / 20.0)), RATE, "aac", BIT_RATE)
            apart = target - loudness(audio.read(path).samples, RATE)
            if abs(apart) <= NEAR_LU:
                break
            gain_db += apart
        return path.read_bytes()


def _page(title: str, data: Mapping[str, Any]) -> str:
    parts = {"TITLE": escape(title), "STYLE": embed.asset("page.css"), "DATA": embed.script_json(data)}
    # in one pass, as a name may look like a placeholder
    return re.sub("@(TITLE|STYLE|DATA)@", lambda m: parts[m[1]], embed.asset("listening.html"))


@command
def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Build a test or print results; 0, or 2 for a UserError."""
    parser = argparse.ArgumentParser(prog="python -m resonate.evaluate.listening", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", help="make the page", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    make.add_argument("sources", nargs="+", type=Path, metavar="SOURCE",
                      help="result folder of infer.py, or the JSON of an evaluation")  # fmt: skip
    make.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="where listening.html goes")
    make.add_argument("--reference", action="append", default=[], type=Path, metavar="FILE",
                      help="the true sound of a run, in step with it; once per run, in order")  # fmt: skip
    make.add_argument("--seed", type=int, default=0, help="of the random order")
    make.add_argument("--trials", type=int, default=12, help="ABX pages per recording")
    make.add_argument("--excerpts", type=int, default=2, help="excerpts per recording, each rated on one page")
    make.add_argument("--seconds", type=float, default=8.0, help="length of an excerpt")
    make.add_argument("--systems", default="", metavar="NAME,NAME", help="of an evaluation: what is heard beside the "
                      "recording (default: the system that it is about)")  # fmt: skip
    make.add_argument("--recordings", type=int, default=RECORDINGS, help="of an evaluation: how many are heard")
    show = commands.add_parser("results", help="print what came of it")
    show.add_argument("files", nargs="+", type=Path, metavar="FILE.json", help="answers that the page saved")
    given = parser.parse_args(arguments)
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, 160)  # a file or pipe has no width to keep to
    if given.command == "results":
        answers.show(given.files, console)
    else:
        if given.seed < 0:
            raise UserError(f"seed={given.seed} is negative; take 0 or more.")
        systems = [name.strip() for name in given.systems.split(",") if name.strip()]
        path = build(given.sources, given.out, given.reference, seed=given.seed, trials=given.trials,
                     excerpts=given.excerpts, seconds=given.seconds, systems=systems,
                     recordings=given.recordings)  # fmt: skip
        console.print(f"  {path}: open it in a browser", highlight=False, markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sys.exit(main())
