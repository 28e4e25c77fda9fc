"""The venue: responses from the PA's speakers to two capsules, at the direct-to-reverberant ratio and C80 asked for.

Three sources of responses: `synthetic` (image sources for the first reflections, then a diffuse tail whose decay
depends on frequency; milliseconds to make), `simulated` (pyroomacoustics: a room bank made by `rooms.py`, or made on
the spot by `simulated.py`) and `measured` (the bank). Delay towers, where a venue has them, play the same left and
right signals later and are part of the same response. How DRR, C80 and RT60 are measured and set: `acoustics.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from resonate import RATE
from resonate.degrade import filters, roomfile, synthetic
from resonate.degrade import stage as desk
from resonate.degrade.acoustics import (
    DIRECT,
    EARLY,
    air_db_per_m,
    balance,
    clarity_db,
    decay_time,
    drr_db,
    likely_clarity_db,
    onsets,
    split,
)
from resonate.degrade.bank import Bank, BankItem
from resonate.degrade.filters import LEAD
from resonate.degrade.stage import StageParams

LONGEST = int(2.5 * RATE)
#: A measured response with a lower DRR than this gets a clean direct sound.
UNCLEAR_DB = -10.0
#: How the name of a file of the room bank ends; what comes before is venue_number.
SIMULATED = ".npz"

#: venue -> (RT60 range at 1 kHz in s, distance range in m, share of draws). Clubs and halls for amplified music:
#: Adelman-Larsen, Thompson & Gade, JASA 127, 2010; larger rooms: Adelman-Larsen, Rock and Pop Venues, 2014.
VENUES = {
    "bar": ((0.35, 0.8), (3.0, 9.0), 0.2),
    "club": ((0.5, 1.2), (4.0, 15.0), 0.25),
    "theatre": ((0.8, 1.6), (8.0, 25.0), 0.15),
    "hall": ((1.3, 2.4), (10.0, 35.0), 0.15),
    "arena": ((1.8, 3.0), (20.0, 70.0), 0.15),
    "open_air": ((0.25, 0.7), (10.0, 60.0), 0.1),
}
#: Venues with delay towers, and the distance in m from which a listener hears one.
TOWERS = {"arena": 35.0, "open_air": 25.0}


@dataclass(frozen=True)
class VenueParams:
    """One place in one venue.

    kind: synthetic | simulated | measured. room: bank item where the response comes from a file, else "".
    seed: of the room (its number when simulated without a file). rt60_s: at 1 kHz, 0.25..3; bass_ratio, treble_ratio:
    RT60 at 60 Hz and 12 kHz over it (synthetic rooms obey these). distance_m: 3..70, from the stage.
    drr_db: -5..12, obeyed by every kind; c80_db: obeyed as far as can be, None leaves the room's own.
    tower_ms, tower_db: how much later and louder than the stage a delay tower arrives, 5..30 ms and -6..6 dB; 0 ms =
    none. moves: the phone goes through `places` places, `walk_m` m apart in all, during [move_start, move_end]
    (fractions of the capture); path: the measured rooms it goes to. place, walked_m: which of the places this is.
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
    c80_db: float | None = None
    tower_ms: float = 0.0
    tower_db: float = 0.0
    places: int = 2
    walk_m: float = 2.0
    path: list[str] = field(default_factory=list)
    place: int = 0
    walked_m: float = 0.0


@dataclass(frozen=True)
class Response:
    """kernel (2 speakers, 2 capsules, L), direct sound at index LEAD; early: its first 50 ms, in the same
    place; late: the reverberant part alone. nearest: the capsule that the sound reaches first. drr_db, c80_db and
    rt60_s are measured on the kernel."""

    kernel: np.ndarray
    early: np.ndarray
    late: np.ndarray
    nearest: int
    drr_db: float
    c80_db: float
    rt60_s: float

    @property
    def early_late(self) -> np.ndarray:
        """The reverberant part of `early`."""
        n = self.early.shape[-1]
        return self.early - (self.kernel - self.late)[..., :n]


def sample(
    rng: np.random.Generator,
    severity: float,
    rooms: Sequence[BankItem] = (),
    measured_share: float = 0.3,
    simulated_share: float = 0.0,
    simulated_rooms: int = 8,
    moving_share: float = 0.15,
) -> VenueParams:
    """Draw a venue; severity in [0, 1] moves the listener back: DRR from about +12 to -5 dB.

    rooms: the bank's. Simulated rooms come from a room bank among them, else from a pool of simulated_rooms per venue.
    A phone moves in synthetic rooms, in those of a room bank, and in measured ones with several responses.
    """
    names = list(VENUES)
    venue = str(rng.choice(names, p=[VENUES[n][2] for n in names]))
    measured = [item for item in rooms if not item.name.endswith(SIMULATED)]
    pool = [item for item in rooms if item.name.endswith(SIMULATED)]
    kind, draw = "synthetic", rng.uniform()
    if measured and draw < measured_share:
        kind = "measured"
    elif measured_share <= draw < measured_share + simulated_share:
        kind = "simulated"
    room, path = "", []
    seed = int(rng.integers(2**31))
    if kind == "measured":
        item = measured[int(rng.integers(len(measured)))]
        room = item.name
        path = [str(n) for n in rng.permutation([i.name for i in measured if i.group == item.group and i != item])]
    elif kind == "simulated" and pool:
        inside = [item for item in pool if item.group.startswith(venue)] or pool
        room = inside[int(rng.integers(len(inside)))].name
    elif kind == "simulated":
        seed %= simulated_rooms
    (rt_low, rt_high), (near, far), _ = VENUES[venue]
    place = float(np.clip(severity + rng.normal(0.0, 0.15), 0.0, 1.0))
    distance = near + (far - near) * place
    start = float(rng.uniform(0.0, 0.6))
    rt60 = float(rng.uniform(rt_low, rt_high))
    ratio = float(np.clip(12.0 - 17.0 * severity + rng.normal(0.0, 2.0), -5.0, 12.0))
    walks = kind == "synthetic" or (kind == "simulated" and room != "") or len(path) > 0
    tower = distance > TOWERS.get(venue, np.inf) and kind == "synthetic" and rng.uniform() < 0.6
    return VenueParams(
        kind=kind,
        venue=venue,
        room=room,
        seed=seed,
        rt60_s=rt60,
        bass_ratio=float(rng.uniform(0.9, 1.5)),
        treble_ratio=float(rng.uniform(0.35, 0.75)),
        distance_m=float(distance),
        drr_db=ratio,
        moves=bool(rng.uniform() < moving_share) and walks,
        move_start=start,
        move_end=float(min(1.0, start + rng.uniform(0.2, 0.5))),
        c80_db=float(likely_clarity_db(ratio, rt60) + rng.normal(0.0, 1.0)),
        tower_ms=float(rng.uniform(5.0, 30.0)) if tower else 0.0,
        tower_db=float(rng.uniform(-6.0, 6.0)) if tower else 0.0,
        places=int(rng.integers(2, 4)),
        walk_m=float(rng.uniform(0.5, 0.15 * distance + 1.5)),
        path=path[:2],
        # Places of a simulated room are in the order of their distance.
        place=int(rng.integers(2)) + int(severity > 0.5) if kind == "simulated" else 0,
    )


