"""What is known of a recording as a whole: its long-term spectrum, noise floor and captured band.

The restorer reads these once per recording, so that every block of a long show is treated alike. They are accumulated
over a stream of blocks in constant memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.fft import rfft
from scipy.stats import chi2
from torch import Tensor

from resonate import RATE

N_FFT = 2048
HOP = 512
BINS = N_FFT // 2 + 1

#: Levels in dB (re full scale, per STFT bin of a Hann window that a full-scale sine brings to 0 dB) of the histogram.
_LEVELS = np.arange(-150, 21)

#: Frames averaged before a level is counted: 0.19 s. Hann frames with three quarters of overlap are worth 0.375 each.
_GROUP = 16
_INDEPENDENT = 0.375 * _GROUP

#: A band counts as captured where its loud moments stand this far above its quiet ones, over and above the spread that
#: stationary noise shows in a band so narrow, and where it is not digital silence (dB re the loudest band).
_MIN_RANGE_DB = 3.5
_MIN_LEVEL_DB = -72.0

#: In the treble also where its level, moving less, follows that of the bands below: noise follows nothing. The treble
#: of a finished mix may lie further down, but not at the rounding of 16 bits (dB re full scale).
_FOLLOWS, _FOLLOWING_RANGE_DB, _FOLLOWING_LEVEL_DB, _ROUNDING_DB = 0.75, 1.0, -90.0, -118.0
_TREBLE_HZ = 2500.0
#: Of fewer values (3 s) noise follows by chance.
_LEAST_COUNTED = 16

#: A lower edge below this is none: phones cut off more, and music often has nothing there to be missed. The same above.
_LEAST_LOW_HZ, _MOST_HIGH_HZ = 50.0, 18500.0

#: Bass that does not move is music all the same (a drone) where it is among the loudest of all bands. Hz, dB.
_MOST_LOW_HZ, _DRONE_DB = 300.0, -20.0

#: The treble breaks off where all beyond a third of an octave lies this far under the four bands before, and the first
#: step is this large. Air, capsules and music fall more gently; the edge is where the mean has lost `_AT_EDGE_DB`.
_BREAK_DB, _FIRST_STEP_DB, _AT_EDGE_DB = 20.0, 4.5, 6.0

#: The bass was filtered away where it lies this far under the loudest bass band (music without bass and captures leave
#: more there: 58 dB at most on 150 of them), up to where it rises by less than this from band to band (1/4 octave).
_NO_BASS_DB, _BASS_STEP_DB = 62.0, 8.0


def bin_frequencies() -> np.ndarray:
    """Centre frequency in Hz of each of the 1025 STFT bins."""
    return np.arange(BINS) * RATE / N_FFT


def _band_matrix(per_octave: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Bands of 1/``per_octave`` octave, at least a bin wide: (bands, bins) averaging matrix and centres in Hz."""
    freqs = bin_frequencies()
    edges = 20.0 * 2.0 ** (np.arange(0, per_octave * 10.2) / per_octave)
    rows, centres = [], []
    low = 1
    for edge in edges[1:]:
        high = min(int(np.searchsorted(freqs, edge)), BINS)
        if high <= low:
            continue
        row = np.zeros(BINS, dtype=np.float32)
        row[low:high] = 1.0 / (high - low)
        rows.append(row)
        centres.append(float(freqs[low:high].mean()))
        low = high
    return np.stack(rows), np.array(centres)


_BANDS, _CENTRES = _band_matrix()
_freedom = 2 * _INDEPENDENT * (_BANDS > 0).sum(1)
_STATIONARY_SPAN_DB = 10 * np.log10(chi2.ppf(0.95, _freedom) / chi2.ppf(0.10, _freedom))

