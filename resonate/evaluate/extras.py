"""Opinion models and a note transcriber of other projects, where they are installed: never needed, never fetched.

`extras=` names those to take; without it all that are installed are taken, and the others are named as left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from resonate import RATE, audio
from resonate.errors import UserError
from resonate.evaluate.alignment import align, cut_to_overlap, find_lag

#: Rate of the opinion models, and of basic-pitch's network.
OPINION_RATE, NOTE_RATE = 48000, 22050
#: basic-pitch's network: samples of a window, samples per frame, and frames at either end of a window that lean on
#: what lies outside it and are therefore taken from the neighbour.
NOTE_WINDOW, NOTE_HOP, NOTE_EDGE = 43844, 256, 15
#: Activation from which a key counts as sounding: basic-pitch's own default for frames.
NOTE_ON = 0.3


def _for_opinion(output: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(output, reference) aligned, mid, of equal RMS, (time,) float32 at 48 kHz; None where either is silent."""
    y, c = align(output, reference, RATE)
    level = float(np.sqrt(np.mean(y**2)))
    if level == 0.0 or not np.any(c):
        return None
    y = y * (float(np.sqrt(np.mean(c**2))) / level)
    first, second = (audio.resample(np.clip(x, -1, 1)[None].astype(np.float32), RATE, OPINION_RATE)[0] for x in (y, c))
    return first, second


def zimtohrli(output: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """`zimtohrli`: opinion score 1..5 of a model of the ear (Alakuijala et al. 2025), higher is better.

    Invariant to: level.  Made for small differences: far from the reference it says little.
    """
    from zimtohrli import mos_from_signals

    pair = _for_opinion(output, reference)
    return {} if pair is None else {"zimtohrli": float(mos_from_signals(pair[1], pair[0]))}


def visqol(output: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """`visqol`: opinion score 1..5 of ViSQOL's audio mode (Chinen et al. 2020), by visqol-python, higher is better.

    Invariant to: level.  Trained on coded studio music: like zimtohrli it says little far from the reference.
    """
    from visqol import VisqolApi

    pair = _for_opinion(output, reference)
    if pair is None:
        return {}
    api = VisqolApi()
    api.create(mode="audio")
    given = (x.astype(np.float64) for x in (pair[1], pair[0]))
    return {"visqol": float(api.measure_from_arrays(*given, OPINION_RATE).moslqo)}


def _note_model() -> Path | None:
    """basic-pitch's ONNX file; the package is only looked for: importing it takes tensorflow or CoreML."""
    found = find_spec("basic_pitch")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "saved_models" / "icassp_2022" / "nmp.onnx"
    return path if path.is_file() else None


@lru_cache(maxsize=1)
def _note_session(path: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def sounding_keys(x: np.ndarray) -> np.ndarray:
    """(88, frames) bool: which piano keys basic-pitch (Bittner et al. 2022) hears in a mid channel (time,) at 44.1 kHz.

    Frames are 256 samples at 22050 Hz, 11.6 ms.
    """
    path = _note_model()
    assert path is not None, "asked without basic-pitch"
    session = _note_session(path)
    mono = audio.resample(x[None].astype(np.float32), RATE, NOTE_RATE)[0]
    frames = len(mono) // NOTE_HOP
    padded = np.pad(mono, (NOTE_EDGE * NOTE_HOP, NOTE_WINDOW))
    inside = NOTE_WINDOW // NOTE_HOP + 1 - 2 * NOTE_EDGE
    heard = []
    for start in range(0, max(1, frames), inside):
        window = padded[start * NOTE_HOP :][:NOTE_WINDOW]
        # The outputs are contours (:0), notes (:1) and onsets (:2).
        (notes,) = session.run(["StatefulPartitionedCall:1"], {session.get_inputs()[0].name: window[None, :, None]})
        heard.append(notes[0, NOTE_EDGE : NOTE_EDGE + inside])
    return np.concatenate(heard)[:frames].T >= NOTE_ON


def _keys_of_both(output: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ours, theirs = sounding_keys(output), sounding_keys(reference)
    frames = min(ours.shape[1], theirs.shape[1])
    return ours[:, :frames], theirs[:, :frames]


def notes(output: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """`note_f1`: how far the notes heard in the output are those of the clean mix, by basic-pitch.

    Formula: F1 = 2 both / (output + reference) over all keys and frames.  Range: 0..1, higher is better; none where the
    reference has no notes.  Invariant to: level, nearly to timbre.  Cheats: sharpening what the network listens to.
    """
    ours, theirs = _keys_of_both(*align(output, reference, RATE))
    if not theirs.any():
        return {}
    return {"note_f1": float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))}


def notes_of_recording(output: np.ndarray, recording: np.ndarray) -> dict[str, float]:
    """`notes_invented`: share of the notes heard in the output that are not heard in the recording, by basic-pitch.

    Within two frames and of the same key.  Range: 0..1, lower is better, 0 for an unchanged recording; none where the
    output has no notes.  Invariant to: level, nearly to timbre.  Cheats: doing nothing, silence.  A note that the
    crowd had covered and that was uncovered counts as invented, too.
    """
    y, x = (np.mean(np.atleast_2d(z), axis=0) for z in (output, recording))
    ours, theirs = _keys_of_both(*cut_to_overlap(find_lag(y, x, RATE), y, x))
    near = theirs.copy()
    for shift in (1, 2):
        near[:, shift:] |= theirs[:, :-shift]
        near[:, :-shift] |= theirs[:, shift:]
    return {"notes_invented": float((ours & ~near).sum() / ours.sum())} if ours.any() else {}


@dataclass(frozen=True)
class Extra:
    """present: whether it can run; how: what installs it; against_reference, against_recording: what it measures, None
    where it says nothing."""

    present: Callable[[], bool]
    how: str
    against_reference: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    against_recording: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None = None


EXTRAS: dict[str, Extra] = {
    "zimtohrli": Extra(lambda: find_spec("zimtohrli") is not None, "pip install zimtohrli", zimtohrli),
    "visqol": Extra(lambda: find_spec("visqol") is not None, "pip install visqol-python", visqol),
    "notes": Extra(lambda: find_spec("onnxruntime") is not None and _note_model() is not None,
                   "pip install onnxruntime, then pip install --no-deps basic-pitch", notes, notes_of_recording),
}  # fmt: skip


def choose(names: Sequence[str] | None) -> tuple[str, ...]:
    """The extras to take: those named, or with None all that are installed.

    UserError for one that there is none of or that is not installed.
    """
    if names is None:
        return tuple(name for name, extra in EXTRAS.items() if extra.present())
    for name in names:
        if name not in EXTRAS:
            raise UserError(f"extras={name}: there is no such extra; choose of: {', '.join(EXTRAS)}.")
        if not EXTRAS[name].present():
            raise UserError(f"extras={name}: it is not installed; {EXTRAS[name].how}.")
    return tuple(names)


def missing() -> dict[str, str]:
    """Those that are not installed -> what to do."""
    return {name: f"not installed; {extra.how}" for name, extra in EXTRAS.items() if not extra.present()}


def score(names: Sequence[str], output: np.ndarray, reference: np.ndarray, is_recording: bool) -> dict[str, float]:
    """Figures of the extras `names` for an output, against a clean reference or the recording itself."""
    values: dict[str, float] = {}
    for name in names:
        extra = EXTRAS[name]
        measure = extra.against_recording if is_recording else extra.against_reference
        if measure is not None:
            values |= measure(output, reference)
    return values
