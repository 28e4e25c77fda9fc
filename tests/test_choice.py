"""What the track is made from is measured on the recording itself, with the separator that is in use."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from restoring import weights_arguments, work_on
from scipy.signal import butter, sosfilt

from resonate import RATE, STEMS, audio
from resonate.restore import choice
from resonate.restore.choice import Choose, nearness, stretches, verdict
from resonate.restore.command import main
from resonate.restore.config import Choose as Settings
from resonate.restore.config import Strength, Veto
from resonate.restore.diagnosis.truth import made_up_stems
from resonate.restore.networks import Restore, gain_rows, presence
from resonate.restore.proof import prove

N = 18 * RATE


def low_music(n: int) -> np.ndarray:
    """(2, n) of made-up music without anything above 2 kHz."""
    x = made_up_stems(n, np.random.default_rng(0)).sum(0)
    return (0.3 * sosfilt(butter(8, 2000, fs=RATE, output="sos"), x) / np.abs(x).max()).astype(np.float32)


def high_crowd(n: int) -> np.ndarray:
    """(2, n) of noise without anything below 4 kHz."""
    noise = np.random.default_rng(1).standard_normal((2, n))
    return (0.05 * sosfilt(butter(8, 4000, "highpass", fs=RATE, output="sos"), noise)).astype(np.float32)


def splitting(at_hz: float, keep_low: bool):
    """A separator that takes what lies below (or above) `at_hz` for the music, a quarter of it in each stem."""

    def apply(model, x):
        freqs = torch.fft.rfftfreq(x.shape[-1], 1 / RATE)
        keep = (freqs < at_hz) if keep_low else (freqs > at_hz)
        music = torch.fft.irfft(torch.fft.rfft(x) * keep, x.shape[-1])
        return (music / 4)[:, None].expand(1, len(STEMS), 2, -1)

    return apply


@pytest.fixture
def work(tmp_path):
    x = high_crowd(N)
    x[:, : 14 * RATE] += low_music(14 * RATE)
    made = work_on(x, tmp_path, choose=Settings(track="auto", seconds=3.0), strength=Strength(crowd=0.0))
    made.diagnosis |= {"songs": {"songs": [[0.0, 14.0]], "gaps": [[14.0, 18.0]]}, "music_to_crowd_db": 3.0}
    made.new_track("separated", 8)
    yield made
    made.close()


def test_a_good_separator_makes_the_track_from_stems_and_a_bad_one_from_the_mix(work, monkeypatch):
    monkeypatch.setattr("resonate.restore.separation.apply_separator", splitting(3000.0, True))
    good = Choose().run(work)
    assert (good["track_made_from"], work.made_from) == ("stems", "stems")
    assert all(t["sdr_stems"] > t["sdr_mix"] + 0.2 for t in good["tried"]) and "own pauses" in good["because"]
    monkeypatch.setattr("resonate.restore.separation.apply_separator", splitting(3000.0, False))
    bad = Choose().run(work)
    assert (bad["track_made_from"], work.made_from) == ("mix", "mix")
    assert all(t["sdr_stems"] < t["sdr_mix"] for t in bad["tried"])


def test_without_pauses_a_crowd_of_the_bank_is_added(work, monkeypatch):
    monkeypatch.setattr("resonate.restore.separation.apply_separator", splitting(3000.0, True))
    work.diagnosis["songs"] = {"songs": [[0.0, 18.0]], "gaps": []}
    crowd, origin = choice._crowd(work)
    given = work.track["separator_input"].read(0, N)
    ratio = 10 * np.log10(np.square(given).mean() / np.square(crowd).mean())
    assert origin == "of the starter bank" and crowd.shape == (2, 3 * RATE) and ratio == pytest.approx(3.0, abs=0.1)
    assert "starter bank" in Choose().run(work)["because"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"songs": {"songs": [[0.0, 5.0]], "gaps": []}}, "there are no 6 s of music"),
        ({"finished": True}, "a finished mix"),
    ],
)
def test_where_nothing_can_be_measured_the_mix_is_taken_and_said_why(work, change, why):
    work.diagnosis |= change
    effect = Choose().run(work)
    assert effect["track_made_from"] == "mix" and why in effect["because"] and effect["tried"] == []


def test_tried_stretches_lie_in_the_music_and_cost_little_of_a_long_show():
    settings = Settings()
    songs = [[10.0, 200.0], [220.0, 230.0], [240.0, 4000.0]]
    places = stretches(songs, settings)
    assert len(places) == 3 and places == sorted(places)
    assert all(any(a <= p and p + settings.seconds <= b for a, b in songs) for p in places)
    assert len(stretches([[0.0, 60.0]], settings)) == 1 and stretches([[0.0, 12.0]], settings) == []


def test_both_measures_decide():
    def tried(sdr: float, octaves: float) -> list[dict]:
        return [{"sdr_mix": 5.0, "sdr_stems": 5.0 + sdr, "octaves_mix": 4.0, "octaves_stems": 4.0 + octaves}]

    assert verdict(tried(1.0, 0.0), 0.2)[0] == "stems"
    assert verdict(tried(0.1, 1.0), 0.2)[0] == "mix"
    assert verdict(tried(1.0, -0.5), 0.2)[0] == "mix"


def test_nearness_is_the_true_distortion_of_music_that_is_known():
    """Music under a crowd like the added one. A gain that knows neither, one that knows which bins hold music, and the
    reverse: the figure is the true signal to distortion ratio, the best scale granted."""
    rng, shape, inside = np.random.default_rng(0), (1025, 400), np.ones(1025, bool)
    music, own, added = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape) for _ in range(3))
    there = rng.uniform(size=shape) < 0.5
    music *= 2.0 * there
    wanted = np.ones(shape)
    for gain in (wanted, 0.3 * wanted, np.where(there, 1.0, 0.1), np.where(there, 0.3, 1.0)):
        y = gain * (music + own)
        scale = np.vdot(y, music).real / np.vdot(y, y).real
        true = -10 * np.log10(np.square(np.abs(music - scale * y)).sum() / np.square(np.abs(music)).sum())
        figures = nearness(gain, wanted, np.square(np.abs(music + own)), np.square(np.abs(added)), inside)
        assert figures == pytest.approx((true, true), abs=0.3)
    nothing = nearness(wanted, wanted, np.square(np.abs(own)), np.square(np.abs(2 * added)), inside)
    assert nothing == (0.0, 0.0)


def test_the_mix_is_tried_with_its_share_of_the_mask(work, monkeypatch):
    monkeypatch.setattr("resonate.restore.separation.apply_separator", splitting(3000.0, True))
    tried = []
    for share in (0.0, 1.0):
        work.config = replace(work.config, strength=Strength(crowd=share))
        tried.append(Choose().run(work)["tried"][0])
    assert tried[1]["sdr_mix"] > tried[0]["sdr_mix"] + 1.0 and tried[1]["sdr_stems"] == tried[0]["sdr_stems"]


def test_presence_is_a_mask_that_finds_the_music(work):
    stems = np.zeros((4, 2, N), np.float32)
    stems[3, :, : 14 * RATE] = low_music(14 * RATE)
    work.new_track("separated", 8).fill([(0, stems.reshape(8, N))])
    mask = presence(work, 0, 200, work.stats)
    assert mask.shape == (1025, 200) and mask.min() >= 0 and mask.max() <= 1
    assert np.median(mask[5:60]) > 0.9 and np.median(mask[300:]) < 0.01


def test_presence_is_the_share_that_a_hedging_separator_means(work):
    given = work.track["separator_input"].read(0, N)
    stems = np.stack([given / 12] * 4)
    work.new_track("separated", 8).fill([(0, stems.reshape(8, N))])
    inside = work.stats.in_band > 0
    assert presence(work, 0, 200, work.stats)[inside] == pytest.approx(1 / 3, abs=1e-2)


@pytest.mark.parametrize(("strength", "share"), [({}, 0.5), ({"crowd": 0.0}, 0.0), ({"crowd": 1.0}, 1.0),
                                                ({"crowd": 0.5, "gain": 0.0}, 0.0)])  # fmt: skip
def test_the_mix_takes_a_share_of_the_mask_against_the_crowd(strength, share, tmp_path):
    """In dB, smoothed over 33 bins, on top of the restorer's gains; with strength.gain=0 nothing is touched."""
    n = 3 * RATE
    work = work_on(low_music(n) + high_crowd(n), tmp_path, strength=Strength(**strength), veto=Veto(enabled=False))
    work.new_track("separated", 8).fill([(0, np.tile(low_music(n) / 4, (4, 1)))])
    heard = np.concatenate([rows for rows, _ in gain_rows(work, work.track["separator_input"], None, extend=False)])
    Restore().run(work)
    gain = work.store["gain"].read_rows(0, work.frames).astype(np.float32)
    there_db, inside = 20 * np.log10(presence(work, 0, work.frames, work.stats)), work.stats.in_band > 0
    padded = np.pad(there_db[inside], ((16, 16), (0, 0)), mode="symmetric")
    there_db[inside] = np.mean([padded[k : k + inside.sum()] for k in range(33)], axis=0)
    wanted = (heard[: work.frames] * (10 ** (share * there_db / 20)).T)[:, inside]
    beyond, gain = gain[:, ~inside], gain[:, inside]
    assert beyond.max() <= 1.0
    np.testing.assert_allclose(gain, wanted, rtol=2e-3, atol=1e-6)
    assert share > 0 or strength.get("gain", 1.0) > 0 or (gain == 1.0).all()
    work.close()


