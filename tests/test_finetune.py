"""Fine-tuning HTDemucs: start points in demucs's own formats, the fifth source, targets, LoRA, export, comparison."""

import json
import re
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from auraloss.freq import MultiResolutionSTFTLoss
from demucs.apply import apply_model
from demucs.hf import load_safetensors_model
from demucs.htdemucs import HTDemucs
from demucs.states import save_with_checksum, serialize_model
from omegaconf import OmegaConf
from rendering import make, make_music
from rich.console import Console
from safetensors.torch import save_file

from data_recipes import render
from resonate import RATE, STEMS
from resonate.data import shards
from resonate.errors import UserError
from resonate.evaluate import multipass, separation
from resonate.evaluate.stem_aims import aims
from resonate.models.demucs_files import find_weights
from resonate.models.released import fetch_released
from resonate.models.restorer import Restorer, RestorerConfig
from resonate.models.selfcheck import check_device
from resonate.models.separator import (
    CROWD,
    add_crowd_source,
    apply_separator,
    build_separator,
    segment_samples,
)
from resonate.models.weights import load_separator, read_header, save_weights
from resonate.training.adapt import add_lora, freeze, merged
from resonate.training.config import ModelConfig, TrainConfig
from resonate.training.losses import StemLoss
from resonate.training.schedule import OptimiserConfig, parameter_groups
from resonate.training.separator import SeparatorTask, remix
from resonate.training.start import build_task, check_model, start_separator

TINY = {"segment": 1.0, "channels": 4, "t_layers": 1, "t_heads": 2, "bottom_channels": 8, "dconv_mode": 0}
EVERYTHING = torch.ones(2, 4, dtype=torch.bool)


def tiny(**changes) -> HTDemucs:
    torch.manual_seed(0)
    return build_separator(**{**TINY, **changes}).eval()


def test_sizes_that_do_not_fit_together_are_refused_before_training():
    options = {**TINY, "depth": 5, "nfft": 2048}
    with pytest.raises(UserError, match=r"model\.options build no HTDemucs"):
        start_separator(ModelConfig(kind="separator", options=options))
    network, settings = start_separator(ModelConfig(kind="separator", options={**TINY, "nfft": 2048}))
    assert network.training and settings["nfft"] == 2048


