"""Rooms simulated by pyroomacoustics: image sources and ray tracing, directional speakers.

A room takes 0.2 to 0.5 s, so a run draws from a numbered pool; each is a pure function of (venue, number) and
kept in memory once made.
"""

from functools import lru_cache

import numpy as np

from resonate import RATE
from resonate.degrade.filters import LEAD

#: Energy absorption of a side that is mostly open: what comes back are stands and houses.
OPEN = 0.93
#: Energy scattering of every side: furniture, people, balconies (without it two bare walls ring for seconds).
SCATTERING = 0.4

#: venue -> (width, depth, height in m; wall, floor with audience, ceiling material of pyroomacoustics)
SHAPES = {
    "bar": ((8, 12, 3.2), "wooden_lining", "audience_0.72_m2", "wood_1.6cm"),
    "club": ((14, 20, 4.5), "wooden_lining", "audience_0.72_m2", "ceiling_fissured_tile"),
    "theatre": ((20, 26, 10), "curtains_cotton_0.5", "audience_upholstered_chairs_1", "wood_1.6cm"),
    "hall": ((24, 36, 12), "wooden_lining", "audience_0.72_m2", "wood_1.6cm"),
    "arena": ((50, 70, 18), "audience_1_m2", "audience_0.72_m2", "ceiling_fissured_tile"),
    "open_air": ((60, 90, 25), OPEN, "audience_0.72_m2", OPEN),
}
LONGEST = int(2.5 * RATE)


@lru_cache(maxsize=64)
def room(venue: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Response (2 speakers, 2 capsules, L) with the first direct sound at LEAD, and the onsets (2, 2)."""
    import pyroomacoustics as pra

    rng = np.random.default_rng([number, sorted(SHAPES).index(venue)])
    size, wall, floor, ceiling = SHAPES[venue]
    size = np.array(size) * rng.uniform(0.8, 1.25, 3)
    sides = dict.fromkeys(("east", "west", "north", "south"), wall) | {"floor": floor, "ceiling": ceiling}
    materials = {side: pra.Material(value, SCATTERING) for side, value in sides.items()}
    # pyroomacoustics draws its rays and its tail from generators of its own.
    pra.random.seed(numpy=number, libroom=number)
    space = pra.ShoeBox(size, fs=RATE, materials=materials, max_order=2, air_absorption=True)
    space.set_ray_tracing(n_rays=4000, receiver_radius=0.5, time_thres=2.0)
    high = min(size[2] - 0.5, rng.uniform(2.5, 5.0))
    half = size[0] * rng.uniform(0.15, 0.3)
    listener = np.array([size[0] * rng.uniform(0.3, 0.7), size[1] * rng.uniform(0.3, 0.85), 1.7])
    half_phone = np.array([0.07, 0.0, 0.0])
    for x in (size[0] / 2 - half, size[0] / 2 + half):
        space.add_source([x, 1.0, high], directivity=_speaker(pra))
    space.add_microphone_array(np.stack([listener - half_phone, listener + half_phone], axis=1))
    space.compute_rir()
    return _gather(space.rir)


def _speaker(pra):
    """A cardioid pointing into the audience."""
    ahead = pra.directivities.DirectionVector(azimuth=90, colatitude=95, degrees=True)
    return pra.directivities.Cardioid(orientation=ahead)


def _gather(rir: list) -> tuple[np.ndarray, np.ndarray]:
    peaks = np.array([[int(np.abs(rir[m][s]).argmax()) for m in range(2)] for s in range(2)])
    first = int(peaks.min())
    out = np.zeros((2, 2, LONGEST), np.float32)
    for s in range(2):
        for m in range(2):
            wave = np.pad(rir[m][s], (LEAD, 0))[first : first + LONGEST]
            out[s, m, : len(wave)] = wave
    length = int(np.flatnonzero(np.abs(out).max(axis=(0, 1)) > 1e-5 * np.abs(out).max())[-1]) + 1
    out = out[..., :length]
    fade = min(2205, length // 4)
    out[..., -fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return np.ascontiguousarray(out), peaks - first + LEAD
