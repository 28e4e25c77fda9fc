"""Run systems over the recordings of a suite, in one process or several, and collect rows."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from resonate.errors import UserError
from resonate.evaluate import cases, judges, systems
from resonate.evaluate.picture import Panel, panel
from resonate.evaluate.rivals import Case, NotAvailable
from resonate.evaluate.settings import EvaluateConfig
from resonate.evaluate.suites import Item

log = logging.getLogger(__name__)

#: The row of a result that infer.py left on disk.
MASTER = "resonate master"


@dataclass(frozen=True)
class Row:
    """One system on one recording; seconds: wall time of the system alone."""

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
    """All rows of one recording, the systems that could not run and why, and panels for a picture."""

    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    panels: list[Panel] = field(default_factory=list)


def system_settings(config: EvaluateConfig) -> systems.Settings:
    """What the systems need of the settings."""
    own = config.system
    return systems.Settings(config.demucs, config.separator, config.restorer, own.command, own.name, own.timeout)


def system_names(config: EvaluateConfig) -> list[str]:
    """The systems to run, the input first, a user's command last."""
    names = ["input", *(name for name in config.systems if name != "input")]
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
    ours = [name for name in names if name.startswith("resonate ") and " -" not in name]
    return (ours or names)[-1]


@lru_cache(maxsize=1)
def _systems(names: tuple[str, ...], settings: systems.Settings) -> dict[str, systems.System]:
    return systems.build(list(names), settings)


def score_item(item: Item, config: EvaluateConfig, focus: str) -> Scored:
    """Run and judge every system on one recording. UserError where the recording itself cannot be had."""
    case, judge = item.load(), judges.JUDGES[config.suite]
    out, before = Scored(), None
    drawn = {"recording": case.capture, "reference": case.reference}
    for name, system in _systems(tuple(system_names(config)), system_settings(config)).items():
        begun = time.perf_counter()
        try:
            output = system(case)
        except (NotAvailable, UserError) as reason:
            out.left_out[name] = str(reason)
            continue
        took = time.perf_counter() - begun
        judged = judge(item, case, output, before)
        before = before or judged
        out.rows.append(_row(item, name, judged, took))
        if name == focus:
            drawn[name] = output.mix
    _master(item, case, config, judge, before, out)
    if config.pictures:
        out.panels = [panel(name, sound) for name, sound in drawn.items() if np.any(sound)]
    log.info("%s scored", item.name)
    return out


def _row(item: Item, system: str, judged: judges.Judged, seconds: float) -> Row:
    verdict = "" if system == "input" else judged.verdict
    return Row(item.name, item.song, item.group, item.severity, system, judged.values, judged.lag, verdict,
               round(seconds, 3))  # fmt: skip


def _master(
    item: Item, case: Case, config: EvaluateConfig, judge: judges.Judge, before: judges.Judged | None, out: Scored
) -> None:
    if config.restored is None or before is None:
        return
    path = Path(config.restored) / item.name / "master.wav"
    if not path.is_file():
        out.left_out[MASTER] = f"there is no {path}"
        return
    mix = cases.read_stereo(path)[:, case.start : case.start + case.capture.shape[-1]]
    out.rows.append(_row(item, MASTER, judge(item, case, systems.Output(mix), before), 0.0))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def score_all(items: list[Item], config: EvaluateConfig, focus: str) -> Iterator[Scored]:
    """Scores in the order of `items`, with `workers` processes. The result does not depend on their number."""
    if config.workers == 1:
        for item in items:
            yield score_item(item, config, focus)
        return
    # Threads of BLAS and FFT are counted when a process starts.
    kept = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(kept, "1"))
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(config.workers, len(items)), context, initializer=_one_thread) as pool:
            futures = [pool.submit(score_item, item, config, focus) for item in items]
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
