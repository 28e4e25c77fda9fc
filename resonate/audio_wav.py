"""A WAV writer that streams, gives the same bytes every time, and turns into RF64 above 4 GB (EBU Tech 3306)."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

#: Bytes per sample of each kind of sample that can be written.
SUBTYPES = {"FLOAT": 4, "PCM_24": 3, "PCM_16": 2}

#: Sizes above this many data bytes no longer fit the 32-bit fields of a plain WAV with its header.
RIFF_LIMIT = 0xFFFFFFFF - 1024


def temporary_beside(path: Path) -> Path:
    """A new empty file in the folder of `path`, to be filled and then moved over it with os.replace."""
    handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    os.chmod(name, 0o666 & ~_umask())
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def to_bytes(samples: np.ndarray, subtype: str) -> bytes:
    """Interleaved little-endian bytes of (channels, time) float32 samples in [-1, 1].

    Raises ValueError for |x| > 1 in a PCM subtype (nothing is ever clipped) and for NaN or infinity in any.
    """
    if not np.isfinite(samples).all():
        raise ValueError("cannot write NaN or infinite samples")
    frames = np.ascontiguousarray(samples.T, dtype=np.float32)
    if subtype == "FLOAT":
        return frames.astype("<f4", copy=False).tobytes()
    if frames.size and np.abs(frames).max() > 1.0:
        raise ValueError(f"samples up to {np.abs(frames).max():.3f} do not fit {subtype}: lower the level first")
    top = (1 << (8 * SUBTYPES[subtype] - 1)) - 1
    whole = np.rint(frames.astype(np.float64) * (top + 1)).clip(-top - 1, top).astype("<i4")
    if subtype == "PCM_16":
        return whole.astype("<i2").tobytes()
    return whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


class WavWriter:
    """Writes `length` frames, block by block, then moves the file in place; leaves nothing behind on an error.

    Use as a context manager; `write` takes (channels, n) float32 blocks. `length` must be met exactly.
    """

    def __init__(self, path: str | Path, rate: int, channels: int, length: int, subtype: str = "FLOAT") -> None:
        if subtype not in SUBTYPES:
            raise ValueError(f"subtype {subtype!r} is none of {', '.join(SUBTYPES)}")
        self.path, self.rate, self.channels = Path(path), rate, channels
        self.length, self.subtype, self.written = length, subtype, 0

    def __enter__(self) -> WavWriter:
        self._part = temporary_beside(self.path)
        self._file = open(self._part, "wb")
        self._file.write(wav_header(self.rate, self.channels, self.length, self.subtype))
        return self

    def write(self, block: np.ndarray) -> None:
        """Append a (channels, n) block."""
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"expected ({self.channels}, n) samples, got shape {block.shape}")
        self._file.write(to_bytes(block, self.subtype))
        self.written += block.shape[1]

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                if self.written != self.length:
                    raise ValueError(f"{self.path.name}: {self.written} frames written, {self.length} announced")
                if (self.written * self.channels * SUBTYPES[self.subtype]) % 2:
                    self._file.write(b"\0")
                self._file.close()
                os.replace(self._part, self.path)
        finally:
            self._file.close()
            self._part.unlink(missing_ok=True)


def wav_header(rate: int, channels: int, length: int, subtype: str) -> bytes:
    """Everything before the samples: RIFF, or RF64 with a `ds64` chunk where the sizes need 64 bits."""
    width = SUBTYPES[subtype]
    size = length * channels * width
    fmt = struct.pack(
        "<4sIHHIIHH",
        b"fmt ",
        18 if subtype == "FLOAT" else 16,
        3 if subtype == "FLOAT" else 1,
        channels,
        rate,
        rate * channels * width,
        channels * width,
        8 * width,
    )
    if subtype == "FLOAT":
        fmt += struct.pack("<H4sII", 0, b"fact", 4, min(length, 0xFFFFFFFF))
    if size <= RIFF_LIMIT:
        head = struct.pack("<4sI4s", b"RIFF", 4 + len(fmt) + 8 + size + size % 2, b"WAVE")
        return head + fmt + struct.pack("<4sI", b"data", size)
    ds64 = struct.pack("<4sIQQQI", b"ds64", 28, 4 + 36 + len(fmt) + 8 + size + size % 2, size, length, 0)
    head = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE")
    return head + ds64 + fmt + struct.pack("<4sI", b"data", 0xFFFFFFFF)
