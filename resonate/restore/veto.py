"""The faithfulness veto: where the restored sound says more than the recording, a stretch is taken back to its input.

It acts on the operators (gains to 1, extension to 0, cross-faded) before anything is remixed, so the ledger's equations
and the proof of the operators hold as before.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import numpy as np

from resonate import RATE, faithfulness
from resonate.models.stats import HOP, N_FFT
from resonate.restore import operator
from resonate.restore.store import Store, Track
from resonate.restore.work import Work

log = logging.getLogger(__name__)

#: Frames over which a taken-back stretch fades into its neighbours (0.26 s).
FADE = 22
_WHY = {
    "support": "energy where the recording holds only noise",
    "chroma": "pitch classes that the recording lacks",
    "onsets": "onsets that the recording lacks",
    "notes": "tones that the recording lacks",
    "excess_db": "more than the recording holds",
    "tones_db": "tones in a crowd without music",
    "silence_db": "sound where the recording is silent",
}


def stretches(frames: int, seconds: float) -> list[tuple[int, int]]:
    """(first, end) frames of stretches of about `seconds`; a rest of less than half of that belongs to the last."""
    length = max(1, round(seconds * RATE / HOP))
    count = max(1, round(frames / length))
    edges = [*(i * length for i in range(count)), frames]
    return list(pairwise(edges))


def _mid(track: Track, first: int, count: int) -> np.ndarray:
    return operator.spectrum(track, first, count).mean(0).abs().numpy() * np.float32(4.0 / N_FFT)


def judge(work: Work, gain: Store, extension: Track) -> list[dict[str, Any]]:
    """What has to be taken back: from, to (seconds), part (gain or extension), why, and the figures beyond limits."""
    source, limits, out = work.track["separator_input"], work.config.veto, []
    gaps = work.diagnosis["songs"]["gaps"]
    for first, end in stretches(work.frames, limits.seconds):
        given = _mid(source, first, end - first)
        begin, stop = first * HOP / RATE, end * HOP / RATE
        gap = any(a <= begin + 0.5 and stop - 0.5 <= b for a, b in gaps)
        revealed = given * gain.read_rows(first, end - first).astype(np.float32).T
        verdicts = {
            "gain": faithfulness.check(revealed, given, work.stats.floor_db, work.stats.in_band, limits, gap),
            "extension": faithfulness.check_extension(_mid(extension, first, end - first), given, limits),
        }
        for part, (figures, failed) in verdicts.items():
            if failed:
                out.append(
                    {
                        "from": round(begin, 2),
                        "to": round(stop, 2),
                        "frames": [first, end],
                        "part": part,
                        "why": [_WHY[name] for name in failed],
                        "figures": {name: round(figures[name], 3) for name in failed},
                    }
                )
        work.tell("restore", end / work.frames)
    return out


def apply(work: Work, gain: Store, extension: Track) -> list[dict[str, Any]]:
    """Judge, then take back; returns what :func:`judge` found."""
    if not work.config.veto.enabled:
        return []
    found = judge(work, gain, extension)
    if found:
        # From here on the arrays are changed in place: a run that is stopped now begins this stage again.
        work.progress.mark(0, [], force=True)
    for part in ("gain", "extension"):
        spans = [item["frames"] for item in found if item["part"] == part]
        if spans:
            _take_back(spans, work.frames, gain if part == "gain" else None, extension)
    if found:
        log.warning("%s: %d stretches were taken back by the faithfulness checks", work.path.name, len(found))
    return found


def kept(spans: list[list[int]], first: int, count: int) -> np.ndarray:
    """(count,) how much of the effect is kept at frames [first, first + count): 0 inside the spans, 1 far off."""
    at = np.arange(first, first + count)
    apart = np.full(count, float(FADE))
    for a, b in spans:
        apart = np.minimum(apart, np.maximum(np.maximum(a - at, at - (b - 1)), 0))
    return (apart / FADE).astype(np.float32)


def _take_back(spans: list[list[int]], frames: int, gain: Store | None, extension: Track) -> None:
    """Gains to the power of what is kept (they stay between themselves and 1), or the extension times it."""
    for first in range(0, frames, operator.FRAMES):
        count = min(operator.FRAMES, frames - first)
        share = kept(spans, first, count + 1)
        if share.min() == 1.0:
            continue
        if gain is not None:
            rows = gain.read_rows(first, count).astype(np.float32)
            gain.write_rows(first, np.where(share[:count, None] > 0, rows ** share[:count, None], 1.0))
        else:
            block = extension.read(first * HOP, count * HOP)
            fine = np.interp(np.arange(count * HOP) / HOP, np.arange(count + 1), share).astype(np.float32)
            extension.write(first * HOP, block * fine)
