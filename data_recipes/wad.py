"""Lumps of a WAD file, the archive format of Doom and of games built like it."""

import struct
from collections.abc import Iterator
from pathlib import Path

from resonate.errors import UserError

_HEADER = struct.Struct("<4sii")  # kind, number of lumps, place of the directory
_ENTRY = struct.Struct("<ii8s")  # place, size, name


def lumps(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every lump, in the order of the directory.

    Raises UserError where the file is no WAD, or its directory points outside of it.
    """
    data = path.read_bytes()
    if len(data) < _HEADER.size or data[:4] not in (b"IWAD", b"PWAD"):
        raise UserError(f"{path} is not a WAD file; give one that begins with IWAD or PWAD.")
    _, count, directory = _HEADER.unpack_from(data)
    if count < 0 or directory < 0 or directory + count * _ENTRY.size > len(data):
        raise UserError(f"{path} is cut short: its directory lies beyond its end; copy it again.")
    for number in range(count):
        place, size, raw = _ENTRY.unpack_from(data, directory + number * _ENTRY.size)
        name = raw.split(b"\0")[0].decode("ascii", errors="replace")
        if size < 0 or (size and (place < 0 or place + size > len(data))):
            raise UserError(f"{path} is damaged: its lump {name} lies beyond its end; copy it again.")
        yield name, data[place : place + size] if size else b""
