"""What the page shows to the eye: spectrograms, the ledger's map, level and bandwidth over time, songs and vetoes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from resonate.report import charts, pictures, words
from resonate.report.analysis import BANDS, Spectra, analyse, band_of, upper_edge, usual_gain
from resonate.report.sounds import Sound

#: Sounds that are analysed, where they are there.
DRAWN = ("input", "restored", "revealed", "extended", "crowd")


def figures(
    folder: Path, sounds: Mapping[str, Sound], report: Mapping[str, Any], parts: Sequence[tuple[float, float]],
    seconds: float,
) -> list[str]:
    """Write the pictures to `folder` and return the figures' HTML, in order. `parts`: what the players hold."""
    spectra = {key: analyse(sounds[key].blocks(), sounds[key].rate, seconds) for key in DRAWN if key in sounds}
    cover = "" if len(parts) == 1 else "".join(
        f'<div class="heard" style="left:{100 * start / seconds:.2f}%;width:{100 * length / seconds:.2f}%"></div>'
        for start, length in parts
    )  # fmt: skip
    marks = charts.time_marks(seconds) + cover
    out = []
    pair = [key for key in ("input", "restored") if key in spectra]
    top = max(float(np.percentile(spectra[key].matched_db, 99.5)) for key in pair)
    captions = {
        "input": "Before: the recording. Time runs from left to right, pitch from bottom to top, bright is loud.",
        "restored": "After: the restored track, at matched level and in the same colours.",
    }
    for key in pair:
        pictures.spectrogram(folder / f"spectrogram_{key}.png", spectra[key], top)
        name = f"Spectrogram of the sound “{sounds[key].label}”"
        out.append(_picture(f"spectrogram_{key}.png", name, marks, captions[key]))
    if {"input", "revealed", "extended"} <= set(spectra):
        given, revealed, extended = (spectra[key] for key in ("input", "revealed", "extended"))
        pictures.origin_map(folder / "origin.png", given, revealed, extended)
        out.append(_picture("origin.png", "Map of the ledger: revealed, attenuated and extended sound", marks,
                            _ledger_caption(given, revealed, extended)))  # fmt: skip
    elif "restored" in spectra:
        out.append('<p class="soft">No ledger was kept (ledger=false), so what was revealed, attenuated and extended '
                   "cannot be shown.</p>")  # fmt: skip
    out.append(_levels(spectra, marks))
    out.append(_bandwidth(spectra, marks))
    out.append(_ribbon(report, marks, seconds))
    return [figure for figure in out if figure]


def _figure(inside: str, kind: str, caption: str) -> str:
    return (
        f'<figure><div class="screen {kind}">{inside}<div class="span" hidden></div><div class="head"></div></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _picture(file: str, alt: str, marks: str, caption: str) -> str:
    image = f'<img src="report/{file}" alt="{escape(alt)}" loading="lazy" draggable="false">'
    return _figure(image + charts.frequency_marks() + marks, "tall", caption)


def _key(kind: str, text: str) -> str:
    return f'<span class="name"><span class="key {kind}"></span>{escape(text)}</span>'


def _ledger_caption(given: Spectra, revealed: Spectra, extended: Spectra) -> str:
    """What the colours mean, and the ledger in figures."""
    usual = 10.0 * np.log10(usual_gain(given, revealed))
    captured, filled = float(revealed.level.mean()), float(extended.level.mean())
    text = (
        f"The ledger as a map:<br>{_key('revealed', 'revealed, captured by the phone')} "
        f"{_key('attenuated', f'attenuated, turned down more than the rest (whose gain is {usual:+.0f} dB)')} "
        f"{_key('extended', 'extended, filled in where nothing was captured')}"
    )
    if captured > 0.0:
        both = captured + filled
        shares = _percent(captured / both), _percent(filled / both)
        text += f"<br>Of the restored energy {shares[0]} is revealed, {shares[1]} extended."
    return text


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.2g} %"


def _names(keys: Sequence[str]) -> str:
    labels = {"input": "Recording", "restored": "Restored", "crowd": "Crowd"}
    return "<br>" + " ".join(_key(charts.LINES[key], labels[key]) for key in keys)


def _levels(spectra: Mapping[str, Spectra], marks: str) -> str:
    rows = {key: 10.0 * np.log10(np.maximum(spectra[key].level, 1e-9)) for key in charts.LINES if key in spectra}
    top = min(0.0, 6.0 * np.ceil((max(float(v.max()) for v in rows.values()) + 3.0) / 6.0))
    bottom = top - 60.0
    inside = charts.lines(rows, bottom, top) + charts.level_marks(bottom, top) + marks
    return _figure(inside, "flat", f"Level over time (RMS, dBFS){_names(list(rows))}")


def _bandwidth(spectra: Mapping[str, Spectra], marks: str) -> str:
    edges = {key: upper_edge(spectra[key]) for key in ("input", "restored") if key in spectra}
    rows = {key: np.array([band_of(f) if np.isfinite(f) else np.nan for f in row]) for key, row in edges.items()}
    usual = {key: float(np.nanmedian(row)) for key, row in edges.items() if np.isfinite(row).any()}
    said = ", ".join(f"{words.hertz(value)} {'before' if key == 'input' else 'after'}" for key, value in usual.items())
    inside = charts.lines(rows, 0.0, BANDS) + charts.frequency_marks() + marks
    median = f"; its median is {said}" if said else ""
    caption = f"Bandwidth over time: the highest pitch that stands out of the noise{median}.{_names(list(rows))}"
    return _figure(inside, "flat", caption)


def _ribbon(report: Mapping[str, Any], marks: str, seconds: float) -> str:
    """Songs, and stretches that a veto took back; nothing where there is neither."""
    songs = [(float(a), float(b)) for a, b in report.get("diagnosis", {}).get("songs", {}).get("songs", [])]
    vetoes = [(float(item["from"]), float(item["to"])) for item in words.taken_back(report)]
    rows = [(kind, spans) for kind, spans in (("song", songs), ("veto", vetoes)) if spans]
    if not vetoes and len(songs) < 2:
        return ""
    names = {"song": "music", "veto": "taken back by a veto"}
    keys = " ".join(_key(kind, names[kind]) for kind, _ in rows)
    return _figure(charts.ribbon(rows, seconds) + marks, "thin", f"Where there is {keys}")
