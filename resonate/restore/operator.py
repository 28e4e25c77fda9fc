"""Time-varying gains on the short-time spectrum of a whole recording, applied in stretches.

Analysis and synthesis are those of `resonate.models.restorer.stft` on the recording as a whole (Hann 2048, hop 512,
reflected edges), so a stretch-wise run equals a run in one piece. The operator is linear in the sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from resonate.models.stats import HOP, N_FFT
from resonate.restore.store import Track

_PAD = N_FFT // 2

#: Frames per stretch.
FRAMES = 256


def frame_count(samples: int) -> int:
    """Frames of a recording of `samples` samples."""
    return samples // HOP + 1


def _padded(track: Track, start: int, count: int) -> np.ndarray:
    """Samples [start, start + count) of the recording with reflected edges; indices count from its first sample."""
    block = track.read(start, count)
    n = track.length
    if start < 0:
        k = min(-start, count)
        block[:, :k] = track.read(1, -start)[:, ::-1][:, :k]
    if start + count > n:
        over = start + count - n
        mirrored = track.read(n - 1 - over, over)[:, ::-1]
        k = min(over, count)
        block[:, count - k :] = mirrored[:, over - k :]
    return block


def spectrum(track: Track, first: int, count: int) -> torch.Tensor:
    """Complex (channels, 1025, count) spectrum of frames [first, first + count). Needs over 1024 samples."""
    return _transform(torch.from_numpy(_padded(track, first * HOP - _PAD, (count - 1) * HOP + N_FFT)))


def mid_spectrum(track: Track, first: int, count: int) -> torch.Tensor:
    """(1025, count): the mean over channels of :func:`spectrum`, for one transform."""
    samples = torch.from_numpy(_padded(track, first * HOP - _PAD, (count - 1) * HOP + N_FFT))
    return _transform(samples.mean(0))


def sum_spectrum(track: Track, first: int, count: int) -> torch.Tensor:
    """(2, 1025, count): the sum over the stereo pairs of :func:`spectrum`, for the transforms of one."""
    samples = torch.from_numpy(_padded(track, first * HOP - _PAD, (count - 1) * HOP + N_FFT))
    return _transform(samples.reshape(-1, 2, samples.shape[-1]).sum(0))


def _transform(samples: torch.Tensor) -> torch.Tensor:
    return torch.stft(samples, N_FFT, HOP, window=torch.hann_window(N_FFT), center=False, return_complex=True)


def apply(track: Track, gains: Callable[[int, int], np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Apply K gains at once.

    Args:
        track: the sound, (channels, time).
        gains: called with (first frame, frames), gives (K, 1025, frames), real.

    Yields:
        (start, (K, channels, n) samples), consecutive, over the whole recording.
    """
    window = torch.hann_window(N_FFT)
    total = frame_count(track.length)
    tail, weight_tail = None, torch.zeros(N_FFT - HOP)
    for first in range(0, total, FRAMES):
        count = min(FRAMES, total - first)
        # Frames before bins: transforms along the last axis are several times as fast.
        given = spectrum(track, first, count).transpose(-1, -2).contiguous()
        shaped = given[None] * torch.from_numpy(gains(first, count)).transpose(-1, -2).contiguous()[:, None]
        out = _overlap_add(torch.fft.irfft(shaped, N_FFT).mul_(window))
        weight = _overlap_add(window.square().expand(count, -1))
        if tail is not None:
            out[..., : N_FFT - HOP] += tail
            weight[: N_FFT - HOP] += weight_tail
        ready = count * HOP if first + count < total else out.shape[-1]
        tail, weight_tail = out[..., ready:], weight[ready:]
        start = first * HOP - _PAD
        begin, end = max(0, -start), min(ready, track.length - start)
        if end > begin:
            yield start + begin, (out[..., begin:end] / weight[begin:end]).numpy()


def _overlap_add(pieces: torch.Tensor) -> torch.Tensor:
    """(..., frames, 2048) to (..., (frames - 1) * 512 + 2048)."""
    *rows, count, _ = pieces.shape
    quarters = pieces.reshape(*rows, count, N_FFT // HOP, HOP)
    out = pieces.new_zeros(*rows, count + N_FFT // HOP - 1, HOP)
    for k in range(N_FFT // HOP):
        out[..., k : k + count, :] += quarters[..., k, :]
    return out.reshape(*rows, -1)