def sound(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def example(samples: int = 30000) -> dict[str, torch.Tensor]:
    """A batch of two: a capture is the sum of its wet stems and a crowd."""
    wet, dry, crowd = sound(2, 4, 2, samples), 3 * sound(2, 4, 2, samples, seed=1), sound(2, 2, samples, seed=2)
    return {"capture": wet.sum(1) + crowd, "wet": wet, "dry": dry, "crowd": crowd, "present": EVERYTHING.clone()}


def task(model: HTDemucs, **config) -> SeparatorTask:
    return SeparatorTask(model, TINY, OptimiserConfig(), 10, ModelConfig(kind="separator", **config))


def output(model: HTDemucs, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return apply_separator(model.eval(), x)


def test_exported_weights_are_demucs_own_form_and_run_through_its_apply_model(tmp_path):
    model = tiny()
    path = save_weights(model, tmp_path / "w.safetensors", "separator", TINY, {"step": 1})
    theirs = load_safetensors_model(path).eval()
    assert isinstance(theirs, HTDemucs) and theirs.sources == list(STEMS) and theirs.segment == Fraction(1)
    x = sound(1, 2, segment_samples(model))
    with torch.no_grad():
        torch.testing.assert_close(theirs(x), model(x), rtol=0, atol=0)
    longer = sound(1, 2, 70000)
    separated = apply_model(theirs, longer, shifts=0, overlap=0.25)
    assert separated.shape == (1, 4, 2, 70000) and torch.isfinite(separated).all() and separated.abs().max() > 0
    assert torch.equal(separated, apply_model(load_separator(path), longer, shifts=0, overlap=0.25))


def test_files_that_demucs_wrote_are_start_points(tmp_path):
    """Its safetensors form, its .th package, both with a fraction for the segment, and folders with them."""
    torch.manual_seed(1)
    # The released files name what they leave at None.
    arguments = {**TINY, "segment": Fraction(39, 50), "channels_time": None}
    model = HTDemucs(sources=list(STEMS), samplerate=44100, **arguments).eval()
    x = sound(1, 2, int(0.78 * 44100))
    kwargs = {**arguments, "sources": list(STEMS), "samplerate": 44100,
              "segment": {"_type": "fraction", "numerator": 39, "denominator": 50}}
    save_file(model.state_dict(), tmp_path / "a.safetensors",
              metadata={"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(kwargs)})
    (tmp_path / "repo").mkdir()
    package = serialize_model(model, OmegaConf.create({"lr": 1e-4, "dset": {"segment": 11}}), half=False)
    save_with_checksum(package, tmp_path / "repo" / "abcd.th")
    (tmp_path / "repo" / "mine.yaml").write_text("models: ['abcd']\n")
    for start in (tmp_path / "a.safetensors", tmp_path / "repo", find_weights(tmp_path / "repo")):
        loaded, settings = start_separator(ModelConfig(kind="separator", pretrained=str(start)))
        assert segment_samples(loaded) == x.shape[-1] and settings["segment"] == 0.78
        with torch.no_grad():
            assert torch.equal(loaded(x), model(x))


def test_training_begins_in_training_mode_and_takes_any_length(tmp_path):
    path = save_weights(tiny(), tmp_path / "w.safetensors", "separator", TINY, {"step": 1})
    config = TrainConfig(model=ModelConfig(kind="separator", pretrained=str(path)))
    model = build_task(config, None).model
    assert all(module.training for module in model.modules())
    for samples in (20000, segment_samples(model) + 10000):
        assert model(sound(1, 2, samples)).shape == (1, 4, 2, samples)


class Bomb:
    """What a hostile pickle does when it is loaded by an unrestricted unpickler."""

    def __reduce__(self):
        return print, ("run",)


def test_hostile_and_foreign_files_are_refused(tmp_path, capsys):
    model = tiny()
    package = {"klass": HTDemucs, "args": (), "kwargs": {**TINY, "sources": list(STEMS)}, "state": model.state_dict()}

    def refused(change: dict, match: str) -> None:
        torch.save({**package, **change}, tmp_path / "x.th")
        with pytest.raises(UserError, match=match):
            load_separator(tmp_path / "x.th")

    refused({"training_args": Bomb()}, "read safely")
    refused({"klass": Restorer}, "read safely")
    refused({"klass": Fraction}, "another class")
    refused({"kwargs": {**TINY, "sources": ["a", "b", "c", "d"]}}, "it must be drums")
    refused({"kwargs": {**TINY, "sources": list(STEMS), "samplerate": 48000}}, "stereo at 44100")
    refused({"kwargs": {**TINY, "sources": list(STEMS), "channels": 512}}, "do not fit")
    refused({"kwargs": {**TINY, "sources": list(STEMS), "t_sparse_self_attn": True}}, "not supported")
    refused({"state": {k: v * float("nan") for k, v in model.state_dict().items()}}, "finite")
    assert "run" not in capsys.readouterr().out
    (tmp_path / "text-12345678.th").write_text("text")
    with pytest.raises(UserError, match="checksum"):
        load_separator(tmp_path / "text-12345678.th")
    ours = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]"}
    endless = {"segment": {"numerator": 10 ** 400, "denominator": 1}}
    for header in ({"klass": "os.system", "args": "[]", "kwargs": "{}"}, {**ours, "kwargs": "{"},
                   {**ours, "kwargs": "[" * 100000}, {**ours, "kwargs": json.dumps(endless)},
                   {**ours, "kwargs": json.dumps({"sources": 4})},
                   {"resonate": json.dumps({"kind": "separator", "settings": {"segment": "1e999999999"}})},
                   {"resonate": json.dumps({"kind": "separator", "settings": {"sources": ["drums"]}})}):
        save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata=header)
        with pytest.raises(UserError, match=r"x\.safetensors"):
            load_separator(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="one model"):
        find_weights(tmp_path)


def test_no_network_is_one_sentence(monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(UserError, match="could not be downloaded"):
        start_separator(ModelConfig(kind="separator", pretrained="htdemucs"))


def test_released_weights_are_announced_before_they_are_downloaded_and_once(tmp_path, monkeypatch, caplog):
    import huggingface_hub
    from demucs.hf import DEFAULT_NAMESPACE

    asked, there = [], []
    (tmp_path / "htdemucs.yaml").write_text("models: ['abcd']\n")

    def download(repository, name):
        asked.append((repository.startswith(DEFAULT_NAMESPACE), name, caplog.text))
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: there[0] if there else None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_: SimpleNamespace(size=84_000_000))
    assert fetch_released() == tmp_path / "abcd.safetensors"
    assert [(ok, name) for ok, name, _ in asked] == [(True, "htdemucs.yaml"), (True, "abcd.safetensors")]
    assert "84 MB" in asked[1][2]
    caplog.clear()
    there.append("abcd.safetensors")
    assert fetch_released() == tmp_path / "abcd.safetensors" and not caplog.text

    def broken(*_):
        raise huggingface_hub.errors.HfHubHTTPError.__bases__[0]("the connection was lost")

    there.clear()
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", broken)
    with pytest.raises(UserError, match="separator=FILE"):
        fetch_released()


def test_fifth_source_leaves_the_stems_as_they_are_and_learns_the_crowd(tmp_path):
    model = tiny()
    wider, settings = add_crowd_source(model, TINY)
    assert wider.sources == [*STEMS, CROWD]
    x = sound(2, 2, segment_samples(model))
    torch.testing.assert_close(output(wider, x)[:, :4], output(model, x), rtol=0, atol=1e-6)
    assert output(wider, x)[:, 4].abs().max() < 1e-3 * x.abs().max()
    again = load_separator(save_weights(wider, tmp_path / "w.safetensors", "separator", settings))
    assert torch.equal(output(again, x), output(wider, x))
    assert add_crowd_source(wider, settings)[0] is wider

    batch, training = example(), task(wider.train(), crowd_source=True)
    heard, target = training.heard_and_target(batch)
    torch.testing.assert_close(target.sum(1), heard)
    torch.testing.assert_close(target[:, 4], batch["crowd"])
    # A missing stem costs nothing, the crowd does, also where the song is a finished mix.
    batch["present"][:] = False
    training.loss(apply_separator(wider, heard).float(), target, batch["present"]).backward()
    assert wider.decoder[-1].conv_tr.weight.grad[:, -4:].abs().max() > 0


def test_dry_target_has_the_level_of_the_captured_stems():
    heard, target = task(tiny(), target="dry").heard_and_target(example())
    batch = example()
    assert torch.equal(heard, batch["capture"])
    torch.testing.assert_close(target.sum(1).square().mean((1, 2)), batch["wet"].sum(1).square().mean((1, 2)))
    torch.testing.assert_close(target / target.abs().max(), batch["dry"] / batch["dry"].abs().max(), atol=0.05, rtol=0)


def test_clean_training_hears_the_sum_of_remixed_known_stems():
    batch = example(3000)
    batch["present"][0, 1] = False
    heard, target = task(tiny(), input="dry", target="dry", remix=True).heard_and_target(batch)
    assert torch.equal(heard, batch["dry"].sum(1)) and torch.equal(target, batch["dry"])
    orders = set()
    for seed in range(12):
        mixed = remix(batch["dry"], batch["present"], torch.Generator().manual_seed(seed))
        # The bass is known in one song only, and "other" may hold another bass.
        assert torch.equal(mixed[:, 1:3], batch["dry"][:, 1:3])
        torch.testing.assert_close(mixed.sum(0), batch["dry"].sum(0))
        orders.add((torch.equal(mixed[:, 0], batch["dry"][:, 0]), torch.equal(mixed[:, 3], batch["dry"][:, 3])))
    assert len(orders) == 4


def test_stems_known_to_be_silent_teach_silence_and_unknown_ones_do_not():
    """An instrumental: vocals are known to be silent. Where they are unknown, the estimate may be anything that the sum
    with "other" allows."""
    loss, vocals, other = StemLoss(), STEMS.index("vocals"), STEMS.index("other")
    target = sound(1, 4, 2, 8192)
    target[:, vocals] = 0
    wrong = target.clone()
    leak = sound(1, 2, 8192, seed=5)
    wrong[:, vocals] += leak
    wrong[:, other] -= leak
    estimate = wrong.clone().requires_grad_()
    loss(estimate, target, EVERYTHING[:1]).backward()
    # A step against the gradient makes the vocals quieter.
    assert float((estimate.grad[:, vocals] * leak).sum()) > 0
    unknown = EVERYTHING[:1].clone()
    unknown[:, vocals] = False
    assert float(loss(wrong, target, unknown)) < 1e-5
    silent = torch.zeros_like(target).requires_grad_()
    loss(silent, torch.zeros_like(target), EVERYTHING[:1]).backward()
    assert torch.isfinite(silent.grad).all()


def test_stem_loss_is_l1_and_auraloss_of_the_mid_channel():
    estimate, target = sound(2, 4, 2, 8192), sound(2, 4, 2, 8192, seed=1)
    theirs = MultiResolutionSTFTLoss([2048, 512], [1024, 256], [2048, 512], w_sc=0.0, w_log_mag=0.0, w_lin_mag=1.0)
    flat = [x.flatten(0, 1).mean(1, keepdim=True) for x in (estimate, target)]
    expected = (estimate - target).abs().mean() + 0.5 * theirs(*flat)
    torch.testing.assert_close(StemLoss(0.5)(estimate, target, EVERYTHING), expected)


def test_a_training_step_leaves_the_segment_as_it_was():
    """HTDemucs in train() takes the crop's length for its segment, and then refuses longer blocks."""
    model = tiny().train()
    whole = sound(1, 2, segment_samples(model))
    model(whole[..., :30000])
    with pytest.raises(ValueError, match="longer than"):
        model.eval().valid_length(whole.shape[-1])
    model = tiny().train()
    training = task(model)
    training.log = lambda *_, **__: None
    training.training_step(example(30000), 0)
    assert segment_samples(model) == whole.shape[-1] == model.valid_length(whole.shape[-1])
    assert output(model, whole).shape[-1] == whole.shape[-1]


def test_lora_trains_low_rank_updates_and_merges_on_export(tmp_path):
    model, x = tiny(), sound(1, 2, 44100)
    for name, scale in model.named_parameters():
        if name.endswith(("gamma_1.scale", "gamma_2.scale")):
            scale.data.fill_(1.0)  # as in a trained transformer; a new one adds next to nothing
    before = output(model, x)
    freeze(model, ["encoder", "decoder", "tencoder", "tdecoder", "freq_emb", "channel_*"])
    numbers = add_lora(model, 2, ["crosstransformer"])
    assert torch.equal(output(model, x), before)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad and p.ndim > 1}
    assert trained and all(n.endswith((".up", ".down")) for n in trained)
    assert sum(p.numel() for p in trained.values()) == numbers
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.3)
    for _ in range(2):
        (apply_separator(model.train(), x) - sound(1, 4, 2, 44100)).abs().mean().backward()
        optimiser.step()
    after = output(model, x)
    assert (after - before).abs().max() > 1e-6
    path = save_weights(merged(model), tmp_path / "w.safetensors", "separator", TINY)
    torch.testing.assert_close(output(load_separator(path), x), after, rtol=1e-4, atol=1e-6)
    # The copy was merged, the model goes on training.
    assert any(n.endswith(".up") for n, _ in model.named_parameters())
    plain = tiny()
    assert all(torch.equal(v, plain.state_dict()[n]) for n, v in load_separator(path).state_dict().items()
               if n.startswith("encoder"))


