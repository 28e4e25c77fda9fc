"""The account of a restoration in plain words, from its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

STAGES = {
    "ingest": "Read the recording and bring it to the working rate",
    "diagnose": "Measure what the recording is like",
    "precondition": "Repair: offset, rumble, hum, bumps, clipping",
    "separate": "Take the instruments apart from each other and from the crowd",
    "choose": "Choose whether the track is made from the mix or from the stems",
    "restore": "Bring out what the room and the phone took away, and fill lost bands",
    "remix": "Put the instruments together again",
    "ledger": "Write down what was kept, added and removed",
    "stems": "Write the restored stems",
    "equalise": "Correct the tone within bounds",
    "match": "Bring the tone towards the reference",
    "compress": "Even out loud passages gently",
    "width": "Keep the stereo image no wider than it was captured",
    "master": "Set loudness and peaks, write the master",
    "report": "Make this page",
}
#: Items of a list that the account names.
LONGEST = 16
#: What the effects' names mean to a reader, where the name alone does not say it.
EFFECTS = {
    "gain_bound": "largest gain allowed",
    "gain_most": "largest gain applied",
    "gain_least": "smallest gain applied",
    "gain_mean": "mean gain",
    "loudness_before_lufs": "loudness before (LUFS)",
    "loudness_after_lufs": "loudness after (LUFS)",
    "true_peak_before_dbtp": "true peak before (dBTP)",
    "true_peak_after_dbtp": "true peak after (dBTP)",
    "makeup_gain_db": "gain (dB)",
    "most_limiting_db": "most that the limiter took off (dB)",
    "peak_dbfs": "peaks (dBFS)",
    "level_dbfs": "levels (dBFS)",
    "revealed_dbfs": "level of revealed (dBFS)",
}


def duration(seconds: float) -> str:
    """Seconds as a reader says them: '1.0 s', '2 min 05 s', '1 h 02 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """A place in a recording: 1:05, and 2:01:05 from an hour on."""
    whole = int(seconds)
    minutes = f"{whole // 60 % 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{whole // 3600}:{minutes}:{whole % 60:02d}" if whole >= 3600 else f"{minutes}:{whole % 60:02d}"


def size(count: int) -> str:
    """Bytes as a reader says them."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e3:.0f} kB"


def hertz(value: float) -> str:
    """A frequency as a reader says it."""
    return f"{value / 1000:.1f} kHz" if value >= 1000 else f"{value:.0f} Hz"


def value(item: Any) -> str:
    """A setting or effect in one line, without braces; long lists are cut, report.json holds them whole."""
    if item is None:
        return "none"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, float):
        return f"{item:.0f}" if abs(item) >= 1000 else f"{item:.4g}"
    if isinstance(item, Mapping):
        return "; ".join(f"{EFFECTS.get(str(k), str(k).replace('_', ' '))} {value(v)}" for k, v in item.items()) or "-"
    if isinstance(item, list | tuple):
        shown = ", ".join(value(v) for v in item[:LONGEST]) or "none"
        return f"{shown} … ({len(item)} in all)" if len(item) > LONGEST else shown
    return str(item)


def diagnosed_alone(report: Mapping[str, Any]) -> bool:
    """Whether the recording was diagnosed and not restored."""
    return bool(report.get("settings", {}).get("diagnose_only"))


def promise(report: Mapping[str, Any]) -> str:
    """What this mode may do, in a sentence or two."""
    if diagnosed_alone(report):
        return "Only the diagnosis was asked for (diagnose_only=true); nothing was restored."
    if report.get("mode") == "reveal":
        return (
            "Mode reveal: only filters, masks and bounded gains were applied to the recording. "
            "Nothing that you hear was made up."
        )
    return (
        "Mode extend: inside the captured band only filters, masks and bounded gains were applied to the recording. "
        "Outside it, where the phone caught nothing, the sound is filled in from what was heard; “Extended” "
        "is exactly that part."
    )


def recording(report: Mapping[str, Any]) -> dict[str, str]:
    """Facts about the input, name -> text."""
    given = report.get("input", {})
    source = given.get("source", {})
    facts = {"File": str(given.get("name", report.get("name", "")))}
    if "seconds" in given:
        facts["Length"] = duration(float(given["seconds"]))
    if source:
        channels = source.get("channels")
        facts["Format"] = (
            f"{source.get('codec')} in {str(source.get('container', '')).split(',')[0]}, {source.get('rate')} Hz, "
            f"{channels} channel{'' if channels == 1 else 's'}"
        )
        trimmed = int(source.get("trimmed_start") or 0) + int(source.get("trimmed_end") or 0)
        facts["Padding left out"] = f"{trimmed} samples" if trimmed else "none stated by the file, all samples are kept"
    if "sha256" in given:
        same = given.get("sha256") == given.get("sha256_after", given.get("sha256"))
        facts["SHA-256"] = f"{given['sha256']} ({'unchanged afterwards' if same else 'CHANGED while being read'})"
    return facts


def _taken_back_by(report: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Stage -> the stretches that its faithfulness check took back; stages that were not checked are not there."""
    stages = ((str(stage.get("name", "")), stage.get("effect")) for stage in report.get("stages", []))
    return {name: effect["taken_back"] for name, effect in stages
            if isinstance(effect, Mapping) and isinstance(effect.get("taken_back"), list)}  # fmt: skip


