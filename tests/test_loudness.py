"""The streamed loudness agrees with pyloudnorm's, which needs the whole recording in memory."""

import numpy as np
import pyloudnorm
import pytest

from resonate.restore.loudness import LoudnessMeter


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
