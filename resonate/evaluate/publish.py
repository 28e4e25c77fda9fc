"""`python -m resonate.evaluate.publish docs/results/*.json`: write the figures where people read them.

README.md, docs/results/README.md, the model cards in resonate/weights/ and docs/measures.md each hold a pair of marker
comments; what lies between them is replaced by tables made from the JSON files, so that no figure is typed by hand.
`--check` writes nothing and fails where a file differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resonate.errors import UserError, command
from resonate.evaluate import catalogue, success, table, worst
from resonate.evaluate.catalogue import CHANGES, MEASURES
from resonate.evaluate.judges import CAPTURED_DB

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ("<!-- results:begin -->", "<!-- results:end -->")
TABLE = ("<!-- measures:begin -->", "<!-- measures:end -->")
#: What README's table shows; the cards show all.
SHORT = (
    "f_sdr", "lsd", "lsd_low", "lsd_high", "gap_db", "noise_attenuation", "music_distortion", "musical_noise",
    "vocals_estoi",
)  # fmt: skip
STEMS = ("stems_si_sdr", "stems_sdr", "vocals_estoi")
Result = Mapping[str, Any]


def load(paths: Sequence[Path]) -> dict[str, Result]:
    """Suite -> what its JSON holds. UserError for a file of another kind, or a suite given twice."""
    found: dict[str, Result] = {}
    for path in paths:
        try:
            content = json.loads(path.read_text("utf-8"))
            suite, _ = content["suite"], content["groups"]["all"]["mean"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} holds no results of python -m resonate.evaluate; make it again.") from error
        if suite in found:
            raise UserError(f"{path}: results of the suite {suite} are given twice; name one file for each.")
        found[suite] = content
    return found


def _present(result: Result, names: Sequence[str]) -> list[str]:
    means = result["groups"]["all"]["mean"].values()
    return [name for name in names if any(name in values for values in means)]


def _success_table(result: Result) -> list[str]:
    lines = [f"What is asked of `{result['focus']}`:", "", "| criterion | asked | found (95 % interval) | |",
             "|---|---|---|---|"]  # fmt: skip
    for entry in result["success"]:
        met = "met" if entry["met"] else "missed"
        lines.append(f"| {entry['name']} | {entry['asks']} | {success.told(entry)} | {met} |")
    last = result["success"][-1]
    verdict = f"The joint verdict is `better` on {last['better']} of {last['recordings']} recordings."
    more = "Every table, and the worst recordings with their pictures: [docs/results](docs/results/README.md)."
    return [*lines, "", f"{verdict} {more}"]


def _counted(result: Result) -> str:
    everything = result["groups"]["all"]
    count, songs = everything["recordings"], len(everything["songs"])
    return f"{count} recording{'s' * (count != 1)} of {songs} song{'s' * (songs != 1)}"


def _source(result: Result) -> str:
    what = f"{_counted(result)}, seed {result['seed']}"
    # What an earlier, killed run had scored is in the work, but not in this run's time.
    time = f"{result['seconds']:.0f} s" if not result.get("reused") else f"{result['spent'] / 60:.0f} core minutes"
    return f"`{result['command']}` ({what}, {time}, Resonate {result['resonate']})"


def _one_line(suite: str, result: Result) -> str:
    """A suite without a table of its own: the focus system's figures and verdicts."""
    system, everything = result["focus"], result["groups"]["all"]
    values, before = everything["mean"].get(system, {}), everything["mean"]["input"]
    told = []
    for name in [n for n in values if n in SHORT] or list(values):
        text = f"{name} {MEASURES[name].told(values[name])} {MEASURES[name].unit}".strip()
        changed = name not in CHANGES and name in before and before[name] is not None
        told.append(f"{text} (recording itself: {MEASURES[name].told(before[name])})" if changed else text)
    # Decibels far beyond what is asked would hide in their mean the tracks that were changed.
    ours = [row for row in result["rows"] if row["system"] == system]
    if suite == "clean":
        value, name = min((row["values"]["f_sdr"], row["recording"]) for row in ours)
        told.append(f"lowest f_sdr {value:.1f} dB ({name})")
    if suite == "bandlimited":
        value, name = max((row["values"]["captured_change"], row["recording"]) for row in ours)
        kept = sum(row["values"]["captured_change"] <= CAPTURED_DB for row in ours)
        told.append(f"largest captured_change {value:.1f} dB ({name}), {kept} of {len(ours)} at most {CAPTURED_DB:g}")
    verdicts = everything["verdicts"].get(system, "")
    return f"- **{suite}**, {system} ({_counted(result)}): {', '.join(told)}{'; ' + verdicts if verdicts else ''}."


