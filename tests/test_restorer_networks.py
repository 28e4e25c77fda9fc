"""The restorer's two networks, its complex correction, and what its losses see."""

from dataclasses import replace

import pytest
import torch

from resonate.data.examples import stats_tensors
from resonate.models.restorer import Restorer, RestorerConfig, apply_gain
from resonate.models.restorer_networks import BandSplit, UNet
from resonate.models.stats import BINS, measure_stats
from resonate.models.weights import load_restorer, save_weights
from resonate.training.adversary import Adversary
from resonate.training.losses import BalanceLoss
from resonate.training.restorer import RestorerLoss, RestorerTask
from resonate.training.schedule import OptimiserConfig

UNET = RestorerConfig(network="unet", channels=(4, 4, 6, 6, 8, 8))


def example(seconds: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    n = int(44100 * seconds)
    tone = torch.sin(torch.arange(n) * 0.06) * (torch.arange(n) % 11025 < 6000)
    dry = 0.2 * tone.expand(1, 2, n) + 0.01 * torch.randn(1, 2, n, generator=generator)
    capture = 0.5 * dry + 0.05 * torch.randn(1, 2, n, generator=generator)
    stats = {k: v[None] for k, v in stats_tensors(measure_stats(capture[0])).items()}
    return {"capture": capture, "wet": 0.5 * dry[:, None], "dry": dry[:, None], "early": 0.4 * dry} | stats


@pytest.mark.parametrize("frames", [1, 13, 86])
def test_the_u_net_gives_every_bin_and_frame_its_heads(frames):
    out = UNet(4, 3, UNET.channels)(torch.randn(2, BINS, frames, 4), torch.randn(2, 4, BINS))
    assert out.shape == (2, BINS, frames, 3) and out.dtype == torch.float32
    assert torch.equal(out[:, -1], out[:, -2])


def test_the_u_net_reaches_as_far_as_it_says():
    """Without its norms, which read all that is given at once."""
    torch.manual_seed(0)
    net = UNet(4, 3, UNET.channels)
    for pair in [*net.down, *net.up]:
        pair.norm = torch.nn.Identity()
    at, frames = 160, 320
    x = torch.randn(1, BINS, frames, 4, requires_grad=True)
    net(x, torch.zeros(1, 4, BINS))[0, :, at].sum().backward()
    heard = x.grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
    assert net.reach - 32 < at - int(heard.min()) <= net.reach
    assert net.reach - 32 < int(heard.max()) - at <= net.reach


def test_the_bands_reach_as_far_as_they_say():
    torch.manual_seed(0)
    net = BandSplit(4, 3, 8, (1, 2, 4))
    assert net.reach == 14
    at, frames = 40, 80
    x = torch.randn(1, BINS, frames, 4, requires_grad=True)
    net(x, torch.zeros(1, 4, BINS))[0, :, at].sum().backward()
    heard = x.grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
    # Two frames are one step: the first of a pair also hears its partner at the far end.
    assert at - int(heard.min()) == net.reach and int(heard.max()) - at in (net.reach, net.reach + 1)


def test_the_u_net_learns_from_every_weight():
    task = RestorerTask(UNET, OptimiserConfig(), 10)
    task.losses(example())["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in task.model.parameters())


def test_the_u_net_reads_back_from_its_file(tmp_path):
    model = Restorer(UNET).eval()
    again = load_restorer(save_weights(model, tmp_path / "a.safetensors", "restorer", UNET.to_dict()))
    x = example()["capture"]
    stats = measure_stats(x[0])
    with torch.no_grad():
        assert torch.equal(model(x, stats).gain, again(x, stats).gain)


def test_the_context_is_heard_once_it_has_learned():
    torch.manual_seed(0)
    config = RestorerConfig(width=8, dilations=(1, 2), context=6)
    model, plain = Restorer(config), Restorer(replace(config, context=0))
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("network.context")})
    data = example()
    mid = data["capture"].mean(1)[:, :BINS, None].abs()
    given = data["ltas_db"], data["floor_db"], data["in_band"]
    with torch.no_grad():
        assert torch.equal(model.heads(mid, *given).full_db, plain.heads(mid, *given).full_db)
        model.network.context[-1].weight.normal_()
        assert not torch.allclose(model.heads(mid, *given).full_db, plain.heads(mid, *given).full_db, atol=0.1)


