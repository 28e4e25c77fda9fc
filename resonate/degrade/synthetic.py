"""Fast statistical room responses: image-source reflections, then a diffuse tail.

Image sources after Allen & Berkley, JASA 65 (1979); the tail is complex Gaussian noise in the STFT domain with an
exponential decay per frequency (Polack 1988) and, between the two capsules, the coherence sin(kd)/(kd) of a diffuse
field (Cook et al., JASA 27, 1955). Geometry comes from the room's seed, listener and tail from the place in it, so a
phone that walks hears the same walls from elsewhere.
"""

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch

from resonate import RATE
from resonate.degrade import filters
from resonate.degrade.acoustics import SOUND, SPACING, air_db_per_m, diffuse_coherence
from resonate.degrade.filters import LEAD

if TYPE_CHECKING:
    from resonate.degrade.venue import VenueParams

N_FFT, STEP = 512, 128
ORDERS = np.array(list(product((-1, 0, 1), repeat=3)))
PARITY = np.array(list(product((0, 1), repeat=3)))
#: Octaves at which the absorption of air is computed.
AIR_HZ = np.array([125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0])


def room(params: "VenueParams") -> tuple[np.ndarray, np.ndarray]:
    """Response (2, 2, L) with the direct sound of the nearer speaker at LEAD, and the onsets (2, 2, 1 or 2)."""
    shape, here = np.random.default_rng([params.seed, 0]), np.random.default_rng([params.seed, 1, params.place])
    length = LEAD + int(min(2.4, 0.06 + 1.05 * params.rt60_s) * RATE)
    delays, gains = _images(params, shape)
    first = delays[:, :, 0]
    onset = np.rint((first - first.min()) * RATE).astype(int)[..., None] + LEAD
    direct = np.zeros((2, 2, length), np.float32)
    bounced = np.zeros_like(direct)
    signs = here.choice([1.0, 1.0, -1.0], delays.shape)
    for s, m in product(range(2), range(2)):
        direct[s, m, onset[s, m, 0]] = gains[s, m, 0]
        at = (delays[s, m, 1:] - first.min()) * RATE + LEAD
        # What follows within 2.5 ms belongs to the direct sound and keeps its strength against it (less by what
        # the audience takes); the other reflections are scaled with the tail.
        soon = at - onset[s, m] < 0.0025 * RATE
        np.add.at(direct[s, m], np.rint(at[soon]).astype(int), 0.4 * gains[s, m, 1:][soon])
        keep = (at < length - 2) & (at - onset[s, m] < 0.09 * RATE) & ~soon
        whole = np.floor(at[keep]).astype(int)
        part = (at[keep] - whole).astype(np.float32)
        # The reflections hand over to the tail between 40 and 90 ms.
        fade = np.clip((0.09 - (at[keep] - onset[s, m]) / RATE) / 0.05, 0.0, 1.0)
        gain = gains[s, m, 1:][keep] * signs[s, m, 1:][keep] * fade
        np.add.at(bounced[s, m], whole, gain * (1 - part))
        np.add.at(bounced[s, m], whole + 1, gain * part)
    wall = filters.minimum_phase([100, 1000, 4000, 16000], [0.0, -1.0, -3.0, -8.0], 128)
    bounced = filters.fold(bounced, wall)[..., :length]
    tail = _tail(params, here, length)
    # In an ideal exponential decay the window of the reflections holds this share of the tail's energy.
    share = 1.0 - np.exp(-13.8 * 0.06 / params.rt60_s)
    level = float(shape.uniform(0.7, 1.6) * (1.6 if params.venue == "open_air" else 1.0))
    ratio = np.square(tail).sum() * share / max(np.square(bounced).sum(), 1e-12)
    if params.tower_ms > 0:
        onset = np.concatenate([onset, _towers(params, here, direct, onset)], axis=-1)
    return direct + bounced * np.float32(np.sqrt(ratio) * level) + tail, onset


def _towers(params: "VenueParams", rng: np.random.Generator, direct: np.ndarray, onset: np.ndarray) -> np.ndarray:
    """Add a delay tower per side to `direct`, tower_ms after the main speakers; returns its onsets (2, 2, 1)."""
    found = np.zeros((2, 2, 1), int)
    loudest = np.abs(direct).max() * 10 ** (params.tower_db / 20)
    for s in range(2):
        # A tower stands elsewhere than the stage: its sound reaches the two capsules from another direction.
        apart = int(rng.integers(-int(SPACING / SOUND * RATE), int(SPACING / SOUND * RATE) + 1))
        base = int(onset[s].min()) + int(params.tower_ms * 1e-3 * RATE)
        for m, at in enumerate((base + max(apart, 0), base + max(-apart, 0))):
            direct[s, m, at] += loudest
            found[s, m, 0] = at
    return found


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
    heading = rng.uniform(0, 2 * np.pi)
    listener[:2] += params.walked_m * np.array([np.cos(heading), np.sin(heading)])
    listener[:2] = np.clip(listener[:2], 0.5, size[:2] - 0.5)
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


def decay_times(params: "VenueParams", freqs_hz: np.ndarray) -> np.ndarray:
    """RT60 in s at freqs_hz: the room's, shorter in the treble where air absorbs what walls leave.

    The air's share at 1 kHz is part of rt60_s already.
    """
    freqs = np.maximum(freqs_hz, 20.0)
    points = [60.0, 250.0, 1000.0, 4000.0, 12000.0]
    ratios = [params.bass_ratio, (1 + params.bass_ratio) / 2, 1.0, (1 + params.treble_ratio) / 2, params.treble_ratio]
    walls = params.rt60_s * np.interp(np.log(freqs), np.log(points), ratios)
    air = np.interp(np.log(freqs), np.log(AIR_HZ), air_db_per_m(AIR_HZ))
    return 1.0 / (1.0 / walls + SOUND / 60.0 * np.maximum(air - air_db_per_m(np.array([1000.0])), 0.0))


def _tail(params: "VenueParams", rng: np.random.Generator, length: int) -> np.ndarray:
    """Diffuse tail (2, 2, length), energy 1 per pair, decaying by 60 dB in rt60_s(frequency)."""
    freqs = np.maximum(np.fft.rfftfreq(N_FFT, 1 / RATE), 20.0)
    rt60 = decay_times(params, freqs)
    frames = 1 + length // STEP
    times = np.arange(frames) * STEP / RATE
    envelope = np.exp(-6.9078 * times[None] / rt60[:, None]) * np.minimum(1.0, times / 0.02 + 0.05)[None]
    envelope = envelope.astype(np.float32)
    noise = rng.standard_normal((2, 2, len(freqs), frames, 2), dtype=np.float32).view(np.complex64)[..., 0]
    coherence = diffuse_coherence(freqs)[:, None].astype(np.float32)
    noise[:, 1] = coherence * noise[:, 0] + np.sqrt(1 - coherence**2) * noise[:, 1]
    spectrum = torch.from_numpy((noise * envelope).reshape(4, len(freqs), frames))
    wave = torch.istft(spectrum, N_FFT, STEP, window=torch.hann_window(N_FFT), length=length)
    tail = wave.reshape(2, 2, length).numpy()
    tail = np.pad(tail, ((0, 0), (0, 0), (LEAD + int(0.004 * RATE), 0)))[..., :length]
    return tail / np.sqrt(np.square(tail).sum(axis=-1, keepdims=True) + 1e-20)
