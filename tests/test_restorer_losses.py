"""The restorer's losses say what the measures of the evaluation say."""

import numpy as np
import pytest
import torch

from resonate import RATE
from resonate.evaluate.projection import noise_attenuation, project
from resonate.models.restorer import istft
from resonate.models.stats import N_FFT
from resonate.training.losses import crowd_attenuation, gap_level, magnitude, spectrum

N = 4 * RATE


def parts(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Music of notes that come and go, and steady coloured noise, (1, N) each."""
    rng = np.random.default_rng(seed)
    t = np.arange(N) / RATE
    music = sum(
        np.sin(2 * np.pi * f * t) * (np.sin(2 * np.pi * rate * t + k) > 0)
        for k, (f, rate) in enumerate([(220, 1.5), (331, 2), (523, 1), (1244, 2.5), (2093, 3)])
    )
    noise = np.convolve(rng.standard_normal(N), [1, 0.7, 0.4], mode="same")
    return (torch.from_numpy(0.1 * x / x.std())[None].float() for x in (music, noise))


def test_crowd_attenuation_is_the_measures():
    music, noise = parts()
    m, n = spectrum(music), spectrum(noise)
    oracle = m.abs() / (m.abs() + n.abs() + 1e-9)
    output = istft((m + n) * oracle * (N_FFT / 4), N)[0].numpy()
    before, after = (project(y, music[0].numpy(), noise[0].numpy()) for y in ((music + noise)[0].numpy(), output))
    measured = noise_attenuation(before, after)
    assert measured > 6
    assert float(crowd_attenuation(oracle, m, n)) == pytest.approx(measured, abs=1.0)


def test_crowd_attenuation_is_blind_to_level_and_sees_an_equaliser():
    music, noise = parts(1)
    m, n = spectrum(music), spectrum(noise)
    assert float(crowd_attenuation(torch.full(m.shape, 3.0), m, n)) == pytest.approx(0, abs=1e-3)
    low_pass = torch.ones(m.shape)
    low_pass[:, 150:] = 0.1
    assert float(crowd_attenuation(low_pass, m, n)) > 3
    assert float(crowd_attenuation(1 / low_pass, m, n)) < -3
    silent = torch.zeros_like(m)
    assert torch.isfinite(crowd_attenuation(low_pass, silent, silent)).all()


def test_crowd_attenuation_lets_gradients_through_a_bin_with_one_part_alone():
    music, noise = parts(2)
    m, n = spectrum(music), spectrum(noise)
    n[:, :100] = 0
    gain = torch.full(m.shape, 0.5, requires_grad=True)
    crowd_attenuation(gain, m, n).sum().backward()
    assert torch.isfinite(gain.grad).all()


def test_gap_level_is_that_of_the_gap():
    reference, heard = torch.zeros(2, N), 0.1 * torch.randn(2, N, generator=torch.Generator().manual_seed(0))
    reference[:, N // 2 :] = heard[:, N // 2 :]
    gated = heard.clone()
    gated[:, : N // 2] *= 0.1
    level = float(gap_level(magnitude(gated), magnitude(reference)))
    assert level == pytest.approx(-20, abs=0.5)
    assert float(gap_level(magnitude(heard), magnitude(heard))) == 0  # there is none
    assert float(gap_level(torch.zeros_like(magnitude(heard)), magnitude(reference))) <= -40
