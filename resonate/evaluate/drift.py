"""Put a user's reference on the clock of a recording: any offset, and two clocks that drift apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from scipy import fft

from resonate import RATE
from resonate.errors import UserError
from resonate.evaluate.alignment import cut_to_overlap, find_lag, to_mid

#: Windows in which the lag is measured along the recording, in seconds.
WINDOW_SECONDS, HOP_SECONDS = 8.0, 4.0
#: Half the range of lags around the line found so far, in seconds: enough for 300 ppm over ten minutes.
REACH_SECONDS = 0.25
#: While the clocks drift apart inside a window its lag is blurred, so each round finds the drift better.
ROUNDS = 4
#: Clocks of consumer devices lie within this.
MOST_DRIFT = 1e-3
#: Fewer common samples cannot be scored.
LEAST_SECONDS = 2.0


@dataclass(frozen=True)
class Clock:
    """How a reference lies against a recording: it begins `offset` seconds into the recording (negative: before) and
    runs `drift_ppm` parts per million slow (a positive drift: the same music takes longer in the recording)."""

    offset: float
    drift_ppm: float


def coarse_lag(recording: np.ndarray, reference: np.ndarray, rate: int = RATE) -> int:
    """Samples by which the reference comes late in the recording, any lag at which they overlap.

    Phase-weighted cross-correlation below 4 kHz of both mid channels as wholes. UserError for silence.
    """
    y, c = to_mid(recording), to_mid(reference)
    if not np.any(y) or not np.any(c):
        raise UserError("A silent recording or reference cannot be aligned; take the pair out.")
    size = fft.next_fast_len(len(y) + len(c), real=True)
    cross = fft.rfft(y, size) * np.conj(fft.rfft(c, size))
    bins = fft.rfftfreq(size, 1.0 / rate)
    magnitude = np.abs(cross)
    # Half way between plain and phase-weighted correlation: where either has nothing, a bin is rounding noise.
    cross *= ((bins > 100.0) & (bins < 4000.0)) / np.sqrt(magnitude + 1e-9 * magnitude.mean())
    correlation = np.abs(fft.irfft(cross, size))
    peak = int(np.argmax(correlation))
    return peak - size if peak > len(y) else peak


def _local_lags(y: np.ndarray, c: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """(times in seconds, lags in samples) of windows in which the reference sounds."""
    window, hop = round(WINDOW_SECONDS * rate), round(HOP_SECONDS * rate)
    mean = float(np.mean(c**2))
    times, lags = [], []
    for start in range(0, len(c) - window + 1, hop):
        piece = c[start : start + window]
        if np.mean(piece**2) > 1e-3 * mean:
            times.append((start + window / 2) / rate)
            heard = y[start : start + window]
            lags.append(_fraction(heard, piece, find_lag(heard, piece, rate, REACH_SECONDS)))
    return np.array(times), np.array(lags, dtype=np.float64)


def _fraction(y: np.ndarray, c: np.ndarray, lag: int) -> float:
    """`lag` and where between samples the correlation's peak lies, by a parabola through it and its neighbours."""
    left, top, right = (abs(float(np.dot(*cut_to_overlap(lag + k, y, c)))) for k in (-1, 0, 1))
    bend = left - 2.0 * top + right
    return lag + float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0.0 else float(lag)


def _line(times: np.ndarray, lags: np.ndarray) -> float:
    """Slope in samples per second: Theil and Sen's robust line (the median over all pairs), then least squares over the
    points within five samples of it."""
    i, j = np.triu_indices(len(times), 1)
    slope = float(np.median((lags[j] - lags[i]) / (times[j] - times[i])))
    rest = lags - slope * times
    near = np.abs(rest - np.median(rest)) <= 5.0
    return float(np.polyfit(times[near], lags[near], 1)[0]) if near.sum() >= 3 else slope


def to_clock(recording: np.ndarray, reference: np.ndarray, rate: int = RATE) -> tuple[np.ndarray, np.ndarray, Clock]:
    """Cut both to what they share, the reference resampled to the recording's clock.

    One lag over all, then lags in windows of 8 s, whose robust slope is the drift (found from 3 windows, 16 s, on);
    the reference is resampled by it and placed again, until no drift is left. The recording is only cut, never
    resampled.

    Args:
        recording, reference: (channels, time) float32 at `rate`.

    Returns:
        (recording, reference) of equal length, and how they lay.

    Raises:
        UserError: one is silent, they share under two seconds, or the drift found is no clock's (above 1000 ppm), which
            is what unrelated sounds give.
    """
    slope, moved = 0.0, reference
    for _ in range(ROUNDS):
        lag = coarse_lag(recording, moved, rate)
        y, c = cut_to_overlap(lag, recording, moved)
        _check(y, rate)
        times, lags = _local_lags(to_mid(y), to_mid(c), rate)
        step = _line(times, lags) / rate if len(times) >= 3 else 0.0
        # Half a sample over the whole stretch is nothing to mend.
        if abs(step) * c.shape[-1] < 0.5:
            break
        slope += step
        if abs(slope) > MOST_DRIFT:
            apart = f"Recording and reference drift apart by {slope * 1e6:.0f} ppm, more than clocks do"
            raise UserError(f"{apart}; are they of the same performance?")
        moved = soxr.resample(np.ascontiguousarray(reference.T), rate, rate * (1.0 + slope)).T
    else:
        lag = coarse_lag(recording, moved, rate)
        y, c = cut_to_overlap(lag, recording, moved)
    fine = find_lag(y, c, rate)
    y, c = cut_to_overlap(fine, y, c)
    return y.astype(np.float32), np.ascontiguousarray(c, dtype=np.float32), Clock((lag + fine) / rate, slope * 1e6)


def _check(y: np.ndarray, rate: int) -> None:
    if y.shape[-1] < LEAST_SECONDS * rate:
        shared = f"Recording and reference share {y.shape[-1] / rate:.1f} s, under {LEAST_SECONDS:g} s"
        raise UserError(f"{shared}; are they of the same performance?")
