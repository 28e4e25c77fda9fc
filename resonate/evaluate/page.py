"""The results page of a suite: the success table, the tables, and a picture per recording, worst first."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from resonate.errors import UserError
from resonate.evaluate import success, table
from resonate.evaluate.catalogue import MEASURES
from resonate.evaluate.picture import Panel, draw
from resonate.evaluate.results import Results
from resonate.evaluate.run import INPUT, Row

#: Names of the pictures.
_PICTURE = re.compile(r"[0-9a-f]{12}\.png")
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 75em; padding: 0 1em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin: 0.6em 0 1.6em; }
th, td { padding: 0.2em 0.6em; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child, .text { text-align: left; }
td.text { white-space: normal; }
th:first-child, td:first-child { position: sticky; left: 0; background: Canvas; }
tr.focus { background: #2f8fc422; } tr.focus td:first-child { font-weight: 600; }
img { max-width: 100%; height: auto; }
figure { margin: 1em 0 2em; }
.met { color: #2a8a3e; } .missed { color: #c0392b; }
code { font-size: 0.9em; overflow-wrap: anywhere; }
small { opacity: 0.7; }
"""


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """HTML of a table; rows are (class, cells), cells (text, small text under it). Both are escaped here."""
    lines = ["<div class=wide><table><tr>", *(f"<th>{escape(cell)}</th>" for cell in head), "</tr>"]
    for kind, cells in rows:
        under = (f"<br><small>{escape(small)}</small>" if small else "" for _, small in cells)
        texts = (f"<td>{escape(text)}{small}</td>" for (text, _), small in zip(cells, under, strict=True))
        lines.append(f'<tr class="{escape(kind)}">{"".join(texts)}</tr>')
    return "".join([*lines, "</table></div>"])


def _figure(
    results: Results, rows: Sequence[Row], system: str, measure: str, mean: float | None
) -> tuple[str, str]:
    """A mean, and the change against the recording with its 95 % interval where there is one."""
    found = None if system == INPUT or mean is None else results.change(system, measure, rows)
    if found is None or found["interval"] is None:
        return MEASURES[measure].told(mean), ""
    digits = MEASURES[measure].digits
    low, high = found["interval"]
    return MEASURES[measure].told(mean), f"{found['mean']:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _success(entries: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for entry in entries:
        digits = MEASURES[entry["measure"]].digits
        worst = "; ".join(_linked(w, f"{w['recording']} ({w['figure']:+.{digits}f})") for w in entry["worst"]) or "-"
        told = f"<span class={'met' if entry['met'] else 'missed'}>{'met' if entry['met'] else 'missed'}</span>"
        texts = (entry["name"], entry["asks"], success.told(dict(entry)))
        cells = "".join(f"<td class=text>{escape(text)}</td>" for text in texts)
        rows.append(f"<tr>{cells}<td>{told}</td><td class=text>{worst}</td></tr>")
    texts = "".join(f"<th class=text>{head}" for head in ("criterion", "asked", "found (95 % interval)"))
    head = f"<tr>{texts}<th>target<th class=text>worst</tr>"
    return f"<div class=wide><table>{head}{''.join(rows)}</table></div>"


def _linked(worst: Mapping[str, Any], text: str) -> str:
    """A worst recording's name, linked to its picture where it is drawn."""
    picture = worst.get("picture")
    return f"<a href='{quote(picture)}'>{escape(text)}</a>" if picture else escape(text)


