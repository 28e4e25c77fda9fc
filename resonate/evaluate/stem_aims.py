"""What fine-tuning a separator on captures has to reach, against the model before it and the recording itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

INPUT = "input"
Figures = Mapping[str, Mapping[str, Mapping[str, list[float]]]]


@dataclass(frozen=True)
class Aim:
    """One figure that is asked for: at least ``wanted`` dB, ``found`` as the mean over ``count`` recordings."""

    says: str
    wanted: float
    found: float
    count: int

    @property
    def met(self) -> bool:
        """Whether it is reached; an aim that nothing could be measured for is not."""
        return bool(self.found >= self.wanted)


def _aim(says: str, wanted: float, ours: list[float], theirs: list[float] | None = None) -> Aim:
    mean = float(np.mean(ours)) if ours else float("nan")
    if theirs is not None:
        mean -= float(np.mean(theirs)) if theirs else float("nan")
    return Aim(says, wanted, mean, len(ours))


def aims(captures: Figures, clean: Figures, before: str, after: str) -> list[Aim]:
    """The aims, from the figures that `resonate.evaluate.separation.compare` gives.

    Args:
        captures: on captures.
        clean: on the clean mixes of the same songs.
        before, after: names of the models before and after training on captures.
    """
    def values(figures: Figures, place: str, system: str, measure: str) -> list[float]:
        return list(figures.get(place, {}).get(system, {}).get(measure, []))

    out = [_aim("mid captures: SI-SDR over the stems, after against before", 2.0,
                values(captures, "mid", after, "stems_si_sdr"), values(captures, "mid", before, "stems_si_sdr"))]
    out += [_aim(f"near captures: SI-SDR of the {stem} against the capture itself", 5.0,
                 values(captures, "near", after, f"{stem}_si_sdr"), values(captures, "near", INPUT, f"{stem}_si_sdr"))
            for stem in ("vocals", "drums")]
    out.append(_aim("mid captures: the crowd under the music (noise_attenuation)", 8.0,
                    values(captures, "mid", after, "noise_attenuation")))
    out.append(_aim("clean mixes: SI-SDR over the stems, after against before", -1.0,
                    values(clean, "all", after, "stems_si_sdr"), values(clean, "all", before, "stems_si_sdr")))
    return out
