"""Run systems over the recordings of a suite, in one process or several, and collect rows."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np

from resonate.errors import UserError
from resonate.evaluate import cases, extras, judges, systems
from resonate.evaluate.picture import Panel, panel
from resonate.evaluate.rivals import Case, NotAvailable
from resonate.evaluate.settings import EvaluateConfig
from resonate.evaluate.store import Entry, Store, code, describe
from resonate.evaluate.suites import Item

log = logging.getLogger(__name__)

#: The row of the recording itself, and of a result that infer.py left on disk.
INPUT, MASTER = "input", "resonate master"
#: What the page is about where it runs and nothing else is asked for.
FOCUS = "resonate extend"
#: Suites that are about another system where it runs: the extension head alone.
SUITE_FOCUS = {"bandlimited": "resonate extend -restore -precondition -choose"}
#: Suites whose material the extras can say something about.
EXTRA_SUITES = ("demo", "captures", "stages", "folder", "recordings")


@dataclass(frozen=True)
class Row:
    """One system on one recording; seconds: core seconds of the system alone."""

    recording: str
    song: str
    group: str | None
    severity: float | None
    system: str
    values: dict[str, float]
    lag: int
    verdict: str
    seconds: float


@dataclass
class Scored:
    """All rows of one recording, the systems that could not run and why, and panels for a picture.

    reused: how many systems had been scored before; spent: core seconds behind all rows, whenever they were made.
    """

    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    panels: list[Panel] = field(default_factory=list)
    reused: int = 0
    spent: float = 0.0


def system_settings(config: EvaluateConfig) -> systems.Settings:
    """What the systems need of the settings."""
    own = config.system
    return systems.Settings(config.demucs, config.separator, config.restorer, own.command, own.name, own.timeout)


def system_names(config: EvaluateConfig) -> list[str]:
    """The systems to run, the input first, a user's command last; groups of systems are spelt out."""
    names = ["input", *(name for name in systems.expand(config.systems) if name != "input")]
    return [*names, "command"] if config.system.command is not None and "command" not in names else names


def find_focus(config: EvaluateConfig) -> str:
    """The system that the page and the success table are about.

    UserError where `focus=` names one that does not run.
    """
    names = list(systems.build(system_names(config), system_settings(config)))
    if config.focus is not None:
        if config.focus not in names:
            raise UserError(f"focus={config.focus} is none of the systems that run: {', '.join(names)}.")
        return config.focus
    for name in (SUITE_FOCUS.get(config.suite, FOCUS), FOCUS):
        if name in names:
            return name
    ours = [name for name in names if name.startswith("resonate ") and " -" not in name]
    return (ours or names)[-1]


@lru_cache(maxsize=1)
def _systems(names: tuple[str, ...], settings: systems.Settings) -> dict[str, systems.System]:
    return systems.build(list(names), settings)


def _core_seconds() -> float:
    """Time of all cores in this process and its ended children: beside other work, wall time says little."""
    return sum(os.times()[:4])


class _Bench:
    """One recording on which systems are run and judged; it is made when first needed."""

    def __init__(self, item: Item, suite: str, chosen: tuple[str, ...]) -> None:
        self.item, self.suite, self.chosen = item, suite, chosen

    @cached_property
    def case(self) -> Case:
        return self.item.load()

    @cached_property
    def before(self) -> judges.Judged:
        """The recording itself, which the others are held against."""
        return self._judge(systems.recording(self.case), None)

    def _judge(self, output: systems.Output, before: judges.Judged | None) -> judges.Judged:
        judged = judges.JUDGES[self.suite](self.item, self.case, output, before)
        if self.chosen and self.suite in EXTRA_SUITES:
            alone = self.suite == "recordings"
            against = self.case.capture if alone else self.case.reference
            judged.values.update(extras.score(self.chosen, output.mix, against, alone))
        return judged

    def score(self, name: str, system: systems.System, drawn: bool) -> Entry:
        """Run and judge one system; UserError where the recording itself cannot be had."""
        begun = _core_seconds()
        case, before = self.case, self.before
        started = _core_seconds()
        try:
            output = system(case)
            if not np.isfinite(output.mix).all():
                raise NotAvailable("gave samples that are no numbers")
        except (NotAvailable, UserError) as reason:
            return Entry(None, str(reason), spent=_core_seconds() - begun)
        took = _core_seconds() - started
        is_input = name == INPUT
        judged = before if is_input else self._judge(output, before)
        values = {key: float(value) for key, value in (judged.values | (case.facts if is_input else {})).items()}
        row = Row(self.item.name, self.item.song, self.item.group, self.item.severity, name, values, judged.lag,
                  "" if is_input else judged.verdict, round(took, 2))  # fmt: skip
        sounds = {"recording": case.capture, "reference": case.reference} if is_input else {name: output.mix}
        panels = [panel(title, sound) for title, sound in sounds.items() if drawn and np.any(sound)]
        return Entry(vars(row), panels=panels, spent=_core_seconds() - begun)


def score_item(item: Item, config: EvaluateConfig, focus: str, store: Store | None = None) -> Scored:
    """Run and judge every system on one recording, but for those that the store knows.

    UserError where the recording itself cannot be had.
    """
    names, settings = tuple(system_names(config)), system_settings(config)
    chosen = extras.choose(config.extras)
    bench, out = _Bench(item, config.suite, chosen), Scored()
    built = dict(_systems(names, settings))
    identities = {name: systems.identity(name, settings) for name in built}
    if config.restored is not None:
        path = Path(config.restored) / item.name / "master.wav"
        built[MASTER], identities[MASTER] = partial(_master, path), describe([path])
    source = item.identity()
    for name, system in built.items():
        drawn = config.pictures > 0 and name in (INPUT, focus)
        # Suites that judge alike share what they have scored alike.
        words = (code(name.startswith("resonate ")), judges.JUDGES[config.suite].__name__, source, name,
                 identities[name], " ".join(chosen), str(drawn))  # fmt: skip
        entry = store.get(*words) if store is not None else None
        out.reused += entry is not None
        if entry is None:
            entry = bench.score(name, system, drawn)
            # A program that failed may have been mended by the next time.
            if store is not None and (entry.row is not None or name != config.system.name):
                store.put(entry, *words)
        out.spent += entry.spent
        out.panels += entry.panels
        if entry.row is None:
            out.left_out[name] = entry.reason
        else:
            out.rows.append(Row(**entry.row))
    log.info("%s scored", item.name)
    return out


def _master(path: Path, case: Case) -> systems.Output:
    """What infer.py left on disk."""
    if not path.is_file():
        raise NotAvailable(f"there is no {path}")
    return systems.Output(cases.read_stereo(path)[:, case.start : case.start + case.capture.shape[-1]])


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def score_all(
    items: list[Item], config: EvaluateConfig, focus: str, store: Store | None = None
) -> Iterator[Scored]:
    """Scores in the order of `items`, with `workers` processes. The result does not depend on their number."""
    if config.workers == 1:
        for item in items:
            yield score_item(item, config, focus, store)
        return
    # Threads of BLAS and FFT are counted when a process starts.
    kept = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(kept, "1"))
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(config.workers, len(items)), context, initializer=_one_thread) as pool:
            futures = [pool.submit(score_item, item, config, focus, store) for item in items]
            try:
                for future in futures:
                    yield future.result()
            except BrokenProcessPool as error:
                raise UserError("A worker was ended from outside, perhaps for want of memory; take fewer.") from error
            finally:
                for future in futures:
                    future.cancel()
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
