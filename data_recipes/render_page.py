"""`listen.html`: some of the rendered examples to hear, from disk and without network."""

from __future__ import annotations

import shutil
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.render_shards import write_aside
from resonate import RATE, audio
from resonate.data.shards import length_of, read_audio

FOLDER = "listen"
BIT_RATE = 96_000
#: All previews come at this RMS level, lower where their peaks ask for it.
LEVEL_DB = -20.0
PEAK = 0.9
#: Longer examples are cut, in seconds.
LONGEST = 20.0
SOUNDS = (("capture", "what the phone recorded"), ("wet", "the music in it: all stems as captured"),
          ("dry", "the clean music"))  # fmt: skip
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;
background:#fff}table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.5rem;
border-top:1px solid #ccc;font-weight:400}audio{width:15rem;height:2.2rem}.soft{color:#555;font-size:.85rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}th,td{border-color:#444}.soft{color:#aaa}}"""


def pick(details: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` examples, evenly spread over all of them; all where there are fewer."""
    if count >= len(details):
        return details
    return [details[round(place)] for place in np.linspace(0, len(details) - 1, count)]


def write_page(out: Path, details: list[dict[str, Any]], count: int) -> None:
    """Writes `out`/listen.html with `count` examples and their AAC previews in `out`/listen/; replaces older ones."""
    chosen = pick(details, count)
    part = out / f".{FOLDER}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for example in chosen:
        rows = read_audio(out, example, stop=min(length_of(out, example), round(LONGEST * RATE)))
        for kind, sound in (("capture", rows[0]), ("wet", rows[1:5].sum(0)), ("dry", rows[6:10].sum(0))):
            audio.encode(part / _file(example, kind), _levelled(sound), RATE, "aac", BIT_RATE)
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    part.rename(out / FOLDER)
    write_aside(out / f"{FOLDER}.html", _page(chosen, len(details)).encode("utf-8", "backslashreplace"))


def _file(example: dict[str, Any], kind: str) -> str:
    return f"{example['file']}-{kind}.m4a"


def _levelled(sound: np.ndarray) -> np.ndarray:
    rms, peak = float(np.sqrt(np.mean(np.square(sound)))), float(np.abs(sound).max())
    return sound * np.float32(min(10 ** (LEVEL_DB / 20) / rms, PEAK / peak)) if rms > 0 else sound


def _page(examples: list[dict[str, Any]], total: int) -> str:
    rows = "\n".join(_row(example) for example in examples)
    head = "".join(f"<th>{kind}<br><span class=soft>{escape(says)}</span></th>" for kind, says in SOUNDS)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Rendered captures</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Rendered captures</h1>\n"
        f"<p>{len(examples)} of {total} examples, at one level. Where the music comes from and under which licences: "
        f'<a href="manifest.tsv">manifest.tsv</a>.</p>\n'
        f"<table>\n<tr><th>example</th>{head}</tr>\n{rows}\n</table>\n</body>\n</html>\n"
    )


def _row(example: dict[str, Any]) -> str:
    name = example["file"]
    measures = example.get("measures", {})
    figures = [f"severity {float(example['severity']):.2f}"]
    figures += [f"{key.replace('_', ' ')} {value:.1f}" for key, value in sorted(measures.items())
                if isinstance(value, float) and key.endswith("_db")]
    players = "".join(
        f'<td><audio controls preload="none" aria-label="{escape(name)} {kind}" '
        f'src="{FOLDER}/{escape(_file(example, kind))}"></audio></td>'
        for kind, _ in SOUNDS
    )
    return (f"<tr><th scope=row>{escape(name)}<br>{escape(str(example['song']))}<br>"
            f"<span class=soft>{escape(', '.join(figures))}</span></th>{players}</tr>")
