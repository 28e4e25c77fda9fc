"""`report.html`: players, pictures and the account of one restoration or diagnosis, without network."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from resonate.audio import AudioError
from resonate.errors import UserError
from resonate.report import account, embed, look, player, previews, words
from resonate.report.sounds import Sound, collect

log = logging.getLogger(__name__)

#: The page may load what lies beside it (`file:` where it is opened from disk) and nothing else.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' file:; "
    "media-src 'self' file:"
)


def build(folder: Path, report: Mapping[str, Any]) -> None:
    """Write `folder`/report.html and its media in `folder`/report/, from the WAV files in `folder` and its report.

    `report` is what report.json holds; what it lacks is left out of the page. The page refers to its media by relative
    paths and to nothing else. Of a diagnosis alone it shows what was found, and the pictures of the recording; nothing
    is written to play. A recording that cannot be read any more is left out of it. Raises UserError where there is no
    master or the folder cannot be written.
    """
    folder = Path(folder)
    sounds = collect(folder, report)
    alone = bool(report.get("settings", {}).get("diagnose_only"))
    seconds = float(report.get("input", {}).get("seconds") or (0.0 if alone else _seconds(sounds["restored"])))
    songs = report.get("diagnosis", {}).get("songs", {}).get("songs", [])
    parts = previews.stretches(seconds, songs)
    try:
        try:
            seen, played = _media(folder, sounds, report, parts, seconds)
        except AudioError as error:
            if "input" not in sounds or sounds["input"].ours:
                raise
            # The result does not need it: a page without it is worth more than none.
            log.warning("the page shows no recording: %s", error)
            del sounds["input"]
            shutil.rmtree(folder / "report")
            seen, played = _media(folder, sounds, report, parts, seconds)
        name = str(report.get("input", {}).get("name") or report.get("name") or folder.name)
        body = [
            f"<h1>{escape(name)}</h1>",
            f'<p class="soft">{escape(words.headline(report, seconds))}</p>',
            *([] if alone else [played, *seen]),
            "<h2>What was found</h2>",
            account.diagnosis(report),
            *(seen if alone else []),
            "<h2>Faults and vetoes</h2>",
            account.faults(report),
            "<h2>What was done</h2>",
            account.stages(report),
            "<h2>Files</h2>",
            account.files(folder),
            f"<details><summary>Recording, weights, settings</summary>{account.details(report)}</details>",
        ]
        part = folder / ".report.html.part"
        # A name may hold bytes that are no text.
        part.write_text(_document(name, body, plays=not alone), encoding="utf-8", errors="backslashreplace")
        os.replace(part, folder / "report.html")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"The page cannot be written to {folder}: {reason}; make room there.") from error


def _media(
    folder: Path, sounds: Mapping[str, Sound], report: Mapping[str, Any], parts: list[tuple[float, float]],
    seconds: float,
) -> tuple[list[str], str]:
    """Write pictures and previews to `folder`/report/; the figures' HTML and the player's (empty for a diagnosis).

    AudioError where the recording itself is shown and cannot be read."""
    if not sounds:
        return [], ""
    (folder / "report").mkdir(exist_ok=True)
    seen = look.figures(folder / "report", sounds, report, parts, seconds)
    if "restored" not in sounds:
        return seen, ""
    return seen, player.html(previews.make(folder, sounds, parts), parts, seconds)


def _seconds(sound: Sound) -> float:
    return sum(block.shape[1] for block in sound.blocks()) / sound.rate


def _document(name: str, body: list[str], plays: bool) -> str:
    style = embed.asset("page.css")
    script = f"<script>\n{embed.asset('page.js')}</script>\n" if plays else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(name)} - Resonate</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + f"\n</main>\n{script}</body>\n</html>\n"
    )
