"""Settings of a restoration, checked when they are read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from resonate.errors import UserError

MODES = ("extend", "reveal")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass
class Precondition:
    """Linear clean-up before the networks. `rumble_hz` 0 switches the high-pass off."""

    remove_dc: bool = True
    rumble_hz: float = 20.0


@dataclass
class Strength:
    """How much of the restorer's gain and extension is used, 0..1."""

    gain: float = 1.0
    extension: float = 1.0


@dataclass
class Master:
    """Loudness target (LUFS, BS.1770), ceiling (dBTP) and the most that the limiter may take off a peak (dB).

    Where the limiter would have to take off more, or the make-up gain to exceed `max_gain_db`, loudness stays lower.
    """

    loudness: float = -14.0
    ceiling: float = -1.0
    max_limiting_db: float = 12.0
    max_gain_db: float = 40.0


@dataclass
class RestoreConfig:
    """All settings of `infer.py`; see configs/infer.yaml for what each does."""

    mode: str = "extend"
    start: float = 0.0
    duration: float | None = None
    diagnose_only: bool = False
    ledger: bool = True
    overwrite: bool = False
    device: str = "auto"
    threads: int = 0
    seed: int = 0
    separator: str | None = None
    restorer: str | None = None
    precondition: Precondition = field(default_factory=Precondition)
    strength: Strength = field(default_factory=Strength)
    master: Master = field(default_factory=Master)

    def identity(self) -> dict[str, Any]:
        """The settings that shape the result: without where it runs and whether it may replace another."""
        values = asdict(self)
        for name in ("overwrite", "device", "threads", "separator", "restorer"):
            del values[name]
        return values


_BOUNDS = {
    "start": (0.0, 1e7),
    "threads": (0, 1024),
    "precondition.rumble_hz": (0.0, 200.0),
    "strength.gain": (0.0, 1.0),
    "strength.extension": (0.0, 1.0),
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
    for name, (low, high) in _BOUNDS.items():
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        if not low <= value <= high:
            raise UserError(f"{name}={value} is out of range: it lies between {low:g} and {high:g}.")
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
    words = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a word"}
    raise UserError(f"{name}={value} does not fit: it takes {words[base]}.")
