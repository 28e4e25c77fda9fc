"""The share of the faithful gain is the one that keeps the waveform most alike."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from rendering import make, make_music
from test_models import TINY

from data_recipes import render
from resonate import RATE
from resonate.models.restorer import Restorer, RestorerOutput, stft
from resonate.models.stats import measure_stats
from resonate.models.weights import load_restorer, read_header, save_weights
from resonate.training import calibrate


class TooMuch:
    """In place of a restorer: the best mask for known parts, to the power of `much`."""

    def __init__(self, music: np.ndarray, noise: np.ndarray, much: float) -> None:
        m, n = (stft(torch.from_numpy(x)[None]).mean(1).abs().square() for x in (music, noise))
        self.gain = (m / (m + n + 1e-9)).clamp(min=1e-3) ** much

    def __call__(self, x, stats, extension_strength, faithful, music):
        assert faithful and extension_strength == 0 and music is None
        return RestorerOutput(self.gain, torch.zeros_like(x))


@pytest.mark.parametrize("much", [1.0, 10.0])
def test_a_gain_that_does_too_much_gets_a_smaller_share(much):
    rng = np.random.default_rng(0)
    t = np.arange(3 * RATE) / RATE
    music = np.stack([sum(np.sin(2 * np.pi * f * t) for f in (220, 440, 1100)) * (np.sin(9 * t) > 0)] * 2)
    music, noise = (0.1 * x.astype(np.float32) for x in (music, rng.standard_normal(music.shape)))
    captures = [(music + noise, music, None), (noise, 0 * noise, None)]
    rises = calibrate.gains_by_share(TooMuch(music, noise, much), captures)
    assert rises.shape == (1, len(calibrate.SHARES)), "a silent reference says nothing"
    best = calibrate.SHARES[int(rises[0].argmax())]
    assert rises.max() > 3
    assert best == 1.0 if much == 1.0 else best < 0.8


def test_the_share_acts_on_the_faithful_gain_alone():
    torch.manual_seed(0)
    whole, half = Restorer(TINY), Restorer(replace(TINY, faithful_share=0.5))
    half.load_state_dict(whole.state_dict())
    x = 0.1 * torch.randn(1, 2, RATE)
    stats = measure_stats(x[0])
    one, two = (m(x, stats, extension_strength=0.0, faithful=True).gain for m in (whole, half))
    assert torch.allclose(one.sqrt(), two, rtol=1e-4)
    assert torch.equal(whole(x, stats).gain, half(x, stats).gain)


def test_calibrated_weights_say_their_share_and_what_it_was_measured_on(tmp_path, caplog):
    make_music(tmp_path / "music")
    render.render(make(tmp_path / "music", tmp_path / "out", "shards.train=0", "shards.valid=1", "per_shard=2"))
    weights = save_weights(Restorer(TINY), tmp_path / "a.safetensors", "restorer", TINY.to_dict())
    caplog.set_level(logging.INFO)
    target = tmp_path / "b.safetensors"
    assert calibrate.main([str(weights), "--cache", str(tmp_path / "out"), "--output", str(target)]) == 0
    header = read_header(target, "restorer")
    share = load_restorer(target).config.faithful_share
    assert share in calibrate.SHARES and header["record"]["faithful_share"]["captures"] == 2
    assert f"faithful_share={share:.1f} over 2 captures" in caplog.text


def test_without_captures_it_says_so(tmp_path, capsys):
    weights = save_weights(Restorer(TINY), tmp_path / "a.safetensors", "restorer", TINY.to_dict())
    assert calibrate.main([str(weights), "--cache", str(tmp_path), "--output", str(tmp_path / "b.safetensors")]) == 2
    assert not (tmp_path / "b.safetensors").exists() and len(capsys.readouterr().err.splitlines()) == 1
