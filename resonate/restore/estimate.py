"""What a restoration will take: time, disk and memory."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from resonate import RATE
from resonate.audio import Source, resampled_length
from resonate.errors import UserError
from resonate.models.stats import BINS, HOP
from resonate.restore.config import RestoreConfig
from resonate.restore.work import output_rate

#: Seconds of work per second of recording with the weights of the repo, measured on two CPU cores; a GPU needs less.
PACE = {"cpu": 1.0, "mps": 0.4, "cuda": 0.3}
START_UP = 8.0

#: Resident memory in bytes: libraries and weights, and what the blocks need. It does not grow with the recording.
MEMORY = {"cpu": 1.6e9, "mps": 2.0e9, "cuda": 3.0e9}

_DIAGNOSE_PACE = 0.05

#: Stereo tracks at 44.1 kHz that lie on the disk at once: separator input, four separated, extension, revealed and
#: extended stems; besides the input at its own rate and the premaster.
_SCRATCH_STEREO = 14


@dataclass
class Estimate:
    """Of one recording: its seconds, and the time in s, disk (result, and while running) and memory in bytes."""

    seconds: float
    time: float
    result: float
    scratch: float
    memory: float


def estimate(source: Source, config: RestoreConfig, device: str) -> Estimate:
    """From the length that `probe` found."""
    rate = source.rate or RATE
    seconds = max(0.0, source.expected / rate - config.start)
    if config.duration is not None:
        seconds = min(seconds, config.duration)
    kind = device.split(":")[0]
    stereo = 8.0 * RATE * seconds
    own = 8.0 * rate * seconds
    if config.diagnose_only:
        return Estimate(seconds, START_UP + _DIAGNOSE_PACE * seconds, 1e5, stereo + 2 * own, MEMORY[kind])
    out = resampled_length(round(seconds * rate), rate, output_rate(rate))
    gains = seconds * RATE / HOP * BINS * 8
    result = out * (4 * 8 + 6) + gains + (10 * own if config.ledger else 0) + 2e6
    scratch = _SCRATCH_STEREO * stereo + own + 8 * out
    return Estimate(seconds, START_UP + PACE[kind] * seconds, result, scratch, MEMORY[kind])


def check_disk(estimates: list[Estimate], output: Path) -> None:
    """UserError where the output's disk has no room for all results and the largest scratch space."""
    need = sum(e.result for e in estimates) + max(e.scratch for e in estimates)
    free = shutil.disk_usage(output).free
    if need > free:
        raise UserError(
            f"The disk of {output} has {free / 1e9:.1f} GB free and about {need / 1e9:.1f} GB are needed: "
            "free some, choose another output, or use ledger=false."
        )


def sentence(estimates: list[Estimate], device: str) -> str:
    """The estimate in plain words."""
    count, minutes = len(estimates), sum(e.seconds for e in estimates) / 60
    time = sum(e.time for e in estimates)
    disk = sum(e.result for e in estimates) + max(e.scratch for e in estimates)
    took = f"{time:.0f} s" if time < 120 else f"{time / 60:.0f} min"
    return (
        f"{count} recording{'s' if count > 1 else ''}, {minutes:.1f} min in all: about {took} on {device}, "
        f"{sum(e.result for e in estimates) / 1e6:.0f} MB of results ({disk / 1e6:.0f} MB of disk while it runs), "
        f"{max(e.memory for e in estimates) / 1e9:.1f} GB of memory."
    )