def test_patterns_that_name_nothing_are_refused():
    with pytest.raises(UserError, match="nothing in the model"):
        freeze(tiny(), ["transformer.*"])
    with pytest.raises(UserError, match="lower the rank"):
        add_lora(tiny(), 500, ["crosstransformer"])
    with pytest.raises(UserError, match=r"model\.input=dry"):
        check_model(ModelConfig(kind="separator", remix=True))
    with pytest.raises(UserError, match="have no crowd"):
        check_model(ModelConfig(kind="separator", crowd_source=True, target="dry"))
    with pytest.raises(UserError, match="choices are wet and dry"):
        check_model(ModelConfig(kind="separator", target="damp"))
    with pytest.raises(UserError, match="setting of the separator"):
        check_model(ModelConfig(kind="restorer", lora_rank=3))


def test_norms_and_biases_do_not_decay_and_the_transformer_decays_by_itself():
    model = tiny()
    groups = parameter_groups(model, OptimiserConfig(weight_decay=0.01, transformer_decay=0.05))
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    assert decay[id(model.crosstransformer.layers[0].linear1.weight)] == 0.05
    assert decay[id(model.crosstransformer.layers[0].norm1.weight)] == 0.0
    assert decay[id(model.encoder[0].conv.weight)] == 0.01
    assert decay[id(model.encoder[0].conv.bias)] == 0.0
    # Checkpoints of the restorer know two groups.
    assert len(parameter_groups(Restorer(RestorerConfig(width=8, dilations=(1,))), OptimiserConfig())) == 2


