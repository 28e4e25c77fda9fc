"""Rows of a suite put together: means with intervals per group, and the order from worst to best."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from resonate.evaluate import table
from resonate.evaluate.bootstrap import interval
from resonate.evaluate.catalogue import CHANGES, MEASURES
from resonate.evaluate.run import MASTER, Row
from resonate.evaluate.suites import SEVERITIES

#: By these a recording is good or bad, per suite; their changes against the input are added, in their own units.
RANKED: dict[str, tuple[str, ...]] = {
    "clean": ("f_sdr",),
    "bandlimited": ("captured_change", "lsd_missing"),
    "crowd_only": ("invented_tones", "musical_noise"),
    "silence": ("output_dbfs",),
    "recordings": ("redegradation",),
}
_RANKED_ELSE = ("f_sdr", "lsd", "music_distortion", "musical_noise")


class Results:
    """The rows of one suite. The first system of every recording is the input."""

    def __init__(self, suite: str, rows: Sequence[Row], resamples: int = 1000, seed: int = 0) -> None:
        self.suite, self.rows, self.resamples, self.seed = suite, list(rows), resamples, seed
        self.by_place = {(row.recording, row.system): row for row in rows}

    def columns(self) -> list[str]:
        """The measures of the table that some row has, in the catalogue's order."""
        return [name for name in MEASURES if any(name in row.values for row in self.rows)]

    def systems(self, rows: Sequence[Row] | None = None) -> list[str]:
        """Systems in the order in which they ran."""
        names = dict.fromkeys(row.system for row in (self.rows if rows is None else rows))
        return [*(n for n in names if n != MASTER), *(n for n in names if n == MASTER)]

    def groups(self) -> dict[str, list[Row]]:
        """All rows, and the rows of each group where there is more than one."""
        found = dict.fromkeys(row.group for row in self.rows if row.group is not None)
        order = [name for _, name in SEVERITIES]
        named = sorted(found, key=lambda g: order.index(g) if g in order else len(order))
        result = {"all": self.rows}
        if len(named) > 1 or (named and named[0] in order):
            result |= {name: [row for row in self.rows if row.group == name] for name in named}
        return result

    def means(self, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
        """System -> measure -> mean over the recordings in which it has a finite value."""
        out: dict[str, dict[str, float]] = {}
        for system in self.systems(rows):
            mine = [row for row in rows if row.system == system]
            out[system] = {}
            for name in MEASURES:
                finite = [row.values[name] for row in mine if math.isfinite(row.values.get(name, math.nan))]
                if finite:
                    out[system][name] = sum(finite) / len(finite)
        return out

    def verdicts(self, rows: Sequence[Row]) -> dict[str, str]:
        """System -> its verdict, or how many of each it got over several recordings."""
        out = {}
        for system in self.systems(rows):
            counts = Counter(row.verdict for row in rows if row.system == system and row.verdict)
            several = sum(counts.values()) > 1
            out[system] = ", ".join(f"{n} {word}" if several else word for word, n in counts.most_common())
        return out

    def seconds(self, rows: Sequence[Row]) -> dict[str, float]:
        """System -> mean core seconds per recording, of the system alone."""
        took = {system: [row.seconds for row in rows if row.system == system] for system in self.systems(rows)}
        return {system: sum(values) / len(values) for system, values in took.items()}

    def changes(self, system: str, name: str, rows: Sequence[Row] | None = None) -> list[tuple[Row, float]]:
        """(row, change of a measure against the input) for every recording in which both have it.

        Measures that are changes already are given as they are.
        """
        found = []
        for row in self.rows if rows is None else rows:
            if row.system != system or not math.isfinite(row.values.get(name, math.nan)):
                continue
            if name in CHANGES:
                found.append((row, row.values[name]))
                continue
            base = self.by_place.get((row.recording, "input"))
            if base is not None and math.isfinite(base.values.get(name, math.nan)):
                found.append((row, row.values[name] - base.values[name]))
        return found

    def change(self, system: str, name: str, rows: Sequence[Row] | None = None) -> dict[str, Any] | None:
        """Mean change against the input, its interval and count; None where there is none."""
        found = self.changes(system, name, rows)
        if not found:
            return None
        values = [value for _, value in found]
        return {"mean": sum(values) / len(values), "n": len(values),
                "interval": interval(values, [row.song for row, _ in found], self.resamples, self.seed)}  # fmt: skip

    def worst(self, system: str) -> list[str]:
        """Recordings from the worst to the best result of a system."""
        goodness: dict[str, float] = {}
        for name in RANKED.get(self.suite, _RANKED_ELSE):
            for row, value in self.changes(system, name):
                goodness[row.recording] = goodness.get(row.recording, 0.0) + MEASURES[name].better * value
        return sorted(goodness, key=lambda recording: goodness[recording])

    def tables(self) -> list[Table]:
        """One printable table per group."""
        out = []
        for name, rows in self.groups().items():
            counts = ((len({r.recording for r in rows}), "recording"), (len({r.song for r in rows}), "song"))
            counted = [f"{n} {word}{'s' * (n != 1)}" for n, word in counts]
            title = f"{self.suite}, {name}: {' of '.join(counted)}, means"
            out.append(table.build(self.means(rows), self.columns(), title=title, verdicts=self.verdicts(rows)))
        return out

    def as_dict(self) -> dict[str, Any]:
        """For JSON: per group means, changes with intervals, verdicts and times; every row; what each measure means."""
        groups = {}
        for name, rows in self.groups().items():
            systems = [s for s in self.systems(rows) if s != "input"]
            changes = {s: {c: self.change(s, c, rows) for c in self.columns()} for s in systems}
            groups[name] = {
                "recordings": len({r.recording for r in rows}),
                "songs": sorted({r.song for r in rows}),
                "mean": self.means(rows),
                "change": {s: {c: v for c, v in found.items() if v is not None} for s, found in changes.items()},
                "verdicts": self.verdicts(rows),
                "seconds": self.seconds(rows),
            }
        return {
            "groups": groups,
            "rows": [vars(row) for row in self.rows],
            "measures": {name: vars(MEASURES[name]) for name in self.columns()},
        }

    def csv(self) -> str:
        """One line per recording and system."""
        names = sorted({name for row in self.rows for name in row.values}, key=lambda n: (n not in MEASURES, n))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        head = ("recording", "song", "group", "severity", "system", "verdict", "lag", "seconds")
        writer.writerow([*head, *names])
        for row in self.rows:
            facts = [getattr(row, key) for key in head]
            values = [row.values.get(name, math.nan) for name in names]
            writer.writerow([*("" if f is None else f for f in facts),
                             *(f"{v:.4f}" if math.isfinite(v) else "" for v in values)])  # fmt: skip
        return text.getvalue()
