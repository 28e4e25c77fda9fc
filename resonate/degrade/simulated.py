"""Rooms simulated by pyroomacoustics: image sources, ray tracing, directional speakers, absorption per octave.

A room is a pure function of (venue, number): a shoebox whose surfaces have typical absorption coefficients (Vorlander,
Auralization, 2008, appendix; a standing audience after Adelman-Larsen, Thompson & Gade, JASA 127, 2010), scaled
together until Eyring's formula gives the RT60 drawn for the venue. Ray tracing in a box with an absorbing floor decays
more slowly than Eyring expects, so an exponential then brings the 1 kHz octave to the RT60 drawn, and the other octaves
with it. Scattering stands for furniture, people and balconies. `rooms.py` makes many of them and keeps them on disk.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq

from resonate import RATE
from resonate.degrade.acoustics import (
    EARLY,
    SOUND,
    SPACING,
    air_db_per_m,
    diffuse_coherence,
    energy_decay_time,
    octave,
)
from resonate.degrade.filters import LEAD

#: Energy scattered by every surface (without it two bare walls ring for seconds).
SCATTERING = 0.6
LONGEST = int(2.5 * RATE)
BANDS = [125, 250, 500, 1000, 2000, 4000, 8000]
#: Energy absorption per octave, 125 Hz to 8 kHz.
MATERIALS = {
    "audience": [0.25, 0.45, 0.70, 0.88, 0.92, 0.90, 0.85],
    "bare floor": [0.04, 0.04, 0.07, 0.06, 0.06, 0.07, 0.07],
    "grass": [0.11, 0.26, 0.60, 0.69, 0.92, 0.99, 0.99],
    "panels": [0.25, 0.15, 0.10, 0.09, 0.08, 0.07, 0.07],
    "brick": [0.03, 0.03, 0.03, 0.04, 0.05, 0.07, 0.07],
    "plaster": [0.14, 0.10, 0.06, 0.05, 0.04, 0.03, 0.03],
    "curtain": [0.07, 0.31, 0.49, 0.75, 0.70, 0.60, 0.60],
    "tiles": [0.40, 0.50, 0.65, 0.75, 0.80, 0.75, 0.70],
    "lined deck": [0.50, 0.70, 0.80, 0.75, 0.65, 0.55, 0.50],
    "stands": [0.20, 0.35, 0.55, 0.65, 0.70, 0.70, 0.70],
    # Mostly open: what comes back are stands and houses.
    "open": [0.93, 0.93, 0.93, 0.93, 0.94, 0.95, 0.96],
}
#: venue -> (width, depth, height in m; wall, ceiling, floor under the audience; share of it covered by people;
#: RT60 range at 1 kHz in s)
SHAPES = {
    "bar": ((8, 12, 3.2), "plaster", "panels", "bare floor", (0.2, 0.7), (0.35, 0.8)),
    "club": ((14, 20, 4.5), "brick", "tiles", "bare floor", (0.4, 0.95), (0.5, 1.2)),
    "theatre": ((20, 26, 10), "curtain", "plaster", "bare floor", (0.5, 0.9), (0.8, 1.6)),
    "hall": ((24, 36, 12), "panels", "plaster", "bare floor", (0.5, 0.95), (1.3, 2.4)),
    "arena": ((50, 70, 18), "stands", "lined deck", "bare floor", (0.5, 0.95), (1.8, 3.0)),
    "open_air": ((60, 90, 25), "open", "open", "grass", (0.4, 0.9), (0.4, 1.0)),
}
#: Rooms with delay towers, and the share of their depth at which they stand.
TOWERS = {"arena": 0.45, "open_air": 0.4}


@dataclass(frozen=True)
class Room:
    """kernels (places, 2 speakers, 2 capsules, L) float32, the first direct sound at LEAD; onset (places, 2, 2, A),
    -1 where an arrival does not exist; rt60_s asked for at 1 kHz."""

    kernels: np.ndarray
    onset: np.ndarray
    rt60_s: float


@lru_cache(maxsize=64)
def room(venue: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Response (2, 2, L) at one place of a room and its onsets (2, 2, A); some seconds when first asked for."""
    made = build(venue, number, places=1)
    return made.kernels[0], made.onset[0]


