"""Render degraded training data to shards, so that training need not simulate.

    python -m data_recipes.render music=data/starter/music=2 music=data/debian=1 out=data/shards \\
        shards.train=40 shards.valid=2 workers=4

writes WebDataset tars (train-000000.tar ...), index.json, manifest.tsv with the licences of all audio used, and
listen.html. A shard is a pure function of the settings and its number; a render that was stopped goes on where it was,
and asking for more shards later adds them. Settings and their defaults: --help.

Hydra's launchers spread the work: workers=4 renders in four processes (joblib); hydra/launcher=submitit_slurm sends
the same four jobs to a cluster.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import hydra
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_recipes import render_config, render_index, render_page, render_shards
from data_recipes.render_config import CONFIGS, Plan, make_plan, read_config
from data_recipes.render_examples import Renderer, left_out
from data_recipes.render_shards import Shard
from resonate.errors import UserError

log = logging.getLogger(__name__)

#: Read by configs/render.yaml: names do not pass through Hydra's grammar.
OUT_VARIABLE = "RESONATE_RENDER_OUT"


def render(plan: Plan, words: list[str] | None = None, console: Console | None = None) -> list[dict]:
    """Render what is missing of `plan` and write index, manifest and listening page.

    Args:
        plan: as `render_config.make_plan` gives it.
        words: Hydra's overrides, for the launcher; with None all is rendered here, without Hydra.
        console: where progress is shown.

    Returns:
        the JSON of every example in the folder.

    Raises:
        UserError: before any work, for music, bank, disk or a folder that do not serve; after it, where jobs failed.
            Shards that were finished stay, and are in the index.
    """
    console = console or Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    todo = _check(plan)
    for sentence in left_out(plan):
        console.print(sentence)
    plan.out.mkdir(parents=True, exist_ok=True)
    with render_shards.lock(plan.out):
        render_shards.clean(plan.out)
        render_index.write_index(plan)
        try:
            with _progress(plan, todo, console):
                if todo and words is None:
                    render_shards.render_part(plan, todo, 0)
                elif todo:
                    _launch(plan, todo, words)
        finally:
            details = render_index.write_index(plan)
        if lost := render_shards.missing(plan):
            reasons = render_shards.failures(plan.out) or ["a job ended without a word; see its log in hydra/."]
            raise UserError(f"{len(lost)} of {len(todo)} shards were not rendered: {reasons[0]}")
        if plan.listen:
            render_page.write_page(plan.out, details, plan.listen)
    return details


def _check(plan: Plan) -> list[Shard]:
    """The shards to render. Raises UserError for whatever would stop the work later."""
    if plan.out.exists() and not plan.out.is_dir():
        raise UserError(f"{plan.out} is a file; choose another out=FOLDER.")
    render_index.check_folder(plan)
    todo = render_shards.missing(plan)
    for split in dict(todo):
        Renderer(plan, split)
    there = next(place for place in (plan.out, *plan.out.parents) if place.exists())
    need, free = len(todo) * plan.settings.per_shard * plan.settings.example_bytes, shutil.disk_usage(there).free
    if need > 0.98 * free:
        raise UserError(f"{len(todo)} shards need about {need / 1e9:.1f} GB, and {there} has {free / 1e9:.1f} GB free; "
                        "ask for fewer, or choose another out=FOLDER.")
    if not os.access(there, os.W_OK):
        raise UserError(f"{there} cannot be written to; choose another out=FOLDER.")
    return todo


def _launch(plan: Plan, todo: list[Shard], words: list[str]) -> None:
    """One Hydra job here, or `plan.workers` of them through its launcher."""

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="render")
    def job(config: DictConfig) -> None:
        render_shards.render_part(plan, todo, config.part)

    jobs = min(plan.workers, len(todo))
    spread = []
    if plan.workers > 1 or any(word.startswith("hydra/launcher=") for word in words):
        spread = ["part=" + ",".join(map(str, range(jobs)))]
        if not any(word.startswith("hydra/launcher=") for word in words):
            spread += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"]
    before, sys.argv = sys.argv, [sys.argv[0], *["--multirun"][: len(spread)], *words, *spread]
    os.environ[OUT_VARIABLE] = str(plan.out)
    try:
        job()
    except SystemExit as error:  # Hydra has said why
        log.debug("hydra ended with %s", error.code)
    finally:
        sys.argv = before
        del os.environ[OUT_VARIABLE]


@contextmanager
def _progress(plan: Plan, todo: list[Shard], console: Console) -> Iterator[None]:
    """A bar over the examples. It goes by what lies in the folder, so it shows jobs on other machines too."""
    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = len(todo) * plan.settings.per_shard
    stopped = threading.Event()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total)

        def written() -> int:
            return render_shards.examples_written(plan.out, todo, plan.settings.per_shard)

        def watch() -> None:
            while not stopped.wait(0.5):
                bar.update(task, completed=written())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stopped.set()
            watcher.join()
            bar.update(task, completed=written())


def main(argv: list[str]) -> int:
    """Command line. Exit status 0, or 2 for what the user can mend, in one line on standard error."""
    screen = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        if set(argv) & {"-h", "--help"}:
            Console(highlight=False, markup=False).print(_help())
            return 0
        config, words = read_config(argv)
        plan = make_plan(config)
        details = render(plan, words, screen)
    except (UserError, OSError) as error:
        text = str(error) if isinstance(error, UserError) else f"{error.filename}: {error.strerror}."
        screen.print(text.encode("utf-8", "backslashreplace").decode())
        return 2
    except KeyboardInterrupt:
        screen.print("Stopped. Finished shards stay; the same command goes on from there.")
        return 130
    counts = Counter(example["split"] for example in details)
    splits = ", ".join(f"{count} {split}" for split, count in counts.items())
    hours = sum(example["seconds"] for example in details) / 3600
    screen.print(f"{splits} examples, {hours:.2f} h, in {plan.out}")
    licences = ", ".join(f"{name} {count}" for name, count in sorted(render_index.used_licences(plan).items()))
    screen.print(f"Files used, by licence: {licences}")
    return 0


def _help() -> str:
    settings = (render_config.RenderConfig.__doc__ or "").partition("Attributes:\n")[2].rstrip()
    defaults = (CONFIGS / "render.yaml").read_text(encoding="utf-8").partition("_self_\n\n")[2].partition("\n#")[0]
    return f"{__doc__}\nSettings, as name=value:\n\n{settings}\n\nDefaults (configs/render.yaml):\n\n{defaults}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
