"""What the separator takes for music: kept beside the captures, heard by the restorer in training and in use."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rendering import make, make_music
from restoring import music, tiny_weights, work_on
from test_training import config

from data_recipes import render, separate
from resonate import STEMS
from resonate.data import separated, shards
from resonate.data.examples import CachedCaptures, with_tone
from resonate.data.module import CaptureData, DataConfig
from resonate.degrade.chain import ChainConfig
from resonate.errors import UserError
from resonate.evaluate.separation import separate as separate_whole
from resonate.models.restorer import LEAST_SHARE_DB, Restorer, RestorerConfig, music_share_db, with_music
from resonate.models.stats import measure_stats
from resonate.models.weights import load_restorer, load_separator, read_header, save_weights
from resonate.restore.networks import gain_rows
from resonate.training.heldout import data_for
from resonate.training.run import train
from resonate.training.start import check_model

UNET = RestorerConfig(network="unet", channels=(8, 8, 8, 8, 8, 8))
BANDS = RestorerConfig(width=8, dilations=(1, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("separated")
    make_music(root / "music")
    render.render(make(root / "music", root / "out", "shards.train=3", "per_shard=2", "crowd=true"))
    separate.add(root / "out", tiny_weights()[0])
    return root / "out"


def captures(folder, seed=3, length=20, **settings) -> CachedCaptures:
    return CachedCaptures([folder], "train", 0.5, length, seed=seed, with_separated=True, **settings)


def test_it_is_the_sum_of_the_stems_that_the_separator_gives(folder):
    model, index = load_separator(tiny_weights()[0]), separated.Index(folder)
    for example in shards.choose(folder, "all"):
        capture = torch.from_numpy(shards.read_audio(folder, example, slice(1))[0])
        wanted = separate_whole(model, capture)[: len(STEMS)].sum(0)
        kept = index.read(example)
        assert np.abs(kept - wanted).max() < 2**-14 * max(1.0, float(np.abs(wanted).max()) * 2)
        assert np.array_equal(index.read(example, 500, 900), kept[:, 500:900])


def test_a_stopped_run_goes_on_and_another_separators_work_is_refused(folder, tmp_path, monkeypatch):
    there = folder / separated.FOLDER
    before = {path.name: path.read_bytes() for path in there.iterdir() if path.suffix in (".tar", ".json")}
    (there / "train-000001.tar").unlink()
    (there / "index.json").unlink()
    (there / ".train-000001.tar.1.part").write_bytes(b"half")
    with pytest.raises(UserError, match="nothing that was separated"):
        captures(folder)
    written = []
    monkeypatch.setattr(separate, "_write", lambda *job: written.append(job[1]))
    monkeypatch.setattr(separate, "ProcessPoolExecutor", Immediate)
    with pytest.raises(UserError, match="lacks"):
        separate.add(folder, tiny_weights()[0])
        captures(folder, length=1)
    assert written == ["train-000001.tar"]
    monkeypatch.undo()
    separate.add(folder, tiny_weights()[0], workers=2)
    assert {p.name: p.read_bytes() for p in there.iterdir() if p.suffix in (".tar", ".json")} == before
    assert not list(there.glob(".*.part"))
    other = load_separator(tiny_weights()[0])
    other.encoder[0].conv.weight.data.mul_(1.01)
    settings = read_header(tiny_weights()[0], "separator")["settings"]
    path = save_weights(other, tmp_path / "other.safetensors", "separator", settings)
    with pytest.raises(UserError, match="another separator"):
        separate.add(folder, path)


class Immediate:
    """Does the work of a pool of processes here and now."""

    def __init__(self, *given) -> None:
        del given

    def __enter__(self) -> "Immediate":
        return self

    def __exit__(self, *reason) -> None:
        del reason

    def submit(self, work, *given):
        from concurrent.futures import Future

        future = Future()
        future.set_result(work(*given))
        return future


def test_a_damaged_index_is_refused(folder, tmp_path):
    for text in ("[]", '{"scale": 3, "separator": ""}', "no"):
        (tmp_path / separated.FOLDER).mkdir(exist_ok=True)
        (tmp_path / separated.FOLDER / "index.json").write_text(text)
        with pytest.raises(UserError, match="damaged"):
            separated.Index(tmp_path)
    with pytest.raises(UserError, match="no rendered cache"):
        separate.add(tmp_path)
    with pytest.raises(UserError, match="workers"):
        separate.add(folder, workers=0)


def test_crops_have_it_beside_the_capture_read_or_kept_in_memory(folder):
    read, kept = (captures(folder, in_memory=kept) for kept in (False, True))
    plain = CachedCaptures([folder], "train", 0.5, 20, seed=3)
    for i in range(9):
        full, mid = read[i], kept[i]
        assert all(torch.equal(full[name], value) for name, value in plain[i].items())
        assert full["separated"].shape == (2, 22050)
        wanted = full["separated"].mean(0, keepdim=True)
        assert torch.allclose(mid["separated"], wanted, atol=1e-4 * float(wanted.abs().max()) + 1e-6)


def test_clean_music_is_separated_into_itself_and_a_share_hears_the_capture_twice(folder):
    examples = [captures(folder, length=60, clean_share=0.3, alone_share=0.3)[i] for i in range(60)]
    clean = [torch.equal(e["capture"], e["dry"].sum(0)) for e in examples]
    alone = [torch.equal(e["capture"], e["separated"]) for e in examples]
    assert 8 <= sum(clean) <= 30 and all(a for a, c in zip(alone, clean, strict=True) if c)
    assert 5 <= sum(a and not c for a, c in zip(alone, clean, strict=True)) <= 26


def test_another_tone_is_on_what_is_separated_too(folder):
    example = CachedCaptures([folder], "train", 0.5, 20, seed=3)[0]
    example["separated"] = example["wet"].sum(0)
    tone = 6 * np.sin(np.arange(1025) / 50)
    toned = with_tone(example, measure_stats(example["wet"].sum(0)), tone)
    assert torch.allclose(toned["separated"], toned["wet"].sum(0), atol=1e-5)


@pytest.mark.parametrize("settings", [{"music": "x"}, {"cache": "x", "shards": "x-{0..1}.tar"}])
def test_it_needs_a_rendered_folder(settings):
    data = DataConfig(separated=True, **settings)
    with pytest.raises(UserError, match=r"data\.(separated|cache)"):
        CaptureData(data, ChainConfig(), 1).setup()


def test_the_share_of_the_music():
    values = torch.tensor([0.0, 1.0, 1.0, 0.5, 0.0])
    rest = torch.tensor([0.0, 0.0, 1.0, 0.5, 1.0])
    share = music_share_db(values, rest)
    assert torch.allclose(share, torch.tensor([0.0, 0.0, -6.02, -6.02, LEAST_SHARE_DB]), atol=0.01)


@pytest.mark.parametrize("config", [BANDS, UNET, replace(BANDS, correction=0.2)])
def test_a_network_that_begins_to_hear_it_does_at_first_as_before(config, tmp_path):
    torch.manual_seed(1)
    model = Restorer(config).eval()
    wider = with_music(model)
    assert wider.config.hears_music and not wider.training and with_music(wider) is wider
    x = torch.from_numpy(music(1.0, 44100))[None]
    stats = measure_stats(x[0])
    with torch.no_grad():
        before = model(x, stats)
        for given in (None, 0.3 * x):
            after = wider(x, stats, music=given)
            assert torch.allclose(after.gain, before.gain, atol=1e-5)
            assert torch.allclose(after.extension, before.extension, atol=1e-6)
        for weight in wider.network.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
        path = save_weights(wider, tmp_path / "w.safetensors", "restorer", wider.config.to_dict())
        again = load_restorer(path)
        none, whole, third = (again(x, stats, music=given).gain for given in (None, x, 0.3 * x))
    # All of it music is no opinion; where a part is not, that is heard.
    assert torch.allclose(none, whole, atol=1e-4) and not torch.allclose(none, third, rtol=0.01)


def test_training_adds_the_ear_and_keeps_it(folder, tmp_path):
    def run(name, *more):
        words = f"data.cache={folder}", "data.seconds=0.5", "trainer.max_steps=2", "trainer.checkpoint_every=1"
        train(config("restorer", tmp_path / name, *words, *more))

    run("first", f"model.pretrained={tiny_weights()[1]}", "data.separated=true", "data.in_memory=true")
    weights = tmp_path / "first" / "weights.safetensors"
    model = load_restorer(weights)
    entrance = torch.cat([layer.weight[:, Restorer.FEATURES :: Restorer.FEATURES + 1].flatten()
                          for layer in model.network.inputs])
    assert model.config.hears_music and entrance.abs().max() > 0
    with pytest.raises(UserError, match="hears what the separator takes"):
        run("second", f"model.pretrained={weights}")
    run("third", f"model.pretrained={weights}", "data.separated=true")
    run("third", f"model.pretrained={weights}", "data.separated=true", "trainer.max_steps=3")
    record = json.loads((tmp_path / "third" / "record.json").read_text())
    assert record["data"]["train"]["separators"] == [separated.Index(folder).separator]


def test_the_chain_gives_it_to_the_network(tmp_path):
    torch.manual_seed(1)
    model = with_music(load_restorer(tiny_weights()[1]))
    for layer in model.network.inputs:
        layer.weight.data[:, Restorer.FEATURES :: Restorer.FEATURES + 1].normal_()
    work = work_on(music(3.0, 44100), tmp_path, mode="reveal")
    work.models.__dict__["restorer"] = model
    given = work.track["separator_input"]
    x = given.read(0, given.length)
    stems = work.new_track("separated", 8).fill([(0, np.concatenate([0.3 * x, np.zeros((6, x.shape[1]), np.float32)]))])
    heard, alone = (np.concatenate([rows for rows, _ in gain_rows(work, given, part, False)]) for part in (stems, None))
    assert not np.allclose(heard, alone, rtol=0.01)
    x = torch.from_numpy(x)[None]
    with torch.no_grad():
        wanted = model(x, work.stats, faithful=True, extension_strength=0.0, music=0.3 * x).gain[0].T.numpy()
    inner = slice(4, len(wanted) - 4)
    assert np.allclose(heard[: len(wanted)][inner], wanted[inner], rtol=0.02, atol=1e-3)
    work.close()


@pytest.mark.parametrize("option", ["faithful_share=0.5", "hears_music=true"])
def test_what_is_not_set_by_hand_is_refused(option, tmp_path):
    with pytest.raises(UserError, match="not set by hand"):
        check_model(config("restorer", tmp_path, f"+model.options.{option}").model)


def test_the_separator_does_not_take_it(folder, tmp_path):
    settings = config("finetune_demucs", tmp_path, f"data.cache={folder}", "data.separated=true")
    with pytest.raises(UserError, match="for the restorer"):
        data_for(settings).setup()
