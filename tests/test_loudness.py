"""The streamed meters agree with those that need the whole recording in memory."""

import numpy as np
import pyloudnorm
import pytest
from scipy.signal import firwin, lfilter, resample_poly

from resonate.restore.loudness import LoudnessMeter, PeakMeter


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("level", [0.5, 0.02])
def test_streamed_loudness_agrees_with_pyloudnorm(rate, level):
    rng = np.random.default_rng(0)
    swell = 0.05 + np.abs(np.sin(np.arange(12 * rate) / rate))  # quiet stretches, which the gate leaves out
    x = (level * 0.3 * rng.standard_normal((2, 12 * rate)) * swell).astype(np.float32)
    meter = LoudnessMeter(rate)
    for start in range(0, x.shape[1], 10007):
        meter.push(x[:, start : start + 10007])
    expected = pyloudnorm.Meter(rate).integrated_loudness(x.T.astype(np.float64))
    assert meter.loudness() == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("kind", ["between samples", "noise", "clicks"])
def test_streamed_true_peak_agrees_with_an_oversampled_meter(kind, rate):
    """32-fold oversampling of the whole; a sine at a quarter of the rate peaks 3 dB over its own samples."""
    rng, n, step = np.random.default_rng(0), 3 * rate, rate // 1000
    x = {
        "between samples": 0.5 * np.sin(np.pi / 2 * np.arange(n) + np.pi / 4)[None].repeat(2, 0),
        "noise": 0.2 * lfilter(firwin(101, 0.8), 1.0, rng.standard_normal((2, n))),
        "clicks": np.where(rng.uniform(size=(2, n)) < 1e-3, 0.8, 0.0),
    }[kind]
    x = (x * np.hanning(n)).astype(np.float32)
    meter = PeakMeter(step)
    for start in range(0, n, 64 * step):
        meter.push(x[:, start : start + 64 * step])
    found, true = meter.finish(n).max(), np.abs(resample_poly(x.astype(np.float64), 32, 1, axis=1)).max()
    assert 20 * np.log10(found / true) == pytest.approx(0.0, abs=0.2)
    if kind == "between samples":
        assert 20 * np.log10(found / np.abs(x).max()) == pytest.approx(3.01, abs=0.1)
