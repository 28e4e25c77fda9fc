"""What a restoration may leave behind or make up: musical noise and tones that were never there."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from resonate import RATE
from resonate.evaluate.alignment import to_mid
from resonate.evaluate.measures import frame_power

WINDOW, HOP = 2048, 512
#: A patch is a frame by 32 bins (0.7 kHz): even where nothing twinkles, whatever the level does over time.
PATCH_BINS = 32
KURTOSIS_BAND = (100.0, 16000.0)
#: Patches this far under the loudest one cannot be heard beside it.
PATCH_FLOOR_DB = -60.0

TONE_WINDOW, TONE_HOP = 8192, 2048
TONE_BAND = (60.0, 12000.0)
#: A tone stands this far above the median of the half octave around it, for TONE_FRAMES frames (0.23 s) and more.
TONE_DB, TONE_FRAMES = 18.0, 5
#: Where the input has a peak of this prominence within two bins and two frames, the tone is not invented.
KNOWN_DB = 9.0
#: Tones this far under the loudest bin of output and input do not count.
TONE_FLOOR_DB = -70.0


def spectral_kurtosis(noise: np.ndarray, where: np.ndarray | None = None, rate: int = RATE) -> float:
    """How unevenly noise is spread inside small patches of the spectrogram, in dB.

    Formula: STFT 2048/512 Hann, patches of one frame by 32 bins between 100 Hz and 16 kHz; mean over the patches (those
    within 60 dB of the loudest) of 10 log10(mean P^2 / (mean P)^2), P the power of a bin.  Gaussian noise gives 2.7 dB,
    a lone peak of musical noise in an empty patch up to 13 dB (kurtosis of the residual: Uemura et al. 2008).

    Args:
        noise: (time,) or (channels, time), a signal that holds noise alone where it counts.
        where: boolean (time,), the stretches that count; None takes all.

    Returns:
        the figure, or NaN where no patch fits or all is digital silence.
    """
    x = to_mid(noise)
    power = frame_power(x, WINDOW, HOP)
    if where is not None:
        inside = np.lib.stride_tricks.sliding_window_view(np.pad(where, (0, max(0, WINDOW - len(where)))), WINDOW)
        power = power[inside[::HOP].all(axis=1)]
    bins = fft.rfftfreq(WINDOW, 1.0 / rate)
    power = power[:, (bins >= KURTOSIS_BAND[0]) & (bins <= KURTOSIS_BAND[1])]
    if len(power) == 0:
        return float("nan")
    patches = power[:, : power.shape[1] // PATCH_BINS * PATCH_BINS].reshape(-1, PATCH_BINS)
    level = patches.mean(axis=1)
    heard = level > max(level.max() * 10 ** (PATCH_FLOOR_DB / 10), 1e-24)
    if not heard.any():
        return float("nan")
    return float(np.mean(10.0 * np.log10(np.square(patches[heard]).mean(axis=1) / level[heard] ** 2)))


def musical_noise(
    output: np.ndarray, capture: np.ndarray, where: np.ndarray | None = None, rate: int = RATE
) -> float:
    """How much more uneven the noise has become, in dB: spectral kurtosis of output less that of the capture.

    Taken where there is noise alone: the gaps, or all of a recording without music.  Range: about -3..10, lower is
    better, 0 for an unchanged signal; NaN without such stretches or where nothing is left there.  Invariant to: gain,
    gains over time and EQ (as far as they are even over 0.7 kHz).  Cheats: a full gate leaves nothing to
    judge; steady hiss laid over the noise lowers it.
    """
    return spectral_kurtosis(output, where, rate) - spectral_kurtosis(capture, where, rate)


def _prominence_db(x: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """(level, prominence) in dB, (frames, bins): level over the loudest bin, height over the median of the half octave
    around, taken on a logarithmic axis of 48 steps per octave."""
    power = frame_power(x, TONE_WINDOW, TONE_HOP)
    bins = fft.rfftfreq(TONE_WINDOW, 1.0 / rate)
    grid = np.geomspace(TONE_BAND[0], TONE_BAND[1], int(48 * np.log2(TONE_BAND[1] / TONE_BAND[0])))
    near = np.searchsorted(bins, grid)
    db = 10.0 * np.log10(power + 1e-20)
    # The median over the steps' neighbours; three bins at least, or a lobe at low pitch would be its own median.
    width = 25
    around = ndimage.median_filter(db[:, near], size=(1, width), mode="nearest")
    back = np.stack([np.interp(bins, grid, row) for row in around])
    chosen = (bins >= TONE_BAND[0] * 4) & (bins <= TONE_BAND[1])
    return db[:, chosen], (db - back)[:, chosen]


def invented_tones(output: np.ndarray, capture: np.ndarray, rate: int = RATE) -> float:
    """How many tones sound at a time, on average, in the output of a recording without music that the input lacks.

    Formula: STFT 8192/2048 Hann, 240 Hz to 12 kHz; a tone is a local peak in frequency that stands 18 dB above the
    median of the half octave around it for five frames and more; it is invented where the input has no bin within two
    bins and two frames that stands 9 dB above its own median. Frames with invented tones, summed over tones, per frame.
    Range: 0 upwards, lower is better, 0 for an unchanged signal.  Invariant to: gain; nearly to EQ.  Cheats: silence
    and low-passes have no tones; what is spread like noise (hiss, smeared clusters) is not seen.
    """
    y, x = to_mid(output), to_mid(capture)
    n = min(len(y), len(x))
    y, x = y[:n], x[:n]
    level, height = _prominence_db(y, rate)
    _, known = _prominence_db(x, rate)
    loud = level > level.max() + TONE_FLOOR_DB
    peak = (height >= TONE_DB) & loud & (level >= ndimage.maximum_filter1d(level, 3, axis=1))
    known = ndimage.maximum_filter(known, size=(5, 5)) >= KNOWN_DB
    new = peak & ~known
    # A steady tone may wander by a bin: a chain of neighbours counts once per frame.
    labels, count = ndimage.label(new, structure=np.ones((3, 3)))
    if count == 0 or not np.any(y):
        return 0.0
    frames = [len(np.unique(where[0])) for where in (np.nonzero(labels[s] == i + 1) for i, s in
              enumerate(ndimage.find_objects(labels)))]  # fmt: skip
    return float(sum(f for f in frames if f >= TONE_FRAMES) / len(level))
