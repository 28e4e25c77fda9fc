"""What the restoration has to beat: cheap tricks, classical methods, and oracles that show how far is possible.

Each system is a function of a `Case`, returns (channels, time) float32 of the capture's length, and may raise
`NotAvailable` with the reason where the case lacks what it needs or the package is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
from scipy import ndimage, signal

from resonate import RATE

WINDOW, HOP = 2048, 512
LOW_PASS_HZ = 4000.0


class NotAvailable(Exception):
    """This system cannot run here; the message says why."""


@dataclass(frozen=True)
class Case:
    """One recording to score. All arrays on one clock at 44.1 kHz.

    capture, reference: (channels, time) float32, the recording and the clean mix; gaps: boolean (time,), True where
    there is known to be no music; wet: the music as it is in the capture, or None; noise: all else in it, or None;
    crowd: the crowd's part of that, as captured, where it is known alone; stems_wet, stems_dry: (4, 2, time), the stems
    as captured and clean, or None; present: (4,) bool, which stems are known apart; start: samples at 44.1 kHz of the
    recording that were cut before `capture` begins; facts: what else was found out about it, by name.
    """

    name: str
    capture: np.ndarray
    reference: np.ndarray
    gaps: np.ndarray
    wet: np.ndarray | None = None
    noise: np.ndarray | None = None
    stems_wet: np.ndarray | None = None
    stems_dry: np.ndarray | None = None
    present: np.ndarray | None = None
    start: int = 0
    facts: dict[str, float] = field(default_factory=dict)
    crowd: np.ndarray | None = None

    @property
    def interferer(self) -> np.ndarray | None:
        """What `noise_attenuation` follows: the crowd where it is known alone, else all that is not music, or None."""
        return self.noise if self.crowd is None else self.crowd


def stft(x: np.ndarray) -> np.ndarray:
    """(channels, time) -> (channels, bins, frames), 2048/512 Hann."""
    return signal.stft(x, RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)[2]


def istft(spectrum: np.ndarray, n: int) -> np.ndarray:
    """The inverse of `stft`, `n` samples, float32."""
    x = signal.istft(spectrum, RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)[1][..., :n]
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n - x.shape[-1])]).astype(np.float32)


def keep_input(case: Case) -> np.ndarray:
    """The capture as it is."""
    return case.capture


def gate(case: Case) -> np.ndarray:
    """Mutes the gaps (20 ms fades), told where they are; without any, what lies within 6 dB of the quietest tenth."""
    open_here = ~case.gaps
    if not case.gaps.any():
        power = ndimage.uniform_filter1d(case.capture.mean(axis=0) ** 2, round(0.05 * RATE))
        open_here = power > 4.0 * np.quantile(power, 0.1)
    gain = ndimage.uniform_filter1d(open_here.astype(np.float32), round(0.02 * RATE))
    return (case.capture * gain).astype(np.float32)


def low_pass(case: Case) -> np.ndarray:
    """Zero-phase Butterworth, 4 kHz."""
    sections = signal.butter(4, LOW_PASS_HZ, fs=RATE, output="sos")
    return signal.sosfiltfilt(sections, case.capture, axis=-1).astype(np.float32)


def spectrum_match(case: Case) -> np.ndarray:
    """One linear-phase filter that gives the capture the clean reference's own long-term spectrum (within +-40 dB).

    Both spectra are means of the log magnitude over the frames in which the reference sounds, smoothed over a sixth of
    an octave: fine enough for tone, too coarse to imprint the reference's notes.
    """
    have, want = (np.abs(stft(x.mean(axis=0))) for x in (case.capture, case.reference))
    power = (want**2).sum(axis=0)
    sounding = power >= 1e-3 * power.mean()
    if not want.any() or not have.any():
        raise NotAvailable("silence has no spectrum to match")
    difference = np.zeros(want.shape[0])
    for sign, x in ((1.0, want), (-1.0, have)):
        difference += sign * np.log(x[:, sounding] + 1e-3 * np.sqrt(np.mean(x**2))).mean(axis=1)
    index = np.arange(len(difference))
    width = 2.0 ** (1 / 12)
    low = np.floor(index / width).astype(int)
    high = np.minimum(np.ceil(index * width).astype(int) + 1, len(index))
    summed = np.append(0.0, np.cumsum(difference))
    gain = np.clip(np.exp((summed[high] - summed[low]) / (high - low)), 1e-2, 1e2)
    filter_ = np.roll(np.fft.irfft(gain), WINDOW // 2) * signal.windows.hann(WINDOW, sym=False)
    delayed = signal.fftconvolve(case.capture, filter_[None], axes=-1)
    return delayed[:, WINDOW // 2 :][:, : case.capture.shape[-1]].astype(np.float32)


def noisereduce(case: Case) -> np.ndarray:
    """noisereduce 3, stationary, the gaps given as noise profile where they are known."""
    if find_spec("noisereduce") is None:
        raise NotAvailable("noisereduce is not installed")
    import noisereduce as nr

    profile = case.capture[:, case.gaps] if case.gaps.sum() > RATE // 2 else None
    return nr.reduce_noise(case.capture, RATE, stationary=True, y_noise=profile).astype(np.float32)


def wpe(case: Case) -> np.ndarray:
    """Weighted prediction error dereverberation (nara_wpe): 1024/256 STFT, 10 taps, delay 3, 3 iterations."""
    if find_spec("nara_wpe") is None:
        raise NotAvailable("nara_wpe is not installed")
    from nara_wpe.utils import istft as synthesise
    from nara_wpe.utils import stft as analyse
    from nara_wpe.wpe import wpe as estimate

    spectrum = analyse(case.capture.astype(np.float64), size=1024, shift=256).transpose(2, 0, 1)
    try:
        dry = estimate(spectrum, taps=10, delay=3, iterations=3, statistics_mode="full").transpose(1, 2, 0)
    except np.linalg.LinAlgError:
        raise NotAvailable("WPE's equations have no solution here") from None
    n = case.capture.shape[-1]
    return synthesise(dry, size=1024, shift=256)[..., :n].astype(np.float32)


def afftdn(case: Case) -> np.ndarray:
    """FFmpeg's afftdn, default settings, through the filters that PyAV carries."""
    import av

    if "afftdn" not in av.filter.filters_available:
        raise NotAvailable("this FFmpeg has no afftdn")
    channels, n = case.capture.shape
    layout = {1: "mono", 2: "stereo"}.get(channels)
    if layout is None:
        raise NotAvailable("afftdn is run on mono or stereo")
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=RATE, format="fltp", layout=layout)
    denoise = graph.add("afftdn")
    sink = graph.add("abuffersink")
    source.link_to(denoise)
    denoise.link_to(sink)
    graph.configure()
    pieces = []
    for start in [*range(0, n, RATE), None]:
        if start is None:
            graph.push(None)
        else:
            block = np.ascontiguousarray(case.capture[:, start : start + RATE], dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = RATE, start
            graph.push(frame)
        while True:
            try:
                pieces.append(graph.pull().to_ndarray())
            except (av.error.BlockingIOError, av.error.EOFError):
                break
    y = np.concatenate(pieces, axis=1)[:, :n]
    return np.pad(y, ((0, 0), (0, n - y.shape[1]))).astype(np.float32)


def equaliser(case: Case) -> np.ndarray:
    """A treble shelf that lifts what lies above 5 kHz by 8 dB: a cheat on lsd."""
    treble = signal.butter(1, 5000.0, "highpass", fs=RATE, output="sos")
    return (case.capture + 1.5 * signal.sosfilt(treble, case.capture, axis=-1)).astype(np.float32)


def gain(case: Case) -> np.ndarray:
    """Half the level and inverted: a cheat on whatever does not match levels."""
    return (-0.5 * case.capture).astype(np.float32)


def oracle_noise_mask(case: Case) -> np.ndarray:
    """The Wiener mask of the true parts, |M|^2 / (|M|^2 + |N|^2), on the capture."""
    if case.wet is None or case.noise is None:
        raise NotAvailable("needs the music and the noise apart")
    music, noise = (np.abs(stft(x)) ** 2 for x in (case.wet, case.noise))
    return istft(stft(case.capture) * (music / (music + noise + 1e-20)), case.capture.shape[-1])


def oracle_magnitude(case: Case) -> np.ndarray:
    """The clean reference's magnitudes on the captured phase: what a perfect gain could reach."""
    if not case.reference.any():
        raise NotAvailable("needs a reference that sounds")
    spectrum = stft(case.capture)
    clean = np.abs(stft(case.reference))
    return istft(clean * spectrum / (np.abs(spectrum) + 1e-12), case.capture.shape[-1])


#: Name in the tables -> function, in the order of the tables.
RIVALS: dict[str, Callable[[Case], np.ndarray]] = {
    "input": keep_input,
    "gate": gate,
    "low-pass": low_pass,
    "EQ": equaliser,
    "gain": gain,
    "spectrum match": spectrum_match,
    "noisereduce": noisereduce,
    "WPE": wpe,
    "afftdn": afftdn,
    "oracle noise mask": oracle_noise_mask,
    "oracle magnitude": oracle_magnitude,
}
