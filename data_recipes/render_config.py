"""The renderer's settings: its words on the command line, what they may be, and what an example depends on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resonate import RATE, __version__
from resonate.data.excerpts import STARTER_BANK
from resonate.data.licences import FILTERS
from resonate.data.music import Song, scan_music
from resonate.data.shards import FORMAT
from resonate.data.splits import SPLITS
from resonate.degrade.bank import Bank
from resonate.errors import UserError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PRESETS = ("near", "mid", "far", "brutal")
#: FLAC against the 16-bit samples that it holds.
FLAC_SHARE = 0.6
#: What follows these is a name, taken literally before Hydra's grammar sees it.
NAMES = ("music", "bank", "out")


@dataclass
class ShardCounts:
    """How many shards of each split there shall be; a folder grows by asking for more later."""

    train: int = 10
    valid: int = 1
    test: int = 0


@dataclass
class Mix:
    """Shares of the severities under severity=mix; they need not sum to 1."""

    near: float = 0.25
    mid: float = 0.35
    far: float = 0.25
    brutal: float = 0.15


@dataclass
class RenderConfig:
    """All settings.

    Attributes:
        music: folders of songs, FOLDER or FOLDER=WEIGHT (how often a folder is drawn from, 1 unless given).
        bank: folders of crowd, room and phone material, merged; none means the starter bank.
        out: the folder that is made.
        seconds: length of an example, 0.5 to 600.
        seed: of everything that is drawn.
        shards: how many shards of each split.
        per_shard: examples in a shard.
        severity: near, mid, far, brutal (configs/degrade), or mix.
        mix: shares of the severities under severity=mix.
        remix: share of train examples with stems of several songs.
        licence: any, or cc: only music and recordings under CC0, CC-BY, CC-BY-SA, public domain, MIT, BSD and
            Apache, not what is unknown.
        crowd: keep the crowd as captured as one more row.
        listen: examples on the listening page; 0 makes none.
        workers: jobs that render at the same time; hydra/launcher says where (joblib: processes on this machine).
        part: which job this is; set by the launcher.
    """

    music: list[str] = field(default_factory=list)
    bank: list[str] = field(default_factory=list)
    out: str = ""
    seconds: float = 10.0
    seed: int = 0
    shards: ShardCounts = field(default_factory=ShardCounts)
    per_shard: int = 32
    severity: str = "mix"
    mix: Mix = field(default_factory=Mix)
    remix: float = 0.6
    licence: str = "any"
    crowd: bool = False
    listen: int = 20
    workers: int = 1
    part: int = 0


ConfigStore.instance().store(name="render_schema", node=RenderConfig)


@dataclass(frozen=True)
class Settings:
    """All that an example depends on besides its split and number. Folders are known by their content: `music` and
    `bank` are hashes over the names and sizes of all files, so a folder may move but not change."""

    music: tuple[tuple[str, str, float], ...]
    bank: str
    seconds: float
    seed: int
    per_shard: int
    severity: str
    mix: dict[str, float]
    remix: float
    licence: str
    crowd: bool
    degrade: dict[str, dict[str, Any]]
    format: int = FORMAT
    version: str = __version__

    @property
    def key(self) -> str:
        """A hash that changes with any of them."""
        return _digest(asdict(self))

    @property
    def example_bytes(self) -> int:
        """About what one example takes in a shard where all stems play; finished mixes take a third of it."""
        return round((10 + self.crowd) * 2 * self.seconds * RATE * 2 * FLAC_SHARE) + 20_000


@dataclass(frozen=True)
class Plan:
    """Settings, and where things lie on this machine."""

    settings: Settings
    music: tuple[tuple[str, float], ...]
    bank: tuple[str, ...]
    out: Path
    shards: dict[str, int]
    workers: int
    listen: int


def parse(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Words of the command line as names and the rest for Hydra. UserError for options, which there are none of."""
    names: dict[str, list[str]] = {name: [] for name in NAMES}
    rest = []
    for word in words:
        key, equals, value = word.partition("=")
        if key in NAMES and equals:
            if not value:
                raise UserError(f"{key}= needs the name of a folder after it.")
            names[key].append(value)
        elif key == "part":
            raise UserError("part= is the launcher's; say workers=N for N jobs.")
        elif equals and not word.startswith("-"):
            rest.append(word)
        else:
            raise UserError(f"There is no option {word}; settings are given as name=value, such as music=FOLDER "
                            "out=FOLDER shards.train=10 workers=4 (--help explains all).")
    if len(names["out"]) > 1:
        raise UserError("out= is given twice; one folder is made.")
    return names, rest


