"""`python -m resonate.evaluate.listening`: a blind listening test of restorations, and what came of it.

  build RUN_FOLDER... -o FOLDER     FOLDER/listening.html, one file that works without network
  results FILE.json...              the saved answers of one or more listeners as tables

`build` asks by ABX whether the restored sound can be told from the recording (Clark 1982), and by a page after ITU-R
BS.1534-3 (MUSHRA) how good recording, revealed, restored, a low-passed anchor and, if given, a hidden reference sound.
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
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy import signal

from resonate import audio
from resonate.errors import UserError
from resonate.evaluate import alignment, answers, table
from resonate.evaluate.answers import FORMAT, PAIR, VERSIONS
from resonate.report import embed
from resonate.report.previews import loudness
from resonate.report.sounds import Sound, collect

#: The low-range anchor of BS.1534-3.
ANCHOR_HZ = 3500.0
RATE = 44100
BIT_RATE = 256_000
#: Excerpts are as loud as this, or softer where a peak would exceed PEAK (before the codec, which may add to it).
TARGET_LUFS, PEAK = -20.0, 0.7
#: The codec's change of loudness is undone to this, in at most so many attempts.
NEAR_LU, ROUNDS = 0.1, 4
FADE_SECONDS = 0.02

log = logging.getLogger(__name__)


def build(
    runs: Sequence[Path], out: Path, references: Sequence[Path] = (), *, seed: int = 0, trials: int = 12,
    excerpts: int = 2, seconds: float = 8.0,
) -> Path:  # fmt: skip
    """Write out/listening.html from result folders of infer.py; returns its path.

    Per run: `trials` ABX pages, and one page to rate for each of `excerpts` stretches of `seconds` s, the middles of
    equal parts of the recording. `references`: none, or one recording of the true sound per run, as long as the run
    and at most 0.1 s off. The same seed gives the same page. Raises UserError, before anything is written.
    """
    _check(runs, references, trials, excerpts, seconds)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder; choose another place.")
    rng = np.random.default_rng(seed)
    clips: list[dict[str, str]] = []
    abx: list[dict[str, Any]] = []
    rated: list[dict[str, Any]] = []
    labels = _labels(runs)
    for run, label, reference in zip(runs, labels, [*references] or [None] * len(runs), strict=True):
        groups = []
        for start, versions in _excerpts(run, reference, excerpts, seconds):
            numbers = {}
            for name, sound in _matched(versions, f"{run} from {start:.1f} s on").items():
                numbers[name] = len(clips)
                clips.append({"version": name, "sound": base64.b64encode(sound).decode("ascii")})
            groups.append((start, numbers))
        for trial in range(trials):
            start, numbers = groups[trial % len(groups)]
            first = int(rng.integers(2))
            # Each X is drawn for itself: only then are the right answers of a guesser binomial with p = 1/2.
            about = {"kind": "abx", "run": label, "at": start}
            a, b, x = (numbers[PAIR[n]] for n in (first, 1 - first, rng.integers(2)))
            abx.append({**about, "a": a, "b": b, "x": x})
        for start, numbers in groups:
            order = rng.permutation(list(numbers.values())).tolist()
            about = {"kind": "mushra", "run": label, "at": start}
            rated.append({**about, "clips": order, "reference": numbers.get("reference")})
        log.info("%s: %d excerpts", run, len(groups))
    pages = [part[n] for part in (abx, rated) for n in rng.permutation(len(part))]
    digest = hashlib.sha256(json.dumps([pages, clips]).encode()).hexdigest()[:12]
    data = {"format": FORMAT, "test": digest, "seed": seed, "pages": pages, "clips": clips}
    path = out / "listening.html"
    table.write_text(path, _page(f"Listening test: {', '.join(labels)}", data))
    return path


def _check(runs: Sequence[Path], references: Sequence[Path], trials: int, excerpts: int, seconds: float) -> None:
    if not 0 <= trials <= 200 or not 1 <= excerpts <= 20 or not 2.0 <= seconds <= 30.0:
        raise UserError(
            f"trials={trials}, excerpts={excerpts} and seconds={seconds} are too few or too many for a listener; "
            "take 0 to 200 trials, 1 to 20 excerpts and 2 to 30 seconds."
        )
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("The same result folder is given twice; give each once.")
    if references and len(references) != len(runs):
        raise UserError(f"{len(runs)} result folders but {len(references)} references; give one for each, in order.")


def _report(run: Path) -> dict[str, Any]:
    """What report.json of a run holds; {} where there is none."""
    path = run / "report.json"
    if not path.is_file():
        return {}
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON; restore the recording again.") from error
    if not isinstance(report, dict) or not all(isinstance(report.get(key, {}), dict) for key in ("input", "settings")):
        raise UserError(f"{path} is no report of infer.py; restore the recording again.")
    return report


def _labels(runs: Sequence[Path]) -> list[str]:
    """A name to show per run: its recording's, and its folder's where the recordings are called alike."""
    folders = [run.resolve().name for run in runs]
    reports = [_report(run).get("input", {}) for run in runs]
    names = [str(report.get("name") or folder) for report, folder in zip(reports, folders, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name} ({folder})" for name, folder in zip(names, folders, strict=True)]
    return [f"{name} [{n + 1}]" if names.count(name) > 1 else name for n, name in enumerate(names)]


def _seconds(path: Path) -> float:
    source = audio.probe(path)
    return source.expected / source.rate


def _read(sound: Sound, start: float, seconds: float) -> np.ndarray:
    return audio.resample(*sound.read(start, seconds), RATE)


def _excerpts(
    run: Path, reference: Path | None, count: int, seconds: float
) -> list[tuple[float, dict[str, np.ndarray]]]:
    """Per excerpt its start in s and (2, time) float32 at RATE by version, all of one length."""
    sounds = collect(run, _report(run))
    missing = [name for name in ("input", "revealed", "restored") if name not in sounds]
    if missing:
        raise UserError(f"{run} lacks {' and '.join(missing)}; restore with the ledger, which a listening test needs.")
    whole = _seconds(run / "master.wav")
    if whole < seconds:
        raise UserError(f"{run} holds {whole:.1f} s, less than an excerpt of {seconds:g} s; take shorter excerpts.")
    truth = None
    if reference is not None:
        truth = Sound("reference", "", "", (reference,))
        if abs(_seconds(reference) - whole) > 0.5:
            raise UserError(
                f"{reference} lasts {_seconds(reference):.1f} s and {run} {whole:.1f} s; "
                "cut the reference to the restored recording."
            )
    found = []
    for n in range(count):
        start = round(min(max(0.0, (n + 0.5) * whole / count - seconds / 2), whole - seconds), 3)
        versions = {name: _read(sounds[name], start, seconds) for name in ("restored", "revealed", "input")}
        if truth is not None:
            versions["reference"] = _in_step(truth, start, seconds, versions["restored"])
        versions["anchor"] = _low_passed(versions["input" if truth is None else "reference"])
        length = min(samples.shape[1] for samples in versions.values())
        if length < (seconds - 0.1) * RATE:
            raise UserError(f"A version of {run} ends before the others; restore the recording again.")
        found.append((start, {name: versions[name][:, :length] for name in VERSIONS if name in versions}))
    return found


def _in_step(truth: Sound, start: float, seconds: float, beside: np.ndarray) -> np.ndarray:
    """The reference's stretch that lies under `beside`, (2, time), at most MAX_LAG_SECONDS away from `start`."""
    reach = alignment.MAX_LAG_SECONDS
    begin = max(0.0, start - reach)
    around = _read(truth, begin, seconds + 2 * reach)
    at = round((start - begin) * RATE)
    # positive: the restored sound comes later than the reference, whose stretch then begins earlier
    at -= alignment.find_lag(beside, around[:, at : at + beside.shape[1]], RATE)
    length = beside.shape[1]
    padded = np.pad(around, ((0, 0), (max(0, -at), max(0, at + length - around.shape[1]))))
    return padded[:, max(0, at) : max(0, at) + length]


