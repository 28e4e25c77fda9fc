"""The stage that separates: HTDemucs on a fixed grid of overlapping blocks, in one or several passes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from resonate import STEMS
from resonate.models.separator import apply_separator, segment_samples
from resonate.restore import grid, veto
from resonate.restore.config import RestoreConfig
from resonate.restore.config import Separate as Settings
from resonate.restore.store import Track
from resonate.restore.work import Work, finite, to_db


def stem_rows(k: int) -> slice:
    """Channels of stem `k` in a track of eight channels."""
    return slice(2 * k, 2 * k + 2)


@dataclass(frozen=True)
class Pass:
    """One run of the network over the whole recording.

    Its input is the recording times `recording` plus the sum of the stems so far times `stems`; the new stems are the
    former ones times `former` plus what the network gives times `new`. The grid begins `offset` blocks early.
    """

    recording: float
    stems: float
    former: float
    new: float
    offset: float = 0.0


def passes(settings: Settings) -> list[Pass]:
    """The runs that the settings ask for.

    First `shifts` runs whose grids lie evenly apart, averaged. Then, with `again`, the sum of the stems, from which
    the crowd is gone, is separated anew. Last, with `residual`, what is in no stem is separated and added to them.
    """
    count = settings.shifts
    out = [Pass(1.0, 0.0, k / (k + 1), 1 / (k + 1), settings.stride * k / count) for k in range(count)]
    if settings.again:
        out.append(Pass(recording=0.0, stems=1.0, former=0.0, new=1.0))
    if settings.residual:
        out.append(Pass(recording=1.0, stems=-1.0, former=1.0, new=1.0))
    return out


class Separate:
    """Takes stems out of the recording; what is in none of them is the crowd.

    The grid is part of the result, since the network normalises and attends per block.
    """

    name = "separate"
    networks = ("separator",)

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """How the blocks overlap, which passes are made, and how the result is checked."""
        return {**asdict(config.separate), "stems": list(STEMS), "veto": asdict(config.veto)}

    def run(self, work: Work) -> dict[str, Any]:
        """Adds track `separated`, eight channels: the stems in order, stereo each."""
        source, settings = work.track["separator_input"], work.config.separate
        if work.silent:
            work.new_track("separated", 2 * len(STEMS))
            return {"skipped": "the recording is silent"}
        block = segment_samples(work.models.separator)
        hop = max(int(block * settings.stride), -(-block // 2))
        plan = passes(settings)
        grids = [
            [at - round(block * p.offset) for at in grid.starts(source.length + round(block * p.offset), block, hop)]
            for p in plan
        ]
        ends = np.cumsum([len(places) for places in grids]).tolist()
        # After a stop: the pass that was running, which needs the one before it.
        current = next((i for i, end in enumerate(ends) if work.progress.done < end), len(plan) - 1)
        names = [*(f"pass_{i}" for i in range(len(plan) - 1)), "separated"]
        former = target = None
        for i in range(max(0, current - 1), len(plan)):
            former, target = target, work.new_track(names[i], 2 * len(STEMS))
            if i >= current:
                before = ends[i] - len(grids[i])
                _Run(work, plan[i], former, target, grids[i], block, hop, before, ends[-1]).go()
                work.progress.mark(ends[i], [target], force=True)
                if former is not None:
                    work.discard(names[i - 1])
        assert target is not None
        counts = {"block_samples": block, "hop_samples": hop, "blocks": ends[-1], "passes": len(plan)}
        taken_back = veto.judge_sound(work, self.name, Music(target), source)
        veto.take_back(work, taken_back, target, lambda start, count: _unseparated(source.read(start, count)))
        return {**counts, **_levels(target, source), "taken_back": taken_back}


class Music:
    """The stems' sum, (2, n) stretches of a track of eight channels."""

    def __init__(self, stems: Track) -> None:
        self._stems, self.length = stems, stems.length

    def read(self, start: int, count: int) -> np.ndarray:
        """(2, count) samples."""
        return self._stems.read(start, count).reshape(len(STEMS), 2, -1).sum(0)


def _unseparated(block: np.ndarray) -> np.ndarray:
    """(8, n) stems of (2, n) samples that nothing is taken from: all is in `other`."""
    out = np.zeros((2 * len(STEMS), block.shape[1]), np.float32)
    out[stem_rows(STEMS.index("other"))] = block
    return out


@dataclass
class _Run:
    """One pass over blocks of `block` samples at `places`, of which `before` of `total` lie in earlier passes."""

    work: Work
    what: Pass
    former: Track | None
    target: Track
    places: list[int]
    block: int
    hop: int
    before: int
    total: int

    def go(self) -> None:
        """Fill `target`, from the block on at which the last run stopped."""
        work = self.work
        first = min(max(work.progress.done - self.before, 0), len(self.places))
        fader = grid.Crossfader(self.block, self.hop)
        # The block before is computed again for its end, which fades into the next.
        for i in range(max(0, first - 1), len(self.places)):
            start, last = self.places[i], i == len(self.places) - 1
            x = torch.from_numpy(self._input(start))[None].to(work.models.device)
            with torch.inference_mode():
                # A model with a fifth source keeps the crowd there; the crowd is the residual in any case.
                y = apply_separator(work.models.separator, x)[0, : len(STEMS)].reshape(2 * len(STEMS), self.block)
            stretch = fader.push(finite(y.float().cpu().numpy(), "separator"), last)
            if i >= first:
                self.target.write(start, self._joined(start, stretch))
                work.progress.mark(self.before + i + 1, [t for t in (self.target, self.former) if t is not None])
            work.tell("separate", (self.before + i + 1) / self.total)

    def _input(self, start: int) -> np.ndarray:
        x = self.work.track["separator_input"].read(start, self.block)
        if self.what.stems == 0.0 or self.former is None:
            return x
        stems = self.former.read(start, self.block).reshape(len(STEMS), 2, -1).sum(0)
        return np.float32(self.what.recording) * x + np.float32(self.what.stems) * stems

    def _joined(self, start: int, stretch: np.ndarray) -> np.ndarray:
        if self.former is None:
            return stretch
        former = self.former.read(start, stretch.shape[1])
        return np.float32(self.what.former) * former + np.float32(self.what.new) * stretch


def _levels(separated: Track, source: Track) -> dict[str, Any]:
    energy, crowd = np.zeros(2 * len(STEMS)), 0.0
    for start, block in separated.blocks():
        energy += np.square(block, dtype=np.float64).sum(1)
        stereo = block.reshape(len(STEMS), 2, -1).sum(0)
        crowd += float(np.square(source.read(start, block.shape[1]) - stereo, dtype=np.float64).sum())
    levels = {
        name: to_db(float(np.sqrt(energy[stem_rows(k)].sum() / (2 * separated.length)))) for k, name in enumerate(STEMS)
    }
    return {"level_dbfs": {**levels, "crowd": to_db(float(np.sqrt(crowd / (2 * separated.length))))}}
