"""Settings of a restoration, checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from resonate.errors import UserError, check_bounds
from resonate.faithfulness import Limits
from resonate.restore.diagnosis.clean import CleanLimits

MODES = ("extend", "reveal")
TRACKS = ("auto", "mix", "stems")
DEVICES = ("auto", "cpu", "cuda", "mps")

#: The stages in their usual order; `resonate.restore.stages` checks another choice or order.
_STAGES = (
    "ingest", "diagnose", "precondition", "separate", "choose", "restore", "remix", "ledger", "stems", "equalise",
    "match", "compress", "width", "master",
)  # fmt: skip


@dataclass
class Precondition:
    """Repairs before the networks. `rumble_hz` 0 switches the high-pass off; `hum`, `events`, `declip` and `agc` switch
    the parts, each of which is bypassed where diagnosis finds nothing for it.

    `events_margin_db`: by how much a short event must stand out to be turned down. `agc_least_db`: range of the gain
    from which it is undone; `agc_most_db`: bound of the gain that undoes it.
    """

    remove_dc: bool = True
    rumble_hz: float = 20.0
    hum: bool = True
    events: bool = True
    events_margin_db: float = 6.0
    declip: bool = True
    agc: bool = False
    agc_least_db: float = 4.0
    agc_most_db: float = 12.0


@dataclass
class Clean(CleanLimits):
    """Whether clean material passes as it is, and what counts as clean; see `resonate.restore.diagnosis.clean`."""

    bypass: bool = True


@dataclass
class Veto(Limits):
    """Whether stretches of `seconds` that fail the faithfulness checks are taken back, and the limits of the checks;
    see `resonate.faithfulness`."""

    enabled: bool = True
    seconds: float = 10.0


@dataclass
class Separate:
    """Passes of the separator: `shifts` runs on shifted grids, averaged; `again`, a run on the sum of their stems;
    `residual`, a run on what is in no stem. `stride` is from one block to the next, in blocks."""

    shifts: int = 1
    again: bool = False
    residual: bool = False
    stride: float = 0.75


@dataclass
class Choose:
    """What the track is made from: `mix`, `stems`, or `auto`: both are tried on at most `most` stretches of `seconds`,
    and the stems must come nearer by `least_db`; see `resonate.restore.choice`."""

    track: str = "mix"
    most: int = 3
    seconds: float = 8.0
    least_db: float = 1.5


@dataclass
class Strength:
    """How much is used, 0..1.

    Attributes:
        gain: of the restorer's gains and, in a track that is made from the mix, of the mask against the crowd.
        crowd: of the separator's mask against the crowd, in dB, beside the restorer's gains, in a track that is made
            from the mix; 0 leaves the crowd to the restorer.
        extension: of the filled bands.
    """

    gain: float = 1.0
    crowd: float = 0.5
    extension: float = 1.0


@dataclass
class Equalise:
    """Corrective EQ of the track towards finished music, at most `max_db` either way; 0 switches it off."""

    max_db: float = 0.0


@dataclass
class Match:
    """EQ of the track towards the file `tonal_reference`, at most `max_db` either way."""

    max_db: float = 6.0


@dataclass
class Compress:
    """Gentle compression above the track's own loudness: `ratio` 1 switches it off; at most `max_db` is taken off."""

    ratio: float = 1.0
    max_db: float = 3.0


@dataclass
class Width:
    """`limit`: largest ratio of side to mid of the track over that of the recording, per third of an octave."""

    limit: float = 1.0


@dataclass
class Master:
    """Loudness target (LUFS, BS.1770), ceiling (dBTP) and the most that the limiter may take off a peak (dB).

    Where the limiter would have to take off more, or the make-up gain to exceed `max_gain_db`, loudness stays lower.
    """

    loudness: float = -14.0
    ceiling: float = -1.0
    max_limiting_db: float = 12.0
    max_gain_db: float = 40.0


def part_of(settings: Mapping[str, Any]) -> str:
    """What of a result these settings of :class:`RestoreConfig`, which may lack some, make: empty for a whole
    restoration, else a name of the stretch or the diagnosis."""
    start, duration = settings.get("start") or 0.0, settings.get("duration")
    if settings.get("diagnose_only"):
        return f"{start:g} {duration} diagnosis"
    return f"{start:g} {duration} preview" if start or duration is not None else ""