def build(venue: str, number: int, places: int = 3) -> Room:
    """Simulate room `number` of a kind of venue, heard from `places` places, the nearest one first."""
    import pyroomacoustics as pra

    pra.constants.set("num_threads", 1)
    rng = np.random.default_rng([number, sorted(SHAPES).index(venue)])
    shape, wall, ceiling, floor, fill, rt60 = SHAPES[venue]
    size = np.array(shape) * rng.uniform(0.8, 1.25, 3)
    wanted = float(rng.uniform(*rt60))
    absorption = surfaces(wall, ceiling, floor, float(rng.uniform(*fill)), size, wanted, rng.uniform(1.1, 1.5))
    materials = {
        side: pra.Material({"description": side, "coeffs": list(values), "center_freqs": BANDS}, SCATTERING)
        for side, values in absorption.items()
    }
    # pyroomacoustics draws its rays and its tail from generators of its own.
    pra.random.seed(numpy=number, libroom=number)
    space = pra.ShoeBox(size, fs=RATE, materials=materials, max_order=2, air_absorption=True)
    space.set_ray_tracing(n_rays=15000, receiver_radius=0.5, time_thres=2.0)
    stage = size[1] * 0.05
    high = min(size[2] - 0.5, rng.uniform(2.5, 3.0 + 0.4 * size[2]))
    half = size[0] * rng.uniform(0.15, 0.3)
    speakers = [np.array([size[0] / 2 + side * half, stage, high]) for side in (-1, 1)]
    depths = np.sort(rng.uniform(0.3, 0.85, 3))[:places]
    people = [np.array([size[0] * rng.uniform(0.3, 0.7), size[1] * y, rng.uniform(1.5, 1.8)]) for y in depths]
    delay, towers = 0.0, []
    if venue in TOWERS and rng.uniform() < 0.5:
        towers = [np.array([size[0] / 2 + side * size[0] * 0.25, size[1] * TOWERS[venue], high]) for side in (-1, 1)]
        # Later than the stage by its way to the tower and some ms more, so that the stage is heard first.
        delay = float(np.linalg.norm(towers[0] - speakers[0]) / SOUND + rng.uniform(0.005, 0.015))
    for place in speakers + towers:
        space.add_source(place, directivity=_speaker(pra))
    turn = rng.uniform(-0.6, 0.6)
    capsules = np.array([np.cos(turn), np.sin(turn), 0.0]) * SPACING / 2
    space.add_microphone_array(np.stack([p + sign * capsules for p in people for sign in (-1, 1)], axis=1))
    space.compute_rir()
    kernels, onset = zip(*(_gather(space, p, delay) for p in range(places)), strict=True)
    length = max(k.shape[-1] for k in kernels)
    stacked = np.stack([np.pad(k, ((0, 0), (0, 0), (0, length - k.shape[-1]))) for k in kernels])
    return Room(_decaying(stacked, wanted), np.stack(onset), wanted)


def surfaces(
    wall: str, ceiling: str, floor: str, fill: float, size_m: np.ndarray, rt60_s: float, bass: float
) -> dict[str, np.ndarray]:
    """Absorption (7,) per side; the floor is covered by people over `fill` of it; at 1 kHz Eyring gives rt60_s.

    No octave decays more slowly than `bass` times that: what venues lack in the bass, their panels and doors absorb.
    """
    under = fill * np.array(MATERIALS["audience"]) + (1 - fill) * np.array(MATERIALS[floor])
    sides = dict.fromkeys(("east", "west", "north", "south"), np.array(MATERIALS[wall]))
    sides |= {"floor": under, "ceiling": np.array(MATERIALS[ceiling])}

    def scaled(power: float | np.ndarray) -> dict[str, np.ndarray]:
        return {side: np.minimum(1.0 - (1.0 - alpha) ** power, 0.99) for side, alpha in sides.items()}

    def power_for(seconds: float, band: int) -> float:
        low, high = np.log(0.02), np.log(20.0)

        def excess(log_power: float) -> float:
            return eyring(scaled(np.exp(log_power)), size_m)[band] - seconds

        if excess(low) < 0:
            return 0.02
        return 20.0 if excess(high) > 0 else float(np.exp(brentq(excess, low, high)))

    power = power_for(rt60_s, BANDS.index(1000))
    slow = eyring(scaled(power), size_m) > bass * rt60_s
    return scaled(np.array([power_for(bass * rt60_s, b) if slow[b] else power for b in range(len(BANDS))]))


