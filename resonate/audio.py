"""The one door for reading, writing and resampling sound.

Samples are float32, shape (channels, time), nominally in [-1, 1] and never clipped. Reading goes through PyAV (FFmpeg)
and obeys the container's edit list or skip data; writing is atomic: a file is complete or it is not there.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from resonate.audio_read import SUFFIXES, AudioError, Reader, Source
from resonate.audio_wav import SUBTYPES, WavWriter, temporary_beside

__all__ = [
    "SUFFIXES", "Audio", "AudioError", "Reader", "Resampler", "Source", "WavWriter", "encode", "probe", "read",
    "resample", "resampled_length", "sha256", "stream", "to_stereo", "write",
]  # fmt: skip

#: Bits per second and channel from which AAC is coded the fast way.
_FAST_BIT_RATE = 48_000
#: Gains of a down-mix to stereo by FFmpeg's names of the channels (ITU-R BS.775 for centre and surrounds; the
#: low-frequency channel is left out).
_SIDE = {
    "FL": (1, 0),
    "FR": (0, 1),
    "FC": (0.7071, 0.7071),
    "LFE": (0, 0),
    "BL": (0.7071, 0),
    "BR": (0, 0.7071),
    "SL": (0.7071, 0),
    "SR": (0, 0.7071),
    "BC": (0.5, 0.5),
}
#: What as many channels are taken as where the file does not name them.
_LAYOUTS = {
    3: "FL FR FC",
    4: "FL FR BL BR",
    5: "FL FR FC BL BR",
    6: "FL FR FC LFE BL BR",
    7: "FL FR FC LFE BC SL SR",
    8: "FL FR FC LFE BL BR SL SR",
}


@dataclass
class Audio:
    """Samples (channels, time) float32 at `rate` Hz and what is known about their source."""

    samples: np.ndarray
    rate: int
    source: Source


def probe(path: str | Path) -> Source:
    """Container, codec, rate, channels and length of a recording, without decoding. Raises AudioError.

    Where the header states no length (live recordings), the packets are counted.
    """
    reader = Reader(path)
    if not reader.source.expected:
        reader.count_packets()
    reader.close()
    return reader.source


def stream(path: str | Path) -> Iterator[np.ndarray]:
    """A recording as (channels, n) float32 blocks of some 1000 samples each, with flat memory. Raises AudioError."""
    return iter(Reader(path))


def read(path: str | Path, *, start: float = 0.0, duration: float | None = None) -> Audio:
    """Read a recording, or `duration` seconds of it from `start` s on, at its own rate and with its own channels.

    Raises AudioError for a missing, empty or unreadable file, one without sound, NaN or infinite samples, or a
    `start` at or after the end.
    """
    reader, parts, position = Reader(path), [], 0
    for block in reader:
        rate = reader.source.rate
        first = round(start * rate)
        last = None if duration is None else first + round(duration * rate)
        parts.append(block[:, max(0, first - position) : None if last is None else max(0, last - position)])
        position += block.shape[1]
        if last is not None and position >= last:
            break
    reader.close()
    samples = np.concatenate(parts, axis=1)
    if samples.shape[1] == 0:
        raise AudioError(f"{path}: ends at {position / rate:.2f} s, before the start at {start:g} s.")
    return Audio(np.ascontiguousarray(samples), reader.source.rate, reader.source)


def resampled_length(n: int, rate_in: int, rate_out: int) -> int:
    """round(n * rate_out / rate_in), the length that every resampling here gives."""
    return round(n * rate_out / rate_in)


def resample(x: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Resample (..., time) with soxr's VHQ linear-phase filter: no delay, round(n * rate_out / rate_in) samples."""
    x = np.asarray(x, dtype=np.float32)
    if rate_in == rate_out:
        return x.copy()
    n = resampled_length(x.shape[-1], rate_in, rate_out)
    rows = x.reshape(-1, x.shape[-1])
    y = np.zeros((rows.shape[0], n), dtype=np.float32)
    for row, out in zip(rows, y, strict=True):
        got = soxr.resample(row, rate_in, rate_out, quality="VHQ")[:n]
        out[: got.size] = got
    return y.reshape(*x.shape[:-1], n)


