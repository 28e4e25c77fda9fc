"""Arrays on disk, read and written in stretches, so that memory stays flat for a recording of any length.

They are plain `.npy` files. Reads and writes go through the file and not through a memory map, whose pages would count
as the process's memory.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Samples per stretch in loops that go over a whole recording.
STRETCH = 1 << 17


class Store:
    """An array (length, *row) in a `.npy` file; new ones start as zeros.

    With `keep`, a file that is there already and has this very shape is opened as it is.
    """

    def __init__(self, path: Path, length: int, row: tuple[int, ...], dtype: str, keep: bool = False) -> None:
        self.path, self.length, self.row, self.dtype = path, length, tuple(row), np.dtype(dtype)
        self._row_bytes = int(np.prod(self.row)) * self.dtype.itemsize
        head = io.BytesIO()
        shape = {"descr": self.dtype.str, "fortran_order": False, "shape": (length, *self.row)}
        np.lib.format.write_array_header_1_0(head, shape)
        header = head.getvalue()
        self._offset = len(header)
        #: Whether the file was there already.
        self.kept = keep and self._is_there(header)
        if not self.kept:
            with open(path, "wb") as file:
                file.write(header)
                file.truncate(self.bytes)
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 - closed by close()
        self._sealed = False

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self._offset + self.length * self._row_bytes

    def _is_there(self, header: bytes) -> bool:
        try:
            with open(self.path, "rb") as file:
                return file.read(len(header)) == header and os.fstat(file.fileno()).st_size == self.bytes
        except FileNotFoundError:
            return False

    def describe(self) -> dict[str, Any]:
        """What :func:`reopen` needs beside the path; JSON-able."""
        return {"length": self.length, "row": list(self.row), "dtype": self.dtype.str}

    def read_rows(self, start: int, count: int) -> np.ndarray:
        """Rows [start, start + count); rows outside the array are zero."""
        first, last = min(max(start, 0), self.length), min(max(start + count, 0), self.length)
        out = np.zeros((count, *self.row), dtype=self.dtype)
        if last > first:
            self._file.seek(self._offset + first * self._row_bytes)
            data = bytearray((last - first) * self._row_bytes)
            view, got = memoryview(data), 0
            while got < len(data):
                more = self._file.readinto(view[got:])
                if not more:
                    raise OSError(errno.EIO, "it is shorter than it was", str(self.path))
                got += more
            out[first - start : last - start] = np.frombuffer(data, self.dtype).reshape(-1, *self.row)
        return out

    def write_rows(self, start: int, rows: np.ndarray) -> None:
        """Put `rows` at `start`; what would lie outside the array is dropped. ValueError once it is sealed."""
        if self._sealed:
            raise ValueError(f"{self.path.name} belongs to a finished stage and is not written again")
        first, last = max(start, 0), min(start + len(rows), self.length)
        if last <= first:
            return
        data = memoryview(np.ascontiguousarray(rows[first - start : last - start], dtype=self.dtype)).cast("B")
        self._file.seek(self._offset + first * self._row_bytes)
        done = 0
        while done < len(data):
            done += self._file.write(data[done:])

    def sync(self) -> None:
        """Return once what was written lies on the disk, so that it outlasts a power cut."""
        os.fsync(self._file.fileno())

    def seal(self) -> None:
        """Allow reading only: what later stages find is what a resumed run finds."""
        self._sealed = True

    def close(self) -> None:
        """Close the file; the array stays on disk."""
        self._file.close()


class Track(Store):
    """Sound on disk: `channels` x `length` float32 samples at `rate` Hz."""

    def __init__(self, path: Path, channels: int, length: int, rate: int, keep: bool = False) -> None:
        super().__init__(path, length, (channels,), "<f4", keep)
        self.channels, self.rate = channels, rate

    def describe(self) -> dict[str, Any]:
        """As `Store.describe`."""
        return {"channels": self.channels, "length": self.length, "rate": self.rate}

    def read(self, start: int, count: int) -> np.ndarray:
        """(channels, count) samples from `start` on; zeros outside the recording."""
        return np.ascontiguousarray(self.read_rows(start, count).T)

    def write(self, start: int, block: np.ndarray) -> None:
        """Put a (channels, n) block at `start`."""
        self.write_rows(start, block.T)

    def fill(self, blocks: Iterable[tuple[int, np.ndarray]]) -> Track:
        """Write all (start, (channels, n)) blocks; the track itself."""
        for start, block in blocks:
            self.write(start, block)
        return self

    def blocks(self, size: int = STRETCH) -> Iterator[tuple[int, np.ndarray]]:
        """(start, (channels, n)) over the whole track; n is `size` but for the last."""
        for start in range(0, self.length, size):
            yield start, self.read(start, min(size, self.length - start))


def reopen(path: Path, about: dict[str, Any]) -> Store:
    """The array at `path` that :meth:`Store.describe` gave `about` of, for reading.

    FileNotFoundError where it is gone or of another shape.
    """
    path.stat()
    store = Track(path, **about, keep=True) if "rate" in about else Store(path, **about, keep=True)
    if not store.kept:
        store.close()
        raise FileNotFoundError(errno.ENOENT, "it is of another shape", str(path))
    store.seal()
    return store