def eyring(absorption: dict[str, np.ndarray], size_m: np.ndarray) -> np.ndarray:
    """RT60 (7,) of a box after Eyring (JASA 1, 1930) with the absorption of air."""
    width, depth, height = size_m
    area = {"east": depth * height, "north": width * height, "floor": width * depth}
    area |= {"west": area["east"], "south": area["north"], "ceiling": area["floor"]}
    total = sum(area.values())
    mean = sum(area[side] * alpha for side, alpha in absorption.items()) / total
    air = air_db_per_m(np.array(BANDS)) / (10 * np.log10(np.e))
    volume = width * depth * height
    return 24 * np.log(10) / SOUND * volume / (-total * np.log(1 - mean) + 4 * air * volume)


def _speaker(pra):
    """A cardioid pointing into the audience: 4.8 dB over an omnidirectional source at every frequency."""
    ahead = pra.directivities.DirectionVector(azimuth=90, colatitude=95, degrees=True)
    return pra.directivities.Cardioid(orientation=ahead)


def _gather(space, place: int, delay_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Responses of one place (2, 2, L) from left and right, towers `delay_s` later among them, and onsets (2, 2, A)."""
    from pyroomacoustics.parameters import constants

    count = len(space.sources)
    lag = (0, round(delay_s * RATE))
    rir = [[space.rir[2 * place + m][s] for m in range(2)] for s in range(count)]
    # Where the direct sound is follows from the geometry; half the fractional delay filter comes before it.
    half = constants.get("frac_delay_length") // 2
    arrive = np.zeros((2, 2, count // 2), int)
    for s in range(count):
        for m in range(2):
            way = space.mic_array.R[:, 2 * place + m] - space.sources[s].position
            arrive[s % 2, m, s // 2] = round(np.linalg.norm(way) / space.c * RATE) + half + lag[s // 2]
            if s > 1 and way[1] < 0:
                # In front of a tower its back is heard, weakly: that is no direct sound.
                arrive[s % 2, m, s // 2] = -1
    # The way from stage to tower is never shorter than a tower's delay, so the stage is heard first.
    first = int(arrive[..., 0].min())
    out = np.zeros((2, 2, LONGEST), np.float32)
    for s in range(count):
        for m in range(2):
            wave = np.pad(rir[s][m], (LEAD + lag[s // 2], 0))[first : first + LONGEST]
            out[s % 2, m, : len(wave)] += wave
    _blend(out, LEAD + int(0.03 * RATE))
    length = int(np.flatnonzero(np.abs(out).max(axis=(0, 1)) > 1e-5 * np.abs(out).max())[-1]) + 1
    out = out[..., :length]
    fade = min(2205, length // 4)
    out[..., -fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return np.ascontiguousarray(out), np.where(arrive < 0, -1, arrive - first + LEAD)


def _blend(pairs: np.ndarray, start: int) -> None:
    """Give the tails (2, 2, L) from `start` on the coherence of a diffuse field, in place: the ray tracer
    draws each capsule's tail on its own, but below 1 kHz two capsules hear the same."""
    length = pairs.shape[-1]
    ramp = np.clip((np.arange(length) - start) / (0.01 * RATE), 0.0, 1.0).astype(np.float32)
    late = pairs * ramp
    n = 1 << (length + 512).bit_length()
    freqs = np.fft.rfftfreq(n, 1 / RATE)
    coherence = diffuse_coherence(freqs)
    spectrum = np.fft.rfft(late, n)
    other = coherence * spectrum[:, 0] + np.sqrt(1 - coherence**2) * spectrum[:, 1]
    pairs[:, 1] += np.fft.irfft(other, n)[:, :length].astype(np.float32) - late[:, 1]


def _decaying(kernels: np.ndarray, rt60_s: float) -> np.ndarray:
    """kernels (places, 2, 2, L) under an exponential that brings their T20 in the 1 kHz octave, over the energy of all
    places, to rt60_s."""
    t = np.maximum(np.arange(kernels.shape[-1]) - LEAD, 0) / RATE
    energy = np.square(octave(kernels, 1000.0)).sum(axis=(0, 1, 2))
    start = LEAD + EARLY // 2

    def excess(rate: float) -> float:
        # A decay is no straight line, so the rate that gives rt60_s has to be searched for.
        return energy_decay_time(energy[start:] * np.exp(-2 * rate * t[start:])) - rt60_s

    low, high = -6.9 / rt60_s, 20.0 / rt60_s
    rate = brentq(excess, low, high, xtol=1e-3) if excess(low) > 0 > excess(high) else 0.0
    return kernels * np.exp(-rate * t).astype(np.float32)
