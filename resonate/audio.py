"""The one door for reading, writing and resampling sound.

Samples are float32, shape (channels, time), nominally in [-1, 1] and never clipped. Reading goes through PyAV (FFmpeg)
and obeys the container's edit list or skip data; writing is atomic: a file is complete or it is not there.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Iterator

import av
import numpy as np
import soundfile
import soxr

from resonate.audio_mp4 import presentation
from resonate.audio_wav import SUBTYPES, WavWriter, temporary_beside
from resonate.errors import UserError

#: Containers that are opened. Play lists and scripts are not among them: FFmpeg would follow what they name.
FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2,mp3,ogg,flac,wav,w64,rf64,aac,amr,amrnb,amrwb,matroska,webm,caf,aiff,au,avi,mpegts,mpeg,"
           "ac3,eac3,asf,flv,wv,ape,tta,opus,loas,latm,mpc,mpc8,sox,bwf")

#: Suffixes by which a folder's recordings are found.
SUFFIXES = frozenset(
    ".m4a .mp4 .mov .m4v .3gp .3g2 .mp3 .ogg .oga .opus .flac .wav .aac .amr .mkv .webm .caf .aif .aiff .wma .avi .mka .w64"
    .split())

#: Gains of a down-mix to stereo (ITU-R BS.775 for centre and surrounds; the low-frequency channel is left out).
_SIDE = {"FL": (1, 0), "FR": (0, 1), "FC": (0.7071, 0.7071), "LFE": (0, 0), "BL": (0.7071, 0), "BR": (0, 0.7071),
         "SL": (0.7071, 0), "SR": (0, 0.7071), "BC": (0.5, 0.5)}
_LAYOUTS = {3: "FL FR FC", 4: "FL FR BL BR", 5: "FL FR FC BL BR", 6: "FL FR FC LFE BL BR", 7: "FL FR FC LFE BC SL SR",
            8: "FL FR FC LFE BL BR SL SR"}


class AudioError(UserError):
    """A recording that cannot be read, or not be used; the sentence names the file."""


@dataclass
class Source:
    """Where samples came from. `decoded` counts all decoded samples per channel, `trimmed_*` those then left out by
    edit list or skip data; `expected` is the length in samples that the container states (0: it does not say)."""

    container: str
    codec: str
    rate: int
    channels: int
    decoded: int = 0
    trimmed_start: int = 0
    trimmed_end: int = 0
    has_edit_list: bool = False
    expected: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class Audio:
    """Samples (channels, time) float32 at `rate` Hz and what is known about their source."""

    samples: np.ndarray
    rate: int
    source: Source


def _floats(frame: av.AudioFrame) -> np.ndarray:
    """(channels, n) float32 of a decoded frame, whatever its sample format."""
    raw, name = frame.to_ndarray(), frame.format.name
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    kind = name.rstrip("p")
    if kind in ("flt", "dbl"):
        return raw.astype(np.float32)
    if kind == "u8":
        return (raw.astype(np.float32) - 128.0) / 128.0
    return (raw.astype(np.float64) / {"s16": 1 << 15, "s32": 1 << 31, "s64": 1 << 63}[kind]).astype(np.float32)


class Reader:
    """One recording, opened read-only. Iterating yields (channels, n) float32 blocks; `source` is final after that.

    Raises AudioError, on opening or while iterating, for what is no readable sound.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.name or str(path)
        if not self.path.exists():
            raise AudioError(f"{self.path}: there is no such file.")
        if self.path.is_dir():
            raise AudioError(f"{self.path}: this is a folder, not a recording.")
        try:
            self._file = open(self.path, "rb")
        except OSError as error:
            raise AudioError(f"{self.path}: cannot be opened ({error.strerror}).") from None
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        if not self._file.read(1):
            raise AudioError(f"{self.path}: the file is empty.")
        self._file.seek(0)
        try:
            # The open file, not its name: FFmpeg reads names such as "a:b.m4a" as protocols.
            self._container = av.open(self._file, options={"format_whitelist": FORMATS})
            streams = self._container.streams.audio
        except (av.FFmpegError, ValueError):
            raise AudioError(f"{self.path}: this is not a sound or video file that can be read.") from None
        if not streams:
            raise AudioError(f"{self.path}: there is no sound in this file.")
        self._stream = self._container.streams.best("audio") or streams[0]
        context = self._stream.codec_context
        if context is None:
            raise AudioError(f"{self.path}: its sound is in a format that cannot be decoded.")
        self.source = Source(self._container.format.name, context.name, context.rate or 0, context.channels or 0)
        if len(streams) > 1:
            self.source.notes.append(f"{len(streams)} sound tracks; track {self._stream.index} is used")
        self._edit = presentation(self._file, self.source.rate) if "mp4" in self.source.container else None
        # The look at the boxes moved the file position that the demuxer counts on: open again.
        if self._edit is not None:
            index = self._stream.index
            self._container.close()
            self._file.seek(0)
            self._container = av.open(self._file, options={"format_whitelist": FORMATS})
            self._stream = self._container.streams[index]
        self._expect()

    def _expect(self) -> None:
        source, stream = self.source, self._stream
        self._limit: int | None = None
        if self._edit is not None:
            source.has_edit_list = self._edit.has_edit_list
            if self._edit.seconds is not None:
                self._limit = round(self._edit.seconds * source.rate)
                source.expected = self._limit
            if self._edit.delay:
                source.notes.append(f"the sound starts {float(self._edit.delay):.3f} s after the file's clock; "
                                    "time counts from its first sample")
            if self._edit.edits > 1:
                source.notes.append(f"the edit list has {self._edit.edits} parts, played one after the other")
        if not source.expected and source.rate:
            seconds = Fraction(0)
            if stream.duration and stream.time_base:
                seconds = stream.duration * stream.time_base
            elif self._container.duration:
                seconds = Fraction(self._container.duration, av.time_base)
            source.expected = max(0, round(seconds * source.rate))

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            yield from self._decode()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file; iterating to the end does so by itself."""
        self._container.close()
        self._file.close()

    def _decode(self) -> Iterator[np.ndarray]:
        source, given, bad, good, skipped_end, rate = self.source, 0, 0, 0, 0, 0
        for packet in self._packets():
            for side in packet.iter_sidedata():
                if side.data_type == "skip_samples":
                    head, tail = np.frombuffer(bytes(side)[:8], "<u4")
                    source.trimmed_start += int(head)
                    skipped_end += int(tail)
            try:
                frames = packet.decode()
                good += bool(packet.size)
            except av.FFmpegError:
                bad += 1
                continue
            for frame in frames:
                block = _floats(frame)
                if rate == 0:
                    rate = frame.sample_rate
                    self._correct_rate(rate, block.shape[0])
                if frame.sample_rate != rate or block.shape[0] != source.channels:
                    raise AudioError(f"{self.path}: the sample rate or the number of channels changes inside the "
                                     "recording; convert it to one format first.")
                if not np.isfinite(block).all():
                    raise AudioError(f"{self.path}: holds samples that are not numbers (NaN or infinite); "
                                     "export it again.")
                keep = block.shape[1] if self._limit is None else max(0, min(block.shape[1], self._limit - given))
                skipped_end += block.shape[1] - keep
                given += keep
                if keep:
                    yield block[:, :keep]
        source.trimmed_end = skipped_end
        source.decoded = given + source.trimmed_start + skipped_end
        if given == 0 or bad > good:
            raise AudioError(f"{self.path}: no sound could be decoded from it; the file is damaged or no recording.")
        if bad:
            source.notes.append(f"{bad} damaged packets of {bad + good} were left out")
        if self._limit is not None and given < self._limit:
            source.notes.append(f"the file ends {self._limit - given} samples before the end that it states")
        if not source.has_edit_list and not source.trimmed_start and not source.trimmed_end:
            source.notes.append("no edit list or skip data: all decoded samples are used")

    def _packets(self) -> Iterator[av.Packet]:
        """Packets of the sound track; what cannot be read any more ends the recording with a note."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:
                self.source.notes.append("the file breaks off before its end")
                return
            yield packet

    def _correct_rate(self, rate: int, channels: int) -> None:
        """Take rate and channels from the first decoded frame: headers of HE-AAC understate both."""
        if self._limit is not None and self._edit is not None and self._edit.seconds is not None:
            self._limit = round(self._edit.seconds * rate)
        self.source.rate, self.source.channels = rate, channels


