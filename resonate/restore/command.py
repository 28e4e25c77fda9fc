"""The command behind infer.py: names, settings, checks before any work, then one recording after the other."""

from __future__ import annotations

import difflib
import errno
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resonate.audio import Source, probe
from resonate.errors import UserError
from resonate.restore import results
from resonate.restore.against import compare
from resonate.restore.arguments import Arguments, find_inputs, parse
from resonate.restore.config import RestoreConfig, from_dict
from resonate.restore.estimate import Estimate, check_disk, estimate, sentence
from resonate.restore.pipeline import Outcome, is_done, restore
from resonate.restore.scratch import lock, scratch_path
from resonate.restore.screen import Screen
from resonate.restore.stages import chain
from resonate.restore.work import Models

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parents[2] / "configs"

USAGE = """Restore recordings made in the crowd: stems, a master and a report per recording.

  python infer.py show.m4a -o out/
  python infer.py *.m4a -o out/ mode=reveal
  python infer.py input=show.m4a output=out/ start=30 duration=20

  FILE, input=FILE       a recording, a glob, or a folder of recordings; may be given several times
  -o, output=FOLDER      where the results go (default: restored/), one folder for each recording
  reference=FILE         a clean recording of the same performance: adds reference.json with measures against it
  tonal_reference=FILE   a finished track whose long-term spectrum the master is brought towards (EQ alone)
  separator=, restorer=  weights (default: those of the repo); separator=htdemucs fetches the released ones once
  restore=PRESET         reveal: bounded gains and linear filters alone; extend: the default; fast: fewer blocks and no
                         ledger; best: four passes of the separator
  --                     what follows is names

Settings, as name=value; configs/restore/ explains each:
"""


def read_config(arguments: Arguments) -> tuple[RestoreConfig, str]:
    """The checked settings and their YAML. UserError, in one sentence, for what Hydra or the checks refuse."""
    try:
        with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
            _check_keys(arguments.overrides, _known())
            values = OmegaConf.to_container(compose("infer", overrides=arguments.overrides), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        words = " ".join(arguments.overrides)
        raise UserError(f"The settings {words} cannot be read: {_hydra_reason(error)}") from None
    values |= {name: getattr(arguments, name) for name in ("separator", "restorer", "tonal_reference")}
    config = from_dict(values)
    chain(config)
    return config, OmegaConf.to_yaml(OmegaConf.create(values))


def _hydra_reason(error: Exception) -> str:
    """What Hydra says in its first line, with the presets that there are or a word on decimal commas."""
    first = str(error).strip().splitlines()[0]
    if "Could not find 'restore/" in first:
        presets = sorted(path.stem for path in (CONFIGS / "restore").glob("*.yaml") if path.stem != "default")
        return f"{first}; the presets are {', '.join(presets)}."
    return f"{first} (numbers take a point, 0.5)" if first.startswith("Ambiguous value") else first


@cache
def _known() -> tuple[str, ...]:
    """Names of all settings. Within `initialize_config_dir`."""
    groups = OmegaConf.to_container(compose("infer"), resolve=True)
    names = [[f"{k}.{s}" for s in v] if isinstance(v, dict) else [k] for k, v in groups.items()]
    return ("restore", *itertools.chain.from_iterable(names))


def _check_keys(overrides: list[str], known: Sequence[str]) -> None:
    for word in overrides:
        if (name := word.split("=", 1)[0]) not in known:
            near = difflib.get_close_matches(name, known, n=1)
            told = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(known)}."
            raise UserError(f"{word}: there is no such setting and no file of that name; {told}")


def main(argv: list[str]) -> int:
    """Run. Exit status 0: all done; 1: some of several recordings failed; 2: nothing could be done."""
    screen = Screen()
    try:
        arguments = parse(argv)
        if arguments.help:
            screen.say(USAGE + (CONFIGS / "restore" / "default.yaml").read_text(encoding="utf-8").split("\n", 1)[1])
            return 0
        return _run(arguments, screen)
    except UserError as error:
        screen.fail(str(error))
        return 2
    except KeyboardInterrupt:
        screen.fail("Stopped; what is done so far is kept, and the same command goes on from there.")
        return 130


def _run(arguments: Arguments, screen: Screen) -> int:
    config, text = read_config(arguments)
    failures: dict[Path, str] = {}
    inputs = find_inputs(arguments.inputs, failures)
    count = len(inputs) + len(failures)
    output = Path(arguments.output or "restored").expanduser()
    reference = Path(arguments.reference).expanduser() if arguments.reference else None
    if reference is not None:
        if count > 1:
            raise UserError("A reference belongs to one recording: give one input with it.")
        probe(reference)
    sources = _probe(inputs, failures)
    if not sources:
        return _summary(screen, [], failures, count)

    # The summary says it again, but that may be hours away.
    for reason in failures.values():
        screen.say(f"Left out: {reason}")

    def leave_out(path: Path, reason: str) -> None:
        failures[path] = reason
        screen.say(f"Left out: {reason}")

    with ready(config, sources, output, screen.say, reference, leave_out if count > 1 else None) as run:
        try:
            log_file = _start_log(output, text, arguments.overrides)
        except OSError as error:
            raise UserError(
                f"The run's log cannot be written to {output} ({error.strerror}): make room there."
            ) from None
        done: list[Outcome] = []
        uncompared = False
        for path, folder in run.folders.items():
            screen.say(f"{path}")
            try:
                with screen.progress(run.estimates[path].stages) as tell:
                    outcome = restore(path, folder, config, run.models, tell)
            except Exception as error:
                known = _reason(error, output)
                if known is None and count == 1:
                    raise
                failures[path] = known or (
                    f"{path}: an error that was not foreseen ended it ({type(error).__name__}); {log_file} says where."
                )
                log.error("%s: %s", path, failures[path], exc_info=known is None)
                continue
            done.append(outcome)
            _announce(screen, outcome)
            if reference is not None and not config.diagnose_only:
                try:
                    screen.say("  " + compare(path, reference, outcome))
                except (UserError, OSError, MemoryError) as error:
                    uncompared = True
                    screen.fail(f"The restoration is done, but cannot be compared: {_reason(error, output)}")
    return max(_summary(screen, done, failures, count), int(uncompared))


