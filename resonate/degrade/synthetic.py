"""Fast statistical room responses: image-source reflections, then a diffuse tail.

Image sources after Allen & Berkley, JASA 65 (1979); the tail is complex Gaussian noise in the STFT domain
with an exponential decay per frequency (Polack 1988) and, between the two capsules, the coherence
sin(kd)/(kd) of a diffuse field (Cook et al., JASA 27, 1955).
"""

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch

from resonate import RATE
from resonate.degrade import filters
from resonate.degrade.filters import LEAD

if TYPE_CHECKING:
    from resonate.degrade.venue import VenueParams

SOUND = 343.0
N_FFT, STEP = 512, 128
#: Distance of two phone capsules in m.
SPACING = 0.14
ORDERS = np.array(list(product((-1, 0, 1), repeat=3)))
PARITY = np.array(list(product((0, 1), repeat=3)))


def room(params: "VenueParams") -> tuple[np.ndarray, np.ndarray]:
    """Response (2, 2, L) with the direct sound of the nearer speaker at LEAD, and the onsets (2, 2)."""
    rng = np.random.default_rng(params.seed)
    length = LEAD + int(min(2.4, 0.06 + 1.05 * params.rt60_s) * RATE)
    delays, gains = _images(params, rng)
    first = delays[:, :, 0]
    onset = np.rint((first - first.min()) * RATE).astype(int) + LEAD
    direct = np.zeros((2, 2, length), np.float32)
    bounced = np.zeros_like(direct)
    for s, m in product(range(2), range(2)):
        direct[s, m, onset[s, m]] = gains[s, m, 0]
        at = (delays[s, m, 1:] - first.min()) * RATE + LEAD
        # What follows within 2.5 ms belongs to the direct sound and keeps its strength against it (less by what
        # the audience takes); the other reflections are scaled with the tail.
        soon = at - onset[s, m] < 0.0025 * RATE
        np.add.at(direct[s, m], np.rint(at[soon]).astype(int), 0.4 * gains[s, m, 1:][soon])
        keep = (at < length - 2) & (at - onset[s, m] < 0.09 * RATE) & ~soon
        whole = np.floor(at[keep]).astype(int)
        part = (at[keep] - whole).astype(np.float32)
        gain = gains[s, m, 1:][keep] * rng.choice([1.0, 1.0, -1.0], keep.sum())
        np.add.at(bounced[s, m], whole, gain * (1 - part))
        np.add.at(bounced[s, m], whole + 1, gain * part)
    wall = filters.minimum_phase([100, 1000, 4000, 16000], [0.0, -1.0, -3.0, -8.0], 128)
    bounced = filters.fold(bounced, wall)[..., :length]
    tail = _tail(params, rng, length)
    # In an ideal exponential decay the window of the reflections holds this share of the tail's energy.
    share = 1.0 - np.exp(-13.8 * 0.06 / params.rt60_s)
    level = float(rng.uniform(0.7, 1.6) * (1.6 if params.venue == "open_air" else 1.0))
    ratio = np.square(tail).sum() * share / max(np.square(bounced).sum(), 1e-12)
    return direct + bounced * np.float32(np.sqrt(ratio) * level) + tail, onset


def _images(params: "VenueParams", rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Delays in s and gains of the images, each (2 speakers, 2 capsules, n); direct first."""
    distance = params.distance_m
    size = np.array([distance * rng.uniform(0.6, 1.4) + 4, distance * rng.uniform(1.2, 2.0) + 4, 0.0])
    size[2] = np.clip(0.25 * size[:2].mean() * rng.uniform(0.7, 1.4), 2.8, 20.0)
    front = size[1] * 0.05 + 0.5
    half = size[0] * rng.uniform(0.15, 0.35)
    high = min(size[2] - 0.4, rng.uniform(2.2, 4.0 + 0.1 * distance))
    listener = np.array([size[0] * rng.uniform(0.3, 0.7), min(front + distance, size[1] - 0.6), rng.uniform(1.3, 1.9)])
    turn = rng.uniform(-0.6, 0.6)
    axis = np.array([np.cos(turn), np.sin(turn), 0.0]) * SPACING / 2
    speakers = np.array([[size[0] / 2 - half, front, high], [size[0] / 2 + half, front, high]])
    capsules = np.array([listener - axis, listener + axis])
    sign = 1 - 2 * PARITY
    places = sign[None] * speakers[:, None]  # (2, 8, 3)
    places = places[:, :, None] + 2 * ORDERS[None, None] * size  # (2, 8, 27, 3)
    orders = np.abs(2 * ORDERS[None] - PARITY[:, None]).sum(-1).reshape(-1)
    apart = np.linalg.norm(places.reshape(2, 1, -1, 3) - capsules[None, :, None], axis=-1)
    sort = np.argsort(orders, kind="stable")
    apart, orders = apart[:, :, sort], orders[sort]
    bounce = 0.55 if params.venue == "open_air" else rng.uniform(0.7, 0.9)
    return apart / SOUND, bounce**orders / apart


def _tail(params: "VenueParams", rng: np.random.Generator, length: int) -> np.ndarray:
    """Diffuse tail (2, 2, length), energy 1 per pair, decaying by 60 dB in rt60_s(frequency)."""
    freqs = np.maximum(np.fft.rfftfreq(N_FFT, 1 / RATE), 20.0)
    points = [60.0, 250.0, 1000.0, 4000.0, 12000.0]
    ratios = [params.bass_ratio, (1 + params.bass_ratio) / 2, 1.0, (1 + params.treble_ratio) / 2, params.treble_ratio]
    rt60 = params.rt60_s * np.interp(np.log(freqs), np.log(points), ratios)
    # Air alone limits the treble of large rooms.
    rt60 = 1.0 / (1.0 / rt60 + np.interp(freqs, [1000, 4000, 8000, 16000], [0.0, 0.16, 0.6, 1.8]))
    frames = 1 + length // STEP
    times = np.arange(frames) * STEP / RATE
    envelope = np.exp(-6.9078 * times[None] / rt60[:, None]) * np.minimum(1.0, times / 0.02 + 0.05)[None]
    noise = rng.standard_normal((2, 2, 2, len(freqs), frames), dtype=np.float32)
    noise = noise[:, :, 0] + 1j * noise[:, :, 1]
    coherence = np.sinc(2 * freqs * SPACING / SOUND)[:, None].astype(np.float32)
    noise[:, 1] = coherence * noise[:, 0] + np.sqrt(1 - coherence**2) * noise[:, 1]
    spectrum = torch.from_numpy((noise * envelope.astype(np.float32)).reshape(4, len(freqs), frames))
    wave = torch.istft(spectrum, N_FFT, STEP, window=torch.hann_window(N_FFT), length=length)
    tail = wave.reshape(2, 2, length).numpy()
    tail = np.pad(tail, ((0, 0), (0, 0), (LEAD + int(0.004 * RATE), 0)))[..., :length]
    return tail / np.sqrt(np.square(tail).sum(axis=-1, keepdims=True) + 1e-20)
