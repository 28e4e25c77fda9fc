"""What the limits of the faithfulness checks let pass and what they catch: ``python -m resonate.evaluate.limits``.

On rendered captures three kinds of output are checked: the music as captured, without crowd (an ideal separation,
which must pass), what the restorer makes of the capture in either mode (which should), and the clean mix of another
capture (which should not). What the restorer adds outside the captured band is checked by its onsets and its silence
alone, as in restoring, beside what it adds to another capture. `resonate.faithfulness.Limits` is set by this table
of the validation split.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from resonate import faithfulness
from resonate.errors import command
from resonate.evaluate.restorers import heard, opinion, restore
from resonate.evaluate.separation import Shown, markdown, table
from resonate.evaluate.table import write_text
from resonate.models.restorer import Restorer
from resonate.models.stats import measure_stats
from resonate.models.weights import RESTORER, SEPARATOR, load_restorer

SHOWN = (*faithfulness.AGREEMENTS, "support", "excess_db")
OTHER = "other music"
ADDED, OTHER_ADDED = "extension", "another's extension"


def _both(sound: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes of (2, T) and those given, as many frames of each."""
    made = faithfulness.magnitudes(sound)
    frames = min(made.shape[1], given.shape[1])
    return made[:, :frames], given[:, :frames]


def measure(model: Restorer, cache: Path, split: str, limit: int = 0, separator: Path = SEPARATOR
            ) -> dict[str, list[tuple[dict, list[str]]]]:
    """Figures and names of those beyond the limits, per kind of output and capture.

    Raises UserError where the cache has no captures of the split or they cannot be read.
    """
    found: dict[str, list[tuple[dict, list[str]]]] = {}
    last = before = None
    for case in heard(cache, split, limit, "Checking"):
        stats, given = measure_stats(case.capture), faithfulness.magnitudes(case.capture)
        music = opinion([model], case.capture, separator)
        restored, extension = restore(model, case.capture, stats, music)
        for kind, sound in {"captured music": case.wet, **restored, OTHER: last}.items():
            if sound is not None:
                checked = faithfulness.check(*_both(sound, given), stats.floor_db, stats.in_band)
                found.setdefault(kind, []).append(checked)
        for kind, sound in ((ADDED, extension), (OTHER_ADDED, before)):
            if sound is not None:
                found.setdefault(kind, []).append(faithfulness.check_extension(*_both(sound, given)))
        last, before = case.reference, extension
    return found


def rows(found: dict[str, list[tuple[dict, list[str]]]]) -> Shown:
    """Of each kind the share that fails, and of each figure the worst, the worst twentieth and the median."""
    lines = []
    for kind, checked in found.items():
        cells = []
        for name in SHOWN:
            values = np.array([figures[name] for figures, _ in checked if name in figures])
            if not values.size:
                cells.append("")
                continue
            worst, tail = (0, 5) if name in faithfulness.AGREEMENTS else (100, 95)
            cells.append(" / ".join(f"{np.percentile(values, q):.2f}" for q in (worst, tail, 50)))
        lines.append([kind, f"{sum(bool(failed) for _, failed in checked)} of {len(checked)}", *cells])
    return "Checks of faithfulness: worst / worst twentieth / median", ["", "fail", *SHOWN], lines


@command
def main(words: list[str] | None = None) -> int:
    """The command line. Exit status 0, or 2 with one line on standard error for what the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m resonate.evaluate.limits", description=__doc__)
    parser.add_argument("weights", nargs="?", default=str(RESTORER), help="restorer weights (default: the repo's)")
    parser.add_argument("--cache", required=True, type=Path, help="rendered folder (python -m data_recipes.render)")
    parser.add_argument("--split", default="valid", choices=("train", "valid", "test"))
    parser.add_argument("--limit", type=int, default=0, help="at most so many captures, spread over the severities")
    parser.add_argument("--separator", type=Path, default=SEPARATOR,
                        help="weights of the separator that a restorer may hear (default: the repo's)")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    shown = rows(measure(load_restorer(given.weights), given.cache, given.split, given.limit, given.separator))
    if given.markdown:
        write_text(given.markdown, markdown(shown))
    Console().print(table(shown))
    return 0


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    sys.exit(main())
