"""Trainings of a part of a separator, with a fifth source, or over several batches a step: from weights to weights,
stopped half-way and gone on with; what batches, clipping and the schedule make of a step."""

from pathlib import Path

import pytest
import torch
from rendering import make, make_music
from safetensors.torch import load_file
from test_training import config

from data_recipes import render
from resonate import STEMS
from resonate.data.examples import CachedCaptures
from resonate.models.separator import CROWD, build_separator
from resonate.models.weights import load_separator, save_weights
from resonate.training.callbacks import StopOnSignal
from resonate.training.run import train
from resonate.training.schedule import OptimiserConfig, build_optimiser

STEPS, STOPPED = 4, 2
WORDS = {
    "freeze": ("model.freeze=[encoder,tencoder]",),
    "lora": ("ablation=lora", "model.lora_rank=2"),
    "crowd": ("ablation=crowd_source",),
    "accumulate": ("trainer.accumulate=2",),
}


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> tuple[Path, Path]:
    """Rendered captures, and a tiny separator to begin with."""
    root = tmp_path_factory.mktemp("parts")
    make_music(root / "music")
    render.render(make(root / "music", root / "out", "shards.train=3"))
    settings = {"segment": 0.5, "channels": 4, "t_layers": 1, "t_heads": 2, "bottom_channels": 8, "dconv_mode": 0}
    torch.manual_seed(0)
    model = build_separator(**settings)
    for name, scale in model.named_parameters():
        if name.endswith(("gamma_1.scale", "gamma_2.scale")):
            scale.data.fill_(1.0)  # as in a trained transformer; a new one adds next to nothing
    return root / "out", save_weights(model, root / "start.safetensors", "separator", settings)


@pytest.mark.parametrize("part", list(WORDS))
def test_a_part_is_trained_stopped_and_gone_on_with(part, start, tmp_path, monkeypatch):
    cache, weights = start
    drawn, original = [], CachedCaptures.__getitem__

    def draw(data, index):
        if data.samples is not None:  # no whole capture, as validation hears them
            drawn.append(index)
        return original(data, index)

    monkeypatch.setattr(CachedCaptures, "__getitem__", draw)

    def run(name: str) -> int:
        words = [f"data.cache={cache}", f"model.pretrained={weights}", "data.seconds=0.5", "data.valid_examples=1",
                 "data.batch_size=1", f"trainer.max_steps={STEPS}", f"trainer.valid_every={STOPPED}",
                 "trainer.checkpoint_every=1", "trainer.precision=32-true", "optimiser.lr=1e-2", *WORDS[part]]
        drawn.clear()
        return train(config("finetune_demucs", tmp_path / name, *words))[1]["trainer"].global_step

    assert run("whole") == STEPS
    batches = STEPS * (2 if part == "accumulate" else 1)
    assert drawn == list(range(batches))
    with monkeypatch.context() as stopping:
        ended = StopOnSignal.on_train_batch_end

        def stop(self, trainer, *rest):
            self.asked = trainer.global_step == STOPPED
            ended(self, trainer, *rest)

        stopping.setattr(StopOnSignal, "on_train_batch_end", stop)
        assert run("stopped") == STOPPED
    assert run("stopped") == STEPS
    # On the examples after those that were seen.
    assert drawn == list(range(batches // 2, batches))

    before, made, resumed = (load_file(path) for path in (weights, tmp_path / "whole" / "weights.safetensors",
                                                          tmp_path / "stopped" / "weights.safetensors"))
    assert made.keys() == resumed.keys() == before.keys()
    assert all(torch.allclose(made[name], resumed[name], rtol=0, atol=1e-6) for name in made)
    changed = {name.split(".")[0] for name, value in made.items()
               if value.shape != before[name].shape or not torch.equal(value, before[name])}
    everything = {name.split(".")[0] for name in before}
    kept = {"freeze": {"encoder", "tencoder"}, "lora": everything - {"crosstransformer", "channel_upsampler",
            "channel_downsampler", "channel_upsampler_t", "channel_downsampler_t"}}.get(part, set())
    assert changed == everything - kept
    sources = load_separator(tmp_path / "stopped" / "weights.safetensors").sources
    assert list(sources) == [*STEMS, *([CROWD] if part == "crowd" else [])]


def one_step(start: tuple[Path, Path], output: Path, *words: str) -> dict[str, torch.Tensor]:
    """How far one step, at a rate of 0.01 and without decay of weights, moves each parameter."""
    cache, weights = start
    train(config("finetune_demucs", output, f"data.cache={cache}", f"model.pretrained={weights}", "data.seconds=0.5",
                 "data.valid_examples=1", "trainer.max_steps=1", "trainer.precision=32-true", "optimiser.lr=1e-2",
                 "optimiser.warmup_steps=0", "optimiser.weight_decay=0", "optimiser.transformer_decay=0", *words))
    before, after = load_file(weights), load_file(output / "weights.safetensors")
    return {name: after[name] - before[name] for name in before}


def test_accumulated_batches_are_one_large_batch(start, tmp_path):
    large = one_step(start, tmp_path / "large", "data.batch_size=2")
    small = one_step(start, tmp_path / "small", "data.batch_size=1", "trainer.accumulate=2")
    first = one_step(start, tmp_path / "first", "data.batch_size=1")

    def error(moved: dict[str, torch.Tensor]) -> float:
        # The first step of Adam is the sign of the gradient: a sign that rounding turns over counts twice the rate, so
        # that what is compared is how much of all movement differs.
        return float(sum((moved[name] - large[name]).abs().sum() for name in large)
                     / sum(x.abs().sum() for x in large.values()))

    assert error(small) < 0.01 < 0.1 < error(first)


def test_gradients_are_clipped_to_the_norm_that_is_given(start, tmp_path):
    # Adam does not mind the scale of gradients until they lie below its epsilon of 1e-8.
    free = one_step(start, tmp_path / "free", "data.batch_size=1")
    clipped = one_step(start, tmp_path / "clipped", "data.batch_size=1", "trainer.clip=1e-12")
    assert max(float(x.abs().max()) for x in free.values()) == pytest.approx(1e-2, rel=0.01)
    assert max(float(x.abs().max()) for x in clipped.values()) < 1e-5


def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine():
    network = torch.nn.Linear(1, 1)
    made = build_optimiser(network, OptimiserConfig(lr=0.5, warmup_steps=10, final_share=0.1), max_steps=110)
    optimiser, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(121):
        rates.append(optimiser.param_groups[0]["lr"] / 0.5)
        optimiser.step()
        scheduler.step()
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    # A quarter, a half and three quarters of the way down: 0.1 + 0.9 (1 + cos) / 2.
    assert [rates[step] for step in (10, 35, 60, 85, 110)] == pytest.approx([1, 0.8682, 0.55, 0.2318, 0.1], abs=1e-4)
    assert rates[110:] == pytest.approx([0.1] * 11)
