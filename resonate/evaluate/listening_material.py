"""What a listening test plays: equally placed excerpts of a result of infer.py, or of recordings of an evaluation.

An evaluation's JSON says how its recordings were made and which systems ran on them, so both can be had again; its
sounds need not have been kept. A program that it names is never run: a file from elsewhere must not decide that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from resonate import RATE, audio
from resonate.errors import UserError
from resonate.evaluate import alignment
from resonate.report.sounds import Sound, collect

#: The low-range anchor of BS.1534-3.
ANCHOR_HZ = 3500.0
#: Recordings of an evaluation that are listened to, where nothing else is asked for.
RECORDINGS = 4

#: (2, time) float32 at RATE by version, all of one length.
Versions = dict[str, np.ndarray]


@dataclass(frozen=True)
class Material:
    """A recording to listen to: its name, the two versions that ABX compares, and (start in s, versions) excerpts."""

    label: str
    pair: tuple[str, str]
    excerpts: list[tuple[float, Versions]]


def is_evaluation(source: Path) -> bool:
    """Whether a source is the JSON of an evaluation; all else is taken for a result folder of infer.py."""
    return source.suffix.lower() == ".json" and source.is_file()


def _starts(whole: float, count: int, seconds: float) -> list[float]:
    """Where excerpts of `seconds` begin: the middles of `count` equal parts of the recording."""
    return [round(min(max(0.0, (n + 0.5) * whole / count - seconds / 2), whole - seconds), 3) for n in range(count)]


def of_run(run: Path, label: str, reference: Path | None, count: int, seconds: float) -> Material:
    """Recording, revealed, restored, anchor and, with a reference, that too. UserError where one cannot be had."""
    return Material(label, ("input", "restored"), _excerpts(run, reference, count, seconds))


def _report(run: Path) -> dict[str, Any]:
    """What report.json of a run holds; {} where there is none."""
    path = run / "report.json"
    if not path.is_file():
        return {}
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON; restore the recording again.") from error
    if not isinstance(report, dict) or not all(isinstance(report.get(key, {}), dict) for key in ("input", "settings")):
        raise UserError(f"{path} is no report of infer.py; restore the recording again.")
    return report


def run_labels(runs: Sequence[Path]) -> list[str]:
    """A name to show per run: its recording's, and its folder's where the recordings are called alike."""
    folders = [run.resolve().name for run in runs]
    reports = [_report(run).get("input", {}) for run in runs]
    names = [str(report.get("name") or folder) for report, folder in zip(reports, folders, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name} ({folder})" for name, folder in zip(names, folders, strict=True)]
    return [f"{name} [{n + 1}]" if names.count(name) > 1 else name for n, name in enumerate(names)]


def _seconds(path: Path) -> float:
    source = audio.probe(path)
    return source.expected / source.rate


def _read(sound: Sound, start: float, seconds: float) -> np.ndarray:
    return audio.resample(*sound.read(start, seconds), RATE)


def _excerpts(
    run: Path, reference: Path | None, count: int, seconds: float
) -> list[tuple[float, dict[str, np.ndarray]]]:
    """Per excerpt its start in s and (2, time) float32 at RATE by version, all of one length."""
    sounds = collect(run, _report(run))
    missing = [name for name in ("input", "revealed", "restored") if name not in sounds]
    if missing:
        raise UserError(f"{run} lacks {' and '.join(missing)}; restore with the ledger, which a listening test needs.")
    whole = _seconds(run / "master.wav")
    if whole < seconds:
        raise UserError(f"{run} holds {whole:.1f} s, less than an excerpt of {seconds:g} s; take shorter excerpts.")
    truth = None
    if reference is not None:
        truth = Sound("reference", "", "", (reference,), ours=False)
        if abs(_seconds(reference) - whole) > 0.5:
            raise UserError(
                f"{reference} lasts {_seconds(reference):.1f} s and {run} {whole:.1f} s; "
                "cut the reference to the restored recording."
            )
    found = []
    for start in _starts(whole, count, seconds):
        versions = {name: _read(sounds[name], start, seconds) for name in ("restored", "revealed", "input")}
        if truth is not None:
            versions["reference"] = _in_step(truth, start, seconds, versions["restored"])
        length = min(samples.shape[1] for samples in versions.values())
        if length < (seconds - 0.1) * RATE:
            raise UserError(f"A version of {run} ends before the others; restore the recording again.")
        found.append((start, _with_anchor({name: samples[:, :length] for name, samples in versions.items()})))
    return found


def _in_step(truth: Sound, start: float, seconds: float, beside: np.ndarray) -> np.ndarray:
    """The reference's stretch that lies under `beside`, (2, time), at most MAX_LAG_SECONDS away from `start`."""
    reach, length = alignment.MAX_LAG_SECONDS, beside.shape[1]
    begin = max(0.0, start - reach)
    around = _read(truth, begin, seconds + 2 * reach)
    at = round((start - begin) * RATE)
    # positive: the restored sound comes later than the reference, whose stretch then begins earlier
    at -= alignment.find_lag(beside, around[:, at : at + length], RATE)
    padded = np.pad(around, ((0, 0), (max(0, -at), max(0, at + length - around.shape[1]))))
    return padded[:, max(0, at) : max(0, at) + length]