def probe(path: str | Path) -> Source:
    """Container, codec, rate, channels and stated length of a recording, from its header alone. Raises AudioError."""
    reader = Reader(path)
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


def to_stereo(x: np.ndarray) -> tuple[np.ndarray, str]:
    """(2, time) from (channels, time), and a note on how: dual mono, as it is, or a down-mix that cannot overload.

    More than two channels: left and right keep 0 dB, centre and surrounds come in at -3 dB, the low-frequency channel
    stays out (ITU-R BS.775), all divided by the largest possible sum; more than eight channels are averaged.
    """
    channels = x.shape[0]
    if channels == 2:
        return x, ""
    if channels == 1:
        return np.repeat(x, 2, axis=0), "mono: the same signal on both sides"
    if channels not in _LAYOUTS:
        return np.repeat(x.mean(0, keepdims=True), 2, axis=0), f"{channels} channels: their mean on both sides"
    names = _LAYOUTS[channels].split()
    gains = np.array([_SIDE[name] for name in names], dtype=np.float32).T
    gains /= gains.sum(1, keepdims=True)
    note = f"{channels} channels taken as {' '.join(names)}, mixed down to stereo with gains " + "; ".join(
        " ".join(f"{g:.3f}" for g in side) for side in gains)
    return gains @ x, note


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


def encode(path: str | Path, samples: np.ndarray, rate: int, codec: str = "aac", bit_rate: int = 128_000) -> None:
    """Encode (channels, time) samples, 1 or 2 channels, with one of FFmpeg's encoders, atomically.

    The container follows the suffix. The encoder's delay goes into the container's edit list or skip data, where the
    container has one. ValueError when the codec is unknown, or does not take the rate.
    """
    path, samples = Path(path), np.atleast_2d(np.asarray(samples, dtype=np.float32))
    layout = {1: "mono", 2: "stereo"}[samples.shape[0]]
    part = temporary_beside(path)
    try:
        form = "adts" if path.suffix.lower() == ".aac" else None
        with av.open(str(part), "w", format=form) as container:
            stream = container.add_stream(codec, rate=rate, layout=layout)
            stream.bit_rate = bit_rate
            stream.codec_context.open()
            resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate,
                                          frame_size=stream.codec_context.frame_size)
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
