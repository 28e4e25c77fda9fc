"""Integrated loudness and true peak of a stream of blocks (ITU-R BS.1770-4), in constant memory but for one number
per 10 ms and one per millisecond."""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import firwin, lfilter

#: Loudness in LUFS below which a block of 400 ms counts as silence (BS.1770-4).
ABSOLUTE_GATE = -70.0

_PHASES = 4
_HALF = 16
_INTERPOLATOR = (firwin(2 * _PHASES * _HALF + 1, 1.0 / _PHASES, window=("kaiser", 7.0)) * _PHASES).astype(np.float32)
#: Its phases between samples, (3, 1, 32) in reversed order for a correlation; the phase on the samples has one tap, 1.
_BETWEEN = torch.from_numpy(np.stack([_INTERPOLATOR[k::_PHASES][::-1] for k in range(1, _PHASES)])[:, None].copy())


def k_weighting(rate: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The two biquads (b, a) of BS.1770-4, annex 1, for any rate (bilinear transform with the analogue parameters that
    give its tabulated coefficients at 48 kHz)."""
    k = np.tan(np.pi * 1681.974450955533 / rate)
    q, vh = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    vb, a0 = vh**0.4996667741545416, 1 + k / q + k * k
    shelf = (
        np.array([vh + vb * k / q + k * k, 2 * (k * k - vh), vh - vb * k / q + k * k]) / a0,
        np.array([a0, 2 * (k * k - 1), 1 - k / q + k * k]) / a0,
    )
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    a0 = 1 + k / q + k * k
    return shelf, (np.array([1.0, -2.0, 1.0]), np.array([a0, 2 * (k * k - 1), 1 - k / q + k * k]) / a0)


class LoudnessMeter:
    """Push (channels, n) blocks of one or two channels at `rate` Hz; `power` then has a value per 10 ms."""

    def __init__(self, rate: int, channels: int = 2) -> None:
        self._filters = k_weighting(rate)
        self._states = [np.zeros((channels, 2)) for _ in self._filters]
        self._step, self._rest, self._sums = rate / 100.0, np.zeros(0), []
        self._filled = 0

    def push(self, block: np.ndarray) -> None:
        """Add the next block."""
        y = block.astype(np.float64)
        for i, (b, a) in enumerate(self._filters):
            y, self._states[i] = lfilter(b, a, y, axis=-1, zi=self._states[i])
        self._rest = np.concatenate([self._rest, np.square(y).sum(0)])
        done = 0
        while True:
            end = round((len(self._sums) + 1) * self._step) - self._filled
            if end > len(self._rest):
                break
            self._sums.append(self._rest[done:end].mean())
            done = end
        self._rest, self._filled = self._rest[done:], self._filled + done

    @property
    def power(self) -> np.ndarray:
        """Mean K-weighted power, summed over channels, of each full 10 ms."""
        return np.array(self._sums)

    def loudness(self) -> float:
        """Integrated loudness in LUFS; -inf where nothing reaches the absolute gate."""
        return integrated(self.power)


def integrated(power: np.ndarray) -> float:
    """Gated loudness (LUFS) from mean powers of consecutive 10 ms: 400 ms blocks with 75 % overlap, both gates."""
    if len(power) < 40:
        return -np.inf
    sums = np.concatenate([[0.0], np.cumsum(power)])
    blocks = (sums[40::10] - sums[:-40:10]) / 40

    def lufs(value: np.ndarray) -> np.ndarray:
        return -0.691 + 10 * np.log10(np.maximum(value, 1e-30))

    loud = blocks[lufs(blocks) > ABSOLUTE_GATE]
    if len(loud) == 0:
        return -np.inf
    loud = loud[lufs(loud) > lufs(loud.mean()) - 10.0]
    return float(lufs(loud.mean()))


class PeakMeter:
    """True peak by 4-fold interpolation (BS.1770-4, annex 2, with a longer filter), one value per `step` samples.

    Push consecutive blocks whose lengths are multiples of `step` (but the last).
    """

    def __init__(self, step: int, channels: int = 2) -> None:
        self.step = step
        self._history = np.zeros((channels, 2 * _HALF), dtype=np.float32)
        self._peaks: list[np.ndarray] = []
        self._rest = np.zeros(0, dtype=np.float32)

    def _measure(self, block: np.ndarray) -> np.ndarray:
        """Largest magnitude around each sample that is `_HALF` samples back."""
        x = np.concatenate([self._history, block], axis=1)
        self._history = x[:, -2 * _HALF :].copy()
        # Correlations per phase take half the time of a polyphase filter.
        up = torch.nn.functional.conv1d(torch.from_numpy(x)[:, None, 1:], _BETWEEN)
        between = up.abs_().amax((0, 1)).numpy()[: block.shape[1]]
        return np.maximum(between, np.abs(x[:, _HALF : _HALF + block.shape[1]]).max(0))

    def push(self, block: np.ndarray) -> None:
        """Add the next (channels, n) block."""
        values = np.concatenate([self._rest, self._measure(np.asarray(block, dtype=np.float32))])
        whole = len(values) // self.step * self.step
        self._peaks.append(values[:whole].reshape(-1, self.step).max(1))
        self._rest = values[whole:]

    def finish(self, length: int) -> np.ndarray:
        """Peaks of all `length` samples pushed, one per step (the last one may be shorter), linear."""
        channels = len(self._history)
        # The first `_HALF` values lie before the first sample: the filter rings in ahead of it.
        self.push(np.zeros((channels, _HALF + self.step), dtype=np.float32))
        values = np.concatenate(self._peaks)
        count = -(-length // self.step)
        shift = -(-_HALF // self.step)
        # Each value may belong to the neighbouring step, as the delay is no multiple of the step: take the larger.
        padded = np.concatenate([values, np.zeros(shift + 2, dtype=np.float32)])
        return np.stack([padded[i : i + count] for i in range(shift + 1)]).max(0)