def taken_back(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The stretches that the faithfulness checks took back, by time: from, to (seconds), stage, part, why."""
    found = [{"stage": name, **item} for name, items in _taken_back_by(report).items() for item in items]
    return sorted(found, key=lambda item: float(item["from"]))


def checked(report: Mapping[str, Any]) -> bool:
    """Whether the faithfulness checks ran."""
    return bool(_taken_back_by(report))


def veto(item: Mapping[str, Any]) -> str:
    """One stretch that was taken back, and why."""
    what = {"extension": "the filled-in band was left out", "gain": "the recording was left as it was"}.get(
        str(item.get("part")), f"the stage “{item.get('stage')}” was left out"
    )
    figures = ", ".join(f"{name.replace('_', ' ')} {value(number)}" for name, number in item.get("figures", {}).items())
    reasons = " and ".join(str(reason) for reason in item.get("why", []))
    told = f" ({figures})" if figures else ""
    return f"to {clock(float(item['to']))}: {what}, because there would have been {reasons or 'too much'}{told}."


def vetoes(items: Sequence[Mapping[str, Any]]) -> str:
    """All that was taken back, in a sentence."""
    spans = {(float(item["from"]), float(item["to"])) for item in items}
    total = duration(sum(end - begin for begin, end in spans))
    count = f"{len(spans)} stretch{'' if len(spans) == 1 else 'es'}"
    return f"The checks of faithfulness took back {count}, {total} together; there the recording itself is heard more."


def faults(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know before trusting the result, one sentence each. (A stage that found nothing to do is no
    fault.)"""
    found = [str(note) for note in report.get("notes", [])]
    given = report.get("input", {})
    if given.get("sha256") != given.get("sha256_after", given.get("sha256")) and not found:
        found.append("The file was changed, moved or deleted after it had been read.")
    diagnosis, bypass = report.get("diagnosis", {}), report.get("settings", {}).get("clean", {}).get("bypass")
    if diagnosis.get("clean") and bypass:
        found.append("The recording sounds clean already, so it passed as it is, but for the master's loudness.")
    elif diagnosis.get("finished") and bypass:
        found.append("The recording sounds like a finished mix, so what it holds passed as it is.")
    if report.get("settings", {}).get("veto", {}).get("enabled") is False:
        found.append("The checks of faithfulness were switched off (veto.enabled=false).")
    return found


def effect(name: str, stage: Mapping[str, Any]) -> Any:
    """What a stage did, less what the page says elsewhere: the diagnosis in words, the source, the vetoes."""
    found = stage.get("effect")
    if name in ("diagnose", "ingest"):
        return None
    if isinstance(found, Mapping) and "taken_back" in found:
        return {**found, "taken_back": f"{len(found['taken_back'])} stretches"}
    return found


def pace(report: Mapping[str, Any]) -> str:
    """How long the work took beside the recording."""
    seconds = float(report.get("input", {}).get("seconds") or 0.0)
    total = sum(float(took) for took in report.get("timings", {}).values())
    return f"{total / seconds:.2g} times as long as the recording" if seconds > 0 else ""


def headline(report: Mapping[str, Any], seconds: float) -> str:
    """The recording and its restoration in a line."""
    parts = [duration(seconds)]
    alone = diagnosed_alone(report)
    if "mode" in report and not alone:
        parts.append(f"mode {report['mode']}")
    if report.get("timings"):
        took = duration(sum(float(seconds) for seconds in report["timings"].values()))
        parts.append(f"{'diagnosed' if alone else 'restored'} in {took}")
    if "resonate" in report:
        parts.append(f"Resonate {report['resonate']}")
    return ", ".join(parts)