@dataclass(frozen=True)
class Ready:
    """What a run has before any work: its models, and by recording that it takes the result's folder and estimate."""

    models: Models
    folders: dict[Path, Path]
    estimates: dict[Path, Estimate]


@contextmanager
def ready(
    config: RestoreConfig, sources: dict[Path, Source], output: Path, say: Callable[[str], None] = lambda text: None,
    reference: Path | None = None, leave_out: Callable[[Path, str], None] | None = None,
) -> Iterator[Ready]:
    """Check all that can be checked before any work, `say` the estimate, and hold `output` with the networks loaded.

    `leave_out` is told of each recording whose result's place must be left alone, and why; the others are taken.

    UserError for a tonal reference, weights, an output or a disk that cannot be used, where another run holds it, and,
    without `leave_out`, for such a recording.
    """
    read = [*sources, *([reference] if reference else [])]
    if config.tonal_reference is not None:
        read.append(Path(config.tonal_reference))
        probe(read[-1])
    models = Models(config)
    models.check()
    is_new = results.check_output(output)
    names = results.folder_names(list(sources), output)
    folders: dict[Path, Path] = {}
    estimates: dict[Path, Estimate] = {}
    ahead: dict[Path, Estimate] = {}
    for (path, source), name in zip(sources.items(), names, strict=True):
        folder = output / name
        try:
            results.check_outside(folder, read)
            is_ahead = not is_done(path, folder, config, models)
        except UserError as error:
            if leave_out is None:
                raise
            leave_out(path, str(error))
            continue
        folders[path], estimates[path] = folder, estimate(source, config, models)
        if is_ahead:
            ahead[path] = estimates[path]
    if ahead:
        say(sentence(list(ahead.values()), models.device))
        try:
            check_disk(list(ahead.values()), output, [scratch_path(folders[path], config.part) for path in ahead])
        except UserError:
            if is_new:
                output.rmdir()
            raise
    busy = f"Another run is writing to {output}; wait for it, or choose another output."
    with lock(output / results.RUNS / "lock", busy):
        if ahead:
            models.load()
        yield Ready(models, folders, estimates)


def _probe(inputs: list[Path], failures: dict[Path, str]) -> dict[Path, Source]:
    """Headers of all inputs that have one; why the others have not goes to `failures`."""
    sources: dict[Path, Source] = {}
    for path in inputs:
        try:
            sources[path] = probe(path)
        except UserError as error:
            failures[path] = str(error)
    return sources


def _reason(error: Exception, output: Path) -> str | None:
    """The sentence for a failure; None for one that nobody foresaw."""
    if isinstance(error, RuntimeError) and "out of memory" in str(error):
        return "The device's memory is full; give the same command again with device=cpu, which takes longer."
    if isinstance(error, MemoryError):
        return (
            "The machine's memory is full; what is done so far is kept: close other programs, give the same command "
            "again, and it goes on from there."
        )
    if not isinstance(error, (UserError, OSError)):
        return None
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk of {output} is full; what is done so far is kept: make room, give the same command again, and "
            "it goes on from there."
        )
    if isinstance(error, OSError):
        reason = error.strerror or error
        return f"{error.filename or output}: {reason}; what is done so far is kept for the next run."
    return str(error)


def _announce(screen: Screen, outcome: Outcome) -> None:
    if outcome.already:
        screen.say(f"  already done with these settings: {outcome.folder}")
        return
    for sentence_ in [*outcome.report["diagnosis"]["words"], *(outcome.report["expected"] or {}).get("words", [])]:
        screen.say(f"  {sentence_}")
    for text in outcome.told():
        screen.say(f"  note: {text}")
    took = sum(outcome.report["timings"].values())
    screen.say(f"  done in {took:.1f} s: {outcome.folder}")


def _summary(screen: Screen, done: list[Outcome], failures: dict[Path, str], count: int) -> int:
    for text in failures.values():
        screen.fail(text)
    if count > 1:
        screen.say(f"{len(done)} of {count} recordings are done, {len(failures)} failed.")
    if not failures:
        return 0
    return 1 if done else 2


class _Log(logging.FileHandler):
    """A log that cannot be written, on a full disk, is no reason to stop or to show a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leaves the record out."""

    def close(self) -> None:
        """What could not be written by now is left out."""
        with suppress(OSError):
            super().close()


def _start_log(output: Path, settings: str, overrides: list[str]) -> Path:
    """Keep the run's settings and log below the output, as Hydra would; the log."""
    folder = output / results.RUNS / time.strftime("%Y-%m-%d_%H-%M-%S")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(settings, encoding="utf-8", errors="backslashreplace")
    (folder / "overrides.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(overrides)), "utf-8", "backslashreplace")
    handler = _Log(folder / "infer.log", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("resonate")
    root.setLevel(logging.INFO)
    for old in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    return folder / "infer.log"
