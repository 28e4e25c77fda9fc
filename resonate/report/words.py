"""The account of a restoration in plain words, from its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STAGES = {
    "ingest": "Read the recording and bring it to the working rate",
    "diagnose": "Measure what the recording is like",
    "precondition": "Take out the offset and rumble",
    "separate": "Take the instruments apart from each other and from the crowd",
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


def value(item: Any) -> str:
    """A setting or effect in one line, without braces."""
    if item is None:
        return "none"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, float):
        return f"{item:.4g}"
    if isinstance(item, Mapping):
        return "; ".join(f"{EFFECTS.get(str(k), str(k).replace('_', ' '))} {value(v)}" for k, v in item.items()) or "-"
    if isinstance(item, list | tuple):
        return ", ".join(value(v) for v in item) or "none"
    return str(item)


def promise(report: Mapping[str, Any]) -> str:
    """What this mode may do, in a sentence or two."""
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
