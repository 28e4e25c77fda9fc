"""The fixed grid of overlapping blocks, and cross-fades whose weights sum to one.

A network that normalises and attends per block gives another result at another block offset, so the grid is part of
the result: block i starts at i * hop, whatever the length of the recording.
"""

from __future__ import annotations

import numpy as np


def starts(length: int, block: int, hop: int) -> list[int]:
    """Where the blocks start that cover `length` samples; at least one."""
    return list(range(0, max(length - block, 0) + hop, hop)) if length > block else [0]


class Crossfader:
    """Joins consecutive blocks (..., block), each `hop` after the one before, with linear ramps over their overlap.

    The ramps of two neighbours sum to one everywhere. The overlap is at most half of the block, so never more than two
    blocks meet.
    """

    def __init__(self, block: int, hop: int) -> None:
        if not block / 2 <= hop <= block:
            raise ValueError(f"hop {hop} must lie between half of the block ({block}) and the block")
        self.hop = hop
        self._ramp = ((np.arange(block - hop) + 0.5) / max(block - hop, 1)).astype(np.float32)
        self._tail: np.ndarray | None = None

    def push(self, block: np.ndarray, last: bool) -> np.ndarray:
        """The finished stretch that begins where `block` begins: `hop` samples, or all of it for the last block."""
        block, overlap = block.copy(), len(self._ramp)
        if self._tail is not None:
            block[..., :overlap] = block[..., :overlap] * self._ramp + self._tail * (1 - self._ramp)
        self._tail = block[..., self.hop :]
        return block if last else block[..., : self.hop]