class Resampler:
    """The same filter as :func:`resample` for a stream: push blocks, the last one with `last=True`.

    All blocks together hold round(n * rate_out / rate_in) samples, give or take one at the end.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self._same = rate_in == rate_out
        if not self._same:
            self._soxr = soxr.ResampleStream(rate_in, rate_out, channels, dtype="float32", quality="VHQ")

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """(channels, n) in, (channels, m) out; m may be 0."""
        if self._same:
            return block
        frames = np.ascontiguousarray(block.T, dtype=np.float32)
        return np.ascontiguousarray(self._soxr.resample_chunk(frames, last=last).T)


def to_stereo(x: np.ndarray, layout: str = "") -> tuple[np.ndarray, str]:
    """(2, time) from (channels, time), and a note on how: dual mono, as it is, or a down-mix that cannot overload.

    More than two channels: left and right keep 0 dB, centre and surrounds come in at -3 dB, the low-frequency channel
    stays out (ITU-R BS.775), all divided by the largest possible sum. `layout` names the channels as `Source.layout`
    does; where it is empty, or has names without a known place, their number decides, and more than eight channels are
    averaged.
    """
    channels = x.shape[0]
    if channels == 2:
        return x, ""
    if channels == 1:
        return np.repeat(x, 2, axis=0), "mono: the same signal on both sides"
    names = layout.split()
    if len(names) != channels or not _reaches_both_sides(names):
        names = _LAYOUTS.get(channels, "").split()
    if not names:
        return np.repeat(x.mean(0, keepdims=True), 2, axis=0), f"{channels} channels: their mean on both sides"
    gains = np.array([_SIDE[name] for name in names], dtype=np.float32).T
    gains /= gains.sum(1, keepdims=True)
    note = f"{channels} channels taken as {' '.join(names)}, mixed down to stereo with gains " + "; ".join(
        " ".join(f"{g:.3f}" for g in side) for side in gains
    )
    return gains @ x, note


def _reaches_both_sides(names: list[str]) -> bool:
    """Whether the places of all these channels are known, and neither side of their down-mix is empty."""
    return set(names) <= _SIDE.keys() and all(any(_SIDE[name][side] for name in names) for side in (0, 1))


def write(path: str | Path, samples: np.ndarray, rate: int, subtype: str = "FLOAT") -> None:
    """Write (channels, time) samples atomically as WAV (RF64 above 4 GB), or as FLAC where the suffix says so.

    subtype is FLOAT, PCM_24 or PCM_16; FLAC takes the PCM ones. Nothing is clipped: ValueError for |x| > 1 in PCM,
    and for NaN or infinity.
    """
    path, samples = Path(path), np.atleast_2d(np.asarray(samples, dtype=np.float32))
    if path.suffix.lower() != ".flac":
        with WavWriter(path, rate, samples.shape[0], samples.shape[1], subtype) as writer:
            for first in range(0, samples.shape[1], 1 << 20):
                writer.write(samples[:, first : first + (1 << 20)])
        return
    if subtype not in SUBTYPES or subtype == "FLOAT":
        raise ValueError(f"FLAC holds PCM_16 or PCM_24, not {subtype}")
    if not np.isfinite(samples).all() or (samples.size and np.abs(samples).max() > 1.0):
        raise ValueError(f"samples beyond [-1, 1] do not fit {subtype}: lower the level first")
    part = temporary_beside(path)
    try:
        top = 1 << (15 if subtype == "PCM_16" else 23)
        whole = np.rint(samples.T.astype(np.float64) * top).clip(-top, top - 1).astype(np.int32)
        soundfile.write(part, whole << (16 if subtype == "PCM_16" else 8), rate, subtype=subtype, format="FLAC")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def encode(path: str | Path, samples: np.ndarray, rate: int, codec: str = "aac", bit_rate: int = 128_000,
           fast: bool = False) -> None:
    """Encode (channels, time) samples, 1 or 2 channels, with one of FFmpeg's encoders, atomically.

    The container follows the suffix. The encoder's delay goes into the container's edit list or skip data, where the
    container has one. With `fast`, AAC of 48 kbit/s and channel or more takes a third of the time at a higher SNR,
    but cuts more off the top. ValueError when the codec is unknown, or does not take the rate; OSError for a full disk.
    """
    path, samples = Path(path), np.atleast_2d(np.asarray(samples, dtype=np.float32))
    enough = bit_rate >= _FAST_BIT_RATE * samples.shape[0]
    options = {"aac_coder": "fast"} if fast and enough and codec == "aac" else {}
    layout = {1: "mono", 2: "stereo"}[samples.shape[0]]
    part = temporary_beside(path)
    try:
        form = "adts" if path.suffix.lower() == ".aac" else None
        with av.open(str(part), "w", format=form) as container:
            stream = container.add_stream(codec, rate=rate, layout=layout, options=options)
            stream.bit_rate = bit_rate
            stream.codec_context.open()
            resampler = av.AudioResampler(
                format=stream.format.name, layout=layout, rate=rate, frame_size=stream.codec_context.frame_size
            )
            for first in range(0, samples.shape[1], 1 << 16):
                block = np.ascontiguousarray(samples[:, first : first + (1 << 16)])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
                for piece in resampler.resample(frame):
                    container.mux(stream.encode(piece))
            for piece in resampler.resample(None):
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
        os.replace(part, path)
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(f"{codec} at {rate} Hz cannot be written to {path.suffix}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
