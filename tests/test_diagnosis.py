"""Truths about the estimators: each against sound whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console
from scipy.signal import butter, fftconvolve, sosfilt

from resonate import RATE
from resonate.restore.diagnosis import clean
from resonate.restore.diagnosis.channels import ChannelMeter
from resonate.restore.diagnosis.clipping import ClippingMeter
from resonate.restore.diagnosis.codec import CodecMeter
from resonate.restore.diagnosis.diagnose import Diagnoser
from resonate.restore.diagnosis.errors import diagnose, errors_of, gain_error_db, is_finished, table
from resonate.restore.diagnosis.hum import HumMeter
from resonate.restore.diagnosis.levels import PER_SECOND, LevelMeter, measure_levels, running_mean
from resonate.restore.diagnosis.listener import listen
from resonate.restore.diagnosis.room import OCTAVES, decay_times, early_magnitude
from resonate.restore.diagnosis.scene import hear
from resonate.restore.diagnosis.sentences import sentences
from resonate.restore.diagnosis.songs import find_songs
from resonate.restore.diagnosis.truth import Source, captures, made_up_stems


def band(seconds: float, seed: int = 0) -> np.ndarray:
    """(2, n) of made-up music, peaks at -3 dBFS."""
    x = made_up_stems(round(seconds * RATE), np.random.default_rng(seed)).sum(0)
    return (0.7 * x / np.abs(x).max()).astype(np.float32)


def measured(meter, x: np.ndarray, block: int = 50000):
    for start in range(0, x.shape[1], block):
        meter.push(x[:, start : start + block])
    return meter.finish()


def test_levels_do_not_depend_on_the_blocks():
    x = band(3.0)
    one, many = measure_levels(x), measured(LevelMeter(), x, 7001)
    assert len(one) == 60
    np.testing.assert_allclose(one.band_db, many.band_db, atol=1e-3)
    np.testing.assert_allclose(one.loudest_db, many.loudest_db, atol=1e-3)


def test_levels_follow_a_gain():
    x = band(3.0)
    louder, plain = measure_levels(2 * x), measure_levels(x)
    heard = plain.band_db > -60
    np.testing.assert_allclose((louder.band_db - plain.band_db)[heard], 6.02, atol=0.05)
    noisy = heard & (plain.flatness_db > -10)
    np.testing.assert_allclose(louder.flatness_db[noisy], plain.flatness_db[noisy], atol=0.2)


def test_running_mean_is_centred():
    row = np.zeros((200, 1))
    row[100] = 1
    mean = running_mean(row, 1.0)[:, 0]
    assert mean[100] == pytest.approx(1 / 21) and mean[90] == mean[110] > 0 and mean[80] == 0


@pytest.mark.parametrize("overdrive_db", [6.0, 10.0])
def test_hard_clipping_is_counted(overdrive_db):
    x = band(4.0) / 0.7 * 10 ** (overdrive_db / 20)
    true = float((np.abs(x) > 1).mean())
    found = measured(ClippingMeter(), np.clip(x, -1, 1).astype(np.float32))
    # Lone samples beyond full scale leave no plateau.
    assert 0.4 * true < found.hard_share < 1.05 * true
    assert found.high == pytest.approx((0.998, 0.998), abs=0.003)


def test_plateaus_below_full_scale_and_on_one_side_are_found():
    x = np.minimum(band(4.0) * 2, 0.5).astype(np.float32)
    found = measured(ClippingMeter(), x)
    assert found.high == pytest.approx((0.499, 0.499), abs=0.002) and found.hard_share > 1e-3
    assert max(found.low) < -1.0


def test_soft_clipping_is_told_from_music():
    x = band(6.0)
    assert measured(ClippingMeter(), x).soft_share == 0 and measured(ClippingMeter(), x).hard_share == 0
    assert measured(ClippingMeter(), np.tanh(15 * x).astype(np.float32)).soft_share > 0.001


@pytest.mark.parametrize("base_hz", [49.9, 60.1])
def test_hum_is_found_to_a_twentieth_of_a_hertz(base_hz):
    t = np.arange(10 * RATE) / RATE
    hum = sum(a * np.sin(2 * np.pi * base_hz * k * t) for k, a in ((1, 0.01), (2, 0.02), (3, 0.01), (5, 0.005)))
    found = measured(HumMeter(), (band(10.0) * 0.3 + hum).astype(np.float32))
    assert found.base_hz == pytest.approx(base_hz, abs=0.05)
    assert {round(hz / base_hz) for hz, _ in found.lines} >= {2, 3}


@pytest.mark.parametrize("seed", [0, 1])
def test_music_is_no_hum(seed):
    assert measured(HumMeter(), band(10.0, seed)).base_hz == 0


def test_of_two_cut_offs_the_first_is_told():
    x = 0.1 * np.random.default_rng(0).standard_normal((2, 8 * RATE))
    spectrum, at = np.fft.rfft(x), np.fft.rfftfreq(x.shape[1], 1 / RATE)
    y = np.fft.irfft(spectrum * np.where(at < 8000, 1.0, np.where(at < 16000, 0.01, 1e-5)), x.shape[1])
    assert measured(CodecMeter(), y.astype(np.float32)).cutoff_hz == pytest.approx(8000, rel=0.08)


@pytest.mark.parametrize("cutoff_hz", [4000.0, 11000.0, 16000.0])
def test_cut_off_is_found(cutoff_hz):
    x = np.random.default_rng(0).standard_normal((2, 5 * RATE)) * 0.1
    inside = np.fft.rfftfreq(x.shape[1], 1 / RATE) < cutoff_hz
    y = np.fft.irfft(np.fft.rfft(x) * inside, x.shape[1]).astype(np.float32)
    assert measured(CodecMeter(), y).cutoff_hz == pytest.approx(cutoff_hz, rel=0.08)


def test_gentle_treble_loss_is_no_cut_off():
    x = np.random.default_rng(0).standard_normal((2, 5 * RATE)) * 0.1
    y = sosfilt(butter(2, 6000, fs=RATE, output="sos"), x).astype(np.float32)
    assert measured(CodecMeter(), y).cutoff_hz > 22000


def test_dual_mono_is_one_channel():
    x = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32)
    assert measured(ChannelMeter(), x).kind == "stereo"
    found = measured(ChannelMeter(), x[[0, 0]] + 1e-4 * x)
    assert found.kind == "mono" and found.correlation > 0.999
    assert measured(ChannelMeter(), np.zeros((2, 100), np.float32)).kind == "mono"


@pytest.mark.parametrize("times", [{1000: 0.6, 2000: 0.6, 4000: 0.6}, {1000: 1.8, 2000: 1.2, 4000: 0.8}])
def test_decays_after_sound_stops_show_the_room(times):
    """Bursts of noise through exponential decays, one per octave: nothing else slows or hides them."""
    rng = np.random.default_rng(0)
    n = 24 * RATE
    t = np.arange(n) / RATE
    dry = rng.standard_normal(n) * ((t % 3.0) < 0.3)
    at = np.arange(int(2 * RATE)) / RATE
    tail = np.zeros(len(at))
    for octave, rt60_s in times.items():
        inside = butter(4, [octave / 2**0.5, octave * 2**0.5], "bandpass", fs=RATE, output="sos")
        tail += sosfilt(inside, rng.standard_normal(len(at)) * 10 ** (-3 * at / rt60_s))
    x = fftconvolve(dry, tail)[:n].astype(np.float32)
    found = decay_times(measure_levels(np.stack([x, x]) * 0.001))
    errors = {o: found[o] / rt60_s - 1 for o, rt60_s in times.items()}
    assert all(abs(error) < 0.25 for error in errors.values()), errors


def test_early_magnitude_is_the_colour_of_what_comes_first():
    """The same music with a known EQ and a long tail, which has another colour: the EQ is what changes."""
    x = band(12.0, 5)
    eq = sosfilt(butter(1, 1500, fs=RATE, output="sos"), x)
    rng = np.random.default_rng(0)
    at = np.arange(2 * RATE) / RATE
    tail = sosfilt(butter(2, [200, 900], "bandpass", fs=RATE, output="sos"), rng.standard_normal(len(at)))
    tail *= 10 ** (-3 * at / 1.8)
    late = np.stack([fftconvolve(row, tail)[: x.shape[1]] for row in eq])
    late *= 0.7 * np.sqrt(np.square(eq).mean() / np.square(late).mean())
    plain, coloured = (early_magnitude(measure_levels(y.astype(np.float32))) for y in (x, eq + late))
    heard = [o for o in OCTAVES if 125 <= o <= 8000]
    true = np.array([-10 * np.log10(1 + (o / 1500) ** 2) for o in heard])
    true -= np.mean([v for o, v in zip(heard, true, strict=True) if 250 <= o <= 4000])
    error = np.array([coloured[o] - plain[o] for o in heard]) - true
    assert np.abs(error).mean() < 2.5 and np.abs(error).mean() < 0.7 * np.abs(true).mean(), error.round(1)


def test_early_magnitude_ignores_level_and_says_nothing_of_silence():
    x = band(6.0, 5)
    one, other = (early_magnitude(measure_levels(g * x)) for g in (1.0, 0.1))
    assert [one[o] for o in OCTAVES] == pytest.approx([other[o] for o in OCTAVES], abs=0.2)
    assert set(early_magnitude(measure_levels(np.zeros((2, RATE), np.float32))).values()) == {None}


def test_set_list_of_two_songs():
    rng = np.random.default_rng(0)
    crowd = sosfilt(butter(2, [400, 4000], "bandpass", fs=RATE, output="sos"), rng.standard_normal((2, 10 * RATE)))
    parts = [band(24.0, 1), 0.08 * crowd, band(24.0, 2)]
    x = np.concatenate(parts, axis=1).astype(np.float32)
    levels = measure_levels(x)
    found = find_songs(levels, hear(levels).snr_db)
    assert len(found.songs) == 2 and len(found.gaps) == 1
    assert found.gaps[0] == pytest.approx([24.0, 34.0], abs=2.5)
    assert [*found.songs[0], *found.songs[1]] == pytest.approx([0, 24, 34, 58], abs=2.5)


def test_listener_hears_pieces_as_the_whole():
    """Pieces of 100 s with context: the seam leaves no trace beyond rounding."""
    levels = measure_levels(np.tile(band(26.0), 5))
    from resonate.restore.diagnosis import listener

    whole = listen(levels)
    size = listener.PIECE
    try:
        listener.PIECE = 30 * PER_SECOND
        pieces = listen(levels)
    finally:
        listener.PIECE = size
    np.testing.assert_allclose(pieces, whole, atol=1e-3)


def test_listener_ignores_level():
    x = band(12.0)
    one, other = listen(measure_levels(x)), listen(measure_levels(0.25 * x))
    np.testing.assert_allclose(one, other, atol=0.3)


def test_gain_error_ignores_a_constant():
    curve = np.sin(np.arange(100) / 7)
    assert gain_error_db(curve + 3, curve) == pytest.approx(0, abs=1e-9)


def test_finished_music_is_clean_and_captures_are_not():
    """Full-band music passes; the same music as a phone in the crowd hears it never does."""
    x = band(20.0, 3)
    assert is_finished(x, diagnose(x))
    assert not is_finished(np.clip(4 * x, -1, 1), diagnose(np.clip(4 * x, -1, 1)))
    for truth in captures(Source.load(None, None, "valid"), 2, 13.0, 1, agc_share=0.0):
        assert not is_finished(truth.capture, diagnose(truth.capture)), truth.measures


def test_reasons_name_what_is_wrong():
    good = {
        "silent": False, "seconds": 60.0, "parts": [], "low_hz": 20.0, "high_hz": 20000.0, "captured": 0.01,
        "clipped_share": 0.0, "soft_clipped_share": 0.0, "agc": {"range_db": 1.0},
    }  # fmt: skip
    assert clean.reasons(good, clean.CleanLimits()) == []
    bad = {"high_hz": 7000.0, "captured": 0.99, "clipped_share": 0.1, "agc": {"range_db": 19.0}, "silent": True,
           "low_hz": 200.0,
           "parts": [{"low_hz": 20.0, "high_hz": 16000.0}, {"low_hz": 20.0, "high_hz": 4000.0}]}  # fmt: skip
    for name, value in bad.items():
        assert len(clean.reasons({**good, name: value}, clean.CleanLimits())) == 1, name
        # of a finished mix the outer octaves may be missing
        narrow = name in ("high_hz", "low_hz", "parts")
        assert len(clean.faults({**good, name: value}, clean.CleanLimits())) == (not narrow), name


#: Most that each estimator's median error over the simulated captures of the test below may be. The noise of so few is
#: large: the figures are in the model card and come from `python -m resonate.restore.diagnosis.errors`.
MEDIAN_ERRORS = {
    "lower band edge (octaves)": 1.5,
    "upper band edge (octaves)": 2.0,
    "music to crowd, over time (dB)": 15.0,
    "music to crowd, whole (dB)": 15.0,
    "reverberation time (factor)": 2.0,
    "clarity C80 (dB)": 8.0,
    "clipped samples (per 1000)": 20.0,
    "AGC range (dB)": 8.0,
    "early magnitude, each octave (dB)": 6.5,
    "channels (wrong = 1)": 0.0,
    "noise floor (dB)": 3.0,
    "hum, none there (wrong = 1)": 0.0,
    "hum at -26 dB, found (wrong = 1)": 0.0,
    "bypassed though captured (wrong = 1)": 0.0,
}


def test_estimators_on_captures_whose_truth_is_known():
    """Prints the table of errors (shown with -s): each estimator against the truth of three simulated captures."""
    found = [e for truth in captures(Source.load(None, None, "valid"), 3, 12.0, 2) for e in errors_of(truth)]
    rows = table(found)
    Console(width=140).print(rows)
    assert set(MEDIAN_ERRORS) <= {error.name for error in found}
    for name, most in MEDIAN_ERRORS.items():
        median = np.median([abs(float(e.said) - float(e.true)) for e in found if e.name == name])
        assert median <= most, (name, median)
    assert rows.row_count == len({error.name for error in found})


def test_silence_is_said_to_be_silent():
    diagnoser = Diagnoser()
    silence = np.zeros((2, RATE), np.float32)
    diagnoser.push_own(silence)
    diagnoser.push(silence)
    figures = diagnoser.finish(silent=True).figures
    assert sentences({"silent": True, **figures}) == ["The recording is silent."]
