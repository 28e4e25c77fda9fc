"""The venue: responses from two PA speakers to two capsules, at the direct-to-reverberant ratio asked for.

Three sources of responses: `synthetic` (image sources for the first reflections, then a diffuse tail whose
decay depends on frequency; milliseconds to make), `simulated` (pyroomacoustics, `simulated.py`) and
`measured` (the bank). DRR counts as direct what arrives within 2.5 ms of the direct sound (ISO 3382 /
Naylor & Gaubitch 2010), summed over speakers and capsules. Air absorption after ISO 9613-1 (20 C, 50 %).
"""

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from resonate import RATE
from resonate.degrade import filters, synthetic
from resonate.degrade.bank import Bank
from resonate.degrade.filters import LEAD
from resonate.degrade.stage import StageParams

DIRECT = int(0.0025 * RATE)
EARLY = int(0.05 * RATE)
LONGEST = int(2.5 * RATE)
#: A measured response with a lower DRR than this gets a clean direct sound.
UNCLEAR_DB = -10.0

#: venue -> (RT60 range at 1 kHz in s, distance range in m, share of draws)
VENUES = {
    "bar": ((0.35, 0.8), (3.0, 9.0), 0.2),
    "club": ((0.5, 1.2), (4.0, 15.0), 0.25),
    "theatre": ((0.8, 1.6), (8.0, 25.0), 0.15),
    "hall": ((1.3, 2.4), (10.0, 35.0), 0.15),
    "arena": ((1.8, 3.0), (20.0, 70.0), 0.15),
    "open_air": ((0.25, 0.7), (10.0, 60.0), 0.1),
}
AIR_HZ = [125.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0]
AIR_DB_PER_M = [0.0004, 0.0027, 0.0047, 0.0099, 0.0297, 0.105, 0.32]


@dataclass(frozen=True)
class VenueParams:
    """kind: synthetic | simulated | measured. room: bank item when measured, else "". rt60_s: at 1 kHz.

    distance_m: for air absorption and geometry. drr_db: asked for. moves: the phone goes from one place to
    another during [move_start, move_end] (fractions of the capture).
    """

    kind: str
    venue: str
    room: str
    seed: int
    rt60_s: float
    bass_ratio: float
    treble_ratio: float
    distance_m: float
    drr_db: float
    moves: bool
    move_start: float
    move_end: float


@dataclass(frozen=True)
class Response:
    """kernel (2 speakers, 2 capsules, L), direct sound at index LEAD; early: its first 50 ms, in the same
    place; late: the reverberant part alone. drr_db, c80_db and rt60_s are measured on the kernel."""

    kernel: np.ndarray
    early: np.ndarray
    late: np.ndarray
    drr_db: float
    c80_db: float
    rt60_s: float


def sample(
    rng: np.random.Generator,
    severity: float,
    rooms: list[str] | None = None,
    measured_share: float = 0.3,
    simulated_share: float = 0.0,
    simulated_rooms: int = 24,
    moving_share: float = 0.15,
) -> VenueParams:
    """Draw a venue; severity in [0, 1] moves the listener back: DRR from about +12 to -5 dB."""
    names = list(VENUES)
    venue = str(rng.choice(names, p=[VENUES[n][2] for n in names]))
    (rt_low, rt_high), (near, far), _ = VENUES[venue]
    kind = "synthetic"
    draw = rng.uniform()
    room = str(rng.choice(rooms)) if rooms else ""
    if rooms and draw < measured_share:
        kind = "measured"
    elif measured_share <= draw < measured_share + simulated_share:
        kind = "simulated"
    seed = int(rng.integers(simulated_rooms)) if kind == "simulated" else int(rng.integers(2**31))
    place = float(np.clip(severity + rng.normal(0.0, 0.15), 0.0, 1.0))
    moves = bool(rng.uniform() < moving_share) and kind == "synthetic"
    start = float(rng.uniform(0.0, 0.6))
    return VenueParams(
        kind=kind,
        venue=venue,
        room=room if kind == "measured" else "",
        seed=seed,
        rt60_s=float(rng.uniform(rt_low, rt_high)),
        bass_ratio=float(rng.uniform(0.9, 1.5)),
        treble_ratio=float(rng.uniform(0.35, 0.75)),
        distance_m=float(near + (far - near) * place),
        drr_db=float(np.clip(12.0 - 17.0 * severity + rng.normal(0.0, 2.0), -5.0, 12.0)),
        moves=moves,
        move_start=start,
        move_end=float(min(1.0, start + rng.uniform(0.2, 0.5))),
    )


