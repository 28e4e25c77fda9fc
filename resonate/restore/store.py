"""Arrays on disk, read and written in stretches, so that memory stays flat for a recording of any length.

They are plain `.npy` files. Reads and writes go through the file and not through a memory map, whose pages would count
as the process's memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

#: Samples per stretch in loops that go over a whole recording.
STRETCH = 1 << 17


class Store:
    """An array (length, *row) in a `.npy` file; new ones start as zeros."""

    def __init__(self, path: Path, length: int, row: tuple[int, ...], dtype: str) -> None:
        self.path, self.length, self.row, self.dtype = path, length, row, np.dtype(dtype)
        self._row_bytes = int(np.prod(row)) * self.dtype.itemsize
        with open(path, "wb") as file:
            header = {"descr": self.dtype.str, "fortran_order": False, "shape": (length, *row)}
            np.lib.format.write_array_header_1_0(file, header)
            self._offset = file.tell()
            file.truncate(self._offset + length * self._row_bytes)
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 - closed by close()

    def read_rows(self, start: int, count: int) -> np.ndarray:
        """Rows [start, start + count); rows outside the array are zero."""
        first, last = min(max(start, 0), self.length), min(max(start + count, 0), self.length)
        out = np.zeros((count, *self.row), dtype=self.dtype)
        if last > first:
            self._file.seek(self._offset + first * self._row_bytes)
            data = bytearray((last - first) * self._row_bytes)
            view, got = memoryview(data), 0
            while got < len(data):
                got += self._file.readinto(view[got:])
            out[first - start : last - start] = np.frombuffer(data, self.dtype).reshape(-1, *self.row)
        return out

    def write_rows(self, start: int, rows: np.ndarray) -> None:
        """Put `rows` at `start`; what would lie outside the array is dropped."""
        first, last = max(start, 0), min(start + len(rows), self.length)
        if last <= first:
            return
        data = memoryview(np.ascontiguousarray(rows[first - start : last - start], dtype=self.dtype)).cast("B")
        self._file.seek(self._offset + first * self._row_bytes)
        done = 0
        while done < len(data):
            done += self._file.write(data[done:])

    def close(self) -> None:
        """Close the file; the array stays on disk."""
        self._file.close()


class Track(Store):
    """Sound on disk: `channels` x `length` float32 samples at `rate` Hz."""

    def __init__(self, path: Path, channels: int, length: int, rate: int) -> None:
        super().__init__(path, length, (channels,), "<f4")
        self.channels, self.rate = channels, rate

    def read(self, start: int, count: int) -> np.ndarray:
        """(channels, count) samples from `start` on; zeros outside the recording."""
        return np.ascontiguousarray(self.read_rows(start, count).T)

    def write(self, start: int, block: np.ndarray) -> None:
        """Put a (channels, n) block at `start`."""
        self.write_rows(start, block.T)

    def blocks(self, size: int = STRETCH) -> Iterator[tuple[int, np.ndarray]]:
        """(start, (channels, n)) over the whole track; n is `size` but for the last."""
        for start in range(0, self.length, size):
            yield start, self.read(start, min(size, self.length - start))
