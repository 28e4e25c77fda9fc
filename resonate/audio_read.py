"""Decoding recordings block by block through PyAV (FFmpeg); the public door is `resonate.audio`."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from resonate.audio_mp4 import lacks_index, presentation
from resonate.errors import UserError

#: Containers that are opened. Play lists and scripts are not among them: FFmpeg would follow what they name.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,mp3,ogg,flac,wav,w64,rf64,aac,amr,amrnb,amrwb,matroska,webm,caf,aiff,au,avi,mpegts,mpeg,"
    "ac3,eac3,asf,flv,wv,ape,tta,opus,loas,latm,mpc,mpc8,sox,bwf"
)

#: Suffixes by which a folder's recordings are found.
SUFFIXES = frozenset({
    ".m4a", ".mp4", ".mov", ".m4v", ".3gp", ".3g2", ".mp3", ".ogg", ".oga", ".opus", ".flac", ".wav", ".aac", ".amr",
    ".mkv", ".mka", ".webm", ".caf", ".aif", ".aiff", ".wma", ".avi", ".w64",
})  # fmt: skip


#: Containers whose header tells how long the sound is; others' lengths FFmpeg takes from the file's size or its end.
_TELLING = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flac", "aiff"})
#: An MP3's count of its frames (Xing or Info with that flag, VBRI), which stands in a first frame without sound.
_COUNTED = re.compile(rb"(?:Xing|Info)\0{3}[\x01\x03\x05\x07\x09\x0b\x0d\x0f]|VBRI")


class AudioError(UserError):
    """A recording that cannot be read, or not be used; the sentence names the file."""


@dataclass
class Source:
    """Where samples came from. `decoded` counts all decoded samples per channel, `trimmed_*` those then left out by
    edit list or skip data; `expected` is the length in samples that the container states (0: it does not say).
    `layout` names the channels as FFmpeg does ("FL FR FC BC"), from the first decoded frame on; empty where the file
    does not name them."""

    container: str
    codec: str
    rate: int
    channels: int
    decoded: int = 0
    trimmed_start: int = 0
    trimmed_end: int = 0
    has_edit_list: bool = False
    expected: int = 0
    layout: str = ""
    notes: list[str] = field(default_factory=list)


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


class _Recording(io.BufferedReader):
    """An open file that answers a seek to nowhere as FFmpeg does, since an exception would pass through the demuxer."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


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
            self._file = _Recording(io.FileIO(self.path))
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
        try:
            self._container = self._demuxer()
            streams = self._container.streams.audio
        except (av.FFmpegError, ValueError):
            if lacks_index(self._file):
                raise AudioError(
                    f"{self.path}: the file breaks off before its index, without which its sound cannot be found; "
                    "copy it again from the phone, or have it repaired by a tool for broken MP4 files."
                ) from None
            raise AudioError(f"{self.path}: this is not a sound or video file that can be read.") from None
        if not streams:
            raise AudioError(f"{self.path}: there is no sound in this file.")
        # FFmpeg's choice may be a track that it has no decoder for, as the spatial sound of newer phones.
        choice = (self._container.streams.best("audio"), *streams)
        usable = [stream for stream in choice if stream is not None and stream.codec_context is not None]
        if not usable:
            raise AudioError(f"{self.path}: its sound is in a format that cannot be decoded.")
        self._stream, context = usable[0], usable[0].codec_context
        self.source = Source(self._container.format.name, context.name, context.rate or 0, context.channels or 0)
        if len(streams) > 1:
            self.source.notes.append(f"{len(streams)} sound tracks; track {self._stream.index} is used")
        is_mp4 = "mp4" in self.source.container
        self._edit = presentation(self._file, self.source.rate, self._stream.id) if is_mp4 else None
        # The look at the boxes moved the file position that the demuxer counts on: open again.
        if self._edit is not None:
            index = self._stream.index
            self._container.close()
            self._container = self._demuxer()
            self._stream = self._container.streams[index]
        self._expect()

    def _demuxer(self) -> av.container.InputContainer:
        self._file.seek(0)
        # The open file, not its name: FFmpeg reads names such as "a:b.m4a" as protocols. And a title that is not UTF-8,
        # as old taggers wrote them, is no reason to refuse the sound.
        return av.open(self._file, options={"format_whitelist": FORMATS}, metadata_errors="replace")

    def _expect(self) -> None:
        source, stream = self.source, self._stream
        self._limit: int | None = None
        self._stated = Fraction(0)
        if self._edit is not None:
            source.has_edit_list = self._edit.has_edit_list
            if self._edit.seconds is not None:
                self._limit = round(self._edit.seconds * source.rate)
                source.expected = self._limit
            if self._edit.delay:
                source.notes.append(
                    f"the sound starts {float(self._edit.delay):.3f} s after the file's clock; "
                    "time counts from its first sample"
                )
            if self._edit.edits > 1:
                source.notes.append(f"the edit list has {self._edit.edits} parts, played one after the other")
        if not source.expected and source.rate:
            if stream.duration and stream.time_base:
                self._stated = stream.duration * stream.time_base
            elif self._container.duration:
                self._stated = Fraction(self._container.duration, av.time_base)
            source.expected = max(0, round(self._stated * source.rate))

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
                    names = [channel.name for channel in frame.layout.channels]
                    source.layout = "" if "NONE" in names else " ".join(names)
                if frame.sample_rate != rate or block.shape[0] != source.channels:
                    raise AudioError(
                        f"{self.path}: the sample rate or the number of channels changes inside the "
                        "recording; convert it to one format first."
                    )
                if not np.isfinite(block).all():
                    raise AudioError(
                        f"{self.path}: holds samples that are not numbers (NaN or infinite); export it again."
                    )
                keep = block.shape[1] if self._limit is None else max(0, min(block.shape[1], self._limit - given))
                skipped_end += block.shape[1] - keep
                given += keep
                source.decoded = given + source.trimmed_start + skipped_end
                if keep:
                    yield block[:, :keep]
        source.trimmed_end = skipped_end
        source.decoded = given + source.trimmed_start + skipped_end
        if given == 0 or bad > good:
            raise AudioError(f"{self.path}: no sound could be decoded from it; the file is damaged or no recording.")
        if bad:
            source.notes.append(f"{bad} damaged packets of {bad + good} were left out")
        if self._limit is not None and given < self._limit:
            lost = self._limit - given
            source.notes.append(
                f"the file ends {lost} samples ({lost / rate:.2f} s, {100 * lost / self._limit:.1f} %) before the end "
                "that it states"
            )
        elif self._limit is None:
            self._note_what_lacks(given / rate)
        if not source.has_edit_list and not source.trimmed_start and not source.trimmed_end:
            source.notes.append("no edit list or skip data: all decoded samples are used")

    def _note_what_lacks(self, decoded: float) -> None:
        """Add a note where clearly less than the container states was decoded, `decoded` seconds."""
        stated = float(self._stated)
        if stated - decoded > max(0.5, 0.01 * stated) and self._tells_length():
            self.source.notes.append(f"about {decoded:.1f} of the {stated:.1f} s that the file states could be decoded")

    def _tells_length(self) -> bool:
        """Whether the stated length is the container's own and no estimate. Moves the file's position."""
        if self.source.container != "mp3":
            return self.source.container in _TELLING
        self._file.seek(0)
        head = self._file.read(10)
        # An ID3 tag before it states its size in four times seven bits.
        tag = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=False))
        self._file.seek(tag if head.startswith(b"ID3") else 0)
        return _COUNTED.search(self._file.read(2048)) is not None

    def count_packets(self) -> None:
        """Set `source.expected` from the packets' times; no block can be read after that."""
        end, found = Fraction(0), False
        for packet in self._packets():
            found = found or packet.size > 0
            if packet.pts is not None and packet.time_base:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if not found:
            raise AudioError(f"{self.path}: there are no samples in it.")
        self.source.expected = round(end * self.source.rate)

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