def test_whole_captures_are_separated_on_the_grid_of_restoring():
    model = tiny()
    x = sound(2, 100001)
    y = separation.separate(model, x)
    assert y.shape == (4, 2, 100001) and y.dtype == np.float32
    block = segment_samples(model)
    first = int(block * 0.75)
    np.testing.assert_allclose(y[..., :first], output(model, x[None, :, :block])[0, ..., :first], atol=1e-6)


class Share(torch.nn.Module):
    """Gives a fifth of what it hears as each stem, whatever the block."""

    segment, samplerate = Fraction(1), 44100

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x[:, None].expand(-1, 4, -1, -1)


def test_passes_are_those_of_restoring():
    """Of a network that gives every stem a fifth: what is heard again, and what is left over, is known."""
    x = sound(2, 100001)
    # Shifted grids change nothing here; the stems' sum holds 0.8; what is in no stem, 0.2.
    expected = {"one pass": 0.2, "4 shifts averaged": 0.2, "again, on the stems' sum": 0.16, "residual re-fed": 0.24}
    for plan, share in expected.items():
        stems = multipass.separate_by(Share(), x, multipass.PLANS[plan])
        # A block's mean is shared out among the four, hence the tolerance.
        np.testing.assert_allclose(stems, np.broadcast_to(share * x.numpy(), stems.shape), atol=2e-4)


