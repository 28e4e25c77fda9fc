"""Precondition: what is repaired before the networks hear the recording.

In this order: declip (mode extend alone, at the recording's own rate, where plateaus are still flat), offset, rumble
and hum (linear filters), bumps and single claps or shouts (a mask of gains up to 1), the AGC's gain (a bounded gain
over time). A part that diagnosis finds nothing for is left out, so the sound passes it bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import butter, sosfilt

from resonate import RATE
from resonate.errors import UserError
from resonate.models.stats import HOP
from resonate.restore import operator, veto
from resonate.restore.config import RestoreConfig
from resonate.restore.prepare import SILENCE, resample_track
from resonate.restore.repair import agc, declip, transients
from resonate.restore.repair.hum import notches
from resonate.restore.store import Track
from resonate.restore.work import Work, to_db

Blocks = Iterable[tuple[int, np.ndarray]]
#: Share of clipped samples from which declipping is worth its time.
LEAST_CLIPPED = 1e-6
#: Attenuation in dB from which an event counts.
_LEAST_DB = 1.0
#: Length from which a recording shows what is usual in it.
_LEAST_SECONDS = 4.0


class Precondition:
    """See the module. All that it did beyond filters lies in the result's work folder, for the proof."""

    name = "precondition"

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """Which parts are on, and how the result is checked."""
        own = {"mode": config.mode, "bypass": config.clean.bypass, **asdict(config.precondition)}
        return {**own, "veto": asdict(config.veto)}

    def run(self, work: Work) -> dict[str, Any]:
        """Adds track `separator_input`; stores `events` (frames, 17) in dB and `agc` (frames, 1), where they act."""
        source = work.track["ingested"]
        effect: dict[str, Any] = {"declip": self._skip_declip(work)}
        if effect["declip"] is None:
            source = _declip(work)
            effect["declip"] = "clipped samples were estimated again"
        effect |= self._filters(work, source)
        blocks = linear_blocks(source, effect)
        blocks, effect["events"] = self._events(work, blocks)
        blocks, effect["agc"] = self._agc(work, blocks)
        target = work.new_track("separator_input").fill(blocks)
        effect["taken_back"] = veto.check_track(work, self.name, target, work.track["ingested"])
        peak = max(float(np.abs(block).max()) for _, block in target.blocks())
        work.silent = work.silent or peak < SILENCE
        for name in ("linear", "declipped"):
            if name in work.track:
                work.discard(name)
        for name in ("ingested", "heard"):
            work.drop(name)
        return effect | {"peak_after_dbfs": to_db(peak)}

    @staticmethod
    def _skip_declip(work: Work) -> str | None:
        """Why nothing is declipped, or None."""
        if not work.config.precondition.declip:
            return "off"
        if work.config.mode == "reveal":
            return "off in mode reveal, as it estimates samples"
        if bypassed(work):
            return "bypassed: the recording is a finished mix"
        if work.diagnosis["clipped_share"] > 0.5:
            return "bypassed: more is flat than there is to estimate it from"
        found = work.diagnosis["clipped_share"] > LEAST_CLIPPED and work.diagnosis["clip_levels"]["high"]
        return None if found else "bypassed: no clipping was found"

    @staticmethod
    def _filters(work: Work, source: Track) -> dict[str, Any]:
        config, mean = work.config.precondition, np.zeros(2)
        if bypassed(work):
            return {"dc_removed": [0.0, 0.0], "rumble_hz": 0.0, "hum_lines_hz": []}
        if config.remove_dc:
            for _, block in source.blocks():
                mean += block.sum(1, dtype=np.float64) / source.length
        lines = [hz for hz, _ in work.diagnosis["hum"]["lines"]] if config.hum else []
        return {"dc_removed": [float(v) for v in mean], "rumble_hz": config.rumble_hz, "hum_lines_hz": lines}

    @staticmethod
    def _events(work: Work, blocks: Blocks) -> tuple[Blocks, Any]:
        config = work.config.precondition
        if not config.events or bypassed(work) or work.silent:
            return blocks, "bypassed: the recording is a finished mix" if bypassed(work) else "off"
        if work.length < _LEAST_SECONDS * RATE:
            return blocks, f"bypassed: {_LEAST_SECONDS:g} s at least are needed to tell an event from the music"
        track = work.new_track("linear").fill(blocks)

        def power(first: int, count: int) -> np.ndarray:
            return operator.spectrum(track, first, count).abs().square().sum(0).numpy()

        store, frames, least = None, 0, 0.0
        for first, gains in transients.gain_stretches(power, work.frames, config.events_margin_db):
            acts = gains.min(1) <= -_LEAST_DB
            if store is None and acts.any():
                store = work.new_store("events", (transients.BANDS,), "<f2")
            if store is not None:
                store.write_rows(first, gains)
            frames, least = frames + int(acts.sum()), min(least, float(gains.min()))
        if store is None:
            return track.blocks(), "bypassed: no single events were found"
        effect = {"seconds": round(frames * HOP / RATE, 2), "most_attenuation_db": round(-least, 2)}
        return masked_blocks(track, store.read_rows), effect

    @staticmethod
    def _agc(work: Work, blocks: Blocks) -> tuple[Blocks, Any]:
        config, span = work.config.precondition, work.diagnosis["agc"]["range_db"]
        if not config.agc or bypassed(work) or work.silent:
            return blocks, "bypassed: the recording is a finished mix" if bypassed(work) else "off"
        if span < config.agc_least_db:
            return blocks, f"bypassed: the gain moved by {span:g} dB, less than {config.agc_least_db:g} dB"
        heard = work.track["heard"]
        gain_db = agc.inverse_gain_db(heard.read(0, heard.length)[0], config.agc_most_db)
        store = work.new_store("agc", (1,), "<f4")
        for first in range(0, work.frames, operator.FRAMES):
            store.write_rows(first, agc.at_frames(gain_db, first, min(operator.FRAMES, work.frames - first)))
        effect = {"least_db": round(float(gain_db.min()), 2), "most_db": round(float(gain_db.max()), 2)}
        return scaled_blocks(blocks, store.read_rows), effect


