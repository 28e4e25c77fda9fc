"""What the user reads while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class Screen:
    """Lines, and a bar while a recording is restored. Names are shown as they are, never as markup."""

    def __init__(self) -> None:
        self.out = Console(markup=False, highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A line."""
        self.out.print(printable(text))

    def fail(self, text: str) -> None:
        """A line on standard error."""
        self.err.print(printable(text))

    @contextmanager
    def progress(self, expected: dict[str, float]) -> Iterator[Callable[[str, float], None]]:
        """A function to be told (stage, share done): on a terminal it moves a bar, else it prints a line per stage.

        `expected` are seconds by stage; what is left is scaled by how the stages so far went.
        """
        if not self.out.is_terminal:
            yield self._lines()
            return
        columns = (TextColumn("  {task.description:<12}", markup=False), BarColumn(), TextColumn("{task.fields[left]}"))
        with Progress(*columns, console=self.out, transient=True) as bar:
            task, clock = bar.add_task("", total=1.0, left=""), Clock(expected)

            def tell(stage: str, share: float) -> None:
                done, left = clock.tell(stage, share)
                bar.update(task, description=stage, completed=done, left=f"{100 * done:3.0f} %  {spoken(left)} left")

            yield tell

    def _lines(self) -> Callable[[str, float], None]:
        shown: set[str] = set()

        def tell(stage: str, share: float) -> None:
            if stage not in shown:
                shown.add(stage)
                self.out.print(f"  {stage}")

        return tell


class Clock:
    """How much of the work is done, and how many seconds it will still take."""

    def __init__(self, expected: dict[str, float], now: Callable[[], float] = time.monotonic) -> None:
        self._expected, self._now = expected, now
        self._started = now()
        self._first: float | None = None

    def tell(self, stage: str, share: float) -> tuple[float, float]:
        """(share of all work done, seconds left) once `share` of `stage` is done. A stage without expectation is over
        in no time."""
        done = 0.0
        for name, seconds in self._expected.items():
            if name == stage:
                done += share * seconds
                break
            done += seconds
        else:
            done = 0.0
        total = sum(self._expected.values())
        if self._first is None:
            # What an earlier run had done took no time in this one.
            self._first, self._started = done, self._now()
        worked, took = done - self._first, self._now() - self._started
        # The expectation counts like a tenth of the work, so that the first blocks alone do not decide.
        pace = (took + 0.1 * total) / (worked + 0.1 * total) if total else 1.0
        return (done / total if total else 0.0), max(0.0, (total - done) * pace)


def spoken(seconds: float) -> str:
    """'40 s', '12 min', '2 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def printable(text: str) -> str:
    """Names may hold bytes that are no text; show them escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
