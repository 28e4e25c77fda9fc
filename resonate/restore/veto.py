"""The faithfulness veto: where a stage's result says more than its input, that stretch is taken back to the input.

Every stage that changes the sound is held against what it was given. What the networks do is taken back on their
operators (gains to 1, extension to 0, cross-faded) before anything is remixed, so the ledger's equations and the proof
of the operators hold as before; other stages' tracks are cross-faded to the track they began with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from resonate import RATE, faithfulness
from resonate.models.stats import BINS, HOP, N_FFT
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
#: In place of the noise floor at rates other than 44.1 kHz, at which it was not measured.
_NO_FLOOR = np.full(BINS, -150.0, dtype=np.float32)

Blocks = Iterator[tuple[int, np.ndarray]]
Judgement = tuple[dict[str, float], list[str]]


class Sound(Protocol):
    """Stereo sound of known length that can be read in stretches, as a `Track`."""

    length: int

    def read(self, start: int, count: int) -> np.ndarray:
        """(2, count) samples from `start` on; zeros outside."""
        ...


def stretches(frames: int, seconds: float, rate: int = RATE) -> list[tuple[int, int]]:
    """(first, end) frames of stretches of about `seconds`; a rest of less than half of that belongs to the last."""
    length = max(1, round(seconds * rate / HOP))
    count = max(1, round(frames / length))
    edges = [*(i * length for i in range(count)), frames]
    return list(pairwise(edges))


def _mid(sound: Sound, first: int, count: int) -> np.ndarray:
    return operator.mid_spectrum(sound, first, count).abs().numpy() * np.float32(4.0 / N_FFT)


def _judged(
    work: Work, stage: str, frames: int, verdicts: Callable[[int, int, bool], dict[str, Judgement]], rate: int = RATE
) -> list[dict[str, Any]]:
    """What fails: from, to (seconds), frames, stage, part, why, and the figures beyond limits.

    Args:
        verdicts: called with (first frame, frames, whether no music plays), gives what a check says, by part.
    """
    gaps, out = work.diagnosis["songs"]["gaps"], []
    for first, end in stretches(frames, work.config.veto.seconds, rate):
        begin, stop = first * HOP / rate, end * HOP / rate
        gap = any(a <= begin + 0.5 and stop - 0.5 <= b for a, b in gaps)
        for part, (figures, failed) in verdicts(first, end - first, gap).items():
            if failed:
                out.append(
                    {
                        "from": round(begin, 2),
                        "to": round(stop, 2),
                        # The last stretch does not fade back at the recording's end.
                        "frames": [first, end if end < frames else end + FADE],
                        "stage": stage,
                        "part": part,
                        "why": [_WHY[name] for name in failed],
                        "figures": {name: round(figures[name], 3) for name in failed},
                    }
                )
        work.tell(stage, end / frames)
    if out:
        log.warning("%s: %s: %d stretches are taken back by the faithfulness checks", work.path.name, stage, len(out))
    return out


def judge(work: Work, gain: Store, extension: Track) -> list[dict[str, Any]]:
    """What has to be taken back of the restorer's gain and extension."""
    source, limits = work.track["separator_input"], work.config.veto

    def verdicts(first: int, count: int, gap: bool) -> dict[str, Judgement]:
        given = _mid(source, first, count)
        revealed, stats = given * gain.read_rows(first, count).astype(np.float32).T, work.stats_at(first, count)
        return {
            "gain": faithfulness.check(revealed, given, stats.floor_db, stats.in_band, limits, gap),
            "extension": faithfulness.check_extension(_mid(extension, first, count), given, limits),
        }

    return _judged(work, "restore", work.frames, verdicts)


def judge_sound(work: Work, stage: str, made: Sound, given: Sound, rate: int = RATE) -> list[dict[str, Any]]:
    """What has to be taken back of `made`, which `stage` made of `given`; nothing where the veto is off.

    At 44.1 kHz inside the captured band; at other rates everywhere, and the frequencies of the checks shift with it.
    """

    def verdicts(first: int, count: int, gap: bool) -> dict[str, Judgement]:
        stats = work.stats_at(first, count)
        floor, band = (stats.floor_db, stats.in_band) if rate == RATE else (_NO_FLOOR, None)
        before, after = _mid(given, first, count), _mid(made, first, count)
        return {"sound": faithfulness.check(after, before, floor, band, work.config.veto, gap)}

    if not work.config.veto.enabled or work.silent:
        return []
    return _judged(work, stage, operator.frame_count(made.length), verdicts, rate)


def check_track(work: Work, stage: str, made: Track, given: Track) -> list[dict[str, Any]]:
    """Judge the track that a stage made of another on the same clock, and take back what fails; what was found."""
    found = judge_sound(work, stage, made, given, made.rate)
    take_back(work, found, made, given.read)
    return found


def take_back(
    work: Work, found: Sequence[dict[str, Any]], made: Track, instead: Callable[[int, int], np.ndarray]
) -> None:
    """Cross-fade `made` to what `instead(start, count)` reads, in the stretches `found`."""
    if found:
        # The track is changed in place: a run that is stopped now begins this stage again.
        work.progress.mark(0, [], force=True)
        made.fill(blend(found, made, instead))


def blend(found: Sequence[dict[str, Any]], made: Track, instead: Callable[[int, int], np.ndarray]) -> Blocks:
    """(start, block) of `made`, cross-faded to what `instead` reads in the stretches `found`."""
    spans, size = [item["frames"] for item in found], operator.FRAMES * HOP
    for start, block in made.blocks(size):
        share = _fine(spans, start // HOP, block.shape[1])
        yield start, block if share.min() == 1.0 else block * share + instead(start, block.shape[1]) * (1 - share)


def apply(work: Work, gain: Store, extension: Track) -> list[dict[str, Any]]:
    """Judge what the restorer did, then take back; returns what :func:`judge` found."""
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
    return found


def kept(spans: list[list[int]], first: int, count: int) -> np.ndarray:
    """(count,) how much of the effect is kept at frames [first, first + count): 0 inside the spans, 1 far off."""
    at = np.arange(first, first + count)
    apart = np.full(count, float(FADE))
    for a, b in spans:
        apart = np.minimum(apart, np.maximum(np.maximum(a - at, at - (b - 1)), 0))
    return (apart / FADE).astype(np.float32)


def _fine(spans: list[list[int]], first: int, samples: int) -> np.ndarray:
    """(samples,) float32: :func:`kept` from frame `first` on, sample by sample."""
    share = kept(spans, first, -(-samples // HOP) + 1)
    return np.interp(np.arange(samples) / HOP, np.arange(len(share)), share).astype(np.float32)


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
            extension.write(first * HOP, block * _fine(spans, first, count * HOP))