def _with_anchor(versions: Versions) -> Versions:
    """The versions and the low-passed reference, or recording where there is none."""
    samples = versions.get("reference", versions["input"])
    sections = signal.butter(10, ANCHOR_HZ, fs=RATE, output="sos")
    return versions | {"anchor": signal.sosfiltfilt(sections, samples, axis=-1).astype(np.float32)}


def of_evaluation(path: Path, names: Sequence[str], recordings: int, count: int, seconds: float) -> Iterator[Material]:
    """The materials of `recordings` recordings of an evaluation, evenly chosen, which are made and restored again.

    `names`: systems to hear beside the recording; none stands for the one that the evaluation is about. UserError where
    the file is no evaluation, a system or a recording cannot be had.
    """
    # Only evaluations need the networks.
    from resonate.evaluate import run, suites, systems
    from resonate.evaluate.rivals import NotAvailable

    config, focus = _evaluation(path)
    chosen = list(names or [focus])
    if chosen == ["input"] or {"reference", "anchor"} & {*chosen}:
        raise UserError(f"{', '.join(chosen)}: name systems to hear beside the recording, as in the evaluation.")
    built = systems.build(chosen, run.system_settings(config))
    items = suites.items(config)
    picked = [items[round(n)] for n in np.linspace(0, len(items) - 1, min(recordings, len(items)))]
    for item in picked:
        case = item.load()
        whole = case.capture.shape[-1] / RATE
        if whole < seconds:
            raise UserError(f"{item.name} holds {whole:.1f} s, less than an excerpt of {seconds:g} s; take less.")
        try:
            heard = {name: audio.to_stereo(built[name](case).mix)[0] for name in chosen}
        except NotAvailable as reason:
            raise UserError(f"{path}: a system cannot run on {item.name}: {reason}.") from None
        heard["input"] = audio.to_stereo(case.capture)[0]
        if np.any(case.reference):
            heard["reference"] = audio.to_stereo(case.reference)[0]
        excerpts = []
        for start in _starts(whole, count, seconds):
            stretch = slice(round(start * RATE), round(start * RATE) + round(seconds * RATE))
            excerpts.append((start, _with_anchor({name: samples[:, stretch] for name, samples in heard.items()})))
        yield Material(item.name, ("input", chosen[0]), excerpts)


def _evaluation(path: Path) -> tuple[Any, str]:
    """(settings, the system that it is about) of an evaluation's JSON."""
    from resonate.evaluate.settings import EvaluateConfig, SystemConfig

    try:
        content = json.loads(path.read_text("utf-8"))
        given, focus = dict(content["settings"]), str(content["focus"])
        known = {field.name for field in fields(EvaluateConfig)} - {"system"}
        kept = {name: value for name, value in given.items() if name in known}
        config = EvaluateConfig(**kept, system=SystemConfig())
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no JSON of an evaluation; give what python -m resonate.evaluate wrote.") from error
    return config, focus
