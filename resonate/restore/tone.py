"""The stages between the stems and the master: bounded tone, gentle compression, and a bound on stereo width.

All are linear filters or slow gains on the track `premaster`. A stage that has nothing to do leaves the very track.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np
from scipy.signal import oaconvolve

from resonate import RATE
from resonate.audio import AudioError, Reader, to_stereo
from resonate.errors import UserError
from resonate.models.stats import BINS, N_FFT
from resonate.restore import veto
from resonate.restore.config import RestoreConfig
from resonate.restore.loudness import LoudnessMeter, integrated
from resonate.restore.store import Track
from resonate.restore.work import Work

#: Centres in Hz of the thirds of an octave in which spectra are compared.
CENTRES = 1000.0 * 2.0 ** (np.arange(-17, 14) / 3)

_FRAME = 8192
#: Half of the filters' length in seconds, so that a third of an octave at 40 Hz is resolved.
_HALF = 0.05

#: Side-to-mid ratios that differ by less than this many dB count as equal: a third of an octave holds few bins.
_SAME_DB = 1.0


def band_powers(blocks: Iterable[np.ndarray], rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean power of mid and of side (31 values each, one per third of an octave) of (2, n) blocks at `rate` Hz.

    Welch's method with Hann windows; bands above half of the rate hold zeros.
    """
    window, rest = np.hanning(_FRAME).astype(np.float32), np.zeros((2, _FRAME // 2), np.float32)
    power = np.zeros((2, _FRAME // 2 + 1))
    for block in blocks:
        x = np.concatenate([rest, np.stack([block.sum(0), block[0] - block[1]]) / 2], axis=1)
        count = max(0, (x.shape[1] - _FRAME) // (_FRAME // 2) + 1)
        for i in range(count):
            frame = x[:, i * _FRAME // 2 : i * _FRAME // 2 + _FRAME]
            power += np.square(np.abs(np.fft.rfft(frame * window)), dtype=np.float64)
        rest = x[:, count * _FRAME // 2 :]
    power += np.square(np.abs(np.fft.rfft(rest * window[: rest.shape[1]], _FRAME)), dtype=np.float64)
    return tuple(_thirds(power, np.fft.rfftfreq(_FRAME, 1 / rate)))


def _thirds(power: np.ndarray, freqs: np.ndarray) -> np.ndarray:
    """(..., bins) to (..., 31): means over thirds of an octave, at least over the nearest bin."""
    out = np.zeros((*power.shape[:-1], len(CENTRES)))
    for k, centre in enumerate(CENTRES):
        inside = (freqs >= centre * 2 ** (-1 / 6)) & (freqs < centre * 2 ** (1 / 6))
        if centre > freqs[-1]:
            continue
        if not inside.any():
            inside[np.abs(freqs - centre).argmin()] = True
        out[..., k] = power[..., inside].mean(-1)
    return out


def to_filter(gains_db: np.ndarray, rate: int) -> np.ndarray:
    """Linear-phase FIR of odd length with these gains (31, dB) at the centres, flat beyond them."""
    half = round(_HALF * rate)
    size = 4 * half
    freqs = np.fft.rfftfreq(size, 1 / rate)
    gains = 10 ** (np.interp(np.log(np.maximum(freqs, 1.0)), np.log(CENTRES), gains_db) / 20)
    response = np.roll(np.fft.irfft(gains, size), half)[: 2 * half + 1]
    return response * np.hanning(2 * half + 3)[1:-1]


def correction(measured: np.ndarray, wanted: np.ndarray, low_hz: float, high_hz: float, max_db: float) -> np.ndarray:
    """Gains in dB (31) that bring the shape of `measured` towards `wanted` (powers), at most `max_db` either way.

    Only bands between `low_hz` and `high_hz` where both have power are compared; beyond them the outermost gain holds.
    The mean gain over the bands is zero before it is bounded, so the balance changes and not the level.
    """
    usable = (low_hz <= CENTRES) & (high_hz >= CENTRES) & (measured > 1e-12 * measured.max()) & (wanted > 0)
    if not usable.any():
        return np.zeros(len(CENTRES))
    gains = 10 * np.log10(wanted[usable] / measured[usable])
    gains = np.clip(gains - gains.mean(), -max_db, max_db)
    return np.interp(np.log(CENTRES), np.log(CENTRES[usable]), gains)


def _filtered(track: Track, target: Track, taps: np.ndarray, side_only: bool = False) -> None:
    """Fill `target` with `track` through `taps`, both channels or their difference alone, without delay."""
    # In single precision, which errs by -129 dB of the peak, transforms take two fifths of the time.
    half, taps = len(taps) // 2, taps.astype(np.float32)
    for start, block in track.blocks():
        n = block.shape[1]
        x = track.read(start - half, n + 2 * half)
        if side_only:
            mid, side = block.sum(0) / 2, (x[0] - x[1]) / 2
            side = oaconvolve(side, taps, mode="valid")
            y = np.stack([mid + side, mid - side])
        else:
            y = oaconvolve(x, taps[None], mode="valid", axes=-1)
        target.write(start, y)


def _replace(work: Work) -> tuple[Track, Track]:
    """The track `premaster` and the one that takes its place."""
    track = work.track["premaster"]
    return track, work.new_track("premaster", 2, track.length, track.rate)


def _equalise(work: Work, stage: str, wanted: np.ndarray, max_db: float) -> dict[str, Any]:
    track = work.track["premaster"]
    mid, _ = band_powers((block for _, block in track.blocks()), track.rate)
    assert work.stats is not None
    gains = correction(mid, wanted, work.stats.low_hz, work.stats.high_hz, max_db)
    if not np.abs(gains).max():
        return {"skipped": "there is nothing to compare"}
    track, target = _replace(work)
    _filtered(track, target, to_filter(gains, track.rate))
    shown = {f"{hz:.0f} Hz": round(float(g), 2) for hz, g in zip(CENTRES[::3], gains[::3], strict=True)}
    return {"gain_db": shown, "taken_back": veto.check_track(work, stage, target, track)}


class Equalise:
    """Corrective EQ towards the mean spectrum of finished music that the restorer's weights hold."""

    name = "equalise"
    networks = ("restorer",)

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """Its bound."""
        return {**asdict(config.equalise), "instead": config.tonal_reference is not None}

    def run(self, work: Work) -> dict[str, Any]:
        """Replaces track `premaster`."""
        if work.silent or work.config.equalise.max_db == 0:
            return {"skipped": "the recording is silent" if work.silent else "equalise.max_db=0"}
        if work.config.tonal_reference:
            return {"skipped": "tonal_reference says what to aim at"}
        power = 10 ** (work.models.restorer.target_db.double().cpu().numpy() / 10)
        return _equalise(work, self.name, _thirds(power, np.arange(BINS) * RATE / N_FFT), work.config.equalise.max_db)


class Match:
    """EQ towards the long-term spectrum of a reference track; nothing else of the reference is used."""

    name = "match"
    networks = ("tonal_reference",)

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """Its bound, and whether there is a reference."""
        return {**asdict(config.match), "given": config.tonal_reference is not None}

    def run(self, work: Work) -> dict[str, Any]:
        """Replaces track `premaster`."""
        if work.silent or not work.config.tonal_reference:
            return {"skipped": "the recording is silent" if work.silent else "no tonal_reference is given"}
        try:
            reader = Reader(work.config.tonal_reference)
            blocks = (to_stereo(block, reader.source.layout)[0] for block in reader)
            # The rate is only sure once a block is decoded.
            first = next(blocks)
            wanted, _ = band_powers(chain([first], blocks), reader.source.rate)
        except AudioError as error:
            # Not the recording's fault: what is done so far is kept.
            raise UserError(f"tonal_reference={error}") from None
        return _equalise(work, self.name, wanted, work.config.match.max_db)


class Compress:
    """Slow, bounded gain on what is louder than the track's own loudness.

    The level is the K-weighted power over 0.4 s around each moment, so nothing is anticipated or late; the gain is
    smoothed over as long.
    """

    name = "compress"

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """Ratio and bound."""
        return asdict(config.compress)

    def run(self, work: Work) -> dict[str, Any]:
        """Replaces track `premaster`."""
        config, track = work.config.compress, work.track["premaster"]
        if config.ratio == 1 or config.max_db == 0:
            return {"skipped": "compress.ratio=1" if config.ratio == 1 else "compress.max_db=0"}
        meter = LoudnessMeter(track.rate)
        for _, block in track.blocks():
            meter.push(block)
        gain_db = compression(meter.power, config.ratio, config.max_db)
        if gain_db is None:
            return {"skipped": "its loudness is not defined: it is too quiet or too short"}
        track, target = _replace(work)
        at = (np.arange(len(gain_db)) + 0.5) * track.rate / 100
        for start, block in track.blocks():
            db = np.interp(np.arange(start, start + block.shape[1]), at, gain_db)
            target.write(start, block * (10 ** (db / 20)).astype(np.float32))
        effect = {"most_db": round(float(-gain_db.min()), 2), "mean_db": round(float(-gain_db.mean()), 2)}
        return {**effect, "taken_back": veto.check_track(work, self.name, target, track)}


def compression(power: np.ndarray, ratio: float, max_db: float) -> np.ndarray | None:
    """Gain in dB, -max_db..0, per 10 ms from K-weighted power per 10 ms; None where the loudness is not defined."""
    loudness = integrated(power)
    if not np.isfinite(loudness):
        return None
    window = np.hanning(43)[1:-1] / np.hanning(43).sum()

    def smooth(values: np.ndarray) -> np.ndarray:
        return np.convolve(np.pad(values, 20, mode="edge"), window, mode="valid")

    level = -0.691 + 10 * np.log10(np.maximum(smooth(power), 1e-30))
    return -smooth(np.clip((1 - 1 / ratio) * (level - loudness), 0.0, max_db))


class Width:
    """Turns the difference of the channels down wherever it is stronger, beside their sum, than in the recording."""

    name = "width"

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """Its bound."""
        return asdict(config.width)

    def run(self, work: Work) -> dict[str, Any]:
        """Replaces track `premaster`."""
        if work.silent:
            return {"skipped": "the recording is silent"}
        track, limit = work.track["premaster"], work.config.width.limit
        assert work.stats is not None
        inside = (work.stats.low_hz <= CENTRES) & (work.stats.high_hz >= CENTRES)
        captured = band_powers((block for _, block in work.track["input"].blocks()), work.rate)
        wide = _width_db(*captured)
        # Where nothing was captured, the width of the captured band next to it counts.
        usable = inside & (captured[0] + captured[1] > 0)
        if not usable.any():
            return {"skipped": "there is nothing to compare"}
        wide = np.interp(np.log(CENTRES), np.log(CENTRES[usable]), wide[usable])
        now = _width_db(*band_powers((block for _, block in track.blocks()), track.rate))
        over = np.maximum(0.0, now - wide - 20 * np.log10(max(limit, 1e-6)))
        report = {"most_db": round(float(over.max()), 2)}
        if over.max() < _SAME_DB:
            return {**report, "skipped": "it is no wider than the recording"}
        track, target = _replace(work)
        _filtered(track, target, to_filter(-over, track.rate), side_only=True)
        return {**report, "taken_back": veto.check_track(work, self.name, target, track)}


def _width_db(mid: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Power of side over mid in dB, -120..120; bands without power count as narrow."""
    ratio = (side + 1e-12 * mid) / np.maximum(mid, 1e-12 * side + 1e-300)
    return 10 * np.log10(np.clip(ratio, 1e-12, 1e12))