def response(params: VenueParams, stage: StageParams, bank: Bank) -> Response:
    """The response at the DRR and C80 asked for, its first 50 ms scaled to energy 1 per speaker and capsule pair.

    Raises UserError for a room that the bank lacks or that cannot be read.
    """
    raw, onset = _raw(params, bank)
    direct, rest = split(raw, onset)
    length = raw.shape[-1]
    shaped = direct + filters.fold(rest, desk.room_shelf(stage))[..., :length]
    if params.kind == "synthetic":
        # Measured and simulated rooms have their air in them; a synthetic tail has its own.
        air = filters.minimum_phase(synthetic.AIR_HZ, -air_db_per_m(synthetic.AIR_HZ) * params.distance_m, 256)
        shaped = filters.fold(shaped, air)[..., :length]
    direct, rest = split(shaped, onset)
    rest = balance(direct, rest, onset, params.drr_db, params.c80_db)
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
        nearest=int(onset[..., 0].min(axis=0).argmin()),
        drr_db=drr_db(kernel, onset),
        c80_db=clarity_db(kernel, onset),
        rt60_s=decay_time(kernel[0, 0, LEAD:]),
    )


def route(params: VenueParams) -> list[VenueParams]:
    """The places through which a moving phone goes, the first one first; one place where it stands still.

    DRR and C80 change by about 2 dB on the way.
    """
    if not params.moves:
        return [params]
    rng = np.random.default_rng([params.seed, 2])
    change = float(rng.normal(0.0, 2.0))
    count = min(params.places, 1 + len(params.path)) if params.kind == "measured" else params.places
    way = [params]
    for k in range(1, count):
        share = k / (count - 1)
        ratio = float(np.clip(params.drr_db + share * change, -5.0, 12.0))
        way.append(
            replace(
                params,
                room=params.path[k - 1] if params.kind == "measured" else params.room,
                place=params.place + k,
                walked_m=share * params.walk_m,
                drr_db=ratio,
                c80_db=None if params.c80_db is None else params.c80_db + ratio - params.drr_db,
            )
        )
    return way


def through(x: Tensor, legs: list[tuple[np.ndarray, np.ndarray]], params: VenueParams) -> Tensor:
    """x (K, 2, T), channel = PA speaker, heard along a route: (K, 2, T), channel = capsule.

    legs: per place its kernel and the reverberant part of it, both (2, 2, L). Neighbouring places are cross-faded: the
    direct sound linearly, because it is the same in both, the reverberation at constant power, because it is not.
    """
    if len(legs) == 1:
        return filters.convolve(x, [legs[0][0]])[0]
    t = torch.linspace(0, 1, x.shape[-1], device=x.device)
    way = ((t - params.move_start) / max(params.move_end - params.move_start, 1e-3)).clamp(0, 1) * (len(legs) - 1)
    heard = filters.convolve(x, [part for kernel, late in legs for part in (kernel - late, late)])
    out = torch.zeros_like(x)
    for k in range(len(legs)):
        weight = (1.0 - (way - k).abs()).clamp(0, 1)
        out += weight * heard[2 * k] + weight.sqrt() * heard[2 * k + 1]
    return out


def _raw(params: VenueParams, bank: Bank) -> tuple[np.ndarray, np.ndarray]:
    """Response (2, 2, L) as its source gives it, and its onsets (2, 2, A)."""
    if params.kind == "synthetic":
        return synthetic.room(params)
    if params.kind == "measured":
        return _measured(bank.audio(params.room), params.seed)
    if not params.room:
        # pyroomacoustics is slow to import, and not needed for a room that is on disk.
        from resonate.degrade import simulated

        return simulated.room(params.venue, params.seed)
    kernels, onset = roomfile.load(bank.item(params.room).path)
    place = params.place % len(kernels)
    return kernels[place].astype(np.float32), onset[place]


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
    onset = onsets(out)
    if drr_db(out, onset) < UNCLEAR_DB:
        # Measured off axis, or as a reverberation send: there is no direct sound to scale, only the room is used.
        onset = np.full((2, 2, 1), LEAD)
        out[..., : LEAD + DIRECT + 1] = 0.0
        out[..., LEAD] = 1.0
    return out, onset