def test_shifted_grid_begins_before_the_recording():
    model, x = tiny(), sound(2, 100001)
    block = segment_samples(model)
    early = separation.separate(model, x, offset=0.25)
    before = round(0.25 * block)
    first = torch.nn.functional.pad(x, (before, 0))[None, :, :block]
    kept = int(block * 0.75) - before
    np.testing.assert_allclose(early[..., :kept], output(model, first)[0, ..., before:before + kept], atol=1e-6)


def test_passes_win_only_where_their_interval_does():
    found = multipass.Found(songs=[f"S{k}" for k in range(8)], lengths=[1.0] * 8)
    rng = np.random.default_rng(0)
    effects = {"one pass": (0, 0), "2 shifts averaged": (0.3, 0.1), "residual re-fed": (0.5, 3)}
    for plan, (mean, spread) in effects.items():
        found.seconds[plan] = [1.0] * 8
        for measured in multipass.MEASURES:
            found.plans[plan][measured] = list(mean + spread * rng.standard_normal(8))
    assert found.winner() == "2 shifts averaged"
    small = multipass.Found(songs=found.songs, lengths=found.lengths)
    small.plans["one pass"]["stems_si_sdr"] = [0.0] * 8
    small.plans["4 shifts averaged"]["stems_si_sdr"] = [0.05] * 8  # certain, but not worth four times the time
    assert small.winner() == "one pass"
    mean, low, high = found.change("2 shifts averaged", "stems_si_sdr")
    assert 0.2 < low < mean < high < 0.4
    # A capture without a value does not count.
    found.plans["one pass"]["noise_attenuation"][0] = float("nan")
    assert np.isfinite(found.change("residual re-fed", "noise_attenuation")).all()
    title, names, lines = multipass.rows(found)
    assert "8 captures of 8 songs; best: 2 shifts averaged" in title
    assert [len(line) for line in lines] == [len(names)] * 3 and lines[1][0] == "2 shifts averaged"


def test_comparison_reports_the_change_against_the_capture_by_severity(tmp_path, monkeypatch, capsys):
    samples, examples = 44100, []
    for k, severity in enumerate((0.15, 0.45)):
        wet, crowd = sound(4, 2, samples, seed=k).numpy(), 0.5 * sound(2, samples, seed=9).numpy()
        capture = wet.sum(0) + crowd
        rows = np.concatenate([capture[None], wet, wet.sum(0)[None], wet]).astype(np.float16)
        np.save(tmp_path / f"e{k}.npy", rows)
        examples.append({"file": f"e{k}.npy", "split": "test", "severity": severity, "mix_only": False, "song": f"S{k}",
                         "present": [True] * 4, "seconds": 1.0})
    index = {"format": 1, "rate": 44100, "rows": list(shards.ROWS), "examples": examples}
    (tmp_path / "index.json").write_text(json.dumps(index))
    truth = [np.load(tmp_path / f"e{k}.npy").astype(np.float32)[1:5] for k in range(2)]
    captures = [np.load(tmp_path / f"e{k}.npy").astype(np.float32)[0] for k in range(2)]

    def halfway(model, x):
        k = int(np.argmin([np.abs(c - x.numpy()).sum() for c in captures]))
        # Half of what does not belong there is left.
        return truth[k] + 0.5 * (captures[k] - truth[k])

    monkeypatch.setattr(separation, "separate", halfway)
    found = separation.compare({"half": None}, tmp_path, "test")
    assert set(found) == {"near", "mid", "all"}
    for stem in STEMS:
        gain = np.subtract(found["all"]["half"][f"{stem}_si_sdr"], found["all"]["input"][f"{stem}_si_sdr"])
        assert len(gain) == 2 and np.allclose(gain, 6.02, atol=0.7)
    shown = separation.rows("near", found["near"])
    Console(width=200).print(separation.table(shown))
    assert "near (1 captures)" in capsys.readouterr().out
    lines = separation.markdown(shown).splitlines()
    assert len(lines) == 6 and len({line.count("|") for line in lines[2:]}) == 1
    assert separation.main([str(tmp_path / "none.safetensors"), "--cache", str(tmp_path)]) == 2
    told = separation.origin(["a.safetensors", "--cache", "my cache"], tmp_path, "test")
    assert "a.safetensors --cache 'my cache'`: 2 captures of 2 songs (near 1 capture of 1 song, mid 1" in told
    assert "a render without settings" in told and "all that is no music" in told


