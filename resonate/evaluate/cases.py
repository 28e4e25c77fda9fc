"""Where recordings to score come from: the bundled one, pairs of files, a rendered cache."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from resonate import RATE, STEMS, audio
from resonate.data import shards
from resonate.errors import UserError
from resonate.evaluate import drift
from resonate.evaluate.measures import gap_mask
from resonate.evaluate.rivals import Case
from resonate.evaluate.verdict import find_gaps

#: The bundled recording, in the repository root.
BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "demo"


def read_stereo(path: Path, seconds: float | None = None) -> np.ndarray:
    """(2, time) float32 at 44.1 kHz, the first `seconds` or all of it. Raises AudioError for what cannot be read."""
    heard = audio.read(path, duration=seconds)
    samples, _ = audio.to_stereo(heard.samples)
    return audio.resample(samples, heard.rate, RATE) if heard.rate != RATE else samples


def _same_length(*arrays: np.ndarray) -> list[np.ndarray]:
    n = min(a.shape[-1] for a in arrays)
    return [a[..., :n] for a in arrays]


def bundled(folder: Path = BUNDLED) -> Case:
    """The bundled recording with the sum of its clean stems as reference; its name is the file's stem."""
    capture, clean, facts = folder / "demo.m4a", folder / "clean", folder / "demo.json"
    for path in (capture, clean, facts):
        if not path.exists():
            raise UserError(f"The bundled recording lacks {path}; check out the repository again.")
    known = json.loads(facts.read_text("utf-8"))
    stems = np.stack(_same_length(*(read_stereo(clean / f"{stem}.flac") for stem in STEMS)))
    recording, stems = _same_length(read_stereo(capture), stems)
    present = np.array([known["stems_present"][stem] for stem in STEMS])
    gaps = gap_mask(recording.shape[-1], known.get("gaps", []))
    return Case("demo", recording, stems.sum(axis=0), gaps, stems_dry=stems, present=present)


def _named(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; pairs need captures/ and references/ with equally named files.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in audio.SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise UserError(f"{found[path.stem].name} and {path.name} in {folder} have the same name; rename one.")
            found[path.stem] = path
    return found


def pair_files(folder: Path) -> list[tuple[str, Path, Path]]:
    """(name, capture, reference) for `folder`/captures/NAME.* and `folder`/references/NAME.*, sorted by name.

    Raises UserError where a folder is missing or the names do not match.
    """
    captures, references = _named(folder / "captures"), _named(folder / "references")
    if not captures:
        raise UserError(f"{folder / 'captures'} holds no audio; put the recordings there.")
    lonely = sorted(set(captures) ^ set(references))
    if lonely:
        raise UserError(f"'{lonely[0]}' in {folder} has no partner; captures/ and references/ need equal names.")
    return [(name, captures[name], references[name]) for name in sorted(captures)]


def pair(name: str, capture: Path, reference: Path) -> Case:
    """One pair on the recording's clock; gaps are where the reference is silent, facts how it lay (`drift.Clock`).

    Raises UserError, with the pair's name, where the two cannot be aligned.
    """
    try:
        recording, clean, clock = drift.to_clock(read_stereo(capture), read_stereo(reference))
    except UserError as error:
        raise UserError(f"'{name}': {error}") from None
    return Case(name, recording, clean, find_gaps(clean), start=max(0, round(clock.offset * RATE)), facts=asdict(clock))


def cache_index(folder: Path, split: str) -> list[dict]:
    """The examples of one split of a rendered cache. Raises UserError where `folder` is none or the split is empty."""
    return shards.choose(folder, split)


def cached(folder: Path, example: dict) -> Case:
    """One cached example: wet music and noise apart; reference = the dry stems' sum.

    Noise is all in the capture that is not wet music: crowd, handling, overload, codec. The crowd alone is known where
    the cache was rendered with `crowd=true`.
    """
    rows = shards.read_audio(folder, example)
    capture, wet, dry = rows[0], rows[1:5].sum(axis=0), rows[6:10].sum(axis=0)
    gaps = gap_mask(capture.shape[-1], example.get("gaps", []))
    present = np.array(example.get("present", [False] * len(STEMS)), dtype=bool)
    # The stems of a finished mix are unknown.
    stems = (rows[1:5], rows[6:10], present) if present.any() else (None, None, None)
    return Case(Path(example["file"]).stem, capture, dry, gaps, wet, capture - wet, *stems,
                crowd=shards.crowd_of(rows))
