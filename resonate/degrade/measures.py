"""What is known of each capture: ratios between its tracked components, room figures, band, clipping."""

import math

import numpy as np
import torch
from torch import Tensor

from resonate import RATE
from resonate.degrade.venue import Response


def measure(
    capture: Tensor, tracks: Tensor, before_clip: Tensor, mute: np.ndarray, response: Response, params: dict
) -> dict:
    """Figures of one capture, plain floats.

    Args: capture (2, T); tracks (7, 2, T) = 4 stems, crowd, handling, distortion; before_clip (2, T).
    snr_db: music over crowd + handling while music plays; snr_total_db: over these and the distortion.
    clip_ratio: share of samples beyond full scale before the clip. bandwidth_hz: highest and low_hz lowest frequency
    at which the captured music's third-octave level is within 30 dB of its highest.
    The chain adds overload_ratio (see `capsule.overload_ratio`) and agc_range_db, how far the gain control moved.
    drr_db, c80_db, rt60_s: measured on the response. gaps_wet: gaps less the time the room takes to decay by 30 dB.
    """
    playing = mute > 0.5
    music = tracks[:4].sum(dim=0)
    noise = tracks[4] + tracks[5]
    low, high = band(music)
    level = rms(capture)
    return {
        "snr_db": _ratio_db(music, noise, playing),
        "snr_total_db": _ratio_db(music, noise + tracks[6], playing),
        "drr_db": response.drr_db,
        "c80_db": response.c80_db,
        "rt60_s": response.rt60_s,
        "clip_ratio": float((before_clip.abs() > 1.0).float().mean()),
        "low_hz": low,
        "bandwidth_hz": high,
        "level_db": 20 * math.log10(max(level, 1e-6)),
        "gaps_wet": [
            [start + (0.5 * response.rt60_s if start > 0 else 0.0), end]
            for start, end in params["gaps"]
            if end - start > 0.5 * response.rt60_s
        ],
    }


def range_db(gain: Tensor) -> float:
    """Between the largest and the smallest value of a gain (T,), in dB."""
    return float(20 * math.log10(max(float(gain.max()), 1e-9) / max(float(gain.min()), 1e-9)))


def band(x: Tensor, floor_db: float = 30.0) -> tuple[float, float]:
    """Lowest and highest frequency in Hz of (2, T) within floor_db of its strongest third octave; (0, 0) if silent."""
    mono = x.mean(dim=0)
    if float(mono.abs().max()) < 1e-7 or len(mono) < 4096:
        return 0.0, 0.0
    frames = mono[: len(mono) // 4096 * 4096].unflatten(0, (-1, 4096)) * torch.hann_window(4096, device=x.device)
    power = torch.fft.rfft(frames).abs().square().mean(dim=0).cpu().numpy().astype(np.float64)
    centres = 1000.0 * 2.0 ** (np.arange(-16, 14) / 3)
    edges = np.stack([centres * 2 ** (-1 / 6), centres * 2 ** (1 / 6)]) / RATE * 4096
    total = np.concatenate([[0.0], np.cumsum(power)])
    first = np.clip(np.rint(edges[0]).astype(int), 0, len(power) - 1)
    last = np.clip(np.rint(edges[1]).astype(int), first + 1, len(power))
    level = 10 * np.log10((total[last] - total[first]) + 1e-20)
    inside = centres[level > level.max() - floor_db]
    return float(inside.min()), float(inside.max())


def rms(x: Tensor, where: np.ndarray | None = None) -> float:
    """RMS of (2, T) over `where` (T,) bool. Summed by numpy, because torch's sum depends on its number of threads."""
    samples = x.cpu().numpy()
    if where is not None and not where.all():
        samples = samples[:, where]
    return float(np.sqrt(np.mean(np.square(samples), dtype=np.float64)))


def _ratio_db(signal: Tensor, noise: Tensor, where: np.ndarray) -> float:
    """Power ratio in dB over `where` (T,), within +-99 dB."""
    if not where.any():
        return -99.0
    top, bottom = rms(signal, where) ** 2, rms(noise, where) ** 2
    return float(np.clip(10 * np.log10((top + 1e-12) / (bottom + 1e-12)), -99.0, 99.0))
