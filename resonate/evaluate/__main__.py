"""`python -m resonate.evaluate`: score restorations beside everything a user could pick instead.

  python -m resonate.evaluate                              the bundled recording
  python -m resonate.evaluate suite=captures workers=2     simulated captures, made on the fly, by severity
  python -m resonate.evaluate cache=FOLDER split=test      the same from a rendered test set
  python -m resonate.evaluate suite=stages                 our presets, and the default one with each stage off
  python -m resonate.evaluate suite=clean                  do no harm: studio tracks
  python -m resonate.evaluate suite=bandlimited            the extension against the truth
  python -m resonate.evaluate suite=crowd_only             nothing invented; also suite=silence
  python -m resonate.evaluate pairs=FOLDER                 FOLDER/captures/NAME.* against FOLDER/references/NAME.*
  python -m resonate.evaluate recordings=FOLDER            recordings without a reference

  systems=gate,noisereduce,"resonate extend -restore"      which systems; the input is always there. Groups: rivals,
                                                           presets, stages (ours with each stage off)
  system.command="tool {input} {output}"                   a program of yours beside them; no shell is involved
  json=FILE                                                where the figures go; CSV, page and pictures lie beside it

A run that was stopped goes on with the same command. All other settings, as name=value, with their defaults:
resonate/evaluate/settings.py and configs/evaluate/.
"""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from resonate import __version__
from resonate.audio import sha256
from resonate.errors import UserError, command
from resonate.evaluate import extras, ours, page, settings, success, suites, table, tracking
from resonate.evaluate.results import Results
from resonate.evaluate.run import EXTRA_SUITES, find_focus, score_all
from resonate.evaluate.settings import EvaluateConfig
from resonate.evaluate.store import Store

#: Columns that the whole table takes.
WIDE = 270
#: Suites for which the mission's criteria mean something.
ASSESSED = ("captures",)

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig, command: str = "") -> tuple[Results, dict[str, Any]]:
    """Score a suite, write JSON, CSV and page; returns the results and what the JSON holds.

    Each result is kept as soon as it is there: the same call goes on after a kill. In the JSON, `seconds` is the wall
    time of this call, `spent` the core seconds behind all its rows, `reused` how many of these were made before.

    Raises UserError where a setting, file, system or program is not there, before anything is scored.
    """
    begun, focus, chosen = time.perf_counter(), find_focus(config), extras.choose(config.extras)
    if config.wandb:
        tracking.check()
    items, path = suites.items(config), Path(config.json)
    if not items:
        raise UserError(f"suite={config.suite} has no recordings; give it some.")
    table.check_place(path)
    store = Store(Path(config.store) if config.store is not None else path.parent / "scores")
    rows, left_out, panels, reused, spent = [], {}, {}, 0, 0.0
    scores = score_all(items, config, focus, store)
    progress = track(scores, "Scoring", total=len(items), console=Console(stderr=True), transient=True)
    for item, scored in zip(items, progress, strict=True):
        rows += scored.rows
        left_out |= scored.left_out
        panels[item.name] = scored.panels
        reused, spent = reused + scored.reused, spent + scored.spent
    if config.suite in EXTRA_SUITES:
        left_out |= {} if config.extras is not None else extras.missing()
    results = Results(config.suite, rows, config.resamples, config.seed)
    judged = success.assess(results, focus) if config.suite in ASSESSED else None
    order = page.order_of(results, focus, panels, config.pictures, judged)
    for entry in judged or ():
        for found in entry["worst"]:
            found["picture"] = page.picture_of(path, found["recording"]) if found["recording"] in order else None
    facts: dict[str, Any] = {
        "resonate": __version__,
        "suite": config.suite,
        "command": command,
        "commit": _commit(),
        "seed": config.seed,
        "seconds": round(time.perf_counter() - begun, 1),
        "spent": round(spent, 1),
        "reused": reused,
        "workers": config.workers,
        "focus": focus,
        "weights": {name: sha256(file) for name, file in ours.weights(config.separator, config.restorer).items()},
        "extras": list(chosen),
        "settings": asdict(config),
        "left_out": left_out,
        "success": judged,
    }
    table.write_json(path, {**facts, **results.as_dict()})
    table.write_text(path.with_suffix(".csv"), results.csv())
    page.build(path.with_suffix(".html"), facts, results, focus, panels, order)
    if config.wandb:
        tracking.log(config, results, facts, path.parent)
    return results, facts


def _commit() -> str | None:
    """The commit of the code that ran, with a + where it had been changed; None outside a repository."""
    root = Path(__file__).resolve().parents[2]
    try:
        words = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _success(entries: list[dict[str, Any]], focus: str) -> Table:
    built = Table(title=f"What is asked of {focus}", title_justify="left")
    for head in ("criterion", "asked", "found (95 % interval)", "", "worst"):
        built.add_column(head)
    for entry in entries:
        met = "[green]met[/green]" if entry["met"] else "[red]missed[/red]"
        worst = ", ".join(w["recording"] for w in entry["worst"])
        built.add_row(entry["name"], entry["asks"], success.told(entry), met, worst)
    return built


@command
def main(arguments: list[str] | None = None, console: Console | None = None) -> int:
    """Score, print the tables and where the files are."""
    words = sys.argv[1:] if arguments is None else arguments
    console = console or Console()
    if any(word in ("-h", "--help", "help") for word in words):
        console.print(__doc__, highlight=False, markup=False)
        return 0
    if not console.is_terminal:
        console.width = max(console.width, WIDE)  # a file or pipe has no width to keep to
    config = settings.read(words)
    results, facts = evaluate(config, shlex.join(["python", "-m", "resonate.evaluate", *words]))
    for printed in results.tables():
        console.print(printed)
    if facts["success"]:
        console.print(_success(facts["success"], facts["focus"]))
    for system, reason in facts["left_out"].items():
        console.print(f"  left out: {system} ({reason})", highlight=False, markup=False)
    console.print(table.legend(results.columns()), highlight=False, markup=False)
    path = Path(config.json)
    files = ", ".join(str(path.with_suffix(suffix)) for suffix in (path.suffix, ".csv", ".html"))
    again = f" ({facts['reused']} results from an earlier run)" if facts["reused"] else ""
    console.print(f"  {facts['seconds']} s{again}; figures: {files}", highlight=False, markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sys.exit(main())
