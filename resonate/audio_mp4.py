"""What the boxes of an MP4-family file say about which samples are to be presented.

FFmpeg obeys an edit list at its beginning but plays the last coded frame to its end, so the number of samples
after the edit list has to be read from the boxes (ISO/IEC 14496-12, 8.4.2 `mdhd`, 8.6.1.2 `stts`, 8.6.6 `elst`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

_NESTED = {b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl"}
_GAPLESS = re.compile(
    rb"iTunSMPB.{0,24}?data.{8} ?[0-9A-Fa-f]{8} ([0-9A-Fa-f]{8}) ([0-9A-Fa-f]{8}) ([0-9A-Fa-f]{16})", re.S
)


@dataclass
class Presentation:
    """What is to be presented: it lasts `seconds` (None: to the end of the media). FFmpeg cuts what lies before it."""

    has_edit_list: bool
    seconds: Fraction | None
    delay: Fraction
    edits: int


def _boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while begin + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, begin)
        head = 8
        if size == 1 and begin + 16 <= end:
            size, head = struct.unpack_from(">Q", data, begin + 8)[0], 16
        elif size == 0:
            size = end - begin
        if size < head or begin + size > end:
            return
        yield kind, begin + head, begin + size
        begin += size


def _moov(file: BinaryIO) -> bytes | None:
    """The `moov` box of a file, or None where it has none (only box headers are read before it)."""
    file.seek(0, 2)
    total, at = file.tell(), 0
    while at + 8 <= total:
        file.seek(at)
        head = file.read(16)
        size, kind = struct.unpack_from(">I4s", head)
        if at == 0 and kind not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return None
        if size == 1 and len(head) == 16:
            size = struct.unpack_from(">Q", head, 8)[0]
        elif size == 0:
            size = total - at
        if size < 8:
            return None
        if kind == b"moov":
            if size > 256 << 20:
                return None
            file.seek(at)
            return file.read(size)
        at += size
    return None


def lacks_index(file: BinaryIO) -> bool:
    """Whether this is an MP4-family file whose index (`moov`) is missing or cut, as when a recorder was stopped."""
    file.seek(4)
    return file.read(4) == b"ftyp" and _moov(file) is None


def _flatten(data: bytes, begin: int, end: int, found: dict[bytes, list[bytes]]) -> None:
    for kind, first, last in _boxes(data, begin, end):
        if kind in _NESTED:
            _flatten(data, first, last, found)
        else:
            found.setdefault(kind, []).append(data[first:last])


def _edits(box: bytes) -> list[tuple[int, int]]:
    """Pairs (duration in movie ticks, media time in media ticks, -1 for an empty edit)."""
    wide, count = box[0] == 1, struct.unpack_from(">I", box, 4)[0]
    size, form = (20, ">Qq") if wide else (12, ">Ii")
    count = min(count, (len(box) - 8) // size)
    return [struct.unpack_from(form, box, 8 + i * size) for i in range(count)]


def _header(box: bytes) -> tuple[int, int]:
    """(ticks per second, duration in ticks) of an `mvhd` or `mdhd` box."""
    return struct.unpack_from(">IQ", box, 20) if box[0] == 1 else struct.unpack_from(">II", box, 12)


def presentation(file: BinaryIO, rate: int, track: int) -> Presentation | None:
    """Edit list (or iTunes gapless tag) of the sound track with this ID; None for other containers.

    An edit's duration counts in ticks of the movie, often whole milliseconds; where the media itself ends within
    one such tick of it, the end of the media is meant and taken, to the sample.
    """
    data = _moov(file)
    if data is None:
        return None
    try:
        return _of_track(data, rate, track)
    except (struct.error, IndexError, ZeroDivisionError):
        return None


def _track_id(box: bytes) -> int:
    """Of a `tkhd` box."""
    return struct.unpack_from(">I", box, 20 if box[0] == 1 else 12)[0]


def _of_track(data: bytes, rate: int, number: int) -> Presentation | None:
    movie: dict[bytes, list[bytes]] = {}
    tracks: list[dict[bytes, list[bytes]]] = []
    for kind, first, last in _boxes(data, 8 if data[:4] != b"\0\0\0\1" else 16, len(data)):
        if kind == b"trak":
            tracks.append({})
            _flatten(data, first, last, tracks[-1])
        elif kind == b"mvhd":
            movie[kind] = [data[first:last]]
    track = next((t for t in tracks if b"tkhd" in t and _track_id(t[b"tkhd"][0]) == number), None)
    if track is None or b"mvhd" not in movie or b"mdhd" not in track:
        return None
    movie_rate = _header(movie[b"mvhd"][0])[0]
    media_rate, media_ticks = _header(track[b"mdhd"][0])
    if b"elst" not in track:
        return _gapless(data, rate)
    edits = _edits(track[b"elst"][0])
    delay = Fraction(sum(d for d, at in edits if at < 0), movie_rate)
    shown = [(Fraction(d, movie_rate), at) for d, at in edits if at >= 0]
    if not shown:
        return None
    seconds = sum((d for d, _ in shown), Fraction(0))
    start = Fraction(shown[0][1], media_rate)
    if len(shown) == 1:
        rest = Fraction(media_ticks, media_rate) - start
        if abs(rest - seconds) <= Fraction(1, movie_rate):
            seconds = rest
    # A fragmented file states no duration: everything after the start is to be presented.
    return Presentation(True, seconds or None, delay, len(shown))


def _gapless(data: bytes, rate: int) -> Presentation:
    match = _GAPLESS.search(data)
    if match is None:
        return Presentation(False, None, Fraction(0), 0)
    count = int(match[3], 16)
    return Presentation(False, Fraction(count, rate) if count else None, Fraction(0), 0)
