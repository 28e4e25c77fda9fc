"""Known answers of the measures, what they are invariant to, and what cheats each one alone."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from resonate import RATE
from resonate.evaluate import artefacts, bandwidth, fir, material, measures, rivals, stems, verdict
from resonate.evaluate.alignment import cut_to_overlap
from resonate.evaluate.catalogue import MEASURES, markdown

N = 5 * RATE


def make_music(seed: int, n: int = N) -> np.ndarray:
    """(2, n): decaying harmonic notes with drum-like bursts, full band, silent from 2.5 s to 3.5 s."""
    rng = np.random.default_rng(seed)
    x = np.zeros((2, n))
    d = np.arange(RATE) / RATE
    for _ in range(40):
        start, f = rng.integers(0, n - RATE), 110 * 2 ** (rng.integers(0, 30) / 12)
        harmonics = np.arange(1, int(18000 / f))
        tone = (np.sin(2 * np.pi * f * harmonics[:, None] * d + rng.random((len(harmonics), 1)) * 6)
                / harmonics[:, None] ** 1.2).sum(axis=0) * np.exp(-3 * d)  # fmt: skip
        x[:, start : start + RATE] += tone * rng.uniform(0.3, 1, (2, 1))
    for start in range(0, n - 5000, 11025):
        x[:, start : start + 5000] += rng.standard_normal(5000) * np.exp(-np.arange(5000) / 600)
    x += 0.05 * rng.standard_normal((2, n))  # cymbals, roughly
    x[:, int(2.5 * RATE) : int(3.5 * RATE)] = 0.0
    return 0.1 * x


@pytest.fixture(scope="module")
def case() -> rivals.Case:
    """A capture with a room, and crowd 8 dB under the music, both through one dull microphone."""
    rng = np.random.default_rng(7)
    clean = make_music(1)
    room = rng.standard_normal((2, RATE // 2)) * np.exp(-np.arange(RATE // 2) / 4000) * 0.02
    room[:, 0] += 1.0
    microphone = signal.butter(1, [200, 5000], "bandpass", fs=RATE, output="sos")
    wet = signal.sosfilt(microphone, signal.fftconvolve(clean, room, axes=-1)[:, :N], axis=-1)
    noise = signal.sosfilt(microphone, signal.lfilter([1], [1, -0.9], rng.standard_normal((2, N))), axis=-1)
    noise *= 0.4 * np.sqrt(np.mean(wet**2) / np.mean(noise**2))
    gaps = measures.gap_mask(N, [(2.5, 3.5)])
    return rivals.Case("made", *(x.astype(np.float32) for x in (wet + noise, clean)), gaps, wet, noise)


@pytest.fixture(scope="module")
def scored(case):
    scorer = lambda y: verdict.score(y, case.reference, gaps=case.gaps, noise=case.noise)  # noqa: E731
    treble = signal.butter(1, 5000, "highpass", fs=RATE, output="sos")
    equalised = case.capture + 1.5 * signal.sosfilt(treble, case.capture, axis=-1)
    names = ("input", "gate", "low-pass")
    return {name: scorer(rivals.RIVALS[name](case)) for name in names} | {"eq": scorer(equalised)}


def white(seed: int, n: int = RATE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n)


# --- alignment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [0, 1, 733, 4410, -4410])
def test_find_lag_is_exact_blind_to_polarity_and_noise(lag):
    c = white(0, 2 * RATE)
    y = -0.3 * np.roll(c, lag) + 0.3 * white(1, 2 * RATE)
    assert measures.find_lag(y, c, RATE) == lag


def test_find_lag_takes_the_direct_sound_not_the_louder_echo():
    c = make_music(2)[0]
    y = np.zeros_like(c)
    y[300:] += c[:-300]
    y[1500:] += 1.3 * signal.lfilter([0.05], [1, -0.95], c)[:-1500]  # louder, but dull
    assert measures.find_lag(y, c, RATE) == 300


def test_find_lag_is_not_drawn_to_zero_by_cuts_at_the_same_place_in_band_limited_sounds():
    dull = signal.butter(8, 3000, fs=RATE, output="sos")
    c = signal.sosfilt(dull, white(0, 3 * RATE)) + 0.3  # an offset: a step at either end
    y = signal.sosfilt(dull, np.roll(c, 25) + white(5, 3 * RATE))
    assert abs(measures.find_lag(y, c, RATE) - 25) <= 20  # the filter's own delay is a few samples
    assert measures.find_lag(y, c, RATE) != 0


def test_align_returns_what_both_have():
    c = white(3)
    y, d = measures.align(np.concatenate([np.zeros(100), c]), c, RATE)
    assert len(y) == len(d) == len(c)
    np.testing.assert_allclose(y, c)
    y, d, t = cut_to_overlap(-5, np.arange(5, 20), np.arange(20), np.arange(20) * 10)
    np.testing.assert_array_equal(y, d)
    np.testing.assert_array_equal(t, d * 10)


def test_silence_aligns_at_zero_and_bad_samples_are_refused():
    assert measures.find_lag(np.zeros(1000), white(0, 1000), RATE) == 0
    with pytest.raises(ValueError, match="finite"):
        measures.to_mid(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="shape"):
        measures.to_mid(np.zeros((1, 2, 3)))


# --- si_sdr and f_sdr ------------------------------------------------------------------------------------------------


def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_energies():
    c, v = white(0), white(1)
    v -= (v @ c) / (c @ c) * c
    v *= np.sqrt(0.1 * (c @ c) / (v @ v))
    assert measures.si_sdr(c + v, c) == pytest.approx(10.0, abs=1e-9)
    assert measures.si_sdr(-7 * (c + v), c) == pytest.approx(10.0, abs=1e-9)


def test_f_sdr_forgives_a_filter_within_its_taps_and_si_sdr_does_not():
    c = np.concatenate([np.zeros(1000), white(0), np.zeros(1000)])
    h = np.zeros(900)
    h[0], h[1:] = 1.0, 0.1 * white(1, 899) * np.exp(-np.arange(899) / 200)
    y = np.roll(np.convolve(c, h)[: len(c)], -60)  # and 60 samples early
    assert measures.f_sdr(y, c) > 60
    assert measures.si_sdr(y, c) < 0


def test_f_sdr_of_added_noise_is_its_level_and_late_echoes_count():
    c, v = white(0, 4 * RATE), white(1, 4 * RATE) * 10 ** (-12 / 20)
    assert measures.f_sdr(c + v, c) == pytest.approx(12.0, abs=0.1)
    assert measures.f_sdr(c + 0.5 * np.roll(c, 3000), c) == pytest.approx(6.0, abs=0.1)


def test_fir_fit_finds_the_filter_of_each_reference():
    a, b = white(0, RATE), white(1, RATE)
    a[-2000:] = b[-2000:] = 0.0
    (of_a, of_b), rest = fir.fit(np.convolve(a, [0.5, -0.2])[:RATE] + 0.1 * b, [a, b], taps=64, before=8)
    np.testing.assert_allclose(of_b[8 : 8 + RATE], 0.1 * b, atol=1e-6)
    np.testing.assert_allclose(of_a[8 : 8 + RATE], np.convolve(a, [0.5, -0.2])[:RATE], atol=1e-6)
    assert np.abs(rest).max() < 1e-6


def test_silence_has_no_value():
    c, zero = white(0), np.zeros(RATE)
    for measure in (measures.si_sdr, measures.f_sdr):
        assert math.isnan(measure(c, zero)) and math.isnan(measure(zero, c))
    assert math.isnan(measures.lsd(c, zero))
    assert math.isnan(measures.gap_db(zero, measures.gap_mask(RATE, [(0, 0.5)])))
    assert math.isnan(measures.gap_db(c, []))


# --- lsd -------------------------------------------------------------------------------------------------------------


def test_lsd_is_zero_for_itself_at_any_level_and_its_closed_form_for_a_step_filter():
    c = make_music(3)[0]
    assert measures.lsd(-0.01 * c, c) == pytest.approx(0.0, abs=1e-3)
    # The two channels of one spectrum 20 dB apart above 8 kHz: white noise, so levels stay far above e.
    n, size = white(4, 2 * RATE), 2 * RATE
    spectrum = np.fft.rfft(n)
    spectrum[np.fft.rfftfreq(size, 1 / RATE) > 7000] *= 10 ** (-20 / 20)
    y = np.fft.irfft(spectrum, size)
    level = 20 * np.log10(np.sqrt(np.mean(n**2) / np.mean(y**2)))  # what matching the levels gives back
    assert measures.lsd(y, n, (8000, 16000)) == pytest.approx(20 - level, abs=0.3)
    assert measures.lsd(y, n, (20, 6000)) == pytest.approx(level, abs=0.3)


def test_lsd_counts_only_frames_within_30_db_of_the_mean():
    c = np.concatenate([white(0), 1e-3 * white(1)])
    y = np.concatenate([c[:RATE], np.zeros(RATE)])
    assert measures.lsd(y, c) < 0.3
    c[RATE:] *= 100  # now 20 dB under: it counts, and it is missing
    assert measures.lsd(y, c) > 10


def test_lsd_of_bands_with_nothing_in_the_output_is_bounded():
    c = make_music(5)[0]
    assert 20 < measures.lsd(np.zeros_like(c), c) <= 66


# --- gap_db ----------------------------------------------------------------------------------------------------------


def test_gap_db_is_the_ratio_of_powers_at_any_level():
    x = white(0, 4 * RATE)
    gaps = [(1.0, 2.5)]
    x[measures.gap_mask(len(x), gaps)] *= 10 ** (-17 / 20)
    assert measures.gap_db(5 * x, gaps) == pytest.approx(-17, abs=0.15)
    x[measures.gap_mask(len(x), gaps)] = 0
    assert measures.gap_db(x, gaps) == measures.GAP_FLOOR_DB


def test_find_gaps_finds_silence_but_no_short_rest():
    c = make_music(1)
    mask = verdict.find_gaps(c)
    assert np.mean(mask == measures.gap_mask(N, [(2.5, 3.5)])) > 0.98
    c = np.ones(RATE)
    c[100 : 100 + RATE // 4] = 0
    assert not verdict.find_gaps(c).any()


# --- projection ------------------------------------------------------------------------------------------------------


def test_noise_attenuation_is_what_was_taken_away_whatever_the_level(case):
    before = measures.project(case.capture, case.wet, case.noise)
    for attenuation in (6.0, 14.0):
        y = 0.2 * (case.wet + 10 ** (-attenuation / 20) * case.noise)
        after = measures.project(y, case.wet, case.noise)
        assert measures.noise_attenuation(before, after) == pytest.approx(attenuation, abs=0.1)


def test_overload_does_not_hide_how_far_the_crowd_sank_where_that_is_known_alone(case):
    """Distortion is most of the noise and stays: the attenuation of all of it says little of the crowd."""
    distortion = 1.2 * np.std(case.noise) * np.tanh(20 * case.wet / np.abs(case.wet).max())
    capture = case.wet + case.noise + distortion
    known = {"gaps": case.gaps, "wet": case.wet, "noise": case.noise + distortion, "capture": capture}
    outputs = (capture, case.wet + 0.1 * case.noise + distortion)
    alone = [verdict.score(y, case.reference, crowd=case.noise, **known) for y in outputs]
    both = [verdict.score(y, case.reference, **known) for y in outputs]
    assert verdict.against(*alone)["noise_attenuation"] == pytest.approx(20, abs=1)
    assert verdict.against(*both)["noise_attenuation"] < 12
    assert verdict.against(*alone)["music_distortion"] == verdict.against(*both)["music_distortion"]


def test_music_distortion_is_the_level_of_what_was_added(case):
    before = measures.project(case.capture, case.wet, case.noise)
    foreign = signal.lfilter([1], [1, -0.9], white(9, N))
    foreign *= np.sqrt(np.mean(case.wet.mean(axis=0) ** 2) / np.mean(foreign**2)) * 10 ** (-20 / 20)
    after = measures.project(case.capture + foreign, case.wet, case.noise)
    assert before.rest_db < -55  # nothing but music and noise is in it
    assert after.rest_db == pytest.approx(-20, abs=0.3)
    assert measures.music_distortion(before, after) == pytest.approx(-20 - before.rest_db, abs=0.3)
    assert measures.music_distortion(before, before) == 0


# --- cheats ----------------------------------------------------------------------------------------------------------


def test_a_gate_passes_gap_db_and_the_verdict_sees_through_it(scored):
    before, after = scored["input"], scored["gate"]
    assert after.values["gap_db"] < before.values["gap_db"] - 15
    assert verdict.against(before, after)["noise_attenuation"] < 0.1
    assert verdict.joint_verdict(before, after) != "better"


def test_a_low_pass_raises_f_sdr_and_lsd_refuses_it(scored):
    before, after = scored["input"], scored["low-pass"]
    assert after.values["f_sdr"] > before.values["f_sdr"]
    assert after.values["lsd"] > before.values["lsd"] + 3
    assert verdict.joint_verdict(before, after) == "worse"


def test_eq_lowers_lsd_and_f_sdr_refuses_it(scored):
    before, after = scored["input"], scored["eq"]
    assert after.values["lsd"] < before.values["lsd"] - 0.3
    assert after.values["lsd_air"] < before.values["lsd_air"] - 3
    assert after.values["f_sdr"] < before.values["f_sdr"] - 0.3
    assert verdict.joint_verdict(before, after) == "worse"


def test_honest_noise_removal_is_better_and_without_the_noise_apart_the_verdict_stays_open(case, scored):
    removed = verdict.score(case.wet + 0.3 * case.noise, case.reference, gaps=case.gaps, noise=case.noise)
    assert verdict.joint_verdict(scored["input"], removed) == "better"
    assert verdict.joint_verdict(scored["input"], scored["input"]) == "same"
    blind = [verdict.score(y, case.reference, gaps=case.gaps) for y in (case.capture, case.wet)]
    assert verdict.joint_verdict(*blind) == "open"
    assert "music_distortion" not in verdict.against(*blind)


def test_scores_do_not_depend_on_level_or_delay(case):
    small = {k: verdict.score(y, case.reference, gaps=case.gaps) for k, y in
             {"as is": case.capture, "late": -0.1 * np.pad(case.capture, ((0, 0), (400, 0)))}.items()}  # fmt: skip
    assert small["late"].lag - small["as is"].lag == 400
    for name, value in small["as is"].values.items():
        assert small["late"].values[name] == pytest.approx(value, abs=0.1), name


# --- the cheats, on captures of the whole chain -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [*(pytest.param(k, marks=pytest.mark.slow) for k in (0, 2)), 1])
def test_no_cheat_wins_the_joint_verdict_on_simulated_captures(number):
    case = material.captured(None, 4.0, seed=5, number=number, severity=(0.15, 0.5, 0.85)[number])
    before = verdict.score(case.capture, case.reference, gaps=case.gaps, noise=case.noise)
    # The last filter is told the reference's own spectrum: no equaliser can do better.
    for name in ("gate", "low-pass", "EQ", "gain", "spectrum match"):
        after = verdict.score(rivals.RIVALS[name](case), case.reference, gaps=case.gaps, noise=case.noise)
        assert verdict.joint_verdict(before, after) != "better", name
    scores = [verdict.score(y, case.reference, gaps=case.gaps, noise=case.noise, wet=case.wet)
              for y in (case.capture, case.wet + 0.1 * case.noise)]  # fmt: skip
    assert verdict.against(*scores)["noise_attenuation"] == pytest.approx(20, abs=0.5)


def test_a_filter_of_faint_bands_is_its_own_shadow_in_them_too():
    """A treble shelf over a treble that lies 60 dB down: nothing of the energy, but much of lsd."""
    rng = np.random.default_rng(0)
    spectrum, at = np.fft.rfft(rng.standard_normal(N)), np.fft.rfftfreq(N, 1 / RATE)
    x = np.fft.irfft(spectrum * 10 ** (-3 * np.minimum(at / 6000, 1)), N)
    filtered = np.fft.irfft(np.fft.rfft(x) * np.where(at > 5000, 2.5, 1.0), N)
    alike = verdict.spectral_shadow(filtered, x)
    assert len(alike) == N and measures.lsd(x, filtered) > 4
    assert measures.lsd(alike, filtered) < 0.5
    level = np.sqrt(np.mean(np.square(alike)) / np.mean(np.square(filtered)))
    assert level == pytest.approx(1, abs=0.01)


def test_an_equaliser_of_a_dull_recording_with_gaps_does_not_win(case):
    """Its treble lies far below all else, and the edges of a muted gap hold more of it than the music."""
    n = case.capture.shape[-1]
    at = np.fft.rfftfreq(n, 1 / RATE)
    dull = np.fft.irfft(np.fft.rfft(case.capture) * 10 ** (-3.5 * np.minimum(at / 5000, 1)), n)
    noise = np.fft.irfft(np.fft.rfft(case.noise) * 10 ** (-3.5 * np.minimum(at / 5000, 1)), n)
    lifted = np.fft.irfft(np.fft.rfft(dull) * np.where(at > 4000, 4.0, 1.0), n)
    gaps = np.zeros(n, bool)
    gaps[n // 3 : n // 2] = True
    scores = [verdict.score(y, case.reference, gaps=gaps, noise=noise, capture=dull) for y in (dull, lifted)]
    gained = verdict._gains(*scores)
    assert gained["lsd"] > 1 and min(gained.values()) > -0.05
    assert verdict.joint_verdict(*scores) == "same"


def test_outputs_of_one_recording_lie_where_the_recording_lies(case):
    """An output alone may fit a reflection best: here one that it turned up over the direct sound."""
    late = np.pad(case.reference, ((0, 0), (1500, 0)))[:, : case.reference.shape[-1]]
    capture, output = case.reference + 0.9 * late, case.reference + 1.2 * late
    assert verdict.score(output, case.reference, gaps=case.gaps).lag == 1500
    assert verdict.score(output, case.reference, gaps=case.gaps, capture=capture).lag == 0
    delayed = np.pad(capture, ((0, 0), (700, 0)))
    assert verdict.score(delayed, case.reference, gaps=case.gaps, capture=capture).lag == 700


def test_every_filter_is_its_own_shadow_and_a_gain_over_time_is_not(case):
    x = case.capture.mean(axis=0)
    filtered = signal.sosfiltfilt(signal.butter(2, [300, 3000], "bandpass", fs=RATE, output="sos"), x)
    assert np.std(verdict.shadow(filtered, x) - filtered) < 0.01 * np.std(filtered)
    moving = x * (1 + 0.9 * np.sin(np.arange(N) / 2000))
    assert np.std(verdict.shadow(moving, x) - moving) > 0.3 * np.std(moving)
    np.testing.assert_array_equal(verdict.shadow(x, np.zeros(N)), 0)


def test_spectrum_match_gains_f_sdr_and_lsd_and_still_does_not_win(case, scored):
    after = verdict.score(rivals.spectrum_match(case), case.reference, gaps=case.gaps, noise=case.noise)
    assert after.in_music["lsd"] < scored["input"].in_music["lsd"] - 1
    assert verdict.joint_verdict(scored["input"], after) != "better"


# --- musical noise and tones ------------------------------------------------------------------------------------------


def test_gaussian_noise_has_its_kurtosis_at_any_gain_eq_and_level_over_time():
    x = white(0, 3 * RATE)
    assert artefacts.spectral_kurtosis(x) == pytest.approx(2.7, abs=0.15)
    dull = signal.lfilter([1], [1, -0.5], 0.01 * x) * (1 + 0.5 * np.sin(np.arange(len(x)) / 20000))
    assert artefacts.musical_noise(dull, x) == pytest.approx(0, abs=0.15)


def test_lone_peaks_of_a_random_mask_are_musical_noise():
    x = white(0, 3 * RATE)
    spectrum = rivals.stft(x)
    mask = np.random.default_rng(1).random(spectrum.shape) > 0.97
    assert artefacts.musical_noise(rivals.istft(spectrum * mask, len(x)), x) > 3
    quiet = rivals.istft(spectrum * (mask + 0.5), len(x))
    assert artefacts.musical_noise(quiet, x) < 1  # a floor of noise hides them: what cheats it


def test_musical_noise_looks_only_where_it_is_told_and_has_no_value_in_digital_silence():
    x, where = white(0, 2 * RATE), np.arange(2 * RATE) < RATE
    y = x.copy()
    y[RATE:] = np.sin(np.arange(RATE) * 0.3)
    assert artefacts.musical_noise(y, x, where) == pytest.approx(0, abs=1e-6)
    assert math.isnan(artefacts.musical_noise(np.where(where, 0, x), x, where))
    assert math.isnan(artefacts.musical_noise(x, x, np.zeros(2 * RATE, bool)))


def test_an_added_tone_is_invented_for_as_long_as_it_sounds_and_one_that_was_there_is_not():
    x, t = 0.01 * white(0, 4 * RATE), np.arange(4 * RATE) / RATE
    tone = 0.003 * np.sin(2 * np.pi * 440.3 * t) * (t > 2)
    assert artefacts.invented_tones(x + tone, x) == pytest.approx(0.4, abs=0.15)
    assert artefacts.invented_tones(0.1 * (x + tone), x) == artefacts.invented_tones(x + tone, x)
    assert artefacts.invented_tones(x + tone, x + tone) == 0
    assert artefacts.invented_tones(0.3 * x, x) == artefacts.invented_tones(0 * x, x) == 0


# --- bandwidth --------------------------------------------------------------------------------------------------------


def test_bandwidth_counts_the_octaves_that_are_there_at_any_level():
    c = make_music(3)
    whole = bandwidth.bandwidth(c, c)
    dull = signal.sosfiltfilt(signal.butter(8, 5000, fs=RATE, output="sos"), c, axis=-1)
    assert 8 < whole <= 10
    assert whole - bandwidth.bandwidth(0.1 * dull, c) == pytest.approx(2, abs=0.4)  # 5 to 20 kHz
    hiss = signal.sosfiltfilt(signal.butter(8, 5000, "highpass", fs=RATE, output="sos"), white(1, N))
    hiss *= np.sqrt(np.mean((c - dull) ** 2) / np.mean(hiss**2))
    assert bandwidth.bandwidth(dull + hiss, c) > bandwidth.bandwidth(dull, c) + 1  # what cheats it
    assert math.isnan(bandwidth.bandwidth(0 * c, c))


def test_level_error_is_the_ratio_in_the_missing_band_alone():
    c = white(0, 2 * RATE)
    spectrum, bins = np.fft.rfft(c), np.fft.rfftfreq(2 * RATE, 1 / RATE)
    spectrum[bins > 8000] *= 10 ** (-7 / 20)
    spectrum[bins < 7000] *= 3
    assert bandwidth.level_error(np.fft.irfft(spectrum), c, (8000, 20000)) == pytest.approx(-7, abs=0.01)
    spectrum[bins > 8000] = 0
    assert bandwidth.level_error(np.fft.irfft(spectrum), c, (9000, 20000)) < -100
    assert math.isnan(bandwidth.level_error(c, 0 * c, (9000, 20000)))


def test_captured_change_sees_the_captured_band_and_nothing_else():
    x = white(0, 2 * RATE)
    spectrum, bins = np.fft.rfft(x), np.fft.rfftfreq(2 * RATE, 1 / RATE)
    filled = np.where(bins > 4000, 3 * spectrum, spectrum)
    assert bandwidth.captured_change(np.fft.irfft(filled), x, (0, 4000)) < -120
    quieter = np.fft.irfft(np.where(bins < 2000, 0.9 * spectrum, spectrum))
    expected = -20 + 10 * np.log10(2000 / (4000 / 2 ** (1 / 6)))
    assert bandwidth.captured_change(quieter, x, (0, 4000)) == pytest.approx(expected, abs=0.1)
    # A bass note that is filled in, and cut off at both ends wherever it stands, lies under the captured band.
    note = 0.3 * np.sin(2 * np.pi * 50 * np.arange(2 * RATE) / RATE + 1)
    assert bandwidth.captured_change(x + note, x, (90, RATE / 2)) < -70


def test_level_db_is_mean_power():
    assert bandwidth.level_db(np.full((2, 100), 0.1)) == pytest.approx(-20)
    assert bandwidth.level_db(np.zeros(10)) == bandwidth.FLOOR_DB


# --- stems ------------------------------------------------------------------------------------------------------------


def some_stems(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((4, 2, 3 * RATE)) * np.array([1, 0.5, 0.7, 0.9])[:, None, None]


def test_stems_sdr_is_musevals(tmp_path, monkeypatch):
    for program in ("ffmpeg", "ffprobe"):  # stempeg, which museval imports, looks for them and calls neither here
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    museval = pytest.importorskip("museval")
    true = some_stems()[:2, :, : 2 * RATE]
    found = true + 0.2 * np.random.default_rng(1).standard_normal(true.shape)
    theirs = museval.metrics.bss_eval(true.transpose(0, 2, 1), found.transpose(0, 2, 1), window=RATE, hop=RATE,
                                      filters_len=8)[0]  # fmt: skip
    for k in range(2):
        assert stems.sdr(found[k], true[k]) == pytest.approx(float(np.nanmedian(theirs[k])), abs=0.05)


def test_stem_scores_have_known_answers_and_leave_silent_and_unknown_stems_out():
    true, present = some_stems(), np.array([True, False, True, True])
    true[3] = 0.0  # no vocals in this stretch
    found = true.copy()
    found[0] += 0.1 * np.random.default_rng(2).standard_normal(found[0].shape)
    values = stems.scores(found, true, true, present)
    assert values["drums_si_sdr"] == pytest.approx(20, abs=0.2) and values["drums_sdr"] == pytest.approx(20, abs=0.2)
    assert not {"bass_si_sdr", "vocals_si_sdr", "vocals_estoi"} & set(values)
    moved = found.copy()  # what belongs to an unknown stem may be in it or in "other"
    moved[2] += moved[1]
    moved[1] = 0
    assert stems.scores(moved, true, true, present)["drums_sdr"] == values["drums_sdr"]
    np.testing.assert_allclose(stems.merge_absent(moved, present), stems.merge_absent(found, present), atol=1e-9)
    mixture = stems.scores(np.stack([true.sum(0)] * 4), true, true, present)
    assert mixture["stems_si_sdr"] < 5 < values["stems_si_sdr"]
    assert stems.scores(found, 0 * true, 0 * true, present) == {}


def test_a_quieter_estimate_cheats_the_sdr_of_a_stem_that_cannot_be_found():
    true = some_stems()[0]
    wrong = np.random.default_rng(5).standard_normal(true.shape)
    assert stems.sdr(0.1 * wrong, true) > stems.sdr(wrong, true) + 2
    assert stems.sdr(true, true) == math.inf and math.isnan(stems.sdr(true, 0 * true))


def test_estoi_is_one_for_the_voice_itself_at_any_level_and_falls_with_noise():
    pytest.importorskip("pystoi")
    t = np.arange(3 * RATE) / RATE
    voice = signal.lfilter([1], [1, -0.9], white(0, 3 * RATE)) * (np.sin(2 * np.pi * 4 * t) > 0)
    values = [stems.estoi(0.1 * (voice + level * white(1, 3 * RATE)), voice) for level in (0, 3, 30)]
    assert values[0] == pytest.approx(1, abs=0.01) and values[0] > values[1] + 0.1 > values[2] + 0.2
    assert math.isnan(stems.estoi(voice, np.where(t < 0.1, voice, 0)))


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_measure_in_a_table_says_what_cheats_it():
    assert set(measures.LSD_BANDS) | {"si_sdr", "f_sdr", "gap_db"} <= set(MEASURES)
    for name, meaning in MEASURES.items():
        assert meaning.better in (-1, 0, 1), name
        for text in (meaning.says, meaning.formula, meaning.source, meaning.range, meaning.blind_to, meaning.cheat):
            assert text, name


def test_the_document_holds_the_table():
    text = (Path(__file__).parents[1] / "docs" / "measures.md").read_text("utf-8")
    assert markdown() in text
