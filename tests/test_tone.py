"""The stages before the master: bounded tone, gentle compression, a bound on width; and the progress they share."""

from __future__ import annotations

import numpy as np
import pytest
from restoring import tiny_weights

from resonate import audio
from resonate.models.stats import measure_stats
from resonate.restore.config import Compress, Equalise, Match, RestoreConfig, Width
from resonate.restore.screen import Clock, spoken
from resonate.restore.tone import CENTRES, band_powers, compression, correction, to_filter
from resonate.restore.tone import Compress as CompressStage
from resonate.restore.tone import Equalise as EqualiseStage
from resonate.restore.tone import Match as MatchStage
from resonate.restore.tone import Width as WidthStage
from resonate.restore.work import Models, Work

RATE = 48000


def work_with(x: np.ndarray, folder, given: np.ndarray | None = None, **settings) -> Work:
    """A work folder that has got to the track `x` at 48 kHz from the recording `given`."""
    separator, restorer = map(str, tiny_weights())
    config = RestoreConfig(separator=separator, restorer=restorer, device="cpu", **settings)
    (folder / "a").mkdir()
    work = Work(folder / "x.wav", folder / "a", folder / "a", config, Models(config))
    work.rate, work.samples = RATE, x.shape[1]
    for name, content in (("premaster", x), ("input", x if given is None else given)):
        work.new_track(name, 2, x.shape[1], RATE).write(0, content)
    work.stats = measure_stats(noise(1))  # steady noise: no edges are found, so the whole band counts as captured
    work.diagnosis = {"songs": {"songs": [], "gaps": []}}
    (folder / "b").mkdir()
    work.folder = folder / "b"
    return work


def result(work: Work) -> np.ndarray:
    return work.track["premaster"].read(0, work.samples)


def noise(seconds: float = 3, width: float = 0.5, seed: int = 0) -> np.ndarray:
    """Stereo noise whose side has `width` times the mid's amplitude."""
    mid, side = 0.05 * np.random.default_rng(seed).standard_normal((2, round(seconds * RATE)))
    return np.stack([mid + width * side, mid - width * side]).astype(np.float32)


@pytest.mark.parametrize(
    ("stage", "settings"),
    [(EqualiseStage, {}), (MatchStage, {}), (CompressStage, {}), (WidthStage, {})],
)
def test_a_stage_with_nothing_to_do_leaves_the_very_track(stage, settings, tmp_path):
    work = work_with(noise(), tmp_path, **settings)
    before = work.track["premaster"]
    assert "skipped" in stage().run(work) and work.track["premaster"] is before


def test_equalising_is_bounded_linear_phase_and_undoes_a_known_tilt(tmp_path):
    tilt = np.interp(np.log(CENTRES), np.log([100, 8000]), [4.0, -4.0])
    gains = correction(10 ** (tilt / 10), np.ones(len(CENTRES)), 20, 20000, 12.0)
    assert np.abs(gains + tilt - np.mean(gains + tilt)).max() < 1e-6
    assert np.abs(correction(10 ** (tilt / 10), np.ones(len(CENTRES)), 20, 20000, 1.5)).max() <= 1.5
    taps = to_filter(gains, RATE)
    assert np.abs(taps - taps[::-1]).max() < 1e-6
    response = np.abs(np.fft.rfft(taps, 1 << 16))
    at = np.round(CENTRES[5:-1] * (1 << 16) / RATE).astype(int)
    assert np.abs(20 * np.log10(response[at]) - gains[5:-1]).max() < 0.5
    work = work_with(noise(), tmp_path, equalise=Equalise(max_db=2.0))
    x = result(work)
    effect = EqualiseStage().run(work)
    change = np.array([p.sum() for p in band_powers([result(work)], RATE)[:1]])
    assert change > 0 and max(abs(v) for v in effect["gain_db"].values()) <= 2.0
    before, after = (10 * np.log10(band_powers([y], RATE)[0][3:-2]) for y in (x, result(work)))
    assert 0.2 < np.abs(after - before).max() < 2.5


def test_matching_takes_the_references_tone_and_nothing_else(tmp_path):
    """The reference is the track with its treble 4 dB down and in another order: after matching, both have one tone."""
    x = noise()
    shelf = np.where(CENTRES > 2000, -4.0, 0.0)
    taps = to_filter(shelf, RATE)
    reference = np.stack([np.convolve(row, taps, mode="same") for row in x[:, ::-1]]).astype(np.float32)
    audio.write(tmp_path / "r.wav", reference, RATE)
    work = work_with(x, tmp_path, match=Match(max_db=6.0), tonal_reference=str(tmp_path / "r.wav"))
    MatchStage().run(work)
    ours, theirs = (10 * np.log10(band_powers([y], RATE)[0]) for y in (result(work), reference))
    inside = (CENTRES > 150) & (CENTRES < 10000)
    difference = (ours - theirs)[inside]
    assert np.ptp(difference) < 1.0
    again = work.track["premaster"].length
    assert again == x.shape[1]


@pytest.mark.parametrize("width", [0.0, 0.3])
def test_never_wider_than_captured(width, tmp_path):
    given, wide = noise(width=width), noise(width=1.0)
    work = work_with(wide, tmp_path, given)
    assert WidthStage().run(work)["most_db"] > 5
    y = result(work)
    mid, side = band_powers([y], RATE)
    captured = band_powers([given], RATE)
    inside = (CENTRES > 190) & (CENTRES < 15000)
    assert (side[inside] / mid[inside] <= 1.25 * captured[1][inside] / captured[0][inside] + 1e-9).all()
    assert np.abs(y.sum(0) - wide.sum(0)).max() < 1e-6  # the sum of the channels is left alone
    (tmp_path / "asked").mkdir()
    asked = work_with(wide, tmp_path / "asked", noise(width=0.5), width=Width(limit=2.6))
    assert "skipped" in WidthStage().run(asked)


def test_compression_is_gentle_bounded_and_leaves_the_quiet_alone(tmp_path):
    x = noise(6)
    x[:, : 3 * RATE] *= 0.25
    work = work_with(x, tmp_path, compress=Compress(ratio=2.0, max_db=3.0))
    effect = CompressStage().run(work)
    gain = 20 * np.log10(np.abs(result(work)[0]) / np.abs(x[0]))
    assert 0.3 < effect["most_db"] <= 3.0 and gain.max() < 1e-4 and gain.min() > -3.001
    assert np.abs(gain[RATE // 2 : 2 * RATE]).max() < 1e-4 and gain[-2 * RATE : -RATE].mean() < -0.3
    assert np.abs(np.diff(gain)).max() < 1e-2


def test_no_gain_where_loudness_is_undefined():
    assert compression(np.zeros(1000), 4.0, 12.0) is None and compression(np.ones(10), 4.0, 12.0) is None


def test_time_left_follows_how_it_went():
    now = 0.0
    clock = Clock({"a": 10.0, "b": 30.0}, lambda: now)
    assert clock.tell("a", 0.0) == (0.0, 40.0)
    now = 40.0  # four times as long as expected
    share, left = clock.tell("b", 0.0)
    assert share == 0.25 and 60 < left < 120
    now = 160.0
    assert clock.tell("b", 1.0) == (1.0, 0.0)
    resumed = Clock({"a": 10.0, "b": 30.0}, lambda: now)
    assert resumed.tell("b", 0.5)[1] == 15.0
    assert [spoken(s) for s in (40, 700, 7500)] == ["40 s", "12 min", "2 h 05 min"]