def bypassed(work: Work) -> bool:
    """Whether diagnosis finds a finished mix, of which nothing is to be taken away, and the settings let it pass."""
    return work.config.clean.bypass and bool(work.diagnosis["finished"])


def _declip(work: Work) -> Track:
    """The recording declipped at its own rate, at 44.1 kHz as track `declipped`. Goes on after a stop."""
    given, levels = work.track["input"], work.diagnosis["clip_levels"]
    own = work.new_track("declipped_own", 2, given.length, given.rate)
    limits = declip.ClipLevels(tuple(levels["high"]), tuple(levels["low"]))
    for start, block in declip.declip_blocks(given.read, given.length, limits, work.progress.done * declip.STRETCH):
        own.write(start, block)
        work.progress.mark(start // declip.STRETCH + 1, [own])
        work.tell("precondition", start / given.length)
    target = resample_track(own, work.new_track("declipped"))
    work.discard("declipped_own")
    return target


def linear_blocks(source: Track, effect: dict[str, Any]) -> Iterator[tuple[int, np.ndarray]]:
    """(start, block) of `source` less its mean, high-passed, its hum notched, as `effect` says; as it is if nothing."""
    mean = np.array(effect["dc_removed"])[:, None]
    parts = [butter(2, effect["rumble_hz"], "highpass", fs=RATE, output="sos")] if effect["rumble_hz"] > 0 else []
    parts += [notches(effect["hum_lines_hz"])] if effect.get("hum_lines_hz") else []
    sos = np.concatenate(parts) if parts else None
    state = np.zeros((len(sos), 2, 2)) if sos is not None else None
    for start, block in source.blocks():
        y = block - mean if mean.any() else block
        if sos is not None:
            y, state = sosfilt(sos, y, axis=-1, zi=state)
        yield start, y.astype(np.float32)


def masked_blocks(track: Track, rows: Callable[[int, int], np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """(start, block) of `track` under the mask whose `rows` (frames, 17) in dB are read."""

    def mask(first: int, count: int) -> np.ndarray:
        return transients.to_mask(rows(first, count).astype(np.float32))[None]

    for start, block in operator.apply(track, mask):
        yield start, block[0]


def scaled_blocks(blocks: Blocks, rows: Callable[[int, int], np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """(start, block) times the gain whose `rows` (frames, 1) are read; the last row holds on to the end."""
    for start, block in blocks:
        gains = rows(start // HOP, block.shape[1] // HOP + 3)
        filled = np.flatnonzero(gains[:, 0] > 0)
        gains[filled[-1] + 1 :] = gains[filled[-1]]
        yield start, agc.scale(block, start, gains)


def again(work: Work, effect: dict[str, Any], folder: Path) -> Track:
    """`separator_input` made again from track `ingested` with the filters and the taken-back stretches in `effect` and
    the rows kept in `folder`.

    Raises UserError where a row kept there could add sound beyond the stated bounds.
    """
    blocks = linear_blocks(work.track["ingested"], effect)
    if isinstance(effect.get("events"), dict):
        rows = np.load(folder / "events.npy", mmap_mode="r")
        if rows.size and float(rows.max()) > 0.0:
            raise UserError(f"{folder / 'events.npy'} holds gains above 1; it is not what a restoration leaves.")
        track = work.new_track("linear").fill(blocks)
        blocks = masked_blocks(track, lambda first, count: np.array(rows[first : first + count]))
    if isinstance(effect.get("agc"), dict):
        gains = np.load(folder / "agc.npy", mmap_mode="r")
        most = 10 ** (work.config.precondition.agc_most_db / 20) * 1.0001
        if float(gains.max()) > most or float(gains.min()) < 1 / most:
            raise UserError(f"{folder / 'agc.npy'} holds gains beyond the bound; it is not what a restoration leaves.")

        def read(first: int, count: int) -> np.ndarray:
            part = np.array(gains[first : first + count])
            return np.pad(part, ((0, count - len(part)), (0, 0)))

        blocks = scaled_blocks(blocks, read)
    prepared = work.new_track("prepared").fill(blocks)
    given = work.track["ingested"]
    return work.new_track("blended").fill(veto.blend(effect["taken_back"], prepared, given.read))