def test_the_correction_keeps_within_its_bound_and_moves_phases():
    config = RestorerConfig(width=8, dilations=(1, 2), correction=0.3)
    torch.manual_seed(0)
    model = Restorer(config)
    for layer in model.network.outputs:
        layer.weight.data.mul_(100)
    data = example()
    stats = measure_stats(data["capture"][0])
    with torch.no_grad():
        gain = model(data["capture"], stats, extension_strength=0.0).gain
        half = model(data["capture"], stats, gain_strength=0.0, extension_strength=0.0).gain
        heads = model.heads(data["capture"].mean(1)[:, :BINS, None].abs(), data["ltas_db"], data["floor_db"],
                            data["in_band"])
    assert gain.is_complex() and (heads.correction - 1).abs().max() < 0.3
    assert (heads.correction - 1).abs().max() > 0.2 and gain.imag.abs().max() > 1e-3
    assert torch.allclose(half, torch.ones_like(half))
    assert apply_gain(data["capture"], gain).isfinite().all()
    assert Restorer(replace(config, correction=0.0))(data["capture"], stats).gain.is_floating_point()


@pytest.mark.parametrize(("options", "word"), [({"network": "rnn"}, "choices"), ({"correction": 2.0}, "0 to 1")])
def test_settings_that_build_nothing_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        RestorerConfig(**options)


def test_balance_is_blind_to_level_and_sees_a_tilt():
    generator = torch.Generator().manual_seed(1)
    reference = torch.rand(2, BINS, 40, generator=generator) + 0.1
    balance = BalanceLoss()
    assert balance(3 * reference, reference) < 1e-4
    # 6 dB over half of the octaves: 3 dB away from the mean on either side.
    tilted = reference * torch.where(torch.arange(BINS) < 39, 1.0, 2.0)[None, :, None]
    assert 2.5 < balance(tilted, reference) < 3.5
    assert balance(torch.zeros_like(reference), reference).isfinite()
    assert balance(reference, torch.zeros_like(reference)).isfinite()


def test_the_aim_moves_from_wet_to_early_to_dry(monkeypatch):
    task = RestorerTask(RestorerConfig(width=8, dilations=(1,)), OptimiserConfig(), 100,
                        weights=RestorerLoss(aim="staged"))
    seen = []
    for step in (0, 9, 10, 29, 30, 99):
        monkeypatch.setattr(type(task), "global_step", step)
        seen.append(task.aim())
    assert seen == ["wet", "wet", "early", "early", "dry", "dry"]
    values = {aim: task.losses(example(), aim)["loss"].item() for aim in ("wet", "early", "dry")}
    assert len(set(values.values())) == 3


def test_the_critic_tells_noise_from_tones_and_leaves_the_band_alone():
    torch.manual_seed(0)
    adversary = Adversary(torch.device("cpu"), lr=1e-3)
    noise, tones = -20 + 5 * torch.randn(2, BINS, 48), torch.full((2, BINS, 48), -80.0)
    tones[:, ::40] = -10
    first = adversary.learn(noise, tones)
    for _ in range(15):
        last = adversary.learn(noise, tones)
    assert last < 0.5 * first and adversary.loss(tones) < adversary.loss(noise)

    task = RestorerTask(RestorerConfig(width=8, dilations=(1,)), OptimiserConfig(), 10,
                        weights=RestorerLoss(adversarial=1.0))
    data = example()
    with_full_band = data | {"in_band": torch.ones_like(data["in_band"])}
    task.losses(with_full_band)["adversarial"].backward()
    assert all(p.grad is None or not p.grad.any() for p in task.model.parameters())
    assert task.losses(data)["adversarial"].isfinite()
