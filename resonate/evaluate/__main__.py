"""`python -m resonate.evaluate`: score restorations beside rivals.

  python -m resonate.evaluate                          the bundled recording
  python -m resonate.evaluate pairs=FOLDER             FOLDER/captures/NAME.* against FOLDER/references/NAME.*
  python -m resonate.evaluate cache=FOLDER split=test  a split of a rendered cache, by severity
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from resonate import __version__
from resonate.errors import UserError
from resonate.evaluate import cases, table
from resonate.evaluate.rivals import Case
from resonate.evaluate.suite import SYSTEMS, Suite

#: Columns that the whole table takes.
WIDE = 170
OPTIONS = ("pairs", "cache", "split", "limit", "restored", "systems", "json")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options as `--name value` or `name=value`; what follows the first `=` is taken literally."""
    parser = argparse.ArgumentParser(
        prog="python -m resonate.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--pairs", type=Path, help="folder with captures/ and references/")
    source.add_argument("--cache", type=Path, help="folder that data_recipes.render wrote")
    parser.add_argument("--split", default="test", help="split of the cache: train, valid, test or all (default: test)")
    parser.add_argument("--limit", type=int, help="score only the first so many recordings")
    parser.add_argument("--restored", type=Path, help="what infer.py wrote: <name>/master.wav there is scored")
    parser.add_argument("--systems", help=f"comma-separated, of: {', '.join(SYSTEMS)} (default: all)")
    parser.add_argument("--json", type=Path, default=Path("out/evaluate.json"), help="where the figures go")
    whole = [f"--{a}" if a.split("=")[0] in OPTIONS and "=" in a else a for a in arguments]
    return parser.parse_args(whole)


def _systems(text: str | None) -> list[str]:
    names = list(SYSTEMS) if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SYSTEMS:
            raise UserError(f"There is no system '{name}'; choose of: {', '.join(SYSTEMS)}.")
    return ["input", *(name for name in names if name != "input")]


def _cases(options: argparse.Namespace) -> Iterator[tuple[Case, float | None, str]]:
    """(case, severity, song) of the chosen source."""
    if options.cache is not None:
        for example in cases.cache_index(options.cache, options.split)[: options.limit]:
            yield cases.cached(options.cache, example), float(example["severity"]), str(example["song"])
    elif options.pairs is not None:
        for count, case in enumerate(cases.pairs(options.pairs)):
            if options.limit is not None and count >= options.limit:
                return
            yield case, None, case.name
    else:
        yield cases.bundled(), None, "demo"


def main(arguments: list[str] | None = None, console: Console | None = None) -> int:
    """Score, print one table (for a cache one per severity too), write the JSON; 0, or 2 for a UserError."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDE)  # a file or pipe has no width to keep to
    restored = options.restored
    if restored is None and options.pairs is None and options.cache is None:
        restored = Path("out")
    try:
        suite = Suite(_systems(options.systems), restored)
        for case, severity, song in _cases(options):
            suite.add(case, severity, song)
        table.write_json(options.json, {"resonate": __version__, **suite.as_dict()})
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for printed in suite.tables():
        console.print(printed)
    for system, reason in suite.left_out.items():
        console.print(f"  left out: {system} ({reason})", highlight=False, markup=False)
    console.print(table.legend(suite.columns()), highlight=False, markup=False)
    console.print(f"  figures: {options.json}", highlight=False, markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sys.exit(main())
