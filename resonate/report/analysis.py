"""Spectra over time on a logarithmic frequency axis, from a stream, for a picture of given width."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import fft
from scipy.ndimage import median_filter, uniform_filter1d

LOW_HZ, HIGH_HZ = 30.0, 22050.0
BANDS, COLUMNS = 240, 1000
FRAME = 4096
#: Powers below this (-160 dB) count as nothing.
NOTHING = 1e-16
#: Pictures show this much level, with marks at these frequencies.
RANGE_DB = 70.0
TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10000)
#: Bandwidth over time: bands of four (a sixth of an octave), levels over so many seconds; a band is there where it
#: stands so far over its quiet moments (their 10th percentile) and is not this far under the loudest.
_WIDE, _SECONDS = 4, 0.4
_STANDS_OUT_DB, _DEEPEST_DB = 6.0, 72.0


@dataclass(frozen=True)
class Spectra:
    """power: (BANDS, columns) mean power per bin, low bands first; level: (columns,) mean square; seconds: length."""

    power: np.ndarray
    level: np.ndarray
    seconds: float

    @property
    def matched_db(self) -> np.ndarray:
        """(BANDS, columns) in dB, 0 dB being the picture's own mean power: pictures of unequal level compare."""
        mean = float(self.power.mean())
        return 10.0 * np.log10(np.maximum(self.power, NOTHING) / max(mean, NOTHING))


def band_of(hertz: float) -> float:
    """Where a frequency lies on the axis of bands, 0 to BANDS."""
    return BANDS * float(np.log(hertz / LOW_HZ) / np.log(HIGH_HZ / LOW_HZ))


def band_hz() -> np.ndarray:
    """(BANDS + 1,) edges in Hz."""
    return np.geomspace(LOW_HZ, HIGH_HZ, BANDS + 1)


def _band_matrix(rate: int) -> np.ndarray:
    """(bins, BANDS): mean over the bins in a band; where a band is narrower than a bin, between its two neighbours."""
    bins = fft.rfftfreq(FRAME, 1.0 / rate)
    edges = band_hz()
    matrix = np.zeros((len(bins), BANDS))
    for band, (low, high) in enumerate(pairwise(edges)):
        if high > rate / 2:
            break  # nothing can be up there; stays zero
        inside = (bins >= low) & (bins < high)
        if inside.any():
            matrix[inside, band] = 1.0 / inside.sum()
        else:
            position = np.sqrt(low * high) / (rate / FRAME)
            below = int(position)
            matrix[below, band], matrix[below + 1, band] = 1.0 - (position - below), position - below
    return matrix


def analyse(blocks: Iterable[np.ndarray], rate: int, seconds: float) -> Spectra:
    """Spectra of a stream of (channels, n) blocks, about `seconds` long; the power is the mean over channels.

    Memory does not grow with the length: the hop and the number of frames behind a column do.
    """
    total = max(1, round(seconds * rate))
    columns = int(np.clip(total // 256, 1, COLUMNS))
    hop = int(np.clip(total // columns, 256, FRAME))
    matrix, window = _band_matrix(rate), np.hanning(FRAME).astype(np.float32)
    norm = 1.0 / float(np.sum(window) ** 2)
    power, level, count = np.zeros((columns, BANDS)), np.zeros(columns), np.zeros(columns)
    half = FRAME // 2
    rest = np.zeros((0, half), dtype=np.float32)  # frames are centred: half a frame of nothing comes first
    centre = 0

    def take(buffer: np.ndarray) -> np.ndarray:
        nonlocal centre
        frames = np.lib.stride_tricks.sliding_window_view(buffer, FRAME, axis=-1)[:, ::hop]
        number = frames.shape[1]
        spectrum = np.abs(fft.rfft(frames * window, axis=-1)) ** 2
        where = np.minimum((centre + hop * np.arange(number)) * columns // total, columns - 1)
        np.add.at(power, where, norm * spectrum.mean(axis=0) @ matrix)
        np.add.at(level, where, np.mean(frames**2, axis=(0, 2)))
        np.add.at(count, where, 1.0)
        centre += hop * number
        return buffer[:, hop * number :]

    for block in blocks:
        if len(rest) == 0:
            rest = np.zeros((block.shape[0], half), dtype=np.float32)
        rest = np.concatenate([rest, block.astype(np.float32, copy=False)], axis=1)
        if rest.shape[1] >= FRAME + 64 * hop:
            rest = take(rest)
    if len(rest):
        rest = np.pad(rest, ((0, 0), (0, half)))
        if rest.shape[1] >= FRAME:
            take(rest)
    seen = np.maximum(count, 1.0)
    return Spectra((power / seen[:, None]).T, level / seen, seconds)


def upper_edge(spectra: Spectra) -> np.ndarray:
    """(columns,) the highest frequency in Hz that stands out of the noise at each time; NaN where none does.

    As for the captured band of a recording, a band counts where its level moves over its own floor, together with a
    neighbour; a share of the energy (roll-off) would mistake bass-heavy music for a narrow band.
    """
    bands, columns = BANDS // _WIDE, spectra.power.shape[1]
    per_second = columns / max(spectra.seconds, 1e-9)
    power = uniform_filter1d(
        spectra.power.reshape(bands, _WIDE, columns).mean(axis=1), max(1, round(_SECONDS * per_second)), mode="nearest"
    )
    db = 10.0 * np.log10(np.maximum(power, NOTHING))
    floor = np.percentile(db, 10, axis=1, keepdims=True)
    there = (db - floor >= _STANDS_OUT_DB) & (db >= db.max() - _DEEPEST_DB)
    beside = np.zeros_like(there)
    beside[1:] |= there[:-1]
    beside[:-1] |= there[1:]
    there &= beside
    highest = bands - 1 - there[::-1].argmax(axis=0)
    edges = band_hz()[_WIDE * (highest + 1)]
    edges = median_filter(edges, max(1, round(2 * per_second)) | 1, mode="nearest")
    return np.where(there.any(axis=0), edges, np.nan)


def usual_gain(given: Spectra, revealed: Spectra) -> float:
    """The median over time and pitch of what `revealed` has over the recording, as a power ratio, where the recording
    is within RANGE_DB of its loudest; 1 where there is nothing to compare."""
    there = given.power > given.power.max() * 10.0 ** (-RANGE_DB / 10.0)
    ratio = revealed.power[there] / np.maximum(given.power[there], NOTHING)
    usual = float(np.median(ratio)) if there.any() else 0.0
    return usual if usual > 0.0 else 1.0


def attenuated(given: Spectra, revealed: Spectra) -> np.ndarray:
    """(BANDS, columns) power that `revealed` lacks against the recording at its usual gain: what was turned down more
    than the rest; 0 where it was raised."""
    return np.maximum(usual_gain(given, revealed) * given.power - revealed.power, 0.0)
