"""Truths about the models: bounds, linearity, band discipline, weights that come back."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.signal import butter, sosfiltfilt

from resonate import RATE
from resonate.errors import UserError
from resonate.models.restorer import Restorer, RestorerConfig, apply_gain, follow, istft, stft
from resonate.models.restorer_networks import band_edges
from resonate.models.separator import apply_separator, build_separator, segment_samples
from resonate.models.stats import BINS, StatsAccumulator, measure_stats
from resonate.models.weights import load_restorer, load_separator, read_header, save_weights

TINY = RestorerConfig(width=8, dilations=(1, 2))
SMALL_HTDEMUCS = {"segment": 1.0, "channels": 4, "t_layers": 0, "dconv_mode": 0, "depth": 4}


def music(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """(2, n): decaying broadband notes with pauses, so that bands move over time."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    envelope = np.exp(-((np.arange(n) / RATE * 4) % 1.0) * 6)
    return (0.2 * rng.standard_normal((2, n)) * envelope).astype(np.float32)


def band_limited(low: float | None, high: float, seed: int = 0, floor: float = 1e-4) -> np.ndarray:
    x = music(8.0, seed)
    freqs = np.fft.rfftfreq(x.shape[-1], 1 / RATE)
    x = np.fft.irfft(np.fft.rfft(x) * ((freqs >= (low or 0)) & (freqs <= high)), x.shape[-1])
    noise = np.random.default_rng(seed + 1).standard_normal(x.shape) * floor
    return (x + noise).astype(np.float32)


@pytest.fixture
def restorer() -> Restorer:
    torch.manual_seed(0)
    model = Restorer(TINY).eval()
    model.target_db.copy_(torch.linspace(0, -40, BINS))
    return model


def test_stft_round_trip_is_exact():
    x = torch.randn(2, 3, 10000)
    assert (istft(stft(x), 10000) - x).abs().max() < 1e-5


def test_bands_tile_all_bins():
    edges = band_edges()
    assert edges[0][0] == 0 and edges[-1][1] == BINS
    assert all(a[1] == b[0] for a, b in pairwise(edges))


@pytest.mark.parametrize(("low", "high"), [(None, 4000.0), (None, 8000.0), (150.0, 6000.0), (200.0, 12000.0)])
def test_band_edges_come_from_the_noise_floor(low, high):
    stats = measure_stats(band_limited(low, high))
    assert high * 0.85 < stats.high_hz < high * 1.3
    assert stats.low_hz < (30 if low is None else low * 1.3)
    if low is not None:
        assert stats.low_hz > low * 0.5


def test_bass_heavy_music_does_not_look_narrow():
    """99 % of the energy lies below 200 Hz, the band still reaches 10 kHz."""
    bass = sosfiltfilt(butter(4, 150, fs=RATE, output="sos"), music(8.0, 3)) * 30
    stats = measure_stats((bass + band_limited(None, 10000.0)).astype(np.float32))
    assert stats.high_hz > 8500


def test_stats_do_not_depend_on_block_length():
    x = music(5.0)
    whole = measure_stats(x)
    pieces = StatsAccumulator()
    for start in range(0, x.shape[1], 7001):
        pieces.update(x[:, start:start + 7001])
    streamed = pieces.finish()
    np.testing.assert_allclose(streamed.ltas_db, whole.ltas_db, atol=1e-3)
    assert (streamed.low_hz, streamed.high_hz) == (whole.low_hz, whole.high_hz)


def test_gain_is_bounded_and_beyond_the_band_that_of_its_edges_but_never_above_one(restorer):
    x = band_limited(150.0, 6000.0)
    stats = measure_stats(x)
    gain = restorer(torch.from_numpy(x)[None], stats).gain[0]
    inside = np.flatnonzero(stats.in_band)
    low, high = int(inside[0]), int(inside[-1])
    assert gain.min() > 0 and gain.max() <= restorer.max_gain
    near = (gain[int(high * 2 ** (-1 / 3)) : high + 1].log10().mean(0), gain[low : 2 * low + 1].log10().mean(0))
    for beyond, edge in zip((gain[high + 1], gain[low - 1]), near, strict=True):
        assert (beyond - (10**edge).clamp(max=1)).abs().max() < 0.2
    assert gain[:low].max() <= 1 and gain[high + 1 :].max() <= 1
    assert (gain[round(high * 1.5) :] == 1).all() and (gain[: int(low / 1.5)] == 1).all()
    still = restorer(torch.from_numpy(x)[None], stats, gain_strength=0.0).gain
    assert (still == 1).all()


def test_noise_beyond_the_band_is_turned_down_with_the_band_s_edge():
    """No rim is left where the band ends, nothing is raised, and half an octave on all is as it was."""
    in_band = np.zeros(BINS)
    in_band[10:401] = 1
    gain_db = torch.full((1, BINS, 6), -20.0)
    gain_db[..., 3:] = 15.0
    down, up = follow(gain_db, in_band)[0, :, :3], follow(gain_db, in_band)[0, :, 3:]
    assert (down[10:401] == -20).all() and (down[401] < -19.8).all()
    assert (down.diff(dim=0)[400:] >= 0).all() and (down.diff(dim=0)[:10] <= 0).all()
    assert (down[round(401 * 2**0.5) :] == 0).all() and (down[: int(10 / 2**0.5)] == 0).all()
    assert (up[10:401] == 15).all() and (up[401:] == 0).all() and (up[:10] == 0).all()


