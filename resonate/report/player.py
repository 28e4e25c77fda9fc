"""The player: all previews at one position, two of them in step at a time (A and B), one heard."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from resonate.report import embed, words
from resonate.report.previews import Preview

#: What A and B are at first.
PAIR = ("input", "restored")


def html(heard: Sequence[Preview], parts: Sequence[tuple[float, float]], seconds: float) -> str:
    """The players and their explanation. `parts`: the stretches of the recording that the previews hold, in order;
    `seconds`: length of the recording. page.js brings it to life; without scripts there are plain players."""
    keys = [item.key for item in heard]
    pair = [keys.index(key) for key in PAIR if key in keys] or [0]
    pair = [pair[0], pair[-1]]
    tags = "".join(
        f'<audio class="track" src="{escape(item.file)}" preload="{"auto" if n in pair else "metadata"}"></audio>'
        for n, item in enumerate(heard)
    )
    total = sum(length for _, length in parts)
    bar = (
        '<div class="bar"><button type="button" id="play" aria-keyshortcuts="Space">Play</button>'
        f'<input type="range" id="seek" aria-label="Position" min="0" max="{total:.3f}" step="0.01" value="0" '
        f'data-whole="{seconds:.3f}"><output id="clock"></output></div>'
    )
    slots = "".join(
        f'<button type="button" role="radio" class="slot" data-slot="{n}" data-track="{pair[n]}" '
        f'aria-checked="{"true" if n == 0 else "false"}" aria-keyshortcuts="{name}"><kbd>{name}</kbd> '
        f"<span>{escape(heard[pair[n]].label)}</span></button>"
        for n, name in enumerate("AB")
    )
    choices = "".join(
        f'<button type="button" class="choice" data-says="{escape(_says(item))}" aria-pressed="'
        f'{"true" if n == pair[0] else "false"}"><kbd>{(n + 1) % 10}</kbd> <span>{escape(item.label)}</span></button>'
        for n, item in enumerate(heard)
    )
    plain = "".join(
        f'<p>{escape(item.label)}<br><audio controls preload="none" src="{escape(item.file)}"></audio></p>'
        for item in heard
    )
    return (
        f'{tags}<div class="deck">{bar}<div class="slots" role="radiogroup" aria-label="A or B">{slots}</div></div>'
        f'<div class="player"><div class="tracks" role="group" aria-label="What to hear">{choices}</div>'
        f'<p id="says" class="soft" aria-live="polite">{escape(_says(heard[pair[0]]))}</p>'
        '<div class="row"><button type="button" id="from" aria-keyshortcuts="I">Loop from here <kbd>I</kbd></button>'
        '<button type="button" id="to" aria-keyshortcuts="O">to here <kbd>O</kbd></button>'
        '<button type="button" id="loop" aria-pressed="false" aria-keyshortcuts="L" disabled>Loop <kbd>L</kbd></button>'
        f'<output id="stretch" class="soft" aria-live="polite"></output></div>{_jumps(parts)}</div>'
        f'<script type="application/json" id="stretches">{embed.script_json([list(part) for part in parts])}</script>'
        f"<noscript>{plain}</noscript>{_explained(parts)}"
    )


def _says(item: Preview) -> str:
    return f"{item.label}: {item.says} (here {item.gain_db:+.1f} dB)."


def _jumps(parts: Sequence[tuple[float, float]]) -> str:
    if len(parts) == 1:
        return ""
    buttons = "".join(
        f'<button type="button" class="jump" data-time="{start:.2f}">{words.clock(start)}</button>'
        for start, _ in parts
    )
    return f'<div class="row jumps"><span class="soft">Excerpts from</span>{buttons}</div>'


def _explained(parts: Sequence[tuple[float, float]]) -> str:
    excerpt = "" if len(parts) == 1 else (
        f" The recording is long, so the players hold {len(parts)} excerpts of it; the files below are whole."
    )  # fmt: skip
    keys = (
        ("Space", "play and pause"), ("A B", "hear one or the other"), ("X", "change between them"),
        ("1 2 3 …", "put another sound in the place of the one that is heard"), ("← →", "2 s back and on"),
        ("I O", "begin and end of a loop"), ("L", "loop on and off"),
    )  # fmt: skip
    rows = "".join(f"<tr><th><kbd>{key}</kbd></th><td>{says}</td></tr>" for key, says in keys)
    return (
        '<p class="soft">A and B run in step, so a change keeps the place. Recording, revealed and restored are '
        "equally loud here; the stems keep their level in the mix, removed and crowd theirs in the recording, extended "
        f"its level beside revealed. Previews are compressed (AAC); the files below are not.{excerpt}</p>"
        "<details><summary>Keys, loops and pictures</summary>"
        f'<table class="keys">{rows}</table><p class="soft">A tap on a picture below goes there; a stroke across it '
        "loops that stretch.</p></details>"
    )
