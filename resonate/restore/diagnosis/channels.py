"""How many channels a recording really has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: Side this far below mid: dual mono. A codec lets two equal channels differ by less.
_MONO_DB = -50.0


@dataclass(frozen=True)
class Channels:
    """kind: mono (a file of one channel or two equal ones) or stereo; correlation of the two, -1..1; side_db: side
    against mid; balance_db: left against right."""

    kind: str
    correlation: float
    side_db: float
    balance_db: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        rounded = {n: round(getattr(self, n), 3) for n in ("correlation", "side_db", "balance_db")}
        return {"kind": self.kind, **rounded}


class ChannelMeter:
    """Push consecutive (2, n) blocks."""

    def __init__(self) -> None:
        self._left, self._right, self._both = 0.0, 0.0, 0.0

    def push(self, block: np.ndarray) -> None:
        """Add the next block."""
        left, right = np.asarray(block, dtype=np.float64)
        self._left += float(left @ left)
        self._right += float(right @ right)
        self._both += float(left @ right)

    def finish(self) -> Channels:
        """The verdict; silence counts as mono."""
        mid = self._left + self._right + 2 * self._both
        side = max(self._left + self._right - 2 * self._both, 0.0)
        ratio = float(np.clip(10 * np.log10((side + 1e-20) / (mid + 1e-20)), -120.0, 120.0))
        silent = self._left + self._right < 1e-12
        balance = float(np.clip(10 * np.log10((self._left + 1e-20) / (self._right + 1e-20)), -120.0, 120.0))
        correlation = self._both / np.sqrt(max(self._left * self._right, 1e-30))
        mono = silent or ratio < _MONO_DB
        return Channels("mono" if mono else "stereo", 1.0 if silent else float(correlation), ratio, balance)
