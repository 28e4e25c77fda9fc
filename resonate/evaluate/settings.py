"""The settings of `python -m resonate.evaluate`: Hydra's, with names and paths taken literally."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resonate.errors import UserError, check_bounds

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
#: Keys whose values are names: taken as they are, commas, quotes, `=` and all.
NAMES = ("cache", "pairs", "recordings", "music", "restored", "json", "store", "demucs", "separator",
         "restorer", "system.command", "system.name", "systems", "extras", "split")  # fmt: skip
#: A source of recordings names the suite that takes it.
SOURCES = {"cache": ("captures", "stages"), "pairs": ("folder",), "recordings": ("recordings",)}


@dataclass
class SystemConfig:
    """A program of the user's as a system: its call with {input} and {output}, its name in the tables, and after how
    many seconds it is stopped."""

    command: str | None = None
    name: str = "command"
    timeout: float = 600.0


@dataclass
class EvaluateConfig:
    """All settings; configs/evaluate/ holds one file per suite.

    Attributes:
        suite: which suite; set by its file.
        systems: names of systems or groups of them, see `resonate.evaluate.systems`; the input is always there.
        cache, split: a rendered folder for `captures`, and which split of it.
        pairs, recordings: folder (or files) for the suites `folder` and `recordings`.
        music: a folder of songs for suites that make their own material; null takes the bundled song.
        count, seconds, seed: how many recordings such a suite makes, how long, and from which seed.
        limit: score at most so many recordings, each group (severity, filter) having its share.
        restored: what infer.py wrote; its masters are scored as the system `resonate master`.
        demucs, separator, restorer: weights of the systems `demucs` and `resonate ...`.
        workers: processes; each uses one thread.
        focus: the system that the page and the success table are about; null takes the last one of `resonate`.
        extras: opinion models and note transcriber, see `resonate.evaluate.extras`; null takes those installed.
        store: where each recording's figures are kept, so that a killed run goes on; null: `scores/` beside json.
        resamples: bootstrap resamples behind the confidence intervals.
        json: where the figures go; CSV, page and pictures lie beside it.
        pictures: how many recordings, worst first, are drawn.
        wandb: log tables to Weights & Biases, offline unless logged in.
    """

    suite: str = "demo"
    systems: list[str] = field(default_factory=list)
    cache: str | None = None
    split: str = "test"
    pairs: str | None = None
    recordings: str | None = None
    music: str | None = None
    count: int = 8
    seconds: float = 10.0
    seed: int = 11
    limit: int | None = None
    restored: str | None = None
    demucs: str | None = None
    separator: str | None = None
    restorer: str | None = None
    system: SystemConfig = field(default_factory=SystemConfig)
    workers: int = 1
    focus: str | None = None
    extras: list[str] | None = None
    store: str | None = None
    resamples: int = 1000
    json: str = "out/evaluate.json"
    pictures: int = 6
    wandb: bool = False


ConfigStore.instance().store(name="evaluate_schema", node=EvaluateConfig)
_BOUNDS = {"count": (1, 10000), "seconds": (2.0, 600.0), "workers": (1, 256), "resamples": (10, 100000),
           "pictures": (0, 1000), "system.timeout": (1.0, 86400.0), "seed": (0, 2**31 - 1)}  # fmt: skip


def suites() -> list[str]:
    """Names of the suites, one file each."""
    return sorted(path.stem for path in (CONFIGS / "evaluate").glob("*.yaml"))


def split_words(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """(literal values by key, the rest for Hydra) of `key=value`, `--key=value` and `--key value`.

    UserError for a word without a value.
    """
    literal: dict[str, str] = {}
    rest: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            word = word[2:]
            if "=" not in word:
                if not words:
                    raise UserError(f"--{word} needs a value after it.")
                word = f"{word}={words.pop(0)}"
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: settings are given as name=value; --help lists them.")
        if key in NAMES:
            if not value:
                raise UserError(f"{key}= needs a value after it.")
            literal[key] = value
        else:
            rest.append(f"evaluate={value}" if key == "suite" else word)
    return literal, rest


def read(words: list[str]) -> EvaluateConfig:
    """The checked settings. UserError, in one sentence, for what Hydra or the checks refuse."""
    literal, overrides = split_words(words)
    given = [key for key in SOURCES if key in literal]
    if len(given) > 1:
        raise UserError(f"{given[0]}= and {given[1]}= belong to different suites; give one.")
    chosen = next((w.partition("=")[2] for w in overrides if w.startswith("evaluate=")), None)
    if chosen is None and given:
        chosen = SOURCES[given[0]][0]
        overrides.append(f"evaluate={chosen}")
    if chosen is not None and chosen not in suites():
        raise UserError(f"There is no suite '{chosen}'; choose of: {', '.join(suites())}.")
    if given and chosen not in SOURCES[given[0]]:
        raise UserError(f"{given[0]}= belongs to suite={' or '.join(SOURCES[given[0]])}, not to suite={chosen}.")
    try:
        with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
            composed = compose("evaluate", overrides=overrides)
        for key, value in literal.items():
            listed = key in ("systems", "extras")
            # In Hydra's brackets or without them.
            names = [name.strip() for name in value.strip("[] ").split(",") if name.strip()] if listed else value
            OmegaConf.update(composed, key, names)
        config: Any = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"The settings {' '.join(overrides)} cannot be read: {first}") from None
    return _checked(config)


def _checked(config: EvaluateConfig) -> EvaluateConfig:
    check_bounds(config, _BOUNDS)
    if config.limit is not None and config.limit < 1:
        raise UserError(f"limit={config.limit} leaves nothing to score; take 1 or more.")
    for source in ("pairs", "recordings"):
        if config.suite in SOURCES[source] and getattr(config, source) is None:
            raise UserError(f"suite={config.suite} needs {source}=FOLDER.")
    return config
