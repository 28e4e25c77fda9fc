"""Truths about the checks of faithfulness: what each must see, and what must not move it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from restoring import music, work_on

from resonate import RATE, STEMS, faithfulness
from resonate.faithfulness import Limits, check, magnitudes
from resonate.models.stats import BINS, HOP
from resonate.restore import deliver, precondition, separation, veto
from resonate.restore.config import RestoreConfig, Veto
from resonate.restore.diagnosis.truth import made_up_stems
from resonate.restore.store import Store, Track


def band(seconds: float, seed: int = 0) -> np.ndarray:
    x = made_up_stems(round(seconds * RATE), np.random.default_rng(seed)).sum(0)
    return (0.3 * x / np.abs(x).max()).astype(np.float32)


def noise(seconds: float, level: float, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal((2, round(seconds * RATE)))).astype(np.float32)


FLOOR = np.full(BINS, -150.0, np.float32)


@pytest.fixture(scope="module")
def song() -> np.ndarray:
    return magnitudes(band(4.0) + noise(4.0, 3e-4))


def test_an_unchanged_sound_passes(song):
    figures, failed = check(song, song, FLOOR)
    assert failed == []
    assert figures["chroma"] > 0.999 and figures["notes"] > 0.999 and figures["onsets"] > 0.999
    assert figures["excess_db"] < -60 and figures["support"] == 0


def test_gain_and_eq_pass(song):
    tilt = np.linspace(3, 0.3, BINS)[:, None]
    assert check(4 * song * tilt, song, FLOOR)[1] == []


def test_taking_noise_away_passes():
    clean, crowd = band(4.0), noise(4.0, 0.03)
    assert check(magnitudes(clean), magnitudes(clean + crowd), FLOOR)[1] == []


def test_silence_passes_all(song):
    assert check(0 * song, song, FLOOR)[1] == []


def test_other_music_fails(song):
    figures, failed = check(magnitudes(band(4.0, 7)), song, FLOOR)
    assert "notes" in failed and figures["chroma"] < 0.75 and figures["notes"] < 0.75 and figures["excess_db"] > -6


def test_an_invented_note_shows():
    t = np.arange(4 * RATE) / RATE
    x = band(4.0)
    added = x + 0.2 * np.sin(2 * np.pi * 1234.0 * t).astype(np.float32)
    was, now = magnitudes(x), magnitudes(added)
    assert faithfulness.note_agreement(now, was) < 0.7 < faithfulness.note_agreement(was, now)
    assert faithfulness.chroma_agreement(now, was) < faithfulness.chroma_agreement(was, was) - 0.1


def test_onsets_may_be_lost_but_not_added():
    rng = np.random.default_rng(0)
    steady = 0.05 * rng.standard_normal((2, 4 * RATE)).astype(np.float32)
    hits = steady.copy()
    for at in (0.7, 1.9, 3.1):
        hits[:, int(at * RATE) : int(at * RATE) + 2000] *= 12
    few, many = magnitudes(steady), magnitudes(hits)
    assert faithfulness.onset_agreement(few, many) > 0.9 or faithfulness.onsets(few).max() < 0.1
    assert faithfulness.onset_agreement(many, few) < 0.7


def test_energy_support_sees_raised_noise():
    x = noise(2.0, 1e-3)
    x[:, : RATE // 2] += band(0.5)[:, : RATE // 2]
    given = magnitudes(x)
    floor = 20 * np.log10(np.median(given[:, 100:], axis=1)) + 1
    frames = np.arange(given.shape[1])
    raised = given * np.where(frames > 60, 300.0, 1.0)
    assert faithfulness.energy_support(raised, given, floor) > 0.6
    assert faithfulness.energy_support(given, given, floor) < 0.1
    inside = np.zeros(BINS)
    assert faithfulness.energy_support(raised, given, floor, inside) == 0.0


def test_redegradation_ignores_eq_and_slow_gain(song):
    t = np.linspace(0, 1, song.shape[1])
    changed = song * np.linspace(2, 0.5, BINS)[:, None] * (1 + 0.5 * np.sin(2 * np.pi * t))
    residual, excess = faithfulness.redegradation(changed, song)
    assert residual < -15 and excess < -15
    assert faithfulness.redegradation(song + magnitudes(band(4.0, 9)) * 3, song)[1] > excess + 8


def test_crowd_must_not_begin_to_sing():
    crowd = magnitudes(noise(3.0, 0.05))
    sung = magnitudes(noise(3.0, 0.05) + 0.3 * band(3.0, 5))
    assert faithfulness.new_tones_db(crowd, crowd) == pytest.approx(0)
    assert "tones_db" in check(sung, crowd, FLOOR, crowd_only=True)[1]
    assert "tones_db" not in check(sung, crowd, FLOOR)[1]


def test_silence_stays_silence():
    x = band(3.0)
    x[:, RATE : 2 * RATE] = 0
    y = x + noise(3.0, 0.01)
    assert faithfulness.silence_excess_db(magnitudes(x), magnitudes(x)) == 0
    assert faithfulness.silence_excess_db(magnitudes(y), magnitudes(x)) > 20


@pytest.mark.parametrize("frames", [1, 3, 40])
def test_short_sounds_are_no_trouble(frames):
    x = np.random.default_rng(0).uniform(size=(BINS, frames)).astype(np.float32)
    assert check(x, x, FLOOR)[1] == []


def test_stretches_tile_the_recording():
    spans = veto.stretches(2600, 10.0)
    assert spans[0][0] == 0 and spans[-1][1] == 2600 and all(a[1] == b[0] for a, b in pairwise(spans))
    assert veto.stretches(5, 10.0) == [(0, 5)]


def test_veto_takes_back_what_fails_and_nothing_else(tmp_path):
    """Three seconds of nine are taken back, cross-faded, and the others stay as they were."""
    n = 9 * RATE
    source = Track(tmp_path / "x.npy", 2, n, RATE)
    x = music(9.0, RATE) + noise(9.0, 1e-4)
    x[:, 3 * RATE : 6 * RATE] = 0
    source.write(0, x)
    frames = n // HOP + 1
    gain, extension = Store(tmp_path / "g.npy", frames, (BINS,), "<f2"), Track(tmp_path / "e.npy", 2, n, RATE)
    before = np.full((frames, BINS), 0.5, np.float32)
    gain.write_rows(0, before)
    added = noise(9.0, 0.05)
    added[:, : 3 * RATE] = added[:, 6 * RATE :] = 0
    extension.write(0, added)
    config, stats = RestoreConfig(), SimpleNamespace(floor_db=FLOOR, in_band=np.ones(BINS, np.float32))
    work = SimpleNamespace(
        config=replace(config, veto=replace(config.veto, seconds=3.0, onsets=0.0)), frames=frames, length=n,
        track={"separator_input": source}, diagnosis={"songs": {"gaps": []}}, path=tmp_path / "x.wav",
        stats_at=lambda first, count: stats, tell=lambda stage, share: None,
        progress=SimpleNamespace(mark=lambda done, stores, force: None),
    )  # fmt: skip
    found = veto.apply(work, gain, extension)
    assert [(item["part"], round(item["from"])) for item in found] == [("extension", 3)]
    assert "silent" in found[0]["why"][0]
    y = extension.read(0, n)
    assert np.abs(y[:, int(3.3 * RATE) : int(5.7 * RATE)]).max() == 0
    np.testing.assert_array_equal(gain.read_rows(0, frames), before)

    loud = before.copy()
    loud[:, :] = 0.5
    work.config = replace(work.config, veto=replace(work.config.veto, excess_db=-1000.0))
    veto.apply(work, gain, extension)
    rows = gain.read_rows(0, frames).astype(np.float32)
    assert rows.min() >= 0.5 and rows.max() <= 1.0 and (rows == 1).all(1).mean() > 0.3


def late(seconds: float, n: int) -> np.ndarray:
    """(2, n): a loud tone that nothing holds, in the second from `seconds` on."""
    t = np.arange(n) / RATE
    tone = 0.7 * np.sin(2 * np.pi * 1234.5 * t) * ((t >= seconds) & (t < seconds + 1))
    return np.stack([tone, tone]).astype(np.float32)


def within(item: dict) -> slice:
    """The samples of a stretch that are taken back wholly; within its last frame the result begins to fade in."""
    return slice(item["frames"][0] * HOP, (item["frames"][1] - 1) * HOP)


@pytest.mark.parametrize("rate", [RATE, 48000])
def test_a_stage_s_track_is_taken_back_where_it_fails(rate, tmp_path):
    x = band(9.0)
    work = work_on(x, tmp_path, veto=Veto(seconds=3.0))
    given, made = (work.new_track(name, 2, x.shape[1], rate).fill([(0, x)]) for name in ("given", "made"))
    made.write(0, x + late(4.2, x.shape[1]))
    found = veto.check_track(work, "width", made, given)
    assert [item["stage"] for item in found] == ["width"] and found[0]["part"] == "sound"
    inside, y = within(found[0]), made.read(0, x.shape[1])
    assert np.array_equal(y[:, inside], x[:, inside])
    assert np.array_equal(y[:, : 2 * RATE], x[:, : 2 * RATE]) and np.abs(y - x).max() < 1e-6
    made.write(0, x + late(4.2, x.shape[1]))
    work.config = replace(work.config, veto=replace(work.config.veto, enabled=False))
    assert veto.check_track(work, "width", made, given) == []
    assert np.abs(made.read(0, x.shape[1]) - x).max() > 0.5
    work.close()


def test_a_repair_that_invents_is_taken_back_and_made_again_for_the_proof(tmp_path, monkeypatch):
    x = band(9.0)
    work = work_on(x, tmp_path, mode="reveal", veto=Veto(seconds=3.0))
    given = work.track["ingested"]
    real = precondition.linear_blocks

    def inventing(source, effect):
        tone = late(7.3, x.shape[1])
        for start, block in real(source, effect):
            yield start, block + tone[:, start : start + block.shape[1]]

    monkeypatch.setattr(precondition, "linear_blocks", inventing)
    effect = precondition.Precondition().run(work)
    assert [(item["stage"], item["part"]) for item in effect["taken_back"]] == [("precondition", "sound")]
    y = work.track["separator_input"].read(0, x.shape[1])
    # To the very end, and nowhere else.
    first = effect["taken_back"][0]["frames"][0] * HOP
    assert np.array_equal(y[:, first:], x[:, first:])
    assert not np.array_equal(y[:, :RATE], x[:, :RATE])
    work.track["ingested"] = given
    assert np.array_equal(precondition.again(work, effect, tmp_path / "work").read(0, x.shape[1]), y)
    work.close()


def test_a_separation_that_invents_leaves_all_in_one_stem(tmp_path, monkeypatch):
    x = band(9.0)
    work = work_on(x, tmp_path, veto=Veto(seconds=3.0))
    blocks = iter(range(1000))

    def quarters(model, y):
        tone = 0.7 * torch.sin(2 * np.pi * 1234.5 / RATE * torch.arange(y.shape[-1]))
        return y[:, None].expand(1, 4, 2, -1) / 4 + (tone if next(blocks) == 6 else 0.0)

    monkeypatch.setattr("resonate.restore.separation.apply_separator", quarters)
    effect = separation.Separate().run(work)
    (item,) = effect["taken_back"]
    assert item["stage"] == "separate" and item["from"] < 4.6 < item["to"]
    y = work.track["separated"].read(0, x.shape[1]).reshape(4, 2, -1)
    inside = within(item)
    other = STEMS.index("other")
    assert np.array_equal(y[other][:, inside], x[:, inside])
    assert not np.delete(y, other, 0)[..., inside].any()
    assert np.abs(y[..., : 2 * RATE] - x[:, : 2 * RATE] / 4).max() < 1e-6
    work.close()


def test_a_limiter_that_fails_the_checks_is_left_out(tmp_path, monkeypatch):
    x = band(4.0) / 0.3
    x[:, ::11025] *= 8
    work = work_on(x, tmp_path)
    work.new_track("premaster").fill([(0, 0.1 * x)])
    (tmp_path / "a").mkdir()
    work.result = tmp_path / "a"
    plain = deliver.Master().run(work)
    monkeypatch.setattr(veto.faithfulness, "check", lambda *_: ({"onsets": 0.0}, ["onsets"]))
    again = deliver.Master().run(work)
    assert plain["taken_back"] == [] and again["taken_back"][0]["why"] == ["onsets that the recording lacks"]
    assert again["loudness_after_lufs"] < plain["loudness_after_lufs"]
    assert again["most_limiting_db"] < plain["most_limiting_db"]
    work.close()


def test_kept_fades_at_both_ends():
    share = veto.kept([[100, 200]], 0, 300)
    assert (share[100:200] == 0).all() and share[0] == share[299] == 1
    assert (np.diff(share[70:100]) <= 0).all() and (np.diff(share[200:240]) >= 0).all()
    assert np.abs(np.diff(share)).max() <= 1 / veto.FADE + 1e-6


def test_limits_are_the_configuration_s():
    assert set(vars(Limits())) < set(vars(RestoreConfig().veto))
