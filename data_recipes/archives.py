"""Take a few files out of a large archive inside a Debian package, in one pass and without unpacking the rest."""

import shutil
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from data_recipes import deb
from resonate.errors import UserError

_LOCAL = struct.Struct("<4sHHHHHIIIHH")  # header of one file in a zip: signature .. sizes, lengths of name and extra
_BLOCK = 1 << 20


@contextmanager
def tar_of(path: Path) -> Iterator[tarfile.TarFile]:
    """The files of a .deb as a tar that can be read once, front to back. Raises UserError for what is no package."""
    if shutil.which("dpkg-deb"):
        process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                yield tar
        except tarfile.TarError:
            raise UserError(f"{path} is not a readable Debian package; download it again.") from None
        finally:
            process.kill()
            process.communicate()
        return
    with path.open("rb") as handle:
        deb.seek_data(path, handle)
        try:
            with tarfile.open(fileobj=handle, mode="r|*") as tar:
                yield tar
        except tarfile.TarError:
            raise UserError(f"{path} is damaged, or packed in a way that needs dpkg-deb; install dpkg.") from None


def unpack_some(path: Path, folder: Path, archive: str, wanted: Callable[[str], bool]) -> None:
    """Take out of a .deb its documentation and, of the zip archive `archive` in it, the files that are wanted.

    Args:
        path: the .deb.
        folder: is made; the archive's files lie below the folder in which the archive lies.
        archive: path of the zip in the package, without "./" at its beginning.
        wanted: whether a file of the archive is taken, by its name there.

    Raises:
        UserError: no package, no such archive in it, or an archive that cannot be read in one pass.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    found = False
    with tar_of(path) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if name == archive:
                found = True
                _unzip(tar.extractfile(member), path, part / PurePosixPath(archive).parent, wanted)
            elif name.startswith("usr/share/doc/") and member.isfile():
                tar.extract(member, part, filter="data")
            if found and any(part.glob("usr/share/doc/*/copyright")):
                break  # what follows is not needed; decompressing it would take minutes
    if not found:
        raise UserError(f"{path} holds no {archive}; this release has another version of the package.")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _unzip(stream: BinaryIO, path: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Files of a zip that is read front to back by the headers before each file, not by its directory at the end."""
    while len(header := stream.read(_LOCAL.size)) == _LOCAL.size and header[:4] == b"PK\x03\x04":
        _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
        name = stream.read(name_length).decode("utf-8", errors="replace")
        stream.read(extra_length)
        if flags & 0x9 or method not in (0, 8) or 0xFFFFFFFF in (packed, size):
            raise UserError(f"{path} holds an archive whose files cannot be read one after the other ({name}); "
                            "unpack it by hand and use its music as your own folder.")
        pure = PurePosixPath(name)
        if not wanted(name) or name.endswith("/") or pure.is_absolute() or ".." in pure.parts:
            _skip(stream, packed)
            continue
        target = folder / pure
        target.parent.mkdir(parents=True, exist_ok=True)
        unpack = zlib.decompressobj(-15) if method == 8 else None
        total = 0
        with target.open("wb") as out:
            for block in _blocks(stream, packed):
                try:
                    plain = unpack.decompress(block) if unpack else block
                except zlib.error:
                    raise UserError(f"{path} is damaged at {name}; download it again.") from None
                total = zlib.crc32(plain, total)
                out.write(plain)
            if unpack:
                rest = unpack.flush()
                total = zlib.crc32(rest, total)
                out.write(rest)
        if total != crc:
            raise UserError(f"{path} is damaged at {name}; download it again.")


def _blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0:
        block = stream.read(min(size, _BLOCK))
        if not block:
            raise UserError("The package ends in the middle of its archive; download it again.")
        size -= len(block)
        yield block


def _skip(stream: BinaryIO, size: int) -> None:
    for _ in _blocks(stream, size):
        pass
