"""Real encoders through PyAV, in memory, one example at a time, with their delay taken out to the sample.

Bit rates are those that phones and messengers write; AAC-LC is ISO/IEC 14496-3, Opus RFC 6716, MP3 ISO/IEC 11172-3,
AMR-NB 3GPP TS 26.071. The delay of a codec at a sample rate is measured once per process, by cross-correlating a known
noise with its round trip; containers' own accounts of it differ between decoders. The phase response of Opus stays:
less than a sample at low frequencies, and below 64 kbit/s (its speech coder) up to two or three on band-limited noise,
as of 300 to 1200 Hz at 32 kbit/s in stereo. AMR-WB (3GPP TS 26.171) takes part where FFmpeg was built with an encoder
for it; PyAV's own wheels are not, so there it is left out, and the log says so.
"""

import logging
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import av
import numpy as np
from scipy.signal import correlate

from resonate import RATE, audio
from resonate.errors import UserError

log = logging.getLogger(__name__)

#: encoder -> (decoder, sample format, rates it takes)
CODECS = {
    "aac": ("aac", "fltp", (48000, 44100, 32000, 24000, 22050, 16000, 8000)),
    # Opus always decodes to 48 kHz, and phones encode it there; narrower bands come from the bit rate.
    "libopus": ("libopus", "flt", (48000,)),
    "libmp3lame": ("mp3float", "fltp", (48000, 44100, 32000, 24000, 22050, 16000, 8000)),
    "libopencore_amrnb": ("amrnb", "s16", (8000,)),
}
WIDE = "libvo_amrwbenc"
if WIDE in av.codecs_available:
    CODECS[WIDE] = ("amrwb", "s16", (16000,))
#: encoder -> what it is called in tables and pictures
NAMES = {"aac": "aac", "libopus": "opus", "libmp3lame": "mp3", "libopencore_amrnb": "amr-nb", WIDE: "amr-wb"}


@dataclass(frozen=True)
class Pass:
    """One encoding: encoder (a key of CODECS), sample rate in Hz that it takes, bit rate in bit/s (AAC 32 to 96 kbit/s
    per channel at 48 kHz, Opus 16 to 64, MP3 40 to 96, less at lower rates; AMR-NB 7.95 to 12.2, AMR-WB 12.65 to
    23.85), channels 1 or 2."""

    encoder: str
    rate: int
    bit_rate: int
    channels: int


@dataclass(frozen=True)
class CodecParams:
    """The encodings in their order; empty = none (WAV)."""

    passes: list[Pass]

    @classmethod
    def from_dict(cls, values: dict) -> "CodecParams":
        """Rebuild from the plain form that JSON gives back."""
        return cls([Pass(**one) for one in values["passes"]])


@lru_cache(maxsize=1)
def _note_missing() -> None:
    """Say once what the chain leaves out."""
    if WIDE not in CODECS:
        log.info("AMR-WB is left out of the capture chain: this build of FFmpeg has no encoder for it.")


def sample(
    rng: np.random.Generator, severity: float, rate: int, capsules: int, chain_share: float = 0.25
) -> CodecParams:
    """Draw what the phone saves (AAC mostly) and sometimes what sharing it makes of that."""
    _note_missing()
    if rate == 8000 and rng.uniform() < 0.6:
        return CodecParams([Pass("libopencore_amrnb", 8000, int(rng.choice([7950, 10200, 12200])), 1)])
    if rate == 16000 and WIDE in CODECS and rng.uniform() < 0.6:
        return CodecParams([Pass(WIDE, 16000, int(rng.choice([12650, 15850, 19850, 23850])), 1)])
    first = str(rng.choice(["aac", "libopus", "libmp3lame", ""], p=[0.72, 0.1, 0.08, 0.1]))
    passes = []
    if first:
        passes.append(_pass(rng, first, rate, capsules, severity))
    if rng.uniform() < chain_share:
        passes.append(_pass(rng, str(rng.choice(["aac", "libopus", "libmp3lame"])), rate, capsules, severity))
    return CodecParams(passes)


def _pass(rng: np.random.Generator, encoder: str, rate: int, channels: int, severity: float) -> Pass:
    taken = CODECS[encoder][2]
    nearest = min(taken, key=lambda r: (abs(r - rate), -r))
    per_channel = {"aac": (32, 96), "libopus": (16, 64), "libmp3lame": (40, 96)}[encoder]
    low, high = np.log(per_channel)
    kbit = float(np.exp(rng.uniform(low, high - 0.5 * severity * (high - low)))) * (nearest / 48000) ** 0.7
    if encoder == "libmp3lame":
        steps = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160] if nearest >= 32000 else [16, 24, 32, 40, 48, 56, 64]
        bit_rate = min(steps, key=lambda s: abs(s - kbit * channels)) * 1000
    else:
        bit_rate = max(int(kbit * channels), 8) * 1000
    return Pass(encoder, nearest, bit_rate, channels)


def apply(x: np.ndarray, params: CodecParams) -> np.ndarray:
    """(2, T) float32 at 44.1 kHz through every pass: same shape, aligned to the sample."""
    for one in params.passes:
        rated = audio.resample(x, RATE, one.rate)
        decoded = round_trip(rated, one)[:, delay(one) :]
        back = audio.resample(_fit(decoded, rated.shape[-1]), one.rate, RATE)
        x = _fit(back, x.shape[-1])
    return x