#: The bass once more with bins of 2.7 Hz, since 21.5 Hz are an octave there: window, and edges of the bands in Hz.
_BASS_WINDOW = 8 * N_FFT
_BASS_EDGES = 20.0 * 2.0 ** (np.arange(18) / 4)
_BASS_PLACES = np.searchsorted(np.arange(_BASS_WINDOW // 2) * RATE / _BASS_WINDOW, _BASS_EDGES)


@dataclass(frozen=True)
class RecordingStats:
    """Long-term description of one recording; arrays have one value per STFT bin (1025).

    Attributes:
        ltas_db: mean power spectrum, dB re full scale, smoothed over a sixth of an octave.
        floor_db: 10th percentile over time of the same, dB: crowd and self-noise where the music pauses.
        low_hz, high_hz: edges of the captured band.
        rms_db: level of the mid channel, dB re full scale; -inf for digital silence.
        cut_low_hz, cut_high_hz: edges within which no filter, codec or low rate cut anything away, as far as its slope
            shows; 20 and 20000 Hz: none did. Music that is dull by itself has a narrower band than that.
    """

    ltas_db: np.ndarray
    floor_db: np.ndarray
    low_hz: float
    high_hz: float
    rms_db: float
    cut_low_hz: float = 20.0
    cut_high_hz: float = 20000.0

    @property
    def in_band(self) -> np.ndarray:
        """(1025,) float32: 1 inside the captured band, 0 outside."""
        freqs = bin_frequencies()
        return ((freqs >= self.low_hz) & (freqs <= self.high_hz)).astype(np.float32)

    def within_cuts(self) -> RecordingStats:
        """The same with the cuts for the edges: of a finished mix, which holds no noise, nothing else is missing."""
        return replace(self, low_hz=self.cut_low_hz, high_hz=self.cut_high_hz)

    def edges(self) -> dict[str, float]:
        """`low_hz` and `high_hz` for a report."""
        return {"low_hz": round(self.low_hz, 1), "high_hz": round(self.high_hz, 1)}


class StatsAccumulator:
    """Accumulates :class:`RecordingStats` from consecutive blocks of (channels, samples) at 44.1 kHz."""

    def __init__(self) -> None:
        self._window = torch.hann_window(N_FFT)
        self._carry = torch.zeros(0)
        self._power = np.zeros(BINS)
        self._frames = 0
        self._energy = 0.0
        self._samples = 0
        self._waiting = np.zeros((BINS, 0), dtype=np.float32)
        self._histogram = np.zeros((len(_BANDS), len(_LEVELS)), dtype=np.int64)
        self._counted = 0
        self._sum, self._products = np.zeros(len(_BANDS)), np.zeros((len(_BANDS), len(_BANDS)))
        self._bass_carry = np.zeros(0, dtype=np.float32)
        self._bass = np.zeros(len(_BASS_EDGES) - 1)
        self._bass_window = np.hanning(_BASS_WINDOW + 1)[:-1].astype(np.float32)

    def update(self, block: np.ndarray | Tensor) -> None:
        """Add the next ``block`` (channels, samples), float32; blocks may have any length."""
        mid = torch.as_tensor(block).detach().float().cpu().mean(0)
        self._energy += float(mid.square().sum())
        self._samples += mid.shape[-1]
        self._add_bass(mid.numpy())
        mid = torch.cat([self._carry, mid])
        frames = (mid.shape[-1] - N_FFT) // HOP + 1
        if frames <= 0:
            self._carry = mid
            return
        self._carry = mid[frames * HOP:]
        spectrum = torch.stft(mid[: (frames - 1) * HOP + N_FFT], N_FFT, HOP, window=self._window, center=False,
                              return_complex=True)
        power = (spectrum.abs() * (4.0 / N_FFT)).square().numpy()
        self._add(power)

    def _add_bass(self, mid: np.ndarray) -> None:
        x = np.concatenate([self._bass_carry, mid])
        hop = _BASS_WINDOW // 2
        count = max(0, (len(x) - _BASS_WINDOW) // hop + 1)
        self._bass_carry = x[count * hop:]
        for start in range(0, count * hop, hop):
            bins = rfft(x[start : start + _BASS_WINDOW] * self._bass_window)[: _BASS_PLACES[-1]]
            self._bass += np.add.reduceat(np.square(np.abs(bins)), _BASS_PLACES[:-1]) / np.diff(_BASS_PLACES)

    def _add(self, power: np.ndarray) -> None:
        self._power += power.sum(1)
        self._frames += power.shape[1]
        power = np.concatenate([self._waiting, power], 1)
        groups = power.shape[1] // _GROUP
        self._waiting = power[:, groups * _GROUP:]
        if groups:
            self._count(power[:, : groups * _GROUP].reshape(BINS, groups, _GROUP).mean(2))

    def _count(self, power: np.ndarray) -> None:
        levels = 10 * np.log10(_BANDS @ power + 1e-15)
        self._counted += levels.shape[1]
        self._sum += levels.sum(1)
        self._products += levels @ levels.T
        index = np.clip(np.round(levels).astype(np.int64) - _LEVELS[0], 0, len(_LEVELS) - 1)
        flat = index + np.arange(len(_BANDS))[:, None] * len(_LEVELS)
        self._histogram += np.bincount(flat.ravel(), minlength=self._histogram.size).reshape(self._histogram.shape)

    def _percentile(self, q: float) -> np.ndarray:
        cumulative = self._histogram.cumsum(1)
        return _LEVELS[(cumulative >= q / 100 * cumulative[:, -1:]).argmax(1)].astype(np.float64)

    def merge(self, other: StatsAccumulator) -> None:
        """Add all that `other` has counted. What either still waits for (under 0.2 s) is left out, so `other` must have
        counted something."""
        if not other._counted:
            raise ValueError("A piece this short has no levels to add.")
        self._energy += other._energy
        self._samples += other._samples
        self._power += other._power
        self._frames += other._frames
        self._histogram += other._histogram
        self._counted += other._counted
        self._sum += other._sum
        self._products += other._products
        self._bass += other._bass

    def finish(self) -> RecordingStats:
        """The statistics of all blocks so far; a recording shorter than one frame is padded with zeros."""
        if self._frames == 0:
            padded = torch.nn.functional.pad(self._carry, (0, max(0, N_FFT - self._carry.shape[-1])))[:N_FFT]
            self._add((torch.fft.rfft(padded * self._window).abs() * (4.0 / N_FFT)).square().numpy()[:, None])
        if not self._histogram.any():
            self._count(self._waiting.mean(1, keepdims=True))
        freqs = np.maximum(bin_frequencies(), 1.0)
        mean = self._power / self._frames
        ltas = 10 * np.log10(_BANDS @ mean + 1e-15)
        floor, loud = self._percentile(10), self._percentile(95)

        def spread(values: np.ndarray) -> np.ndarray:
            return np.interp(np.log(freqs), np.log(_CENTRES), values).astype(np.float32)

        low, high = _band_edges(loud, loud - floor - _STATIONARY_SPAN_DB, self._follows())
        cut_low, cut_high = _bass_edge_hz(self._bass), _break_hz(loud, mean)
        low, high = max(low, cut_low), min(high, cut_high)
        energy = self._energy / max(self._samples, 1)
        rms = 10 * np.log10(energy) if energy > 0 else -np.inf
        return RecordingStats(spread(ltas), spread(floor), low, high, float(rms), cut_low, cut_high)

    def _follows(self) -> np.ndarray:
        """Per band, the correlation of its level over time with that of the bands a third of an octave and more below
        (two and three bands, since neighbours share bins); 0 in the bass and where nothing moves."""
        count = max(self._counted, 1)
        mean = self._sum / count
        covariance = self._products / count - np.outer(mean, mean)
        out = np.zeros(len(_BANDS))
        if self._counted < _LEAST_COUNTED:
            return out
        for i in np.flatnonzero(_CENTRES > _TREBLE_HZ):
            below = [i - 2, i - 3]
            spread = covariance[i, i] * covariance[np.ix_(below, below)].mean()
            out[i] = covariance[i, below].mean() / np.sqrt(spread) if spread > 1e-6 else 0.0
        return out


def _band_edges(loud: np.ndarray, span: np.ndarray, follows: np.ndarray) -> tuple[float, float]:
    """Edges in Hz of the captured band, from each band's loud level in dB, by how many dB its level moves more than
    that of stationary noise, and how far it follows the bands below (-1..1).

    A band beyond the capture holds stationary noise (its level hardly moves over time) or a codec's silence. The edges
    are the outermost bands that move along with a neighbour. A share of energy (roll-off) is not used: it mistakes
    bass-heavy music for a narrow band.
    """
    moving = (span >= _MIN_RANGE_DB) & (loud >= loud.max() + _MIN_LEVEL_DB)
    following = (follows >= _FOLLOWS) & (span >= _FOLLOWING_RANGE_DB)
    following &= (loud >= loud.max() + _FOLLOWING_LEVEL_DB) & (loud >= _ROUNDING_DB)
    captured = moving | following
    if captured.any():  # else all of it is steady, and no edge is to be found
        captured |= (_CENTRES < _MOST_LOW_HZ) & (loud >= loud.max() + _DRONE_DB)
    steady = captured & (np.convolve(captured, np.ones(3), mode="same") >= 2)
    inside = np.flatnonzero(steady)
    if len(inside) == 0:
        return 20.0, 20000.0
    low, high = _CENTRES[inside[0]], _CENTRES[inside[-1]]
    low = 20.0 if low < _LEAST_LOW_HZ else low
    high = 20000.0 if high > _MOST_HIGH_HZ else high
    return float(np.clip(low, 20.0, _MOST_LOW_HZ)), float(np.clip(high, 2000.0, 20000.0))


def _break_hz(loud: np.ndarray, mean: np.ndarray) -> float:
    """Where the treble breaks off for good, as a filter, a low rate or a codec leaves it; 20000 Hz: nowhere. Music may
    well move on the slope of a filter.

    Args:
        loud: loud level of each band in dB.
        mean: (1025,) mean power per bin, for the place between the bands.
    """
    for i in range(int(np.searchsorted(_CENTRES, _TREBLE_HZ)), len(loud) - 2):
        deep = np.median(loud[i - 3 : i + 1]) - loud[i + 2 :].max() >= _BREAK_DB
        if deep and loud[i] - loud[i + 1] >= _FIRST_STEP_DB:
            before = np.flatnonzero(_BANDS[i - 1] + _BANDS[i])
            reach = np.arange(before[-1], np.flatnonzero(_BANDS[i + 2])[0])
            level = np.convolve(mean, np.ones(5) / 5, mode="same")
            kept = reach[level[reach] >= 10 ** (-_AT_EDGE_DB / 10) * mean[before].mean()]
            return min(float(bin_frequencies()[kept[-1] if len(kept) else before[-1]]), 20000.0)
    return 20000.0


def _bass_edge_hz(bass: np.ndarray) -> float:
    """Where the bass was filtered away, from the power of its bands (1/4 octave from 20 Hz on); 20 Hz: nowhere."""
    level = 10 * np.log10(bass + 1e-15 * max(float(bass.max()), 1e-15))
    empty = level < level.max() - _NO_BASS_DB
    if not empty[0]:
        return 20.0
    at = int(np.argmin(empty))
    while at + 1 < len(level) and level[at + 1] - level[at] >= _BASS_STEP_DB:
        at += 1
    return float(_BASS_EDGES[at])


def measure_stats(x: np.ndarray | Tensor) -> RecordingStats:
    """:class:`RecordingStats` of a whole recording (channels, samples) at 44.1 kHz that fits in memory."""
    accumulator = StatsAccumulator()
    accumulator.update(x)
    return accumulator.finish()
