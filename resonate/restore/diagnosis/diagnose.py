"""All estimators over one stream: push blocks, then finish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from resonate.models.stats import RecordingStats, StatsAccumulator
from resonate.restore.diagnosis.channels import ChannelMeter
from resonate.restore.diagnosis.clipping import ClippingMeter
from resonate.restore.diagnosis.codec import CodecMeter
from resonate.restore.diagnosis.finished import captured
from resonate.restore.diagnosis.hum import HumMeter
from resonate.restore.diagnosis.levels import PER_SECOND, LevelMeter
from resonate.restore.diagnosis.listener import listen
from resonate.restore.diagnosis.parts import PartMeter, described
from resonate.restore.diagnosis.room import OCTAVES, Room, estimate_room
from resonate.restore.diagnosis.scene import Scene, hear
from resonate.restore.diagnosis.songs import SetList, find_songs

#: Seconds of each value of the music-to-crowd ratio over time.
STRETCH = 10
#: A gain control counts as at work where its gain is this far from its mean over 40 s, in dB.
_AT_WORK_DB = 1.0


@dataclass(frozen=True)
class Heard:
    """gain_db: (n,) gain of the recording's AGC relative to its mean over 40 s, one value per 50 ms; scene: crowd and
    room."""

    gain_db: np.ndarray
    scene: Scene


@dataclass(frozen=True)
class Findings:
    """What :class:`Diagnoser` found: statistics for the restorer, of all of it and of each part ((first frame,
    statistics)), what was heard over time, figures for the report."""

    stats: RecordingStats
    parts: list[tuple[int, RecordingStats]]
    heard: Heard
    figures: dict[str, Any]


class Diagnoser:
    """Push the recording block by block, at its own rate and at 44.1 kHz; memory grows by 3 kB per second."""

    def __init__(self) -> None:
        self._clipping = ClippingMeter()
        self._stats, self._parts, self._levels = StatsAccumulator(), PartMeter(), LevelMeter()
        self._hum, self._codec, self._channels = HumMeter(), CodecMeter(), ChannelMeter()

    def push_own(self, block: np.ndarray) -> None:
        """Add the next (2, n) block at the recording's own rate, where plateaus are still flat."""
        self._clipping.push(block)

    def push(self, block: np.ndarray) -> None:
        """Add the next (2, n) block at 44.1 kHz."""
        self._stats.update(block)
        for meter in (self._parts, self._levels, self._hum, self._codec, self._channels):
            meter.push(block)

    def finish(self, silent: bool = False) -> Findings:
        """All findings. Of a silent recording nothing is said but that."""
        stats, levels, clipping = self._stats.finish(), self._levels.finish(), self._clipping.finish()
        parts = self._parts.finish()
        inside = stats.in_band > 0
        figures: dict[str, Any] = {
            "clipped_share": round(clipping.hard_share, 7),
            "soft_clipped_share": round(clipping.soft_share, 7),
            "clip_levels": {"high": list(clipping.high), "low": list(clipping.low)},
            **stats.edges(),
            "parts": described(parts),
            "hum": self._hum.finish().to_dict(),
            "codec": self._codec.finish().to_dict(),
            "channels": self._channels.finish().to_dict(),
        }
        if silent:
            zeros = np.zeros(len(levels), np.float32)
            return Findings(stats, [], Heard(zeros, Scene(zeros, 0.0, 0.0, False, False)), figures | _nothing())
        scene = hear(levels)
        heard = Heard(listen(levels), scene)
        return Findings(
            stats,
            parts,
            heard,
            figures
            | {
                "range_over_floor_db": round(float((stats.ltas_db - stats.floor_db)[inside].mean()), 1),
                "noise_floor_dbfs": round(float(np.percentile(levels.total_db, 2)), 1),
                "captured": round(captured(levels), 4),
                "music_to_crowd_db": round(float(np.median(scene.snr_db)), 1),
                "music_to_crowd_over_time_db": over_time(scene.snr_db),
                "room": estimate_room(levels, scene).to_dict(),
                "agc": agc_figures(heard.gain_db),
                "songs": find_songs(levels, scene.snr_db).to_dict(),
            },
        )


def _nothing() -> dict[str, Any]:
    return {
        "range_over_floor_db": None,
        "noise_floor_dbfs": None,
        "captured": 1.0,
        "music_to_crowd_db": None,
        "music_to_crowd_over_time_db": [],
        "room": Room(dict.fromkeys(OCTAVES), None, False, None, dict.fromkeys(OCTAVES)).to_dict(),
        "agc": agc_figures(np.zeros(1, np.float32)),
        "songs": SetList([], []).to_dict(),
    }


def over_time(snr_db: np.ndarray) -> list[float]:
    """Median per 10 s."""
    step = STRETCH * PER_SECOND
    return [round(float(np.median(snr_db[a : a + step])), 1) for a in range(0, len(snr_db), step)]


def agc_figures(gain_db: np.ndarray) -> dict[str, float]:
    """range_db: between the 5th and 95th percentile of the estimated gain; active_share: of the time that it is over
    1 dB from its mean."""
    low, high = np.percentile(gain_db, [5, 95])
    return {
        "range_db": round(float(high - low), 1),
        "active_share": round(float((np.abs(gain_db) > _AT_WORK_DB).mean()), 3),
    }