@dataclass
class RestoreConfig:
    """All settings of `infer.py`; see configs/infer.yaml for what each does."""

    mode: str = "extend"
    start: float = 0.0
    duration: float | None = None
    diagnose_only: bool = False
    ledger: bool = True
    overwrite: bool = False
    keep: bool = False
    device: str = "auto"
    threads: int = 0
    seed: int = 0
    separator: str | None = None
    restorer: str | None = None
    tonal_reference: str | None = None
    stages: list[str] = field(default_factory=lambda: list(_STAGES))
    clean: Clean = field(default_factory=Clean)
    precondition: Precondition = field(default_factory=Precondition)
    separate: Separate = field(default_factory=Separate)
    choose: Choose = field(default_factory=Choose)
    strength: Strength = field(default_factory=Strength)
    veto: Veto = field(default_factory=Veto)
    equalise: Equalise = field(default_factory=Equalise)
    match: Match = field(default_factory=Match)
    compress: Compress = field(default_factory=Compress)
    width: Width = field(default_factory=Width)
    master: Master = field(default_factory=Master)

    @property
    def part(self) -> str:
        """See :func:`part_of`."""
        return part_of(vars(self))

    def identity(self) -> dict[str, Any]:
        """The settings that shape the result: without where it runs and whether it may replace another."""
        values = asdict(self)
        for name in ("overwrite", "keep", "device", "threads", "separator", "restorer", "tonal_reference"):
            del values[name]
        return values


_BOUNDS = {
    "start": (0.0, 1e7),
    "threads": (0, 1024),
    "precondition.rumble_hz": (0.0, 200.0),
    "precondition.events_margin_db": (1.0, 40.0),
    "precondition.agc_least_db": (0.0, 40.0),
    "precondition.agc_most_db": (0.0, 12.0),
    "clean.low_hz": (20.0, 300.0),
    "clean.high_hz": (2000.0, 20000.0),
    "clean.captured": (0.0, 1.0),
    "clean.clipped_share": (0.0, 1.0),
    "clean.agc_db": (0.0, 40.0),
    "veto.seconds": (2.0, 600.0),
    "veto.support": (0.0, 1.0),
    "veto.chroma": (0.0, 1.0),
    "veto.onsets": (0.0, 1.0),
    "veto.notes": (0.0, 1.0),
    "veto.excess_db": (-120.0, 0.0),
    "veto.tones_db": (0.0, 60.0),
    "veto.silence_db": (0.0, 120.0),
    "separate.shifts": (1, 8),
    "separate.stride": (0.5, 0.95),
    "choose.most": (1, 20),
    "choose.seconds": (2.0, 60.0),
    "choose.least_db": (0.0, 20.0),
    "strength.gain": (0.0, 1.0),
    "strength.crowd": (0.0, 1.0),
    "strength.extension": (0.0, 1.0),
    "equalise.max_db": (0.0, 12.0),
    "match.max_db": (0.0, 12.0),
    "compress.ratio": (1.0, 4.0),
    "compress.max_db": (0.0, 12.0),
    "width.limit": (0.0, 4.0),
    "master.loudness": (-40.0, -5.0),
    "master.ceiling": (-20.0, 0.0),
    "master.max_limiting_db": (0.0, 24.0),
    "master.max_gain_db": (0.0, 80.0),
    "seed": (0, 2**31 - 1),
}


def from_dict(values: dict[str, Any]) -> RestoreConfig:
    """A checked RestoreConfig from plain containers; UserError names the setting, what it was, and the choices."""
    config = _fill(RestoreConfig, values, "")
    if config.mode not in MODES:
        raise UserError(f"mode={config.mode} is not known: choose one of {', '.join(MODES)}.")
    if config.device.split(":")[0] not in DEVICES:
        raise UserError(f"device={config.device} is not known: choose one of {', '.join(DEVICES)}.")
    if config.choose.track not in TRACKS:
        raise UserError(f"choose.track={config.choose.track} is not known: choose one of {', '.join(TRACKS)}.")
    check_bounds(config, _BOUNDS)
    if config.duration is not None and not 0.5 <= config.duration <= 1e7:
        raise UserError(f"duration={config.duration} is out of range: a stretch has at least 0.5 seconds.")
    return config


def _fill(kind: type, values: dict[str, Any], prefix: str) -> Any:
    known = {f.name: f for f in fields(kind)}
    for name in values:
        if name not in known:
            raise UserError(f"there is no setting {prefix}{name}: choose among {', '.join(prefix + k for k in known)}.")
    default, out = kind(), {}
    for name, value in values.items():
        current = getattr(default, name)
        if hasattr(current, "__dataclass_fields__"):
            if not isinstance(value, dict):
                raise UserError(f"{prefix}{name} is a group: set {prefix}{name}.<setting>=<value>.")
            out[name] = _fill(type(current), value, f"{prefix}{name}.")
        else:
            out[name] = _convert(f"{prefix}{name}", value, str(known[name].type))
    return kind(**out)


def _convert(name: str, value: Any, kind: str) -> Any:
    if value is None and "None" in kind:
        return None
    base = kind.split(" ")[0]
    if base == "bool" and isinstance(value, bool):
        return value
    if base == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if base == "float" and isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
        return float(value)
    if base == "str" and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if base == "list[str]" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return list(value)
    words = {
        "list[str]": "a list of words, as in [one,two]",
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        "str": "a word",
    }
    raise UserError(f"{name}={value} does not fit: it takes {words[base]}.")
