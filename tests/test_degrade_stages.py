"""One physical truth or more per stage of the capture chain."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.signal import butter, correlate, sosfiltfilt

from resonate import RATE
from resonate.degrade import Bank, agc, capsule, codec, converter, crowd, filters, handling, stage, venue, voices

torch.set_num_threads(1)
PA = stage.sample(np.random.default_rng(0), 0.3)


def place(**changes) -> venue.VenueParams:
    return replace(venue.sample(np.random.default_rng(1), 0.5, moving_share=0.0), **changes)


def impulse(n: int = 3 * RATE) -> torch.Tensor:
    x = torch.zeros(1, 2, n)
    x[0, 0, 100] = 1.0
    return x


def test_minimum_phase_has_the_magnitude_asked_for_and_its_energy_first():
    freqs, gains = filters.band_edges(120.0, 2, 8000.0, 3)
    kernel = filters.minimum_phase(freqs, gains)
    response = 20 * np.log10(np.abs(np.fft.rfft(kernel, 1 << 15)) + 1e-9)
    at = lambda hz: response[int(hz / RATE * (1 << 15))]  # noqa: E731
    for hz in (120.0, 300.0, 1000.0, 4000.0, 8000.0):
        assert at(hz) == pytest.approx(np.interp(np.log(hz), np.log(freqs), gains), abs=0.7)
    assert np.square(kernel[:40]).sum() > 0.8 * np.square(kernel).sum()


@pytest.mark.parametrize("asked", [-5.0, 0.0, 6.0, 12.0])
def test_drr_asked_is_drr_measured_on_an_impulse(asked):
    for seed, kind in ((3, "club"), (4, "arena")):
        params = place(seed=seed, venue=kind, rt60_s=1.2, distance_m=12.0, drr_db=asked)
        found = venue.response(params, PA, Bank())
        energy = {"direct": 0.0, "rest": 0.0}
        for source in range(2):
            x = torch.zeros(1, 2, 3 * RATE)
            x[0, source, 1000] = 1.0
            y = venue.apply(x, [found.kernel])[0][0].numpy()
            for heard in y:
                # The direct sound is the first thing that arrives.
                first = int(np.flatnonzero(np.abs(heard) > 0.2 * np.abs(heard[: 1000 + 6000]).max())[0])
                edge = first + venue.DIRECT
                energy["direct"] += float(np.square(heard[:edge]).sum())
                energy["rest"] += float(np.square(heard[edge:]).sum())
        assert 10 * np.log10(energy["direct"] / energy["rest"]) == pytest.approx(asked, abs=0.7)
        assert found.drr_db == pytest.approx(asked, abs=0.05)


@pytest.mark.parametrize("rt60", [0.5, 1.0, 2.0])
def test_the_tail_decays_at_the_rt60_asked_for(rt60):
    params = place(seed=9, rt60_s=rt60, bass_ratio=1.0, treble_ratio=1.0, drr_db=0.0, distance_m=8.0, venue="club")
    late = venue.response(params, PA, Bank()).late[0, 0].astype(np.float64)
    band = sosfiltfilt(butter(2, [700, 1400], "bandpass", fs=RATE, output="sos"), late)
    assert venue.decay_time(band[filters.LEAD :]) == pytest.approx(rt60, rel=0.15)


def test_the_direct_sound_comes_without_delay_and_early_is_the_first_50_ms():
    found = venue.response(place(seed=5, drr_db=8.0), PA, Bank())
    y, early = venue.apply(impulse(), [found.kernel, found.early])
    onset = min(int(np.abs(found.kernel[s, m]).argmax()) for s in range(2) for m in range(2))
    assert onset == filters.LEAD
    assert early[0, :, 100 + venue.EARLY + 1 :].abs().max() < 1e-5
    head = slice(100, 100 + venue.EARLY - 100)
    assert torch.allclose(y[0, :, head], early[0, :, head], atol=1e-5)


def test_air_takes_treble_with_distance():
    near, far = (venue.response(place(seed=6, distance_m=d, drr_db=6.0), PA, Bank()).kernel for d in (4.0, 60.0))
    above = int(10000 / RATE * (1 << 17))
    share = [np.square(np.abs(np.fft.rfft(k[0, 0], 1 << 17)))[above:].sum() for k in (near, far)]
    assert share[1] < 0.5 * share[0]


def test_the_limiter_lowers_peaks_and_keeps_the_balance():
    params = replace(PA, threshold_db=14.0, width=1.0)
    g = torch.Generator().manual_seed(0)
    stems = 0.05 * torch.randn(4, 2, RATE, generator=g)
    stems[:, :, 20000:20400] *= 12.0
    out = stage.apply(stems, params)
    gain = out / stems
    assert torch.allclose(out[0] * stems[3], out[3] * stems[0], atol=1e-6)
    assert gain[0, 0, 20200] < 0.6 and gain[0, 0, 5000] == pytest.approx(1.0, abs=1e-3)


def test_agc_ducks_everything_alike_and_comes_back_at_its_release():
    params = agc.AgcParams(True, -20.0, 20.0, 10.0, 200.0, 10.0, 0.0, 0.0, 1.0)
    g = torch.Generator().manual_seed(1)
    total = 0.1 * torch.randn(2, 4 * RATE, generator=g)
    total[:, RATE : RATE + RATE // 4] *= 8.0
    curve = 20 * torch.log10(agc.gain(total, params, 0.1))
    before, ducked = curve[RATE - 500].item(), curve[RATE + RATE // 4 - 500].item()
    held = curve[int(1.4 * RATE)].item()
    assert before == pytest.approx(0.0, abs=1.0)
    assert ducked < -14.0
    assert held == pytest.approx(ducked, abs=0.5)
    slope = (curve[int(2.6 * RATE)] - curve[int(2.1 * RATE)]).item() / 0.5
    assert slope == pytest.approx(10.0, rel=0.1)


def test_suppressor_takes_no_more_than_its_depth_and_off_is_off():
    g = torch.Generator().manual_seed(2)
    x = 0.1 * torch.randn(2, 2 * RATE, generator=g)
    params = agc.AgcParams(True, -20.0, 20.0, 10.0, 200.0, 10.0, 0.0, 12.0, 2.5)
    assert agc.suppress(x, replace(params, suppressor_db=0.0)) is x
    change = 10 * torch.log10(agc.suppress(x, params).square().mean() / x.square().mean()).item()
    assert -12.1 < change < -4.0


def test_overload_is_linear_below_its_knee_and_asymmetric_above():
    params = replace(capsule.sample(np.random.default_rng(0), 0.5), overload_db=20.0, asymmetry=0.6)
    soft = torch.linspace(-0.29, 0.49, 100).repeat(2, 1)
    assert torch.equal(capsule.overload(soft, params, 0.1), soft)
    hard = capsule.overload(torch.tensor([[5.0, -5.0]]), params, 0.1)[0]
    assert hard[0] == pytest.approx(1.0, abs=0.01) and hard[1] == pytest.approx(-0.6, abs=0.01)


def test_capsule_passes_the_band_of_a_phone():
    for seed in range(5):
        params = capsule.sample(np.random.default_rng(seed), 0.5)
        power = 20 * np.log10(np.abs(np.fft.rfft(capsule.response(params, Bank())[0], 1 << 15)) + 1e-9)
        at = lambda hz: power[int(hz / RATE * (1 << 15))]  # noqa: E731, B023
        assert abs(at(1000)) < 6.0
        assert at(20) < at(params.low_hz * 4) - 4.0 and at(20000) < at(params.high_hz / 4)


def test_converter_limits_every_component_to_its_rate_without_delay():
    g = torch.Generator().manual_seed(3)
    tracks = 0.1 * torch.randn(3, 2, RATE, generator=g)
    out = converter.linear(tracks, converter.ConverterParams(16000, 0.0, 0.0))
    spectrum = torch.fft.rfft(out * torch.hann_window(RATE)).abs()
    assert spectrum[..., 8300:].max() < 1e-3 * spectrum[..., :7000].max()
    match = correlate(out[0, 0].numpy(), tracks[0, 0].numpy(), mode="full")
    assert int(match.argmax()) == RATE - 1
    assert converter.clip(torch.tensor([[-3.0, 0.5, 2.0]])).tolist() == [[-1.0, 0.5, 1.0]]


PASSES = [
    codec.Pass("aac", 44100, 96000, 2),
    codec.Pass("aac", 48000, 64000, 1),
    codec.Pass("aac", 22050, 32000, 1),
    codec.Pass("libopus", 48000, 64000, 2),
    codec.Pass("libmp3lame", 44100, 96000, 2),
    codec.Pass("libmp3lame", 16000, 48000, 1),
    codec.Pass("libopencore_amrnb", 8000, 12200, 1),
]


@pytest.mark.parametrize("one", PASSES, ids=lambda p: f"{p.encoder}-{p.rate}")
def test_codec_round_trip_is_aligned_to_the_sample(one):
    n = 2 * RATE
    voice = voices.babble(np.random.default_rng(8), 1, n)[0]
    x = np.stack([0.3 * voice / np.abs(voice).max()] * 2).astype(np.float32)
    y = codec.apply(x, codec.CodecParams([one]))
    assert y.shape == x.shape and y.dtype == np.float32
    match = correlate(y[0, 2000:-2000], x[0, 2000:-2000], mode="full")
    # A speech codec at 8 kHz keeps no exact phase, and its sample is 5.5 of ours.
    tolerance = 8 if one.encoder == "libopencore_amrnb" else 0
    assert abs(int(match.argmax()) - (n - 4000 - 1)) <= tolerance
    twice = codec.apply(x, codec.CodecParams([one]))
    assert np.array_equal(twice, y)


def test_crowd_needs_no_recordings_and_is_wide():
    params = crowd.sample(np.random.default_rng(2), 0.5, 2.0)
    params = replace(params, talkers=6, clappers=20, sing_along_voices=0)
    heard = crowd.apply(params, 2 * RATE, np.zeros(2 * RATE, np.float32), np.ones(2 * RATE, np.float32), Bank())
    assert np.isfinite(heard).all() and np.square(heard).mean() > 0.1
    assert np.corrcoef(heard)[0, 1] < 0.98


def test_sing_along_follows_the_vocals_late():
    t = np.arange(4 * RATE) / RATE
    rng = np.random.default_rng(0)
    vocals = (0.1 * rng.standard_normal(len(t)) * (np.sin(2 * np.pi * 0.7 * t) > 0)).astype(np.float32)
    params = replace(
        crowd.sample(np.random.default_rng(1), 0.5, 4.0),
        layers=[], talkers=0, clappers=0, events=[], sing_along_voices=8, sing_along_late_ms=150.0,
    )  # fmt: skip
    heard = crowd.apply(params, len(t), vocals, np.ones(len(t), np.float32), Bank()).mean(axis=0)
    envelope = lambda x: np.square(x[: len(t) // 441 * 441].reshape(-1, 441)).mean(axis=1)  # noqa: E731
    a, b = envelope(heard), envelope(vocals)
    late = int(correlate(a - a.mean(), b - b.mean(), mode="full").argmax()) - (len(b) - 1)
    assert 0.08 < late * 0.01 < 0.35


def test_handling_is_where_it_was_put_and_wind_is_low():
    params = handling.HandlingParams([("bump", 1.0, 0.0, "")], -120.0, 3)
    out = handling.apply(params, 2 * RATE, 0.1, Bank())
    assert np.abs(out[:, : RATE - 1]).max() == 0.0 and np.abs(out[:, RATE : RATE + 4000]).max() > 0.05
    wind = handling.apply(handling.HandlingParams([], -10.0, 3), 2 * RATE, 0.1, Bank())
    power = np.square(np.abs(np.fft.rfft(wind[0])))
    assert power[:800].sum() > 5 * power[800:].sum()


def test_simulated_room_is_a_function_of_its_number():
    pytest.importorskip("pyroomacoustics")
    from resonate.degrade import simulated

    one, onset = simulated.room.__wrapped__("bar", 2)
    two, _ = simulated.room.__wrapped__("bar", 2)
    assert np.array_equal(one, two) and onset.min() == filters.LEAD
    assert 0.2 < venue.decay_time(one[0, 0, filters.LEAD :]) < 1.2
