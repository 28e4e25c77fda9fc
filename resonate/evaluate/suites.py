"""The suites: which recordings each takes. How they are judged is in `judges`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from resonate.data import shards
from resonate.errors import UserError
from resonate.evaluate import cases, material
from resonate.evaluate.rivals import Case
from resonate.evaluate.settings import EvaluateConfig
from resonate.evaluate.store import describe
from resonate.restore.arguments import find_inputs

log = logging.getLogger(__name__)

#: Upper edges of the severity groups, and their names.
SEVERITIES = (
    (0.3, "severity to 0.3"),
    (0.6, "severity 0.3 to 0.6"),
    (0.8, "severity 0.6 to 0.8"),
    (2.0, "severity above 0.8"),
)


@dataclass(frozen=True)
class Item:
    """One recording of a suite; `load` makes it, in the process that scores it.

    facts: what a judge must know of it (the bands of a filter, ...); files: those that `load` reads.
    """

    name: str
    song: str
    load: Callable[[], Case]
    severity: float | None = None
    group: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def identity(self) -> str:
        """Names what the recording is made of: `load` with its arguments, and size and time of the files it reads."""
        made = self.load
        how = (made.func.__qualname__, *map(str, made.args)) if isinstance(made, partial) else (repr(made),)
        return "\n".join((self.name, self.song, str(self.facts), *how, describe(self.files)))


def severity_group(severity: float) -> str:
    """The name of the group that a severity belongs to."""
    return next(name for upper, name in SEVERITIES if severity <= upper)


def _severities(count: int) -> list[float]:
    """Evenly over 0..1, so that every group has its share."""
    return [(k + 0.5) / count for k in range(count)]


def _demo(config: EvaluateConfig) -> list[Item]:
    return [Item("demo", "Caesium", partial(cases.bundled, cases.BUNDLED), files=(cases.BUNDLED,))]


def _captures(config: EvaluateConfig) -> list[Item]:
    if config.cache is not None:
        folder, files = Path(config.cache), (Path(config.cache) / "index.json",)
        if shards.CROWD not in shards.read_index(folder)["rows"]:
            log.warning("%s was rendered without crowd=true: its noise_attenuation is that of all that is not music, "
                        "overload and codec among it.", folder)
        return [
            Item(Path(example["file"]).stem, str(example["song"]), partial(cases.cached, folder, example),
                 float(example["severity"]), severity_group(float(example["severity"])), files=files)
            for example in cases.cache_index(folder, config.split)
        ]  # fmt: skip
    material.check(config.music, config.seconds)
    items = []
    for k, severity in enumerate(_severities(config.count)):
        song = _song(config, k)
        load = partial(material.captured, config.music, config.seconds, config.seed, k, severity)
        items.append(Item(f"capture {k:03d}", song, load, severity, severity_group(severity), files=_music(config)))
    return items


def _music(config: EvaluateConfig) -> tuple[Path, ...]:
    return (cases.BUNDLED if config.music is None else Path(config.music),)


def _song(config: EvaluateConfig, number: int) -> str:
    return material.stems(config.music, config.seconds, config.seed, number)[2]


def _clean(config: EvaluateConfig) -> list[Item]:
    material.check(config.music, config.seconds)
    return [
        Item(f"track {k:03d}", _song(config, k),
             partial(material.studio, config.music, config.seconds, config.seed, k), files=_music(config))
        for k in range(config.count)
    ]  # fmt: skip


def _bandlimited(config: EvaluateConfig) -> list[Item]:
    material.check(config.music, config.seconds)
    items = []
    for k in range(config.count):
        song = _song(config, k)
        for kind, hertz in material.FILTERS:
            kept, missing = material.bands(kind, hertz)
            load = partial(material.bandlimited, config.music, config.seconds, config.seed, k, kind, hertz)
            name = f"track {k:03d} {kind} {hertz:g} Hz"
            facts = {"kept": kept, "missing": missing}
            items.append(Item(name, song, load, group=f"{kind} {hertz:g} Hz", facts=facts, files=_music(config)))
    return items


def _crowd_only(config: EvaluateConfig) -> list[Item]:
    return [
        Item(f"crowd {k:03d}", f"crowd {k:03d}", partial(material.crowd, config.seconds, config.seed, k, severity))
        for k, severity in enumerate(_severities(config.count))
    ]


def _silence(config: EvaluateConfig) -> list[Item]:
    return [
        Item(kind, kind, partial(material.quiet, kind, config.seconds, config.seed))
        for kind in ("digital", "hiss", "offset")
    ]


def _folder(config: EvaluateConfig) -> list[Item]:
    assert config.pairs is not None
    return [
        Item(name, name, partial(cases.pair, name, capture, reference), files=(capture, reference))
        for name, capture, reference in cases.pair_files(Path(config.pairs))
    ]


def _load_recording(name: str, path: Path, seconds: float) -> Case:
    x = cases.read_stereo(path, seconds)
    return Case(name, x, np.zeros_like(x), np.zeros(x.shape[-1], bool))


def _recordings(config: EvaluateConfig) -> list[Item]:
    assert config.recordings is not None
    files = find_inputs([config.recordings])
    names = [path.stem if sum(p.stem == path.stem for p in files) == 1 else path.name for path in files]
    return [
        Item(name, name, partial(_load_recording, name, path, config.seconds), files=(path,))
        for name, path in zip(names, files, strict=True)
    ]


_SUITES: dict[str, Callable[[EvaluateConfig], list[Item]]] = {
    "demo": _demo, "captures": _captures, "stages": _captures, "clean": _clean, "bandlimited": _bandlimited,
    "crowd_only": _crowd_only, "silence": _silence, "folder": _folder, "recordings": _recordings,
}  # fmt: skip


def choose(found: list[Item], limit: int | None) -> list[Item]:
    """At most `limit` of the items, in their order, each group having its share and in it as many songs as may be."""
    if limit is None or limit >= len(found):
        return found
    queues: dict[str | None, list[tuple[int, int]]] = {}
    times: dict[tuple[str | None, str], int] = {}
    for place, item in enumerate(found):
        before = times.get((item.group, item.song), 0)
        times[item.group, item.song] = before + 1
        queues.setdefault(item.group, []).append((before, place))
    for queue in queues.values():
        queue.sort()
    # The groups take turns, each giving first what comes from a song that it has not given yet.
    turns = sorted((turn, group, place) for group, queue in enumerate(queues.values())
                   for turn, (_, place) in enumerate(queue))  # fmt: skip
    return [found[place] for place in sorted(place for _, _, place in turns[:limit])]


def items(config: EvaluateConfig) -> list[Item]:
    """The recordings of the suite, at most `limit` (see `choose`). UserError where its files or songs are not there."""
    if config.suite not in _SUITES:
        raise UserError(f"There is no suite '{config.suite}'; choose of: {', '.join(_SUITES)}.")
    return choose(_SUITES[config.suite](config), config.limit)