def test_a_track_made_from_stems_keeps_the_ledger_and_its_proof(tmp_path, monkeypatch):
    """In mode reveal, where the masks against the crowd are part of the operators."""
    monkeypatch.setattr("resonate.restore.separation.apply_separator", splitting(3000.0, True))
    n = 3 * RATE
    swell = np.square(np.sin(2 * np.pi * 0.9 * np.arange(n) / RATE))  # what never changes is outside the captured band
    audio.write(tmp_path / "x.wav", low_music(n) + (high_crowd(n) * swell).astype(np.float32), RATE)
    words = ["mode=reveal", "choose.track=stems", "veto.enabled=false", "clean.bypass=false", "threads=1"]
    assert main([str(tmp_path / "x.wav"), "-o", str(tmp_path / "out"), *words, *weights_arguments()]) == 0
    result = tmp_path / "out" / "x"
    report = json.loads((result / "report.json").read_text())
    effects = {stage["name"]: stage["effect"] for stage in report["stages"]}
    assert effects["choose"]["track_made_from"] == effects["remix"]["track_made_from"] == "stems"
    parts = {p.stem: soundfile.read(p)[0].T for p in (result / "ledger").glob("*.wav")}
    assert np.abs(parts["revealed"] + parts["extended"] - parts["premaster"]).max() < 1e-6
    high = butter(8, 5000, "highpass", fs=RATE, output="sos")
    before, after = (np.square(sosfilt(high, parts[k])).mean() for k in ("separator_input", "revealed"))
    assert after < 0.2 * before  # what is left lies beyond 20 kHz
    stems = sum(soundfile.read(result / "stems" / f"{name}.wav")[0].T for name in STEMS)
    assert np.abs(stems - parts["premaster"]).max() < 1e-6
    assert prove(result, tmp_path / "x.wav").holds
