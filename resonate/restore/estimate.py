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
from resonate.restore.screen import spoken
from resonate.restore.separation import passes
from resonate.restore.stages import chain
from resonate.restore.work import Models, output_rate

#: Seconds of work per second of recording on one CPU thread, as benchmarks/restore.py prints them; stages that are not
#: listed take the time of a plain pass over the recording.
PACE = {
    "ingest": 0.002,
    "diagnose": 0.01,
    "precondition": 0.025,
    "remix": 0.017,
    "ledger": 0.01,
    "master": 0.03,
    "report": 0.05,
}
_PLAIN_PASS = 0.005

#: The networks' stages: what each takes whatever its network, and what each MB of its weights adds.
_SEPARATE, _RESTORE = (0.04, 0.008), (0.03, 0.009)

#: The page's previews: seconds of work and bytes of memory per second of sound, and how many seconds they hold at most.
_PREVIEWS, _PREVIEW_BYTES, _PREVIEWED = 0.18, 1.1e6, 900.0

#: Seconds for loading libraries and weights and for drawing the page, however short the recording.
START_UP = 10.0

#: How much less the networks' stages take elsewhere.
_NETWORKS = {"cpu": 1.0, "mps": 0.3, "cuda": 0.1}

#: Resident memory in bytes up to the master: libraries and weights, and what the blocks need. It does not grow with the
#: recording.
MEMORY = {"cpu": 1.25e9, "mps": 2.0e9, "cuda": 3.0e9}

#: Stereo tracks at 44.1 kHz that lie on the disk at once: separator input, four separated, extension, revealed and
#: extended stems.
_SCRATCH_STEREO = 14


@dataclass
class Estimate:
    """Of one recording: its seconds, the time in s by stage, disk (result, and while running) and memory in bytes."""

    seconds: float
    stages: dict[str, float]
    result: float
    scratch: float
    memory: float

    @property
    def time(self) -> float:
        """Seconds in all."""
        return START_UP + sum(self.stages.values())


def estimate(source: Source, config: RestoreConfig, models: Models) -> Estimate:
    """From the length that `probe` found and the size of the weights."""
    rate = source.rate or RATE
    seconds = max(0.0, source.expected / rate - config.start)
    if config.duration is not None:
        seconds = min(seconds, config.duration)
    kind = models.device.split(":")[0]
    pace = {stage.name: PACE.get(stage.name, _PLAIN_PASS) for stage in chain(config)}
    stereo, own = 8.0 * RATE * seconds, 8.0 * rate * seconds
    if config.diagnose_only:
        return Estimate(seconds, {k: v * seconds for k, v in pace.items()}, 1e5, stereo + 2 * own, MEMORY[kind])
    size = models.separator_path.stat().st_size
    runs = passes(config.separate)
    pace["separate"] = (_SEPARATE[0] + _SEPARATE[1] * size / 1e6) * len(runs) * 0.75 / config.separate.stride
    pace["restore"] = _RESTORE[0] + _RESTORE[1] * models.restorer_path.stat().st_size / 1e6
    for name in ("separate", "restore"):
        pace[name] *= _NETWORKS[kind]
    pace["report"] = PACE["report"]
    # Each stretch that is tried is separated once and restored three times.
    tries = "choose" in pace and config.choose.track == "auto"
    tried = config.choose.seconds * min(config.choose.most, 1 + seconds / 150) if tries else 0.0
    pace["choose"] = min(0.5, tried / max(seconds, 1.0)) * (pace["separate"] + 3 * pace["restore"])
    out = resampled_length(round(seconds * rate), rate, output_rate(rate))
    gains = seconds * RATE / HOP * BINS * 8
    result = out * (4 * 8 + 6) + gains + (10 * own if config.ledger else 0) + 2e6
    # A second pass of the separator needs the first one's stems; tone and width make a track each.
    tracks = _SCRATCH_STEREO + (4 if len(runs) > 1 else 0)
    scratch = tracks * stereo + own + 3 * 8 * out + (result if config.keep else 0)
    stages = {name: value * seconds for name, value in pace.items()}
    heard = min(seconds, _PREVIEWED)
    stages["report"] += _PREVIEWS * heard
    # Weights larger than the repo's lie in memory with what their layers put out.
    memory = MEMORY[kind] + 4 * max(0, size - 12_000_000) + _PREVIEW_BYTES * heard
    return Estimate(seconds, stages, result, scratch, memory)


def check_disk(estimates: list[Estimate], output: Path, kept: list[Path]) -> None:
    """UserError where the output's disk has no room for all results and the largest scratch space.

    What an earlier run left in the folders `kept` is used again, so it counts as free.
    """
    need = sum(e.result for e in estimates) + max(e.scratch for e in estimates)
    free = shutil.disk_usage(output).free + sum(used(folder) for folder in kept)
    if need > free:
        unit, name = (1e9, "GB") if need > 1e9 else (1e6, "MB")
        raise UserError(
            f"The disk of {output} has {free / unit:.1f} {name} free and about {need / unit:.1f} {name} are needed: "
            "free some, choose another output, or use ledger=false."
        )


def used(folder: Path) -> int:
    """Bytes of disk that the files below `folder` take; a file with several names counts once."""
    found = [file.stat() for file in folder.rglob("*") if file.is_file()]
    return sum({(at.st_dev, at.st_ino): at.st_blocks * 512 for at in found}.values())


def sentence(estimates: list[Estimate], device: str) -> str:
    """The estimate in plain words."""
    count, minutes = len(estimates), sum(e.seconds for e in estimates) / 60
    disk = sum(e.result for e in estimates) + max(e.scratch for e in estimates)
    return (
        f"{count} recording{'s' if count > 1 else ''}, {minutes:.1f} min in all: about "
        f"{spoken(sum(e.time for e in estimates))} on {device}, "
        f"{sum(e.result for e in estimates) / 1e6:.0f} MB of results ({disk / 1e6:.0f} MB of disk while it runs), "
        f"{max(e.memory for e in estimates) / 1e9:.1f} GB of memory."
    )
