"""`python -m resonate.evaluate.demo out/`: the before/after table of the bundled recording."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from resonate import __version__
from resonate.errors import UserError, command
from resonate.evaluate import cases, table
from resonate.evaluate.verdict import Score, joint_verdict, score

COLUMNS = ("f_sdr", "lsd", "lsd_low", "lsd_high", "gap_db")
#: Row name -> file below the result folder. Only the master must be there; the others need the ledger.
RESULTS = {
    "revealed": "ledger/revealed.wav",
    "restored": "master.wav",
}
MASTER = "restored"


def compare(output: Path, folder: Path = cases.BUNDLED) -> dict[str, Score]:
    """Score the bundled recording and what `infer.py` made of it in `output`/demo; row name -> Score, input first.

    Raises UserError where there is no result.
    """
    result = output / "demo"
    if not (result / RESULTS[MASTER]).is_file():
        words = f"python infer.py {folder / 'demo.m4a'} -o {output}"
        raise UserError(f"There is no {result / RESULTS[MASTER]}; run: {words}")
    case = cases.bundled(folder)
    scores = {"input": score(case.capture, case.reference, gaps=case.gaps, capture=case.capture)}
    for name, file in RESULTS.items():
        if (result / file).is_file():
            made = cases.read_stereo(result / file)
            scores[name] = score(made, case.reference, gaps=case.gaps, capture=case.capture)
    return scores


@command
def main(arguments: list[str] | None = None, console: Console | None = None) -> int:
    """Print the table and where the files are, write `<output>/demo/scores.json`; 0, or 2 for a UserError."""
    parser = argparse.ArgumentParser(prog="python -m resonate.evaluate.demo", description=__doc__)
    parser.add_argument("output", type=Path, help="the folder that infer.py wrote to")
    output = parser.parse_args(arguments).output
    console = console or Console()
    scores = compare(output)
    result = output / "demo"
    values = {name: s.values for name, s in scores.items()}
    table.write_json(result / "scores.json", {"resonate": __version__, "recording": "demo", "scores": values})
    caption = (
        "dB against the clean mix of the same 1 song (a simulated capture); in brackets the change.\n"
        "f_sdr: likeness. lsd: distance of the spectra, all / bass / treble. gap_db: noise where there is no music.\n"
        "verdict: better only where none of likeness, spectrum and music left as it was gets worse (docs/measures.md)."
    )
    verdicts = {name: joint_verdict(scores["input"], s) for name, s in scores.items() if name != "input"}
    console.print(table.build(values, COLUMNS, title="Bundled recording, before and after", verdicts=verdicts,
                              caption=caption))  # fmt: skip
    places = {
        "restored track": result / "master.wav",
        "stems": result / "stems",
        "listen and look": result / "report.html",
        "what was done": result / "report.json",
        "these figures": result / "scores.json",
    }
    for name, path in places.items():
        if path.exists():
            console.print(f"  {name + ':':<17}{path}", highlight=False, markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
