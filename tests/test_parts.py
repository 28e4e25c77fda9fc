"""Truths about a captured band that moves within a recording."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from restoring import music, work_on
from scipy.signal import butter, sosfiltfilt
from test_band_edges import octaves, studio

from resonate import RATE
from resonate.models.restorer import FADE_OCTAVES
from resonate.models.stats import HOP, StatsAccumulator, bin_frequencies, measure_stats
from resonate.restore import checkpoint, diagnosis, networks
from resonate.restore.diagnosis.parts import LEAST_PIECES, PartMeter, described

#: Seconds of a piece here, and of what is long enough to be a part, and what is not.
PIECE = 5.0
LONG, SHORT = PIECE * (LEAST_PIECES + 1.2), PIECE * 2


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    monkeypatch.setattr(diagnosis.parts, "_PIECE", round(PIECE * RATE / HOP))


def show(seconds: float, seed: int = 0, tune: np.ndarray | None = None) -> np.ndarray:
    """(2, n) music over the steady noise of a place."""
    n, rng = round(seconds * RATE), np.random.default_rng(seed)
    tune = studio() if tune is None else tune
    x = np.tile(tune, -(-n // tune.shape[1]))[:, :n]
    return (x + 3e-3 * rng.standard_normal((2, n))).astype(np.float32)


def filtered(x: np.ndarray, hertz: float, kind: str = "low") -> np.ndarray:
    return sosfiltfilt(butter(8, hertz, kind, fs=RATE, output="sos"), x).astype(np.float32)


def parts(x: np.ndarray) -> list:
    meter = PartMeter()
    for start in range(0, x.shape[1], 100_003):
        meter.push(x[:, start : start + 100_003])
    return meter.finish()


@pytest.mark.parametrize(("kind", "hertz", "edge"), [("low", 4000.0, "high_hz"), ("high", 250.0, "low_hz")])
def test_a_filter_that_sets_in_begins_a_part_and_its_end_another(kind, hertz, edge):
    x = show(3 * LONG)
    a, b = round(LONG * RATE), round(2 * LONG * RATE)
    x[:, a:b] = filtered(x[:, a:b], hertz, kind)
    found = parts(x)
    assert len(found) == 3
    for (first, stats), begun, true in zip(found, (0.0, LONG, 2 * LONG), (None, hertz, None), strict=True):
        assert abs(first * HOP / RATE - begun) <= PIECE
        if true is not None:
            assert octaves(getattr(stats, edge), true) < 0.5
        else:
            assert stats.low_hz < 45 and stats.high_hz > 15000
    lines = described(found)
    assert lines[0]["from"] == 0.0 and lines[1][edge] == round(getattr(found[1][1], edge), 1)


def test_short_changes_and_pauses_before_a_long_one_do_not_hide_it():
    x = show(4 * LONG)
    a, b, c = (round(k * RATE) for k in (LONG, LONG + SHORT, 2 * LONG))
    x[:, a:b] = filtered(x[:, a:b], 4000.0)
    x[:, c:] = filtered(x[:, c:], 4000.0)
    piece = round(PIECE * RATE / HOP) * HOP
    x[:, 13 * piece : 14 * piece] = 0
    found = parts(x)
    assert len(found) == 2 and abs(found[1][0] * HOP / RATE - 2 * LONG) <= PIECE
    assert octaves(found[1][1].high_hz, 4000.0) < 0.5


def test_the_piece_in_which_the_band_moves_belongs_to_the_wider_part():
    """Captured treble must not be filled in once more."""
    x = show(2 * LONG)
    n = round(LONG * RATE)
    for narrow in (slice(0, n), slice(n, None)):
        y = x.copy()
        y[:, narrow] = filtered(y[:, narrow], 4000.0)
        begun = parts(y)[1][0] * HOP / RATE
        assert begun <= LONG if narrow.stop else begun >= LONG


def test_words_name_the_band_of_each_part():
    told = {"low_hz": 20.0, "high_hz": 16000.0,
            "parts": [{"from": 0.0, "low_hz": 20.0, "high_hz": 4000.0},
                      {"from": 75.0, "low_hz": 30.0, "high_hz": 15000.0}]}
    words = " ".join(diagnosis.sentences.band(told))
    assert "20 and 4000 Hz, at first" in words and "From 1:15 on" in words and "30 and 15000 Hz" in words


def test_what_lasts_less_than_four_pieces_is_no_part():
    x = show(3 * LONG)
    a, b = round(LONG * RATE), round((LONG + SHORT) * RATE)
    x[:, a:b] = filtered(x[:, a:b], 4000.0)
    assert parts(x) == []
    assert parts(show(SHORT)) == []


def test_other_music_in_the_same_noise_is_no_part():
    """The band that moves ends at 1.5 kHz in the second half, but the noise beyond it stays where it was."""
    dull = filtered(studio(), 1500.0)
    x = np.concatenate([show(LONG), show(LONG, 1, dull)], 1)
    n = x.shape[1] // 2
    assert octaves(measure_stats(x[:, :n]).high_hz, measure_stats(x[:, n:]).high_hz) > 1
    assert parts(x) == []


def test_silence_and_other_levels_are_no_parts():
    x = show(3 * LONG)
    a, b = round(LONG * RATE), round(2 * LONG * RATE)
    for gain in (0.0, 0.1):
        y = x.copy()
        y[:, a:b] *= gain
        assert parts(y) == []


def test_sums_of_two_stretches_are_those_of_both():
    x = show(8.0)
    n = 20 * 16 * HOP
    halves = [StatsAccumulator(), StatsAccumulator()]
    for half, block in zip(halves, (x[:, :n], x[:, n:]), strict=True):
        half.update(block)
    halves[0].merge(halves[1])
    both, whole = halves[0].finish(), measure_stats(x)
    assert np.abs(both.ltas_db - whole.ltas_db).max() < 1.0 and np.abs(both.floor_db - whole.floor_db).max() <= 2.0
    assert (both.low_hz, both.high_hz) == (whole.low_hz, whole.high_hz)
    assert both.rms_db == pytest.approx(whole.rms_db, abs=1e-6)
    short = StatsAccumulator()
    short.update(x[:, : 4 * HOP])
    with pytest.raises(ValueError, match="no levels"):
        StatsAccumulator().merge(short)


def test_each_part_is_restored_with_its_own_band(tmp_path, monkeypatch):
    """Gains are 1 well beyond the edge of the part, the extension begins there, and masks take the band next to it."""
    monkeypatch.setattr(networks, "RESTORE_BLOCK", 96)
    monkeypatch.setattr(networks, "RESTORE_HOP", 72)
    work = work_on(music(6.0, RATE), tmp_path)
    wide, narrow = replace(work.stats, high_hz=12000.0), replace(work.stats, high_hz=3000.0)
    change = work.frames // 2
    work.stats, work.parts = wide, [(0, wide), (change, narrow)]
    work.new_track("separated", 8).fill([(0, np.tile(music(6.0, RATE, seed=1), (4, 1)))])
    networks.Restore().run(work)
    gain = work.store["gain"].read_rows(0, work.frames)
    freqs, clear = bin_frequencies(), 96
    early, late = gain[: change - clear], gain[change + clear :]
    fade = 2**FADE_OCTAVES
    assert (late[:, freqs > 3000.0 * fade] == 1.0).all() and (early[:, freqs > 12000.0 * fade] == 1.0).all()
    assert (early[:, (freqs > 3000.0 * fade) & (freqs < 12000.0)] != 1.0).any()
    added = np.abs(np.fft.rfft(work.track["extension"].read((change + clear) * HOP, RATE).mean(0)))
    before = np.abs(np.fft.rfft(work.track["extension"].read(clear * HOP, RATE).mean(0)))
    middle = slice(5000, 9000)
    assert np.square(added[middle]).sum() > 100 * np.square(before[middle]).sum()
    work.close()


def test_parts_are_known_again_after_a_stop(tmp_path):
    stats = measure_stats(show(2.0))
    later = replace(stats, high_hz=3000.0)
    checkpoint.write_json(tmp_path / "done.json", {"parts": [(0, stats), (700, later)]})
    kept = json.loads((tmp_path / "done.json").read_text(), object_hook=checkpoint._decode)
    work = work_on(music(2.0, RATE), tmp_path)
    work.parts = kept["parts"]
    assert work.stats_at(0, 100).high_hz == stats.high_hz and work.stats_at(699, 3).high_hz == 3000.0
    assert np.array_equal(work.stats_at(0).floor_db, stats.floor_db)
    work.close()
