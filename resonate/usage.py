"""What a process takes of the machine."""

from __future__ import annotations

import resource
import sys


def peak_mb(usage: resource.struct_rusage | None = None) -> float:
    """Largest resident set so far, in MB: of this process, or of the ended one that `usage` tells of."""
    usage = usage or resource.getrusage(resource.RUSAGE_SELF)
    # macOS counts in bytes, Linux in kilobytes.
    return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
