"""The mission's six criteria, each with its figure, its target and the recordings in which it falls shortest; and what
is asked of each mode, measure by measure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from resonate import STEMS
from resonate.evaluate.catalogue import MEASURES
from resonate.evaluate.results import Results
from resonate.evaluate.run import INPUT, Row


@dataclass(frozen=True)
class Criterion:
    """What is asked: the mean change of `measure` against the recording reaches `target` (both in its unit).

    beside: what is told of its worst recordings, before and after.
    """

    name: str
    measure: str
    target: float
    asks: str
    beside: tuple[str, ...]


CRITERIA = (
    Criterion("crowd", "noise_attenuation", 20.0, "the crowd sinks 20 dB further under the music",
              ("gap_db", "f_sdr", "music_distortion")),
    Criterion("vocals", "vocals_estoi", 0.1, "ESTOI of the vocals rises by 0.1 over the bare recording's",
              ("vocals_estoi", "vocals_si_sdr")),
    Criterion("stems", "stems_si_sdr", 5.0, "SI-SDR of the stems is 5 dB above the bare recording's",
              tuple(f"{stem}_si_sdr" for stem in STEMS)),
    Criterion("bandwidth", "lsd_high", -12.0, "the treble's spectral distance (8 to 16 kHz) falls by 12 dB",
              ("lsd_high", "lsd_air", "bandwidth")),
    Criterion("artefacts", "musical_noise", 0.0, "no more musical noise than in the recording", ("gap_db",)),
    Criterion("overall", "lsd", -7.0, "the whole spectrum's distance falls by 7 dB, most joint verdicts are better",
              ("lsd", "lsd_low", "lsd_high", "f_sdr")),
)  # fmt: skip
#: How many recordings are named per criterion.
SHOWN = 3


@dataclass(frozen=True)
class Goal:
    """What is asked of one mode: that the mean change of `measure` against the recording, or with `each` its change on
    every recording, reaches `target`, in the measure's unit."""

    system: str
    measure: str
    target: float
    each: bool = False


GOALS = (
    *(Goal("resonate extend", name, target) for name, target in (
        ("lsd", -7.0), ("lsd_high", -12.0), ("lsd_air", -10.0), ("lsd_low", -5.0), ("gap_db", -20.0),
        ("noise_attenuation", 9.0), ("musical_noise", 0.0))),
    Goal("resonate reveal", "f_sdr", 1.5), Goal("resonate reveal", "f_sdr", -0.3, each=True),
    Goal("resonate reveal", "lsd", 0.0),
)  # fmt: skip


def assess(results: Results, system: str) -> list[dict[str, Any]]:
    """One entry per criterion: figure, interval, count, whether it is met, how it is told, and the worst recordings.

    A criterion without any figure is not met, and its figure is None. The last one, overall, also counts the joint
    verdicts: `better` of `recordings`, of which it needs more than half.
    """
    out = []
    for criterion in CRITERIA:
        better = MEASURES[criterion.measure].better
        found = results.change(system, criterion.measure)
        entry = {**asdict(criterion), "figure": None, "interval": None, "n": 0, "songs": 0, "met": False, "worst": []}
        if found is not None:
            entry |= {"figure": found["mean"], "interval": found["interval"], "n": found["n"]}
            entry["met"] = better * found["mean"] >= better * criterion.target
            changed = results.changes(system, criterion.measure)
            entry["songs"] = len({row.song for row, _ in changed})
            ordered = sorted(changed, key=lambda pair: better * pair[1])
            entry["worst"] = [_worst(results, criterion, row, value) for row, value in ordered[:SHOWN]]
        out.append(entry)
    verdicts = [row.verdict for row in results.rows if row.system == system]
    overall = out[-1]
    overall["better"], overall["recordings"] = verdicts.count("better"), len(verdicts)
    overall["met"] = overall["met"] and 2 * overall["better"] > overall["recordings"]
    return out


def _worst(results: Results, criterion: Criterion, row: Row, value: float) -> dict[str, Any]:
    """What is told of one recording: its figure, song, severity, verdict, and `beside` as pairs (before, after)."""
    before = results.by_place.get((row.recording, INPUT))
    known = {} if before is None else before.values
    beside = {name: (known.get(name), row.values[name]) for name in criterion.beside if name in row.values}
    facts = {"song": row.song, "severity": row.severity, "verdict": row.verdict, "beside": beside}
    return {"recording": row.recording, "figure": value, **facts}


def goals(results: Results) -> list[dict[str, Any]]:
    """One entry per goal whose system was run: `figure` (the mean change; with `each` the worst), `interval`, `n`,
    `songs`, `short` (by how much the goal is missed, 0 where it is met), `reached` (recordings that reach it by
    themselves) and the `worst` recording."""
    out = []
    for goal in GOALS:
        better = MEASURES[goal.measure].better
        changed = results.changes(goal.system, goal.measure)
        if not changed:
            continue
        row, worst = min(changed, key=lambda pair: better * pair[1])
        found = results.change(goal.system, goal.measure)
        entry = {**asdict(goal), "n": len(changed), "songs": len({row.song for row, _ in changed}),
                 "worst": row.recording, "figure": worst if goal.each else found["mean"],
                 "interval": None if goal.each else found["interval"]}  # fmt: skip
        entry["short"] = max(0.0, better * (goal.target - entry["figure"]))
        entry["reached"] = sum(better * value >= better * goal.target for _, value in changed)
        out.append(entry)
    return out


def told(entry: dict[str, Any]) -> str:
    """The figure of an entry in words: `+2.1 dB (1.4 to 2.9, n = 8)`, or that there is none. From one song, an interval
    over its recordings would say nothing of others."""
    measure = MEASURES[entry["measure"]]
    if entry["figure"] is None:
        return "no figure"
    digits = measure.digits
    text = f"{entry['figure']:+.{digits}f} {measure.unit}".strip()
    if entry["songs"] == 1:
        return f"{text} (n = {entry['n']}, all of one song)"
    if entry["interval"] is not None:
        low, high = entry["interval"]
        return f"{text} ({low:+.{digits}f} to {high:+.{digits}f}, n = {entry['n']})"
    return f"{text} (n = {entry['n']})"
