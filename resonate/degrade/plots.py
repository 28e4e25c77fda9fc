"""What the pictures of the chain share: axes, responses, spectrograms, levels."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.signal import spectrogram as psd

from resonate import RATE

TICKS = [31, 63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000]


def frequency(axis: Axes, low_db: float, high_db: float, title: str) -> None:
    """Axis over log frequency in Hz, dB upwards."""
    axis.set_xscale("log")
    axis.set_xticks(TICKS, [f"{t // 1000}k" if t >= 1000 else str(t) for t in TICKS])
    axis.minorticks_off()
    axis.set(xlim=(20, 20000), ylim=(low_db, high_db), xlabel="Hz", ylabel="dB", title=title)
    axis.grid(alpha=0.3)


def magnitude(axis: Axes, kernel: np.ndarray, **style) -> None:
    """Response in dB of a filter (taps,)."""
    freqs = np.fft.rfftfreq(1 << 14, 1 / RATE)[1:]
    axis.plot(freqs, 20 * np.log10(np.abs(np.fft.rfft(kernel, 1 << 14))[1:] + 1e-9), **style)


def spectrogram(axis: Axes, x: np.ndarray, title: str, top_hz: float = 20000.0) -> None:
    """Spectrogram of x (T,) up to top_hz, 72 dB deep."""
    freqs, times, power = psd(x, RATE, nperseg=2048, noverlap=1024, mode="psd")
    # As many cells as can be seen, in steps of 4 dB: the picture stays small.
    power = pooled(pooled(power[freqs <= top_hz], 90).T, 110).T
    level = 4 * np.round(2.5 * np.log10(power + 1e-14))
    axis.imshow(level, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
                extent=(0, times[-1], 0, top_hz / 1000), vmin=level.max() - 72, vmax=level.max())  # fmt: skip
    axis.set(title=title, xlabel="s", ylabel="kHz")


def pooled(x: np.ndarray, most: int) -> np.ndarray:
    """Rows of x (rows, columns) averaged so that at most `most` remain."""
    size = -(-len(x) // most)
    return x[: len(x) // size * size].reshape(-1, size, x.shape[1]).mean(axis=1)


def level(x: np.ndarray, seconds: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Times and level in dBFS of (T,) or (2, T) in frames."""
    size = int(seconds * RATE)
    power = np.square(np.atleast_2d(x)).mean(axis=0)
    frames = power[: len(power) // size * size].reshape(-1, size).mean(axis=1)
    return np.arange(len(frames)) * seconds, 10 * np.log10(frames + 1e-12)


def columns(count: int, width: float = 9.0, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    """A figure of `count` pictures side by side, in inches."""
    figure, axes = plt.subplots(1, count, figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(axes))