def response(params: VenueParams, stage: StageParams, bank: Bank) -> Response:
    """The response at the DRR asked for, its first 50 ms scaled to energy 1 per speaker and capsule pair."""
    if params.kind == "measured":
        raw, onset = _measured(bank.audio(params.room), params.seed)
    elif params.kind == "simulated":
        from resonate.degrade import simulated  # pyroomacoustics is slow to import

        raw, onset = simulated.room(params.venue, params.seed)
    else:
        raw, onset = synthetic.room(params)
    direct, rest = split(raw, onset)
    # Low frequencies leave the speaker in all directions: the room misses only the treble.
    shelf = filters.minimum_phase([60, 250, 2000, 12000], [0, 0, -stage.directivity_db, -stage.directivity_db], 256)
    air = filters.minimum_phase(AIR_HZ, -np.array(AIR_DB_PER_M) * params.distance_m, 256)
    length = raw.shape[-1]
    shaped = filters.fold(direct + filters.fold(rest, shelf)[..., :length], air)[..., :length]
    direct, rest = split(shaped, onset)
    e_direct, e_rest = float(np.square(direct).sum()), float(np.square(rest).sum())
    rest = rest * np.sqrt(e_direct / max(e_rest, 1e-12) / 10 ** (params.drr_db / 10))
    kernel = direct + rest
    fade = np.zeros(length, np.float32)
    fade[: LEAD + EARLY] = 1.0
    fade[LEAD + EARLY - 44 : LEAD + EARLY] = np.linspace(1.0, 0.0, 44)
    scale = 1.0 / np.sqrt(np.square(kernel * fade).sum() / 4)
    kernel, rest = (kernel * scale).astype(np.float32), (rest * scale).astype(np.float32)
    return Response(
        kernel=kernel,
        early=(kernel * fade)[..., : LEAD + EARLY],
        late=rest,
        drr_db=drr_db(kernel, onset),
        c80_db=clarity_db(kernel, onset),
        rt60_s=decay_time(kernel[0, 0, LEAD:]),
    )


def elsewhere(params: VenueParams) -> VenueParams:
    """The place to which a moving phone goes: same room, other reflections, a little nearer or farther."""
    rng = np.random.default_rng([params.seed, 1])
    return replace(
        params,
        seed=params.seed ^ 0x5A5A5A,
        distance_m=params.distance_m * float(rng.uniform(0.8, 1.25)),
        drr_db=float(np.clip(params.drr_db + rng.normal(0, 2.0), -5.0, 12.0)),
    )


def apply(x: Tensor, kernels: list[np.ndarray]) -> list[Tensor]:
    """x (K, 2, T), channel = PA speaker -> one (K, 2, T), channel = capsule, per kernel. No delay is added."""
    return filters.convolve(x, kernels)


def split(kernel: np.ndarray, onset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direct part (up to 2.5 ms after onset (2, 2)) and the rest of kernel (2, 2, L); their sum is kernel."""
    index = np.arange(kernel.shape[-1])
    mask = index <= (onset[..., None] + DIRECT)
    return kernel * mask, kernel * ~mask


def drr_db(kernel: np.ndarray, onset: np.ndarray) -> float:
    """Direct-to-reverberant ratio in dB over all speaker-capsule pairs."""
    direct, rest = split(kernel, onset)
    return float(10 * np.log10(np.square(direct).sum() / max(np.square(rest).sum(), 1e-12)))


def clarity_db(kernel: np.ndarray, onset: np.ndarray) -> float:
    """C80 in dB (ISO 3382-1), counted from the first arrival."""
    edge = int(onset.min()) + int(0.08 * RATE)
    energy = np.square(kernel).sum(axis=(0, 1))
    return float(10 * np.log10(energy[:edge].sum() / max(energy[edge:].sum(), 1e-12)))


def decay_time(response_1d: np.ndarray) -> float:
    """T20 in s: Schroeder integral, line through -5..-25 dB of the reverberant part."""
    tail = np.square(response_1d[EARLY // 2 :].astype(np.float64))
    level = 10 * np.log10(np.cumsum(tail[::-1])[::-1] / max(tail.sum(), 1e-30) + 1e-12)
    inside = np.flatnonzero((level < -5) & (level > -25))
    if len(inside) < 32:
        return 0.0
    slope = np.polyfit(inside / RATE, level[inside], 1)[0]
    return float(-60.0 / slope)


def _measured(audio: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bank response (channels, time) as (2, 2, L): true-stereo files hold LL LR RL RR, others one source."""
    rng = np.random.default_rng(seed)
    if audio.shape[0] == 4:
        pairs = audio.reshape(2, 2, -1)
    else:
        one, two = (int(v) for v in rng.choice(audio.shape[0], 2, replace=audio.shape[0] < 2))
        pairs = np.stack([audio[[one, two]], audio[[two, one]]])
    level = np.abs(pairs).max(axis=(0, 1))
    # The direct sound is the first arrival near the maximum, not always the maximum itself.
    first = int(np.flatnonzero(level > 0.4 * level.max())[0])
    peak = first + int(level[first : first + 44].argmax())
    padded = np.pad(pairs, ((0, 0), (0, 0), (LEAD, 0)))[..., peak : peak + LEAD + LONGEST]
    out = np.ascontiguousarray(padded, dtype=np.float32)
    out[..., :16] *= np.linspace(0.0, 1.0, 16, dtype=np.float32)
    fade = min(2205, out.shape[-1] // 4)
    out[..., -fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    onset = np.full((2, 2), LEAD)
    if drr_db(out, onset) < UNCLEAR_DB:
        # Measured off axis, or as a reverberation send: there is no direct sound to scale, only the room is used.
        out[..., : LEAD + DIRECT + 1] = 0.0
        out[..., LEAD] = 1.0
    return out, onset
