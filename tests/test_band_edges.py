"""Truths about the captured band's edges: known filters, codecs, drones and music that only looks narrow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfilt, sosfiltfilt

from resonate import RATE
from resonate.degrade.codec import CodecParams, Pass, apply
from resonate.models.stats import measure_stats
from resonate.restore.diagnosis.truth import made_up_stems


def studio(seconds: float = 8.0, seed: int = 3) -> np.ndarray:
    """(2, n) of made-up music in 16 bits, bass and treble to the ends of the band."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    rumble = sosfilt(butter(2, [25, 300], "bandpass", fs=RATE, output="sos"), rng.standard_normal(n))
    beats = rumble * (0.2 + ((np.arange(n) / RATE) % 0.5 < 0.2))
    x = made_up_stems(n, rng).sum(0) + 0.1 * beats
    return (np.round(0.5 * x / np.abs(x).max() * 32767) / 32768).astype(np.float32)


def octaves(hz: float, true: float) -> float:
    return abs(float(np.log2(hz / true)))


@pytest.mark.parametrize("hertz", [4000.0, 6000.0, 8000.0, 12000.0])
def test_low_pass_without_noise_is_found_to_a_sixth_of_an_octave(hertz):
    """Music moves on the filter's slope, too: the edge is where the slope begins, not where it ends."""
    x = sosfiltfilt(butter(8, hertz, fs=RATE, output="sos"), studio()).astype(np.float32)
    stats = measure_stats(x)
    assert octaves(stats.high_hz, hertz) < 1 / 6 and stats.low_hz == 20
    assert octaves(stats.cut_high_hz, hertz) < 1 / 6 and stats.cut_low_hz == 20


@pytest.mark.parametrize("hertz", [80.0, 120.0, 200.0])
def test_high_pass_without_noise_is_found_to_a_quarter_of_an_octave(hertz):
    x = sosfiltfilt(butter(8, hertz, "high", fs=RATE, output="sos"), studio()).astype(np.float32)
    stats = measure_stats(x)
    assert octaves(stats.low_hz, hertz) < 1 / 4 and stats.high_hz > 18000
    assert octaves(stats.cut_low_hz, hertz) < 1 / 4 and stats.cut_high_hz == 20000


def test_full_band_is_found_full_at_any_level():
    x = studio()
    for gain in (1.0, 0.1):
        stats = measure_stats(gain * x)
        assert stats.low_hz < 45 and stats.high_hz > 18000


@pytest.mark.parametrize(
    ("encoder", "rate", "bit_rate", "least", "most"),
    [("libopencore_amrnb", 8000, 12200, 3000, 4000), ("aac", 16000, 48000, 6500, 8200)],
)
def test_rate_of_the_codec_is_the_upper_edge(encoder, rate, bit_rate, least, most):
    stats = measure_stats(apply(studio(), CodecParams([Pass(encoder, rate, bit_rate, 1)])))
    assert least < stats.high_hz < most


def test_dull_music_has_no_break():
    """12 dB per octave from 1 kHz on: a capsule, the air or dull music, but no filter's edge."""
    x = sosfilt(butter(2, 1000, fs=RATE, output="sos"), studio()).astype(np.float32)
    assert measure_stats(x).high_hz > 10000


def test_music_that_ends_by_itself_was_not_cut():
    """Moving below 2 kHz and hardly there above, as soft synthetic music is: a narrow band, but no filter's."""
    rng = np.random.default_rng(4)
    x = sosfilt(butter(2, 700, fs=RATE, output="sos"), studio()).astype(np.float32)
    x = sosfilt(butter(2, 1500, fs=RATE, output="sos"), x) + 3e-6 * rng.standard_normal(x.shape)
    stats = measure_stats(x.astype(np.float32))
    assert stats.high_hz < 10000 and stats.cut_high_hz == 20000
    assert stats.within_cuts().high_hz == 20000 and stats.within_cuts().low_hz == stats.cut_low_hz == 20


def test_drone_is_bass_though_it_does_not_move():
    x = sosfiltfilt(butter(8, 200, "high", fs=RATE, output="sos"), studio())
    t = np.arange(x.shape[1]) / RATE
    drone = sum(np.sin(2 * np.pi * hz * t) for hz in (41.2, 55.0, 82.4, 110.0, 164.8)) * 0.1
    assert measure_stats((x + drone).astype(np.float32)).low_hz < 50


def test_steady_noise_beyond_the_capture_is_no_band():
    """Loud stationary hiss over everything that a phone cut off at 5 kHz."""
    rng = np.random.default_rng(0)
    x = sosfiltfilt(butter(8, 5000, fs=RATE, output="sos"), studio())
    stats = measure_stats((x + 2e-3 * rng.standard_normal(x.shape)).astype(np.float32))
    assert octaves(stats.high_hz, 5000) < 1 / 3


@pytest.mark.parametrize("seconds", [0.6, 1.0, 3.0, 10.0])
def test_noise_alone_has_no_edges(seconds):
    for seed in range(4):
        x = 0.05 * np.random.default_rng(seed).standard_normal((2, round(seconds * RATE)))
        stats = measure_stats(x.astype(np.float32))
        assert stats.low_hz == 20.0 and stats.high_hz == 20000.0
