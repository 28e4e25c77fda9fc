"""`report.html`: players, pictures and the account of one restoration, without network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from resonate.errors import UserError
from resonate.report import embed, pictures, previews, words
from resonate.report.analysis import Spectra, analyse
from resonate.report.previews import Preview
from resonate.report.sounds import Sound, collect

#: Sounds that are analysed for the pictures, where they are there.
DRAWN = ("input", "restored", "revealed", "extended", "crowd")


def build(folder: Path, report: Mapping[str, Any]) -> None:
    """Write `folder`/report.html and its media in `folder`/report/, from the WAV files in `folder` and its report.

    `report` is what report.json holds; what it lacks is left out of the page. The page refers to its media by relative
    paths and to nothing else. Raises UserError where there is no master or the folder cannot be written.
    """
    folder = Path(folder)
    sounds = collect(folder, report)
    seconds = float(report.get("input", {}).get("seconds") or _seconds(sounds["restored"]))
    try:
        (folder / "report").mkdir(exist_ok=True)
        figures = _draw(folder / "report", sounds, seconds)
        heard = previews.make(folder, sounds, seconds)
        text = _page(folder, report, seconds, figures, heard)
        part = folder / ".report.html.part"
        # A name may hold bytes that are no text.
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(part, folder / "report.html")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"The page cannot be written to {folder}: {reason}; make room there.") from error


def _seconds(sound: Sound) -> float:
    return sum(block.shape[1] for block in sound.blocks()) / sound.rate


def _draw(folder: Path, sounds: Mapping[str, Sound], seconds: float) -> list[tuple[str, str, str]]:
    """Draws the pictures; (file name, description for those who cannot see it, caption as HTML)."""
    spectra: dict[str, Spectra] = {
        key: analyse(sounds[key].blocks(), sounds[key].rate, seconds) for key in DRAWN if key in sounds
    }
    drawn = []
    pair = [key for key in ("input", "restored") if key in spectra]
    top = max(float(np.percentile(spectra[key].matched_db, 99.5)) for key in pair)
    captions = {
        "input": "Before: the recording. Time runs from left to right, pitch from bottom to top, bright is loud.",
        "restored": "After: the restored track, at matched level and with the same colours.",
    }
    for key in pair:
        pictures.spectrogram(folder / f"spectrogram_{key}.png", spectra[key], top)
        drawn.append((f"spectrogram_{key}.png", f"Spectrogram of the sound '{sounds[key].label}'", captions[key]))
    if "revealed" in spectra and "extended" in spectra:
        pictures.origin_map(folder / "origin.png", spectra["revealed"], spectra["extended"])
        caption = (
            f"Where the restored sound comes from:{_key('#2f8fc4')}revealed, captured by the phone;"
            f"{_key('#f08030')}extended, filled in."
        )
        drawn.append(("origin.png", "Map of what is revealed and what is extended", caption))
    lines = {key: spectra[key] for key in pictures.COLOURS if key in spectra}
    pictures.levels(folder / "levels.png", lines)
    names = "".join(f"{_key(pictures.COLOURS[key])}{escape(sounds[key].label)}" for key in lines)
    drawn.append(("levels.png", "Level over time in decibels", f"Level over time:{names}"))
    return drawn


def _key(colour: str) -> str:
    return f'<span class="key" style="background:{colour}"></span>'


def _page(
    folder: Path,
    report: Mapping[str, Any],
    seconds: float,
    figures: Sequence[tuple[str, str, str]],
    heard: Sequence[Preview],
) -> str:
    name = str(report.get("input", {}).get("name") or report.get("name") or folder.name)
    style, script = embed.asset("page.css"), embed.asset("page.js")
    body = [
        f"<h1>{escape(name)}</h1>",
        _diagnosis(report),
        "<h2>Listen</h2>",
        _players(heard, seconds),
        "<h2>Look</h2>",
        *(
            f'<figure><div class="screen"><img src="report/{file}" alt="{escape(alt)}"><div class="head"></div></div>'
            f"<figcaption>{caption}</figcaption></figure>"
            for file, alt, caption in figures
        ),
        "<h2>Files</h2>",
        _files(folder),
        "<h2>What was done</h2>",
        _stages(report),
        _details(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)} - Resonate</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _diagnosis(report: Mapping[str, Any]) -> str:
    sentences = [*report.get("diagnosis", {}).get("words", []), *report.get("notes", []), words.promise(report)]
    return "<ul>" + "".join(f"<li>{escape(str(sentence))}</li>" for sentence in sentences) + "</ul>"


def _players(heard: Sequence[Preview], seconds: float) -> str:
    parts = previews.stretches(seconds)
    total = sum(length for _, length in parts)
    tags = "".join(
        f'<audio class="track" src="{escape(item.file)}" '
        f'preload="{"auto" if item.key in previews.MAIN else "metadata"}"></audio>'
        for item in heard
    )
    choices = "".join(
        f'<button type="button" role="radio" data-track="{escape(item.key)}" data-says="{escape(_says(item))}" '
        f'aria-checked="{"true" if n == 0 else "false"}" tabindex="{0 if n == 0 else -1}">{escape(item.label)}</button>'
        for n, item in enumerate(heard)
    )
    plain = "".join(
        f'<p>{escape(item.label)}<br><audio controls preload="none" src="{escape(item.file)}"></audio></p>'
        for item in heard
    )
    excerpt = "" if len(parts) == 1 else (
        " The recording is long, so the players hold excerpts: "
        + ", ".join(f"{words.duration(start)} to {words.duration(start + length)}" for start, length in parts)
        + "."
    )  # fmt: skip
    return (
        f'<div class="player">{tags}<div class="bar"><button type="button" id="play">Play</button>'
        f'<input type="range" id="seek" aria-label="Position" min="0" max="{total:.3f}" step="0.01" value="0" '
        f'data-whole="{seconds:.3f}"><output id="clock"></output></div>'
        f'<div class="tracks" role="radiogroup" aria-label="What to listen to">{choices}</div>'
        f'<p id="says" class="soft" aria-live="polite">{escape(_says(heard[0]))}</p></div>'
        f'<script type="application/json" id="stretches">{embed.script_json(parts)}</script>'
        f"<noscript>{plain}</noscript>"
        '<p class="soft">All play at one position: choose another while listening. Recording, revealed and restored '
        "are equally loud here; the stems keep their level in the mix, removed and crowd theirs in the recording, "
        "extended its level beside revealed. Previews are compressed (AAC), the files below are not."
        f"{escape(excerpt)}</p>"
    )


def _says(item: Preview) -> str:
    return f"{item.label}: {item.says} (here {item.gain_db:+.1f} dB)."


def _files(folder: Path) -> str:
    there = [path for group in ("master.wav", "stems/*.wav", "ledger/*.wav") for path in sorted(folder.glob(group))]
    # report.json is written last of all, after this page.
    names = [*(path.relative_to(folder).as_posix() for path in there), "report.json"]
    return "<p>" + ", ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in names) + "</p>"


def _stages(report: Mapping[str, Any]) -> str:
    rows = []
    shown = set()
    for stage in report.get("stages", []):
        name = str(stage.get("name", ""))
        shown.add(name)
        told = [
            f"<div><span class=soft>{title}:</span> {escape(words.value(stage[key]))}</div>"
            for key, title in (("settings", "settings"), ("effect", "effect"))
            # the diagnosis stands in words at the top, the source in the table below
            if stage.get(key) and not (key == "effect" and name in ("diagnose", "ingest"))
        ]
        rows.append(
            f"<tr><th>{escape(words.STAGES.get(name, name))}</th><td>{''.join(told)}</td>"
            f'<td class="number">{float(stage.get("seconds", 0.0)):.2f} s</td></tr>'
        )
    timings = report.get("timings", {})
    for name, took in timings.items():
        if name not in shown:
            title = escape(words.STAGES.get(str(name), str(name)))
            rows.append(f'<tr><th>{title}</th><td></td><td class="number">{float(took):.2f} s</td></tr>')
    total = sum(float(took) for took in timings.values())
    if timings:
        rows.append(f'<tr><th>Together</th><td></td><td class="number">{total:.2f} s</td></tr>')
    return f'<div class="wide"><table>{"".join(rows)}</table></div>' if rows else ""


def _details(report: Mapping[str, Any]) -> str:
    facts = words.recording(report)
    for name, item in report.get("weights", {}).items():
        facts[f"Weights, {name}"] = f"{Path(str(item.get('path', ''))).name}, SHA-256 {item.get('sha256', '')}"
    for key, title in (("resonate", "Resonate"), ("device", "Device"), ("seed", "Seed"), ("versions", "Versions")):
        if key in report:
            facts[title] = words.value(report[key])
    facts["Settings"] = words.value(report.get("settings", {}))
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in facts.items())
    table = f"<div class=wide><table>{rows}</table></div>"
    return f"<details><summary>Recording, weights, settings</summary>{table}</details>"
