"""Physical truths of the PA and the venue: what is asked for is what is measured, and geometry and air count."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resonate import RATE
from resonate.degrade import Bank, CaptureChain, ChainConfig, acoustics, filters, roomfile, simulated, stage, venue
from resonate.degrade import rooms as roombank
from resonate.degrade.acoustics import octave
from resonate.errors import UserError

LEAD = filters.LEAD
PA = stage.sample(np.random.default_rng(0), 0.3)


def place(**changes) -> venue.VenueParams:
    return replace(venue.sample(np.random.default_rng(1), 0.5, moving_share=0.0), c80_db=None, **changes)


def impulses(n: int = 3 * RATE, at: int = 1000) -> torch.Tensor:
    """(2, 2, n): an impulse from the left, then one from the right speaker."""
    x = torch.zeros(2, 2, n)
    x[0, 0, at] = x[1, 1, at] = 1.0
    return x


def fake_room(seed: int = 0, places: int = 3, towers: bool = False) -> simulated.Room:
    """Exponentially decaying noise (0.6 s) behind a direct sound: costs no time."""
    rng = np.random.default_rng(seed)
    t = np.arange(RATE) / RATE
    kernels = 0.01 * rng.standard_normal((places, 2, 2, LEAD + RATE)).astype(np.float32)
    kernels[..., LEAD:] *= np.exp(-6.9 / 0.6 * t).astype(np.float32)
    kernels[..., :LEAD] = 0.0
    onset = np.full((places, 2, 2, 2 if towers else 1), LEAD)
    kernels[..., LEAD] = 1.0
    if towers:
        onset[..., 1] = LEAD + 800
        kernels[..., LEAD + 800] = 0.8
    return simulated.Room(kernels, onset, 0.6)


@pytest.fixture
def room_bank(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(simulated, "build", lambda venue, number: fake_room(number, towers=venue == "arena"))
    roombank.build(tmp_path / "bank", 40)
    return tmp_path / "bank"


# PA


@pytest.mark.parametrize("release", [60.0, 300.0])
def test_limiter_holds_its_ceiling_and_lets_quiet_music_through(release):
    params = replace(PA, threshold_db=10.0, release_ms=release, width=1.0)
    rng = torch.Generator().manual_seed(0)
    stems = 0.02 * torch.randn(4, 2, 2 * RATE, generator=rng)
    for start in (20000, 31123, 50001):
        stems[:, :, start : start + 300] *= 20.0
    rms = filters.active_rms(stems.sum(0))
    out = stage.apply(stems, params)
    ceiling = rms * 10 ** (10.0 / 20)
    assert stems.sum(0).abs().max() > 2 * ceiling
    assert out.sum(0).abs().max() <= ceiling * 1.0001
    assert torch.allclose(out[..., :19000], stems[..., :19000])


def test_speakers_give_the_room_less_treble_than_the_crowd_by_their_directivity():
    def ratio(directivity: float, hz: float) -> float:
        pa = replace(PA, directivity_db=directivity)
        params = place(kind="synthetic", venue="club", seed=5, drr_db=3.0, tower_ms=0.0)
        found = venue.response(params, pa, Bank())
        direct, late = found.kernel - found.late, found.late
        return 10 * np.log10(np.square(octave(direct, hz)).sum() / np.square(octave(late, hz)).sum())

    more = [(ratio(9.0, hz) - ratio(5.0, hz)) for hz in (100.0, 5000.0)]
    assert more[1] - more[0] == pytest.approx(4.0, abs=0.5)


def test_a_cardioid_speaker_excites_the_room_less_than_an_omnidirectional_one(monkeypatch):
    pytest.importorskip("pyroomacoustics")
    cardioid = simulated.build("bar", 3, places=1)
    monkeypatch.setattr(simulated, "_speaker", lambda pra: None)
    omni = simulated.build("bar", 3, places=1)
    gain = acoustics.drr_db(cardioid.kernels[0], cardioid.onset[0]) - acoustics.drr_db(omni.kernels[0], omni.onset[0])
    # 4.8 dB in a diffuse field, less where the strongest reflections come from where the speaker points.
    assert 1.5 < gain < 8.0


# Venue


@pytest.mark.parametrize("asked", [-5.0, 0.0, 6.0, 12.0])
@pytest.mark.parametrize("tower_ms", [0.0, 18.0])
def test_drr_asked_is_drr_measured_behind_the_convolution(asked, tower_ms):
    for seed, kind in ((3, "club"), (4, "arena")):
        params = place(seed=seed, venue=kind, rt60_s=1.2, distance_m=12.0, drr_db=asked, kind="synthetic",
                       tower_ms=tower_ms, tower_db=-3.0)  # fmt: skip
        found = venue.response(params, PA, Bank())
        heard = filters.convolve(impulses(), [found.kernel])[0].numpy().astype(np.float64)
        direct = rest = 0.0
        for y in heard.reshape(4, -1):
            first = int(np.flatnonzero(np.abs(y) > 0.25 * np.abs(y[:2500]).max())[0])
            inside = np.zeros(len(y), bool)
            inside[: first + acoustics.DIRECT] = True
            if tower_ms:
                tower = first + int(tower_ms * 1e-3 * RATE)
                inside[tower - 60 : tower + acoustics.DIRECT + 40] = True
            direct += np.square(y[inside]).sum()
            rest += np.square(y[~inside]).sum()
        assert found.drr_db == pytest.approx(asked, abs=0.02)
        assert 10 * np.log10(direct / rest) == pytest.approx(asked, abs=0.5)


@pytest.mark.parametrize("kind", ["synthetic", "simulated"])
def test_c80_asked_is_c80_measured_at_the_same_drr(kind, room_bank):
    bank = Bank.load(room_bank, "all")
    room = "rooms/club_0000.npz" if kind == "simulated" else ""
    for ratio, rt60 in ((-3.0, 0.6), (4.0, 0.6)):
        likely = acoustics.likely_clarity_db(ratio, rt60)
        for change in (-2.0, 0.0, 2.0):
            params = replace(place(kind=kind, room=room, venue="club", rt60_s=rt60, drr_db=ratio, seed=7),
                             c80_db=likely + change)  # fmt: skip
            found = venue.response(params, PA, bank)
            energy = np.square(found.kernel.astype(np.float64)).sum(axis=(0, 1))
            edge = LEAD + int(0.08 * RATE)
            assert 10 * np.log10(energy[:edge].sum() / energy[edge:].sum()) == pytest.approx(likely + change, abs=0.5)
            assert found.drr_db == pytest.approx(ratio, abs=0.02)


def test_c80_goes_as_far_as_it_can_and_is_reported_as_it_is():
    asked = replace(place(kind="synthetic", venue="hall", rt60_s=2.0, drr_db=6.0, seed=8), c80_db=-10.0)
    found = venue.response(asked, PA, Bank())
    # Clarity below the DRR is impossible: the direct sound is part of what is early.
    assert found.c80_db > 6.0 and found.drr_db == pytest.approx(6.0, abs=0.02)


@pytest.mark.parametrize("rt60", [0.5, 1.0, 2.0])
def test_the_tail_decays_at_the_rt60_asked_for(rt60):
    params = place(kind="synthetic", rt60_s=rt60, bass_ratio=1.0, treble_ratio=1.0, drr_db=0.0, distance_m=8.0,
                   venue="club")  # fmt: skip
    lates = [venue.response(replace(params, seed=seed), PA, Bank()).late for seed in range(3)]
    found = [acoustics.decay_time(octave(late[s, s, LEAD:], 1000.0)) for late in lates for s in (0, 1)]
    assert np.mean(found) == pytest.approx(rt60, rel=0.1)


def test_bass_rings_longer_and_treble_shorter_as_asked():
    params = place(kind="synthetic", venue="hall", rt60_s=1.5, bass_ratio=1.4, treble_ratio=0.5, seed=2, drr_db=0.0)
    late = venue.response(params, PA, Bank()).late
    low, middle, high = (
        np.mean([acoustics.decay_time(octave(late[s, m, LEAD:], hz)) for s in (0, 1) for m in (0, 1)])
        for hz in (100.0, 1000.0, 8000.0)
    )
    assert low == pytest.approx(1.4 * 1.5, rel=0.2) and middle == pytest.approx(1.5, rel=0.1)
    assert high < 0.65 * middle


def test_direct_sound_arrives_at_the_lead_sample_from_every_kind_of_room(room_bank, tmp_path):
    bank = Bank.load(room_bank, "all")
    for params in (
        place(kind="synthetic", seed=5, drr_db=8.0),
        place(kind="simulated", room="rooms/arena_0001.npz", drr_db=8.0),
    ):
        found = venue.response(params, PA, bank)
        first = min(int(np.flatnonzero(np.abs(k) > 0.5 * np.abs(k).max())[0]) for k in found.kernel.reshape(4, -1))
        assert first == LEAD
        near = np.abs(found.kernel[:, found.nearest]).max(axis=0)
        assert int(np.flatnonzero(near > 0.5 * near.max())[0]) == LEAD


def test_air_absorbs_as_iso_9613_says_and_takes_treble_with_distance():
    # ISO 9613-1, table 1: 20 C, 50 %, in dB/km.
    found = 1000 * acoustics.air_db_per_m(np.array([1000.0, 4000.0, 8000.0]))
    assert found == pytest.approx([4.66, 29.7, 105.0], rel=0.01)

    def treble(distance: float) -> float:
        params = place(kind="synthetic", seed=6, distance_m=distance, drr_db=6.0, tower_ms=0.0)
        kernel = venue.response(params, replace(PA, directivity_db=0.0), Bank()).kernel
        first = max(kernel.reshape(4, -1), key=lambda k: abs(k[LEAD]))
        # Before any reflection: a shelf of some samples.
        level = 20 * np.log10(np.abs(np.fft.rfft(first[LEAD : LEAD + 12], 4096)))
        return float(level[int(8000 / RATE * 4096)] - level[int(1000 / RATE * 4096)])

    # 105 - 5 dB/km more at 8 than at 1 kHz.
    assert treble(10.0) - treble(30.0) == pytest.approx(2.0, abs=0.5)
    assert treble(30.0) - treble(60.0) == pytest.approx(3.0, abs=0.7)


def test_measured_rooms_are_placed_at_the_drr_asked_for():
    bank = Bank.load(Path(venue.__file__).parents[1] / "bank", "train")
    for item in bank.items("rooms")[:4]:
        params = replace(place(kind="measured", room=item.name, drr_db=2.0, seed=3), c80_db=6.0)
        found = venue.response(params, PA, bank)
        assert found.drr_db == pytest.approx(2.0, abs=0.05)
        assert found.c80_db > 2.0


# Simulated rooms


def test_surfaces_absorb_what_eyring_needs_and_the_audience_more_than_the_bare_floor():
    size = np.array([24.0, 36.0, 12.0])
    sides = simulated.surfaces("panels", "plaster", "bare floor", 0.8, size, 1.6, 1.3)
    rt60 = simulated.eyring(sides, size)
    assert rt60[simulated.BANDS.index(1000)] == pytest.approx(1.6, rel=0.01)
    assert rt60.max() < 1.31 * 1.6 and rt60[-1] < rt60[3]
    assert sides["floor"][3] > 2 * sides["ceiling"][3]


def test_a_simulated_room_decays_at_its_rt60_and_faster_in_the_treble():
    pytest.importorskip("pyroomacoustics")
    room = simulated.build("club", 2, places=1)
    tail = room.kernels[..., LEAD + acoustics.EARLY // 2 :]
    found = [acoustics.energy_decay_time(np.square(octave(tail, hz)).sum(axis=(0, 1, 2))) for hz in (1000.0, 8000.0)]
    assert found[0] == pytest.approx(room.rt60_s, rel=0.1)
    assert found[1] < 0.95 * found[0]
    assert room.onset[..., 0].min() == LEAD
    again = simulated.build("club", 2, places=1)
    assert np.array_equal(room.kernels, again.kernels)


def test_two_capsules_hear_the_same_bass_and_different_treble_in_the_tail():
    rng = np.random.default_rng(0)
    pairs = rng.standard_normal((2, 2, 2 * RATE)).astype(np.float32)
    simulated._blend(pairs, 0)
    tail = pairs[0, :, RATE:]
    low, high = (np.corrcoef([octave(c, hz) for c in tail])[0, 1] for hz in (200.0, 4000.0))
    assert low > 0.9 and abs(high) < 0.2


# A moving phone


@pytest.mark.parametrize("kind", ["synthetic", "simulated"])
def test_a_moving_phone_hears_the_first_place_before_and_the_last_place_after_its_walk(kind, room_bank):
    bank = Bank.load(room_bank, "all")
    room = "rooms/club_0000.npz" if kind == "simulated" else ""
    params = place(kind=kind, room=room, venue="club", seed=4, rt60_s=0.5, places=3, walk_m=3.0)
    params = replace(params, moves=True, move_start=0.4, move_end=0.6)
    way = venue.route(params)
    assert len(way) == 3
    found = [venue.response(one, PA, bank) for one in way]
    legs = [(one.kernel, one.late) for one in found]
    n = 10 * RATE
    x = torch.zeros(1, 2, n)
    x[0, 0, RATE], x[0, 1, 7 * RATE] = 1.0, 1.0
    y = venue.through(x, legs, params)
    still = [filters.convolve(x, [found[k].kernel])[0] for k in (0, -1)]
    before, after = slice(0, int(3.9 * RATE)), slice(int(6.1 * RATE), n)
    assert torch.allclose(y[..., before], still[0][..., before], atol=1e-5)
    assert torch.allclose(y[..., after], still[1][..., after], atol=1e-5)
    assert not torch.allclose(still[0][..., before], still[1][..., before], atol=1e-3)


def test_the_reverberation_keeps_its_power_between_two_places():
    rng = np.random.default_rng(5)
    t = np.arange(RATE // 2) / RATE
    legs = []
    for _ in range(2):
        late = np.pad(rng.standard_normal((2, 2, len(t))) * np.exp(-t * 12), ((0, 0), (0, 0), (LEAD, 0)))
        legs.append((late.astype(np.float32), late.astype(np.float32)))
    x = torch.randn(1, 2, 4 * RATE, generator=torch.Generator().manual_seed(0))
    y = venue.through(x, legs, replace(place(), moves=True, move_start=0.0, move_end=1.0))
    power = [float(y[..., at : at + RATE // 2].square().mean()) for at in (RATE // 2, int(1.75 * RATE), 3 * RATE)]
    assert 10 * np.log10(power[1] / np.mean([power[0], power[2]])) == pytest.approx(0.0, abs=1.0)


def test_a_phone_walks_between_measured_rooms_of_one_group_only(tmp_path):
    items = Bank.load(Path(venue.__file__).parents[1] / "bank", "train").items("rooms")
    groups = {item.name: item.group for item in items}
    walked = 0
    for seed in range(60):
        params = venue.sample(np.random.default_rng(seed), 0.5, items, measured_share=1.0, moving_share=1.0)
        names = [one.room for one in venue.route(params)]
        assert len({groups[name] for name in names}) == 1 and len(set(names)) == len(names)
        walked += len(names) > 1
    assert walked > 5


# The room bank


def test_room_bank_splits_by_number_and_grows_without_changing(room_bank, tmp_path):
    assert roombank.plan(60)[:40] == roombank.plan(40)
    sets = {split: {i.name for i in Bank.load(room_bank, split).items("rooms")} for split in ("train", "valid", "test")}
    assert all(sets.values()) and not (sets["train"] & sets["valid"]) and not (sets["train"] & sets["test"])
    assert sum(map(len, sets.values())) == 40


def test_room_bank_goes_on_where_it_was(room_bank, monkeypatch):
    files = sorted((room_bank / "rooms").iterdir())
    table = (room_bank / "bank.tsv").read_bytes()
    kept = files[3].read_bytes()
    times = [f.stat().st_mtime_ns for f in files]
    files[3].unlink()
    made = []

    def build(venue: str, number: int) -> simulated.Room:
        made.append((venue, number))
        return fake_room(number, towers=venue == "arena")

    monkeypatch.setattr(simulated, "build", build)
    roombank.build(room_bank, 40)
    assert len(made) == 1 and files[3].read_bytes() == kept
    assert [f.stat().st_mtime_ns for i, f in enumerate(files) if i != 3] == times[:3] + times[4:]
    assert (room_bank / "bank.tsv").read_bytes() == table


def test_room_bank_leaves_nothing_half_written_when_stopped(tmp_path, monkeypatch):
    def build(venue: str, number: int) -> simulated.Room:
        if venue == "theatre":
            raise KeyboardInterrupt
        return fake_room(number)

    monkeypatch.setattr(simulated, "build", build)
    with pytest.raises(KeyboardInterrupt):
        roombank.build(tmp_path, 5)
    assert sorted(p.name for p in (tmp_path / "rooms").iterdir()) == ["bar_0000.npz", "club_0000.npz"]
    assert not (tmp_path / "bank.tsv").exists()


def test_room_bank_refuses_what_it_did_not_make(tmp_path, room_bank):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "bank.tsv").write_text("file\tsource\nx.wav\tfreesound\n", encoding="utf-8")
    with pytest.raises(UserError, match="another bank"):
        roombank.build(tmp_path / "other", 2)
    (tmp_path / "other" / "bank.tsv").write_text("file\nx.wav\n", encoding="utf-8")
    with pytest.raises(UserError, match="another bank"):
        roombank.build(tmp_path / "other", 2)
    with pytest.raises(UserError, match="at least one"):
        roombank.build(tmp_path / "none", 0)
    target = room_bank / "rooms" / "bar_0000.npz"
    good = target.read_bytes()
    for bad in (b"", good[: len(good) // 2], b"PK\x03\x04 no zip"):
        target.write_bytes(bad)
        roomfile.load.cache_clear()
        with pytest.raises(UserError, match="make the room bank again"):
            roomfile.load(target)
    np.savez(target.open("wb"), kernels=np.array([{}], dtype=object), onset=np.zeros(1), format=np.int32(1))
    with pytest.raises(UserError, match="make the room bank again"):
        roomfile.load(target)


def test_the_chain_draws_from_the_room_bank(room_bank):
    bank = Bank.load(room_bank, "train")
    chain = CaptureChain(bank, ChainConfig(measured_share=0.0, simulated_share=1.0, codecs=False, moving_share=0.5))
    stems = 0.05 * torch.randn(1, 4, 2, RATE, generator=torch.Generator().manual_seed(0))
    names = set()
    for seed in range(6):
        params = chain.from_seed(seed, RATE)
        made = chain.apply(stems, [params])
        names.add(params["venue"]["room"])
        assert params["venue"]["room"].startswith("rooms/" + params["venue"]["venue"])
        assert made.measures[0]["drr_db"] == pytest.approx(params["venue"]["drr_db"], abs=0.05)
    assert names <= {item.name for item in bank.items("rooms")}


@pytest.mark.slow
def test_room_bank_has_the_same_bytes_with_one_and_two_workers(tmp_path):
    pytest.importorskip("pyroomacoustics")
    for workers in (1, 2):
        roombank.build(tmp_path / str(workers), 3, workers)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / w / "rooms").iterdir()} for w in ("1", "2"))
    assert one == two and len(one) == 3
    assert (tmp_path / "1" / "bank.tsv").read_bytes() == (tmp_path / "2" / "bank.tsv").read_bytes()