def test_figures_tell_which_recordings_stand_behind_them(tmp_path):
    make_music(tmp_path / "music")
    render.render(make(tmp_path / "music", tmp_path / "out", "shards.train=2", "seed=5", "crowd=true"))
    told = separation.origin([], tmp_path / "out", "train", 2)
    files = [line.split("\t") for line in (tmp_path / "out" / "manifest.tsv").read_text().splitlines()[1:]]
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (crowd|measured room|measured phone)", told)}
    for name, kind in (("crowd", "crowd"), ("measured room", "rooms"), ("measured phone", "devices")):
        assert 0 <= counts[name] <= len({row[1] for row in files if row[0] == kind})
    assert sum(counts.values()) > 0 and told.count("2 captures of 2 songs") == 2
    assert "render of seed 5" in told and "follows the crowd alone" in told


def test_aims_of_training_on_captures():
    def figures(**systems: dict[str, list[float]]) -> dict:
        return systems

    near = figures(input={"vocals_si_sdr": [0.0, 2.0], "drums_si_sdr": [1.0]},
                   after={"vocals_si_sdr": [6.0, 7.0], "drums_si_sdr": [5.0]})
    mid = figures(before={"stems_si_sdr": [1.0]}, after={"stems_si_sdr": [3.5], "noise_attenuation": [7.0, 10.0]})
    clean = figures(before={"stems_si_sdr": [8.0]}, after={"stems_si_sdr": [6.5]})
    found = aims({"near": near, "mid": mid}, {"all": clean}, "before", "after")
    assert [aim.found for aim in found] == [2.5, 5.5, 4.0, 8.5, -1.5]
    assert [aim.met for aim in found] == [True, True, False, True, False]
    lines = separation.aim_rows(found)[2]
    assert lines[2][-1] == "missed by 1.0" and lines[3][-2:] == ["2", "met"]
    assert not any(aim.met for aim in aims({}, {}, "before", "after"))


def test_device_that_computes_something_else_is_refused():
    model = tiny()
    assert check_device(model, "cpu") == 0
    assert check_device(Restorer(RestorerConfig(width=8, dilations=(1,))), "cpu") == 0

    class Faulty(HTDemucs):
        """Wrong after it has been moved to a device."""

        def to(self, device):
            self.freq_emb.embedding.weight.data.mul_(-3)
            return super().to(device)

    faulty = Faulty(sources=list(STEMS), samplerate=44100, **TINY)
    with pytest.raises(UserError, match="other results than the CPU"):
        check_device(faulty, "cpu")


def test_header_of_a_package_is_that_of_weights(tmp_path):
    torch.save({"klass": HTDemucs, "args": (), "kwargs": {**TINY, "sources": list(STEMS)},
                "state": tiny().state_dict()}, tmp_path / "x.th")
    assert read_header(tmp_path / "x.th", "separator")["settings"]["channels"] == 4
    with pytest.raises(UserError):
        read_header(tmp_path / "x.th", "restorer")


def test_masks_share_out_the_recording_as_the_stems_say():
    x = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32) * 0.1
    stems = np.array([0.1, 0.2, 0.3, 0.4], np.float32)[:, None, None] * x
    shared = separation.shared(stems, x)
    assert np.abs(shared - stems).max() < 1e-4  # 16 bit masks
    power = separation.shared(stems, x, exponent=2.0)
    assert np.abs(power - np.array([1, 4, 9, 16], np.float32)[:, None, None] / 30 * x).max() < 1e-4
    assert np.abs(power.sum(0) - x).max() < 1e-5