def test_apply_gain_is_linear():
    x, y = torch.randn(1, 2, 9000), torch.randn(1, 2, 9000)
    gain = torch.rand(1, BINS, stft(x).shape[-1])
    both = apply_gain(2 * x - 3 * y, gain)
    assert (both - (2 * apply_gain(x, gain) - 3 * apply_gain(y, gain))).abs().max() < 1e-4


def test_extension_stays_outside_the_captured_band(restorer):
    x = band_limited(150.0, 6000.0)
    stats = measure_stats(x)
    extension = restorer(torch.from_numpy(x)[None], stats).extension[0].mean(0).detach()
    # Windowed, because the ends of a block cut the signal off.
    power = torch.fft.rfft(extension * torch.hann_window(extension.shape[-1])).abs().square().numpy()
    freqs = np.fft.rfftfreq(extension.shape[-1], 1 / RATE)
    octave = 2 ** (1 / 6)
    inside = (freqs > stats.low_hz * octave ** 2) & (freqs < stats.high_hz / octave)
    assert power[inside].sum() < 1e-6 * power.sum()
    assert power[freqs > 20050].sum() < 1e-3 * power.sum()


def test_extension_follows_silence(restorer):
    """What is silent in the capture has nothing that the extension could be made of."""
    x = band_limited(None, 6000.0, floor=0.0)
    stats = measure_stats(x)
    out = restorer(torch.zeros(1, 2, RATE), stats)
    assert out.extension.abs().max() < 1e-4


def test_strength_zero_adds_nothing(restorer):
    x = band_limited(150.0, 6000.0)
    stats = measure_stats(x)
    out = restorer(torch.from_numpy(x)[None], stats, gain_strength=0.0, extension_strength=0.0)
    assert out.extension.abs().max() == 0
    inside = torch.from_numpy(stats.in_band) == 1
    assert (out.gain[:, inside] - 1).abs().max() == 0


def test_half_the_strength_is_half_the_gain_in_db_and_half_the_extension(restorer):
    x = band_limited(150.0, 6000.0)
    stats, sound = measure_stats(x), torch.from_numpy(x)[None]
    with torch.no_grad():
        whole = restorer(sound, stats)
        half = restorer(sound, stats, gain_strength=0.5)
        quiet = restorer(sound, stats, extension_strength=0.5)
    assert (20 * torch.log10(whole.gain)).abs().max() > 1
    assert torch.allclose(20 * torch.log10(half.gain), 10 * torch.log10(whole.gain), atol=1e-3)
    assert torch.equal(quiet.gain, whole.gain) and whole.extension.abs().max() > 1e-4
    assert torch.allclose(quiet.extension, 0.5 * whole.extension, atol=1e-6)


def test_equaliser_keeps_level_and_bound(restorer):
    x = band_limited(None, 8000.0)
    stats = measure_stats(x)
    ltas, inside = torch.from_numpy(stats.ltas_db)[None], torch.from_numpy(stats.in_band)[None]
    eq = restorer.equaliser(ltas, inside)
    energy = (10 ** (ltas / 10) * inside).sum()
    after = (10 ** ((ltas + eq) / 10) * inside).sum()
    assert eq.abs().max() <= restorer.config.eq_range_db
    assert abs(10 * torch.log10(after / energy)) < 0.1


def test_separator_keeps_length_level_and_silence():
    torch.manual_seed(0)
    model = build_separator(**SMALL_HTDEMUCS).eval()
    x = torch.randn(1, 2, segment_samples(model)) * 0.1
    with torch.no_grad():
        y, loud = apply_separator(model, x), apply_separator(model, 4 * x)
        silent = apply_separator(model, torch.zeros_like(x))
    assert y.shape == (1, 4, 2, x.shape[-1])
    assert (loud - 4 * y).abs().max() < 1e-4 * loud.abs().max()
    assert silent.abs().max() == 0


def test_weights_round_trip(tmp_path, restorer):
    path = save_weights(restorer, tmp_path / "r.safetensors", "restorer", restorer.config.to_dict(), {"step": 3})
    again = load_restorer(path)
    assert again.config == restorer.config
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), restorer.state_dict().values(),
                                                 strict=True))
    assert read_header(path, "restorer")["record"] == {"step": 3}
    model = build_separator(**SMALL_HTDEMUCS).eval()
    path = save_weights(model, tmp_path / "s.safetensors", "separator", SMALL_HTDEMUCS)
    x = torch.randn(1, 2, segment_samples(model))
    with torch.no_grad():
        assert torch.equal(load_separator(path)(x), model(x))


def test_weights_that_do_not_fit_are_refused(tmp_path, restorer):
    good = save_weights(restorer, tmp_path / "r.safetensors", "restorer", restorer.config.to_dict())
    with pytest.raises(UserError, match="not of a separator"):
        load_separator(good)
    with pytest.raises(UserError, match="do not exist"):
        load_restorer(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(UserError, match="not a safetensors file"):
        load_restorer(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="does not say"):
        load_restorer(tmp_path / "foreign.safetensors")
    wider = {**restorer.config.to_dict(), "width": 16}
    wrong = save_weights(restorer, tmp_path / "wrong.safetensors", "restorer", wider)
    with pytest.raises(UserError, match="do not fit"):
        load_restorer(wrong)
    settings = {"nonsense": 1}
    header = {"resonate": json.dumps({"kind": "separator", "settings": settings})}
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata=header)
    with pytest.raises(UserError, match="build no separator"):
        load_separator(tmp_path / "odd.safetensors")
    for name, value in (("max_gain_db", 200.0), ("dilations", [0])):
        absurd = {**restorer.config.to_dict(), name: value}
        wide = save_weights(restorer, tmp_path / "wide.safetensors", "restorer", absurd)
        with pytest.raises(UserError, match=name):
            load_restorer(wide)
