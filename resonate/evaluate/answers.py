"""The saved answers of a listening test: read with suspicion, and put into tables with intervals."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy import stats

from resonate.errors import UserError
from resonate.evaluate import bootstrap

FORMAT = "resonate-listening-2"
#: A version's name, chosen by whoever built the test, is at most so long.
LONGEST_NAME = 200
#: BS.1534-3 leaves out listeners who rate the hidden reference below SURE more often than MISSED of the time.
SURE, MISSED = 90.0, 0.15
RESAMPLES = 10_000
LARGEST_ANSWERS = 10_000_000


def read(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The answers saved by the page, one entry per file. Raises UserError for anything else, and for a file twice."""
    found, seen = [], {}
    for path in paths:
        try:
            if path.stat().st_size > LARGEST_ANSWERS:
                raise UserError(f"{path} is too large to hold answers; give the file that the listening page saved.")
            content = path.read_bytes()
            answers = json.loads(content)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}; check the name.") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is no JSON file; give the file that the listening page saved.") from error
        if not _are_sound(answers):
            raise UserError(f"{path} holds no valid answers; give the unchanged file that the listening page saved.")
        if content in seen:
            raise UserError(f"{path} holds the same answers as {seen[content]}; give each listener's file once.")
        seen[content] = path
        found.append(answers)
    return found


def _are_sound(answers: Any) -> bool:
    if not isinstance(answers, dict) or answers.get("format") != FORMAT:
        return False
    abx, rated = answers.get("abx"), answers.get("mushra")
    if not isinstance(abx, list) or not isinstance(rated, list) or not abx + rated:
        return False
    if not all(isinstance(entry, dict) and isinstance(entry.get("run"), str) for entry in abx + rated):
        return False
    given = [entry.get("scores") for entry in rated]
    if not all(isinstance(scores, dict) and scores and all(map(_is_name, scores)) for scores in given):
        return False
    pairs = [(entry.get("a"), entry.get("b")) for entry in abx]
    named = all(_is_name(a) and _is_name(b) and a != b for a, b in pairs)
    # lists may stand where a name is due: tuples compare by equality, not by hash
    told = all(entry.get("x") in pair and entry.get("answer") in pair for entry, pair in zip(abx, pairs, strict=True))
    values = [score for scores in given for score in scores.values()]
    return named and told and all(type(value) in (int, float) and 0 <= value <= 100 for value in values)  # no bool


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME


def _ordered(names: Iterable[str]) -> list[str]:
    """Names of versions for a table: the reference first, what was restored as it came, recording and anchor last."""
    rank = {"reference": 0, "input": 2, "anchor": 3}
    return sorted(dict.fromkeys(names), key=lambda name: rank.get(name, 1))


def _shown(text: str) -> Text:
    """A name from a file, harmless to the terminal."""
    return Text("".join(c if c.isprintable() else "?" for c in text))


def abx_table(answers: Sequence[Mapping[str, Any]]) -> Table | None:
    """Right answers per recording and pair, and together: Clopper-Pearson 95 % interval of their share, and the
    probability that guessing gives as many or more (one-sided exact binomial test). None without ABX answers."""
    hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for listener in answers:
        for trial in listener["abx"]:
            pair = " / ".join(sorted((trial["a"], trial["b"]), key=lambda name: (name != "input", name)))
            hits[trial["run"], pair].append(trial["x"] == trial["answer"])
    if not hits:
        return None
    built = Table(title="ABX: can the two be told apart?", title_justify="left")
    for head in ("recording", "compared", "correct/total", "share (95 % interval)", "p (guessing)"):
        built.add_column(head)
    rows = list(hits.items())
    for pair in dict.fromkeys(pair for _, pair in hits):
        of_pair = [right for (_, other), right in hits.items() if other == pair]
        if len(of_pair) > 1:
            rows.append((("all", pair), [hit for right in of_pair for hit in right]))
    for (run, pair), right in rows:
        test = stats.binomtest(sum(right), len(right), 0.5, alternative="greater")
        # the interval of a one-sided test has one side
        low, high = stats.binomtest(sum(right), len(right)).proportion_ci(0.95, method="exact")
        share = f"{100 * test.statistic:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
        built.add_row(_shown(run), _shown(pair), f"{sum(right)}/{len(right)}", share, f"{test.pvalue:.2g}")
    return built


def mushra_table(answers: Sequence[Mapping[str, Any]]) -> Table | None:
    """Mean scores, 0 to 100, per recording and version and together, with 95 % bootstrap intervals: listeners are drawn
    where there are enough (`bootstrap.LEAST_SONGS`), else ratings. None without scores."""
    scores: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for number, listener in enumerate(answers):
        for page in listener["mushra"]:
            for version, score in page["scores"].items():
                scores[page["run"], version].append((float(score), str(number)))
    if not scores:
        return None
    runs = list(dict.fromkeys(run for run, _ in scores))
    versions = _ordered(version for _, version in scores)
    rows = [(run, version, scores[run, version]) for run in runs for version in versions if (run, version) in scores]
    if len(runs) > 1:
        for version in versions:
            both = [item for run in runs for item in scores.get((run, version), [])]
            rows += [("all", version, both)] if both else []
    built = Table(title="MUSHRA: 0 bad to 100 excellent", title_justify="left")
    for head in ("recording", "version", "mean (95 % interval)", "ratings"):
        built.add_column(head)
    for run, version, given in rows:
        values, listeners = zip(*given, strict=True)
        found = bootstrap.interval(values, listeners, RESAMPLES)
        within = f" ({found[0]:.1f} to {found[1]:.1f})" if found else " (one rating: no interval)"
        built.add_row(_shown(run), _shown(version), f"{np.mean(values):.1f}{within}", str(len(values)))
    return built


def unsure(answers: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """(how many listeners BS.1534-3 would leave out, how many rated a hidden reference at all)."""
    given = [
        [page["scores"]["reference"] for page in listener["mushra"] if "reference" in page["scores"]]
        for listener in answers
    ]
    rated = [scores for scores in given if scores]
    return sum(sum(score < SURE for score in scores) > MISSED * len(scores) for scores in rated), len(rated)


def show(paths: Sequence[Path], console: Console) -> None:
    """Print the tables of some files of answers. Raises UserError for files that hold none."""
    answers = read(paths)
    for built in (abx_table(answers), mushra_table(answers)):
        if built is not None:
            console.print(built)
    out, of = unsure(answers)
    if of:
        rated = f"rated the hidden reference below {SURE:.0f} in more than {MISSED:.0%} of the pages"
        told = f"  {out} of {of} listeners {rated}; ITU-R BS.1534-3 would leave them out."
        console.print(told, highlight=False, soft_wrap=True)
