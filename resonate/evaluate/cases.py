"""Where recordings to score come from: the bundled one, pairs of files, a rendered cache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resonate import RATE, STEMS, audio
from resonate.errors import UserError
from resonate.evaluate.measures import gap_mask
from resonate.evaluate.rivals import Case
from resonate.evaluate.verdict import find_gaps

#: The bundled recording, in the repository root.
BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "demo"
SUFFIXES = {".wav", ".flac", ".m4a", ".mp4", ".mov", ".3gp", ".mp3", ".ogg", ".opus", ".aac"}
#: capture, 4 wet stems, early mix, 4 dry stems.
ROWS = 10


def read_stereo(path: Path) -> np.ndarray:
    """(2, time) float32 at 44.1 kHz. Raises AudioError for what cannot be read."""
    heard = audio.read(path)
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
    gaps = json.loads(facts.read_text("utf-8")).get("gaps", [])
    stems = _same_length(*(read_stereo(clean / f"{stem}.flac") for stem in STEMS))
    recording, reference = _same_length(read_stereo(capture), np.sum(stems, axis=0))
    return Case("demo", recording, reference, gap_mask(recording.shape[-1], gaps))


def _named(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; pairs need captures/ and references/ with equally named files.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
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


def pairs(folder: Path) -> Iterator[Case]:
    """Cases from `pair_files`; gaps are where the reference is silent."""
    for name, capture, reference in pair_files(folder):
        recording, clean = read_stereo(capture), read_stereo(reference)
        # A pair may differ in length by more than the lag; what only one of them has cannot be scored.
        recording, clean = _same_length(recording, clean)
        yield Case(name, recording, clean, find_gaps(clean))


def cache_index(folder: Path, split: str) -> list[dict]:
    """The examples of one split of a rendered cache. Raises UserError where `folder` is none or the split is empty."""
    try:
        index = json.loads((folder / "index.json").read_text("utf-8"))
        examples, form = index["examples"], index["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no rendered cache (no readable index.json); render one first.") from error
    if form != 1 or index["rate"] != RATE or len(index["rows"]) != ROWS:
        raise UserError(f"{folder} was rendered by another version; render it again.")
    chosen = [example for example in examples if split == "all" or example["split"] == split]
    if not chosen:
        there = ", ".join(sorted({str(example["split"]) for example in examples})) or "none"
        raise UserError(f"{folder} holds no examples of split '{split}'; it has: {there}.")
    return chosen


def cached(folder: Path, example: dict) -> Case:
    """One cached example: wet music and noise apart; reference = the dry stems' sum.

    Rows: capture, wet x 4, early, dry x 4. Noise is all in the capture that is not wet music: crowd, handling, codec.
    """
    try:
        rows = np.load(folder / example["file"]).astype(np.float32)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / example['file']} cannot be read; render the cache again.") from error
    capture, wet, dry = rows[0], rows[1:5].sum(axis=0), rows[6:10].sum(axis=0)
    gaps = gap_mask(capture.shape[-1], example.get("gaps", []))
    return Case(Path(example["file"]).stem, capture, dry, gaps, wet, capture - wet)
