"""The account in words and tables: diagnosis, faults and vetoes, what each stage did, files, settings."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from resonate.report import words

#: Rows of a list that the page shows; report.json holds all.
SHOWN = 100


def diagnosis(report: Mapping[str, Any]) -> str:
    """What was found in the recording, in plain words, and what this mode may do."""
    found = [str(sentence) for sentence in report.get("diagnosis", {}).get("words", [])]
    found += [str(sentence) for sentence in (report.get("expected") or {}).get("words", [])]
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in found)
    return (f"<ul>{listed}</ul>" if found else "") + f"<p>{escape(words.promise(report))}</p>"


def faults(report: Mapping[str, Any]) -> str:
    """Notes about the file, and the stretches that a faithfulness check took back, with buttons that go there."""
    notes = words.faults(report)
    vetoes = words.taken_back(report)
    parts = [f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else ""]
    if vetoes:
        rows = "".join(
            f'<li><button type="button" class="jump" data-time="{float(item["from"]):.2f}">'
            f"{words.clock(float(item['from']))}</button> {escape(words.veto(item))}</li>"
            for item in vetoes[:SHOWN]
        )
        more = len(vetoes) - SHOWN
        rest = f'<p class="soft">{more} more are in report.json.</p>' if more > 0 else ""
        parts.append(f'<p>{escape(words.vetoes(vetoes))}</p><ul class="vetoes">{rows}</ul>{rest}')
    elif words.diagnosed_alone(report):
        parts += [] if notes else ["<p>None: the file was read without a fault.</p>"]
    elif not notes:
        parts.append("<p>None: the file was read without a fault, and no check of faithfulness took anything back.</p>")
    elif words.checked(report):
        parts.append("<p>No check of faithfulness took anything back.</p>")
    return "".join(parts)


def stages(report: Mapping[str, Any]) -> str:
    """Settings, effect and time of every stage."""
    rows, shown = [], set()
    for stage in report.get("stages", []):
        name = str(stage.get("name", ""))
        shown.add(name)
        told = "".join(
            f'<div><span class="soft">{title}:</span> {escape(words.value(content))}</div>'
            for title, content in (("settings", stage.get("settings")), ("effect", words.effect(name, stage)))
            if content
        )
        rows.append(_row(words.STAGES.get(name, name), told, float(stage.get("seconds", 0.0))))
    timings = report.get("timings", {})
    rows += [
        _row(words.STAGES.get(str(name), str(name)), "", float(took))
        for name, took in timings.items()
        if name not in shown
    ]
    if timings:
        rows.append(_row("Together", escape(words.pace(report)), sum(float(took) for took in timings.values())))
    return f'<table class="stages">{"".join(rows)}</table>' if rows else ""


def _row(title: str, told: str, seconds: float) -> str:
    took = words.duration(seconds) if seconds >= 60 else f"{seconds:.2f} s"
    return f'<tr><th>{escape(title)}</th><td>{told}</td><td class="number">{took}</td></tr>'


def files(folder: Path) -> str:
    """Links to the result's sounds, in groups, with their size."""
    groups = (("Track", "master.wav"), ("Stems", "stems/*.wav"), ("Ledger", "ledger/*.wav"))
    rows = []
    for title, pattern in groups:
        there = sorted(folder.glob(pattern))
        if there:
            rows.append((title, [_link(path.relative_to(folder).as_posix(), path.stat().st_size) for path in there]))
    # report.json is written last of all, after this page.
    rows.append(("Account", ['<a href="report.json">report.json</a>']))
    told = "".join(f"<tr><th>{title}</th><td>{', '.join(links)}</td></tr>" for title, links in rows)
    return f"<table>{told}</table>"


def _link(name: str, size: int) -> str:
    return f'<a href="{escape(name)}">{escape(name)}</a> <span class="soft">{words.size(size)}</span>'


def details(report: Mapping[str, Any]) -> str:
    """The recording, the weights with their hashes, versions, and every setting."""
    facts = words.recording(report)
    for name, item in report.get("weights", {}).items():
        facts[f"Weights, {name}"] = f"{Path(str(item.get('path', ''))).name}, SHA-256 {item.get('sha256', '')}"
    for key, title in (("resonate", "Resonate"), ("device", "Device"), ("seed", "Seed"), ("versions", "Versions")):
        if key in report:
            facts[title] = words.value(report[key])
    settings = report.get("settings", {})
    facts |= {f"Setting {name}": words.value(_public(name, item)) for name, item in settings.items()}
    return "<table>" + "".join(_fact(name, text) for name, text in facts.items()) + "</table>"


def _fact(name: str, text: str) -> str:
    return f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>"


def _public(name: str, item: Any) -> Any:
    """Paths of weights and references as file names: a page that is passed on need not tell where things lie."""
    if name in ("separator", "restorer", "tonal_reference") and isinstance(item, str):
        return Path(item).name
    return item