def _low_passed(samples: np.ndarray) -> np.ndarray:
    sections = signal.butter(10, ANCHOR_HZ, fs=RATE, output="sos")
    return signal.sosfiltfilt(sections, samples, axis=-1).astype(np.float32)


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


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Build a test or print results; 0, or 2 for a UserError."""
    parser = argparse.ArgumentParser(prog="python -m resonate.evaluate.listening", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", help="make the page", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    make.add_argument("runs", nargs="+", type=Path, metavar="RUN_FOLDER", help="result folder of infer.py")
    make.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="where listening.html goes")
    make.add_argument("--reference", action="append", default=[], type=Path, metavar="FILE",
                      help="the true sound of a run, in step with it; once per run, in order")  # fmt: skip
    make.add_argument("--seed", type=int, default=0, help="of the random order")
    make.add_argument("--trials", type=int, default=12, help="ABX pages per run")
    make.add_argument("--excerpts", type=int, default=2, help="excerpts per run, each rated on one page")
    make.add_argument("--seconds", type=float, default=8.0, help="length of an excerpt")
    show = commands.add_parser("results", help="print what came of it")
    show.add_argument("files", nargs="+", type=Path, metavar="FILE.json", help="answers that the page saved")
    given = parser.parse_args(arguments)
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, 160)  # a file or pipe has no width to keep to
    try:
        if given.command == "results":
            answers.show(given.files, console)
        else:
            if given.seed < 0:
                raise UserError(f"seed={given.seed} is negative; take 0 or more.")
            path = build(given.runs, given.out, given.reference, seed=given.seed, trials=given.trials,
                         excerpts=given.excerpts, seconds=given.seconds)  # fmt: skip
            console.print(f"  {path}: open it in a browser", highlight=False, markup=False, soft_wrap=True)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sys.exit(main())
