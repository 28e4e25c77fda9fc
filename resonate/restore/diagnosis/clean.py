"""Whether a recording is a finished mix already: no crowd, room, clipping or gain control above stated thresholds, so
nothing is to be taken away; and whether it is clean, so nothing is missing either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Shorter recordings give too little to tell by (seconds).
SHORTEST = 12.0


@dataclass
class CleanLimits:
    """Thresholds of :func:`reasons`. All must be kept for a recording to count as clean; for it to count as a finished
    mix, all but those of its band.

    Attributes:
        low_hz, high_hz: the captured band (of a finished mix: what no filter cut away) reaches this low and this high.
        captured: at most this sure of a room, a crowd and a phone (0..1). One of 288 validation captures lies below it
            (resonate/weights/listener.md).
        clipped_share, agc_db: at most. Masters may be limited in some thousandths of their samples.
    """

    low_hz: float = 120.0
    high_hz: float = 13500.0
    captured: float = 0.1
    clipped_share: float = 0.01
    agc_db: float = 12.0


def reasons(d: Mapping[str, Any], limits: CleanLimits) -> list[str]:
    """Why the recording with the diagnosis `d` is not clean, in words; empty: it is."""
    narrow = any(band["low_hz"] > limits.low_hz or band["high_hz"] < limits.high_hz for band in (d, *d["parts"]))
    return faults(d, limits) + ["its band is narrower than that of a finished mix"] * narrow


def faults(d: Mapping[str, Any], limits: CleanLimits) -> list[str]:
    """Why the recording with the diagnosis `d` is no finished mix, in words; empty: it is, if of a narrow band."""
    if d["silent"] or d["seconds"] < SHORTEST:
        return ["it is too short or silent to tell"]
    out = []
    if d["captured"] > limits.captured:
        out.append("it sounds like a recording in a room, or with a crowd")
    if d["clipped_share"] + d["soft_clipped_share"] > limits.clipped_share:
        out.append("it is clipped")
    if d["agc"]["range_db"] > limits.agc_db:
        out.append("a gain control worked on it")
    return out
