"""The page docs/results/README.md: every suite's whole table, and for each of the mission's criteria the recordings in
which it falls shortest, with their pictures and what a listener wrote about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from resonate.errors import UserError
from resonate.evaluate import success
from resonate.evaluate.catalogue import MEASURES
from resonate.evaluate.page import picture_of
from resonate.evaluate.results import Results
from resonate.evaluate.run import Row

#: Where results and notes lie, in the repository.
FOLDER = Path("docs") / "results"
NOTES = "notes.yaml"
Result = Mapping[str, Any]


def read_notes(root: Path, result: Result) -> dict[str, dict[str, str]]:
    """Criterion -> recording -> what was seen and heard there, and what would mend it.

    The file holds `weights` (as in the results) beside `notes`: about other weights, they say nothing about these
    results, and none are returned. UserError for a file of another kind.
    """
    path = root / FOLDER / NOTES
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        weights, notes = content["weights"], content["notes"]
        if not all(isinstance(text, str) for found in notes.values() for text in found.values()):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{path} must hold weights and notes, by criterion and recording; see its folder.") from error
    return notes if weights == result["weights"] else {}


def _read(result: Result) -> Results:
    rows = [Row(**{**row, "values": {k: v for k, v in row["values"].items() if v is not None}})
            for row in result["rows"]]  # fmt: skip
    settings = result["settings"]
    return Results(result["suite"], rows, settings["resamples"], settings["seed"])


def assess(result: Result) -> list[dict[str, Any]]:
    """The success table, from the rows."""
    return success.assess(_read(result), result["focus"])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _number(name: str, value: float | None) -> str:
    if name in MEASURES:
        return MEASURES[name].told(value)
    return "-" if value is None else f"{value:.1f}"


def _worst(root: Path, suite: str, entry: Mapping[str, Any], notes: Mapping[str, str]) -> list[str]:
    measure = MEASURES[entry["measure"]]
    lines = [f"| recording | {entry['measure']}, change | song, severity, verdict | before → after | "
             "what goes wrong, and what would mend it |", "|---" * 5 + "|"]  # fmt: skip
    for found in entry["worst"]:
        name = found["recording"]
        picture = picture_of(Path(f"{suite}.html"), name)
        shown = f"[{_cell(name)}]({quote(picture)})" if (root / FOLDER / picture).is_file() else _cell(name)
        severity = "" if found["severity"] is None else f", {found['severity']:.2f}"
        beside = "; ".join(f"{key} {_number(key, a)} → {_number(key, b)}" for key, (a, b) in found["beside"].items())
        about = f"{_cell(found['song'])}{severity}, {found['verdict']}"
        change = f"{found['figure']:+.{measure.digits}f} {measure.unit}".strip()
        lines.append(f"| {shown} | {change} | {about} | {beside} | {_cell(notes.get(name, 'not looked at yet'))} |")
    return lines


def criteria(root: Path, result: Result) -> list[str]:
    """Markdown of the six criteria, each with its worst recordings."""
    lines, notes = [f"## What is asked of `{result['focus']}`"], read_notes(root, result)
    for entry in assess(result):
        told = "met" if entry["met"] else "missed"
        lines += ["", f"### {entry['name']}: {told}", "", f"Asked: {entry['asks']}. Found: {success.told(entry)}.", ""]
        lines += _worst(root, result["suite"], entry, notes.get(entry["name"], {}))
    return lines


def goals(result: Result) -> list[str]:
    """Markdown of what is asked of each mode, measure by measure, and by how much it is missed."""
    lines = ["## What is asked of each mode", "",
             "Changes against the recording; the last columns tell how many recordings reach by themselves what is "
             "asked, and which is furthest from it.", "",
             "| system | measure | asked | found (95 % interval) | | reached by | furthest |",
             "|---" * 7 + "|"]  # fmt: skip
    for entry in success.goals(_read(result)):
        measure = MEASURES[entry["measure"]]
        asked = f"{entry['target']:+.{measure.digits}f} {measure.unit}{' on each' if entry['each'] else ''}"
        missed = f"missed by {entry['short']:.{measure.digits}f} {measure.unit}" if entry["short"] else "met"
        lines.append(f"| {entry['system']} | {entry['measure']} | {asked} | {success.told(entry)} | {missed} | "
                     f"{entry['reached']} of {entry['n']} | {_cell(entry['worst'])} |")  # fmt: skip
    return lines


def systems_table(
    result: Result, groups: Sequence[str], columns: Sequence[str], systems: Sequence[str], seconds: bool = False
) -> list[str]:
    """Markdown: a line per group and system, with the core seconds per recording where asked for. A system that was not
    judged on all recordings says on how many: its means are not those of the lines beside it."""
    lines = ["| recordings | system | " + " | ".join(f"{c} {MEASURES[c].arrow}" for c in columns) + " | verdicts |"
             + " core s |" * seconds, "|---" * (len(columns) + 3 + seconds) + "|"]  # fmt: skip
    for group in groups:
        content = result["groups"][group]
        for system in systems:
            if system in content["mean"]:
                cells = [MEASURES[c].told(content["mean"][system].get(c)) for c in columns]
                took = content["seconds"].get(system, 0.0) if seconds else 0.0
                judged = {row["recording"] for row in result["rows"]
                          if row["system"] == system and group in ("all", row["group"])}  # fmt: skip
                of = f"{len(judged)} of " if len(judged) < content["recordings"] else ""
                line = (f"{group} ({of}{content['recordings']})", system, *cells, content["verdicts"].get(system, ""),
                        *([f"{took:.1f}"] if seconds else []))  # fmt: skip
                lines.append(f"| {' | '.join(line)} |")
    return lines


def page(root: Path, results: Mapping[str, Result], sources: Mapping[str, str]) -> str:
    """The block of docs/results/README.md; `sources` tells of each suite how its figures were made."""
    captures = results.get("captures")
    lines = [*criteria(root, captures), "", *goals(captures)] if captures else []
    for suite, result in sorted(results.items()):
        columns = [name for name in MEASURES if any(name in v for v in result["groups"]["all"]["mean"].values())]
        page_there = (root / FOLDER / f"{suite}.html").is_file()
        systems = list(result["groups"]["all"]["mean"])
        timed = "seconds" in result["groups"]["all"]
        table = systems_table(result, list(result["groups"]), columns, systems, timed)
        left = [f"{system} ({_cell(str(reason))})" for system, reason in result["left_out"].items()]
        files = f"Page with pictures: [{suite}.html]({suite}.html). " if page_there else ""
        lines += ["", f"## Suite {suite}", "", f"{files}{sources[suite]}.", "", *table]
        lines += ["", f"Left out: {'; '.join(left)}."] if left else []
    return "\n".join(lines).strip() + "\n"