def start(x: np.ndarray, params: CodecParams, workers: int = 0) -> Callable[[], np.ndarray]:
    """Begin `apply` in one of `workers` processes; what comes back waits for the result and gives it.

    Without workers, and in a process that may not start any, as a data loader's own, it is done at once.
    """
    if not workers or not params.passes or multiprocessing.current_process().daemon:
        done = apply(x, params)
        return lambda: done
    return _pool(workers, os.getpid()).submit(apply, x, params).result


@lru_cache(maxsize=4)
def _pool(workers: int, process: int) -> ProcessPoolExecutor:
    """Encoding processes of this one, started when they are first needed and kept until it ends."""
    del process  # a forked copy of this process cannot use its parent's
    # A forked process cannot use a GPU that its parent uses.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def round_trip(x: np.ndarray, one: Pass) -> np.ndarray:
    """Encode and decode (2, n) float32 at one.rate: (2, m), delayed as the codec delays it.

    Raises UserError for an encoder that is unknown or that this build of FFmpeg lacks.
    """
    if one.encoder not in CODECS:
        raise UserError(f"There is no encoder {one.encoder} here; the choices are {', '.join(CODECS)}.")
    decoder_name, sample_format, _ = CODECS[one.encoder]
    layout = "mono" if one.channels == 1 else "stereo"
    encoder = av.CodecContext.create(one.encoder, "w")
    encoder.sample_rate, encoder.layout, encoder.format = one.rate, layout, sample_format
    encoder.bit_rate = one.bit_rate
    encoder.thread_count = 1
    if one.encoder == "libmp3lame":
        # LAME's fast search, twice as fast as its default.
        encoder.options = {"compression_level": "7"}
    encoder.open()
    channels = x.mean(axis=0, keepdims=True) if one.channels == 1 else x
    size = encoder.frame_size or 960
    # At least four frames of silence push out what the encoder still holds.
    padded = np.pad(channels, ((0, 0), (0, -channels.shape[-1] % size + 4 * size)))
    decoder = av.CodecContext.create(decoder_name, "r")
    decoder.thread_count = 1
    decoder.sample_rate, decoder.layout = one.rate, layout
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    frames = []
    for start in range(0, padded.shape[-1], size):
        block = _packed(padded[:, start : start + size], sample_format)
        frame = av.AudioFrame.from_ndarray(block, sample_format, layout)
        frame.sample_rate, frame.pts = one.rate, start
        for packet in encoder.encode(frame):
            frames += decoder.decode(packet)
    for packet in encoder.encode(None):
        frames += decoder.decode(packet)
    frames += decoder.decode(None)
    out = np.concatenate([_planar(frame, one.channels) for frame in frames], axis=1)
    return np.repeat(out, 2, axis=0) if len(out) == 1 else out


def delay(one: Pass) -> int:
    """Samples (at one.rate) by which the round trip comes late. It depends on encoder and rate, not on the bit rate."""
    return _delay(one.encoder, one.rate, one.channels)


@lru_cache(maxsize=64)
def _delay(encoder: str, rate: int, channels: int) -> int:
    bit_rate = {"libopencore_amrnb": 12200, WIDE: 23850}.get(encoder, 64000 if rate >= 32000 else 24000)
    one = Pass(encoder, rate, bit_rate, channels)
    rng = np.random.default_rng(7)
    n = one.rate
    noise = rng.standard_normal(n)
    # Pitched pulses with noise: something every codec, also a speech codec, keeps the place of.
    spectrum = np.fft.rfft(noise) * (np.abs(np.fft.rfftfreq(n, 1 / one.rate) - 1000) < 700)
    probe = np.fft.irfft(spectrum, n) * (0.2 + 0.8 * (np.sin(2 * np.pi * 5 * np.arange(n) / one.rate) > 0.6))
    probe = (0.25 * probe / np.abs(probe).max()).astype(np.float32)
    decoded = round_trip(np.stack([probe, probe]), one)[0]
    match = correlate(decoded, probe, mode="full")[n - 1 : n - 1 + 8192]
    return int(match.argmax())


def _packed(x: np.ndarray, sample_format: str) -> np.ndarray:
    if sample_format == "s16":
        return np.ascontiguousarray(np.clip(np.rint(x * 32767), -32768, 32767).astype(np.int16))
    if sample_format == "flt":
        return np.ascontiguousarray(x.T.reshape(1, -1), dtype=np.float32)
    return np.ascontiguousarray(x, dtype=np.float32)


def _planar(frame: av.AudioFrame, channels: int) -> np.ndarray:
    data = frame.to_ndarray()
    samples = data.astype(np.float32) / 32768.0 if data.dtype == np.int16 else data
    return samples.reshape(-1, channels).T if not frame.format.is_planar else samples


def _fit(x: np.ndarray, length: int) -> np.ndarray:
    """x cut or zero-padded to length samples."""
    return np.pad(x[:, :length], ((0, 0), (0, max(0, length - x.shape[-1]))))