def read_config(words: Sequence[str]) -> tuple[RenderConfig, list[str]]:
    """The settings on the command line, checked as far as that goes without looking at files, and Hydra's part of it.

    Raises UserError, in one sentence, for what Hydra or the checks refuse.
    """
    names, rest = parse(words)
    try:
        with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
            config = OmegaConf.to_object(compose("render", rest))
    except (HydraException, OmegaConfBaseException) as error:
        first = str(error).strip().splitlines()[0]
        hint = " (launchers come with pip install 'resonate[render]')" if "hydra/launcher" in first else ""
        raise UserError(f"The settings {' '.join(rest)} cannot be read: {first}{hint}") from None
    config.music, config.bank = names["music"] or config.music, names["bank"] or config.bank
    config.out = names["out"][0] if names["out"] else config.out
    _check(config)
    return config, rest


def _check(config: RenderConfig) -> None:
    counts, shares = asdict(config.shards), asdict(config.mix)
    wrong = [
        (not config.music, "Name folders of songs by music=FOLDER"),
        (not config.out, "Name the folder to make by out=FOLDER"),
        # The one thing that Hydra cannot have in the place where its jobs write.
        ("${" in os.path.abspath(config.out), f'The path {os.path.abspath(config.out)} holds "${{"; choose another'),
        (not 0.5 <= config.seconds <= 600, f"seconds must be 0.5 to 600, got {config.seconds:g}"),
        (config.seed < 0, f"seed must not be negative, got {config.seed}"),
        (min(counts.values()) < 0 or sum(counts.values()) == 0, "Ask for at least one shard, such as shards.train=10"),
        (max(counts.values()) > 999_999, "A split holds 999999 shards at most"),
        (not 1 <= config.per_shard <= 10_000, f"per_shard must be 1 to 10000, got {config.per_shard}"),
        (config.severity not in (*PRESETS, "mix"), f"severity must be one of {', '.join(PRESETS)}, mix"),
        (min(shares.values()) < 0 or sum(shares.values()) <= 0, "The shares in mix must be >= 0 and not all 0"),
        (not 0 <= config.remix <= 1, f"remix must be 0 to 1, got {config.remix:g}"),
        (config.licence not in FILTERS, f"licence must be one of {', '.join(FILTERS)}"),
        (config.listen < 0, f"listen must not be negative, got {config.listen}"),
        (not 1 <= config.workers <= 10_000, f"workers must be 1 to 10000, got {config.workers}"),
    ]
    for refused, sentence in wrong:
        if refused:
            raise UserError(f"{sentence}.")


def music_folder(text: str) -> tuple[str, float]:
    """FOLDER or FOLDER=WEIGHT; an existing folder whose name ends so is that folder. UserError for weights <= 0."""
    folder, equals, weight = text.rpartition("=")
    if not equals or not folder or os.path.isdir(text):
        return text, 1.0
    try:
        value = float(weight)
    except ValueError:
        return text, 1.0
    if not 0 < value < float("inf"):
        raise UserError(f"music={text}: the weight after '=' must be above 0.")
    return folder, value


def presets() -> dict[str, dict[str, Any]]:
    """The fields of ChainConfig for near, mid, far and brutal, from configs/degrade."""
    return {name: yaml.safe_load((CONFIGS / "degrade" / f"{name}.yaml").read_text("utf-8")) for name in PRESETS}


def make_plan(config: RenderConfig) -> Plan:
    """Looks at the folders. Raises UserError for music or a bank that cannot be read."""
    music = tuple(music_folder(text) for text in config.music)
    bank = tuple(config.bank) or (str(STARTER_BANK),)
    settings = Settings(
        tuple((Path(folder).resolve().name, _music_hash(folder), weight) for folder, weight in music), _bank_hash(bank),
        config.seconds, config.seed, config.per_shard, config.severity, asdict(config.mix), config.remix,
        config.licence, config.crowd, presets())
    # Jobs may start in another folder.
    return Plan(settings, tuple((str(Path(folder).resolve()), weight) for folder, weight in music),
                tuple(str(Path(folder).resolve()) for folder in bank), Path(config.out).absolute(),
                {split: getattr(config.shards, split) for split in SPLITS}, config.workers, config.listen)


def _music_hash(folder: str) -> str:
    def sizes(song: Song) -> list[tuple[str, int]]:
        return sorted((f.relative_to(folder).as_posix(), f.stat().st_size) for f in song.files)

    return _digest([(s.name, s.split, s.licence, sorted(s.silent), sizes(s)) for s in scan_music(folder)])


def _bank_hash(folders: Sequence[str]) -> str:
    items = Bank.load(list(folders), "all").entries
    return _digest([(i.name, i.kind, i.split, i.licence, i.path.stat().st_size) for i in items])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