def readme(results: Mapping[str, Result]) -> str:
    """The README's block: captures as tables, each other suite in a line."""
    lines: list[str] = []
    if "captures" in results:
        captures = results["captures"]
        systems = list(captures["groups"]["all"]["mean"])
        lines += [f"Simulated captures, means: {_source(captures)}.", ""]
        lines += worst.systems_table(captures, ["all"], _present(captures, SHORT), systems)
        lines += ["", *_success_table(captures)]
    others = [_one_line(suite, result) for suite, result in sorted(results.items()) if suite != "captures"]
    if others:
        told = "The other suites, means; every system, with commands and times: [docs/results](docs/results/README.md)."
        others = [*([""] if lines else []), told, "", *others]
    return "\n".join([*lines, *others]) + "\n"


def card(results: Mapping[str, Result], columns: Sequence[str]) -> str:
    """A card's block: this project's systems and the bare recording, by severity, in `columns`."""
    if "captures" not in results:
        return "No scorecard has been run on these weights.\n"
    captures = results["captures"]
    shown = _present(captures, columns)
    systems = [s for s in captures["groups"]["all"]["mean"] if s in ("input", "demucs") or s.startswith("resonate")]
    lines = [f"{_source(captures)}.", "", *worst.systems_table(captures, list(captures["groups"]), shown, systems)]
    used = [f"`{name}` {digest[:12]}" for name, digest in sorted(captures["weights"].items())]
    return "\n".join([*lines, "", f"Weights (SHA-256): {', '.join(used)}."]) + "\n"


def replace_block(text: str, markers: tuple[str, str], block: str, name: str) -> str:
    """`text` with what lies between the markers replaced. UserError where they are not there once, in order."""
    begin, end = markers
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError(f"{name} must hold the line {begin} and, after it, {end}, once each.")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{block}{end}{rest.split(end)[1]}"


def pages(root: Path, results: Mapping[str, Result]) -> dict[Path, str]:
    """Path -> the text it should have. Without results only docs/measures.md is made."""
    blocks: dict[str, tuple[tuple[str, str], str]] = {"docs/measures.md": (TABLE, catalogue.markdown())}
    if results:
        restorer = [name for name in MEASURES if name not in STEMS]
        sources = {suite: _source(result) for suite, result in results.items()}
        blocks |= {
            "README.md": (RESULTS, readme(results)),
            (worst.FOLDER / "README.md").as_posix(): (RESULTS, worst.page(root, results, sources)),
            "resonate/weights/restorer.md": (RESULTS, card(results, restorer)),
            "resonate/weights/separator.md": (RESULTS, card(results, STEMS)),
        }
    made = {}
    for name, (markers, block) in blocks.items():
        try:
            text = (root / name).read_text("utf-8")
        except OSError as error:
            raise UserError(f"{root / name} cannot be read ({error.strerror}).") from error
        made[root / name] = replace_block(text, markers, block, name)
    return made


@command
def main(arguments: list[str] | None = None) -> int:
    """Write or check; 0, 1 where a check fails, 2 for a UserError."""
    parser = argparse.ArgumentParser(prog="python -m resonate.evaluate.publish", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("results", nargs="*", type=Path, help="JSON files of python -m resonate.evaluate")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: this one)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    options = parser.parse_args(arguments)
    made = pages(options.root, load(options.results))
    differ = [path for path, text in made.items() if path.read_text("utf-8") != text]
    for path in () if options.check else differ:
        table.write_text(path, made[path])
    for path in differ:
        sys.stdout.write(f"{'differs' if options.check else 'written'}: {path}\n")
    return 1 if options.check and differ else 0


if __name__ == "__main__":
    sys.exit(main())