def picture_of(path: Path, recording: str) -> str:
    """Where the picture of a recording lies, from the page at `path`; a recording's name may not be a file name."""
    name = hashlib.sha256(recording.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return f"{path.with_suffix('').name}/{name}.png"


def order_of(
    results: Results, focus: str, panels: Mapping[str, Sequence[Panel]], pictures: int, entries: Sequence[Any] | None
) -> list[str]:
    """The recordings to draw: the `pictures` worst, then the other worst ones of the success table's `entries`."""
    ranked = results.worst(focus)
    worst = [*ranked, *(name for name in panels if name not in ranked)][:pictures]
    named = [found["recording"] for entry in entries or () for found in entry["worst"]] if pictures else []
    return [name for name in dict.fromkeys((*worst, *named)) if panels.get(name)]


def build(
    path: Path, facts: Mapping[str, Any], results: Results, focus: str, panels: Mapping[str, Sequence[Panel]],
    order: Sequence[str],
) -> None:
    """Write the page to `path` and its pictures into a folder of the same name beside it.

    facts: what the JSON holds beside the figures (suite, command, success, left_out, ...); order: the recordings to
    draw (see `order_of`). Every name is escaped; the page refers to nothing outside its folder. UserError where it
    cannot be written.
    """
    columns = results.columns()
    parts = [f"<h1>Scorecard: {escape(str(facts['suite']))}</h1>",
             f"<p><code>{escape(str(facts['command']))}</code><br>Resonate {escape(str(facts['resonate']))}, seed "
             f"{escape(str(facts['seed']))}, {escape(str(facts['seconds']))} s.</p>"]  # fmt: skip
    if facts.get("success"):
        parts.append(f"<h2>What is asked of {escape(focus)}</h2>{_success(facts['success'])}")
    for name, rows in results.groups().items():
        verdicts, means = results.verdicts(rows), results.means(rows)
        head = ["", *(f"{c} {MEASURES[c].arrow}" for c in columns), "verdict"]
        body = []
        for system in results.systems(rows):
            figures = [_figure(results, rows, system, c, means[system].get(c)) for c in columns]
            body.append(("focus" if system == focus else "", [(system, ""), *figures, (verdicts[system], "")]))
        count = len({row.recording for row in rows})
        parts.append(f"<h2>{escape(name)}: {count} recording{'s' * (count != 1)}</h2>{_table(head, body)}")
    if facts["left_out"]:
        said = "".join(f"<li>{escape(s)}: {escape(str(r))}</li>" for s, r in facts["left_out"].items())
        parts.append(f"<p>Left out:</p><ul>{said}</ul>")
    note = "Under a mean: its change against the recording, with the bootstrap's 95 % interval."
    parts.append(f"<p><small>{note}</small></p>")
    legend = "".join(f"<li><b>{escape(c)}</b>: {escape(MEASURES[c].says)}; cheated by: {escape(MEASURES[c].cheat)}</li>"
                     for c in columns)  # fmt: skip
    parts.append(f"<details><summary>What the measures say</summary><ul>{legend}</ul></details>")
    parts.append(_cases(path, results, focus, panels, order))
    title = f"<title>Scorecard {escape(str(facts['suite']))}</title><style>{_STYLE}</style>"
    head = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    table.write_text(path, f"{head}{title}{''.join(parts)}</html>\n")


def _cases(
    path: Path, results: Results, focus: str, panels: Mapping[str, Sequence[Panel]], order: Sequence[str]
) -> str:
    folder = path.with_suffix("")
    parts = [f"<h2>Recordings, worst first, by {escape(focus)}</h2>"] if order else []
    try:
        # Pictures of an earlier run go; whatever else lies in a folder of that name is not ours.
        for old in folder.glob("*.png"):
            if _PICTURE.fullmatch(old.name):
                old.unlink()
        for recording in order:
            folder.mkdir(parents=True, exist_ok=True)
            picture = picture_of(path, recording)
            draw(path.parent / picture, recording, list(panels[recording]))
            row = results.by_place.get((recording, focus))
            values = row.values if row else {}
            figures = ", ".join(f"{n} {MEASURES[n].told(v)}" for n, v in values.items() if n in MEASURES)
            verdict = f" <b>{escape(row.verdict)}</b>" if row and row.verdict else ""
            image = f"<img loading=lazy src='{quote(picture)}' alt='Spectrograms'>"
            caption = f"<figcaption>{escape(recording)}:{verdict} {escape(figures)}</figcaption>"
            parts.append(f"<figure>{image}{caption}</figure>")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"The pictures cannot be written to {folder}: {reason}; choose another json=.") from error
    return "".join(parts)
