"""Scores of several systems over several recordings."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from resonate.evaluate import cases, table
from resonate.evaluate.ours import OURS
from resonate.evaluate.rivals import RIVALS, Case, NotAvailable
from resonate.evaluate.verdict import MEASURES, Score, against, joint_verdict, mean_values, score

log = logging.getLogger(__name__)

#: Upper edges of the severity groups of a cache, and their names.
SEVERITIES = (
    (0.3, "severity to 0.3"),
    (0.6, "severity 0.3 to 0.6"),
    (0.8, "severity 0.6 to 0.8"),
    (2.0, "severity above 0.8"),
)
SYSTEMS = {**RIVALS, **OURS}
MASTER = "resonate master"


@dataclass(frozen=True)
class Row:
    """One system on one recording."""

    recording: str
    song: str
    severity: float | None
    system: str
    values: dict[str, float]
    lag: int
    verdict: str


class Suite:
    """Collects the scores of `systems` (the first is the input) and of restored results lying in `restored`."""

    def __init__(self, systems: list[str], restored: Path | None = None) -> None:
        self.systems = systems
        self.restored = restored
        self.rows: list[Row] = []
        self.left_out: dict[str, str] = {}

    def add(self, case: Case, severity: float | None = None, song: str = "") -> None:
        """Run and score every system on `case`. A system that cannot run is left out and named in `left_out`."""
        before: Score | None = None
        for system in self.systems:
            try:
                output = SYSTEMS[system](case)
            except NotAvailable as reason:
                self.left_out[system] = str(reason)
                continue
            after = score(output, case.reference, gaps=case.gaps, noise=case.noise)
            before = before or after
            self._note(case, severity, song, system, before, after)
        master = self.restored / case.name / "master.wav" if self.restored is not None else None
        if master is not None and before is not None:
            if master.is_file():
                after = score(cases.read_stereo(master), case.reference, gaps=case.gaps, noise=case.noise)
                self._note(case, severity, song, MASTER, before, after)
            else:
                self.left_out[MASTER] = f"there is no {master}"

    def _note(
        self, case: Case, severity: float | None, song: str, system: str, before: Score, after: Score
    ) -> None:
        log.info("%s: %s scored", case.name, system)
        self.rows.append(
            Row(case.name, song, severity, system, against(before, after), after.lag, joint_verdict(before, after))
        )

    def columns(self) -> list[str]:
        """The measures that some row has."""
        return [name for name in MEASURES if any(name in row.values for row in self.rows)]

    def summary(self, rows: list[Row]) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
        """Means per system over `rows`, and the verdicts: the verdict itself for one recording, else their counts."""
        values, verdicts = {}, {}
        for system in dict.fromkeys(row.system for row in rows):
            mine = [row for row in rows if row.system == system]
            values[system] = mean_values(row.values for row in mine)
            counts = Counter(row.verdict for row in mine)
            verdicts[system] = mine[0].verdict if len(mine) == 1 else ", ".join(
                f"{n} {word}" for word, n in counts.most_common()
            )  # fmt: skip
            if system == self.systems[0]:
                verdicts[system] = ""
        return values, verdicts

    def groups(self) -> dict[str, list[Row]]:
        """All rows, and where severities are known the rows of each severity group that has any."""
        result = {"all": self.rows}
        for (upper, name), lower in zip(SEVERITIES, (-1.0, *(upper for upper, _ in SEVERITIES)), strict=False):
            chosen = [row for row in self.rows if row.severity is not None and lower < row.severity <= upper]
            if chosen:
                result[name] = chosen
        return result

    def tables(self) -> list[Table]:
        """One printable table per group."""
        result = []
        for name, rows in self.groups().items():
            values, verdicts = self.summary(rows)
            recordings, songs = len({r.recording for r in rows}), len({r.song for r in rows})
            counted = [f"{n} {word}{'s' * (n != 1)}" for n, word in ((recordings, "recording"), (songs, "song"))]
            title = f"{name}: {' of '.join(counted)}, mean in dB"
            result.append(table.build(values, self.columns(), title=title, verdicts=verdicts))
        return result

    def as_dict(self) -> dict[str, Any]:
        """For JSON: means and counts per group, every row, the systems left out, what each measure means."""
        groups = {}
        for name, rows in self.groups().items():
            values, verdicts = self.summary(rows)
            groups[name] = {
                "recordings": len({r.recording for r in rows}),
                "songs": sorted({r.song for r in rows}),
                "mean": values,
                "verdicts": verdicts,
            }
        return {
            "groups": groups,
            "rows": [vars(row) for row in self.rows],
            "left_out": self.left_out,
            "measures": {name: vars(MEASURES[name]) for name in self.columns()},
        }
