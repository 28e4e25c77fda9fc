"""How far the choice between mix and stems can be believed: ``python -m resonate.evaluate.choices --cache FOLDER``.

Stage `choose` of the chain estimates how much nearer to the music the stems' sum comes than the mix, without knowing
the music. On rendered captures the music is known: each is restored in both ways, and the estimate is held against the
difference in f_sdr that came of it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from resonate import RATE
from resonate.errors import UserError, command
from resonate.evaluate.alignment import align
from resonate.evaluate.measures import f_sdr
from resonate.evaluate.restorers import heard
from resonate.evaluate.separation import Shown, markdown, table
from resonate.evaluate.table import write_text
from resonate.models.weights import RESTORER, SEPARATOR
from resonate.restore.array import restored_from, work_through
from resonate.restore.choice import verdict
from resonate.restore.config import RestoreConfig
from resonate.restore.work import Models


@dataclass(frozen=True)
class Choice:
    """One capture: its name, by how many dB the stems were said to be nearer over everything and with octaves alike,
    the choice, and by how much they were in f_sdr."""

    name: str
    said: float
    octaves: float
    chosen: str
    true: float


def measure(config: RestoreConfig, cache: Path, split: str, limit: int = 0) -> list[Choice]:
    """The choices on the captures of a cache that have enough music in one piece to try both ways on.

    Raises UserError where the cache has no captures of the split, none has enough music, or weights cannot be used.
    """
    config = replace(config, choose=replace(config.choose, track="auto"))
    models, found = Models(config), []
    models.check()
    for case in heard(cache, split, limit, "Restoring both ways"):
        with work_through(case.capture, config, models, "choose") as (work, effects):
            tried, ways = effects["choose"]["tried"], {}
            if not tried:
                continue
            for way in ("mix", "stems"):
                made = sum(part.sum(0) for part in restored_from(way, work).values())
                ways[way] = f_sdr(*align(made, case.reference, RATE))
        said, octaves = (float(np.mean([t[f"{k}_stems"] - t[f"{k}_mix"] for t in tried])) for k in ("sdr", "octaves"))
        chosen = verdict(tried, config.choose.least_db)[0]
        found.append(Choice(case.name, said, octaves, chosen, ways["stems"] - ways["mix"]))
    if not found:
        raise UserError(f"No capture in {cache} has {2 * config.choose.seconds:g} s of music in one piece; render "
                        "longer ones, or take a shorter --seconds.")
    return found


def rows(found: list[Choice]) -> Shown:
    """A line per capture, by what was said."""
    lines = [[c.name, f"{c.said:+.1f}", f"{c.octaves:+.1f}", c.chosen, f"{c.true:+.1f}"]
             for c in sorted(found, key=lambda c: c.said)]
    wrong = sum((c.chosen == "stems") != (c.true > 0) for c in found)
    lost = float(np.mean([max(0.0, c.true) if c.chosen == "mix" else max(0.0, -c.true) for c in found]))
    title = f"{len(found)} captures; the other way was nearer on {wrong}, {lost:.2f} dB of f_sdr lost on average"
    return title, ["", "stems said nearer, dB", "octaves alike", "chosen", "nearer by f_sdr, dB"], lines


@command
def main(words: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m resonate.evaluate.choices", description=__doc__)
    parser.add_argument("--cache", required=True, type=Path, help="rendered folder (python -m data_recipes.render)")
    parser.add_argument("--split", default="valid", choices=("train", "valid", "test"))
    parser.add_argument("--limit", type=int, default=0, help="at most so many captures, spread over the severities")
    parser.add_argument("--mode", default="extend", choices=("reveal", "extend"))
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a stretch on which both ways are tried")
    parser.add_argument("--separator", default=str(SEPARATOR), help="separator weights (default: the repo's)")
    parser.add_argument("--restorer", default=str(RESTORER), help="restorer weights (default: the repo's)")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    config = RestoreConfig(mode=given.mode, separator=given.separator, restorer=given.restorer, device="cpu")
    config = replace(config, choose=replace(config.choose, seconds=given.seconds))
    shown = rows(measure(config, given.cache, given.split, given.limit))
    if given.markdown:
        write_text(given.markdown, markdown(shown))
    Console().print(table(shown))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    sys.exit(main())
