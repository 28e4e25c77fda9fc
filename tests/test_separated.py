"""What the separator takes for music: kept beside the captures, heard by the restorer in training and in use."""

import json
import shutil
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
from resonate.restore import choice, networks
from resonate.restore.config import Choose as Choice
from resonate.restore.config import Strength, Veto
from resonate.restore.networks import RESTORE_BLOCK, Restore, gain_rows
from resonate.training import calibrate
from resonate.training.heldout import data_for
from resonate.training.losses import spectrum
from resonate.training.record import check_same
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


def contents(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / separated.FOLDER).iterdir() if p.suffix in (".tar", ".json")}


def test_a_stopped_run_goes_on_and_another_separators_work_is_refused(folder, tmp_path, monkeypatch):
    there, before = folder / separated.FOLDER, contents(folder)
    (there / "train-000001.tar").unlink()
    (there / "index.json").unlink()
    (there / ".train-000001.tar.1.part").write_bytes(b"half")
    with pytest.raises(UserError, match="nothing that was separated"):
        captures(folder)
    written, sample = [], separate._sample
    monkeypatch.setattr(separate, "_sample", lambda *job: written.append(job[1]["file"]) or sample(*job))
    separate.add(folder, tiny_weights()[0])
    assert written == ["train-00000002", "train-00000003"] and contents(folder) == before
    assert not list(there.glob(".*.part"))
    other = load_separator(tiny_weights()[0])
    other.encoder[0].conv.weight.data.mul_(1.01)
    settings = read_header(tiny_weights()[0], "separator")["settings"]
    path = save_weights(other, tmp_path / "other.safetensors", "separator", settings)
    with pytest.raises(UserError, match="another separator"):
        separate.add(folder, path)


def test_several_processes_write_the_same_and_a_lost_one_is_told(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / separated.FOLDER)
    separate.add(tmp_path / "copy", tiny_weights()[0], workers=2)
    assert contents(tmp_path / "copy") == contents(folder)
    shutil.rmtree(tmp_path / "copy" / separated.FOLDER)
    shard = tmp_path / "copy" / "train-000002.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"train-000002\.tar"):
        separate.add(tmp_path / "copy", tiny_weights()[0], workers=2)
    assert not list((tmp_path / "copy" / separated.FOLDER).glob(".*.part"))


def test_separations_of_other_captures_are_refused(folder, tmp_path):
    make_music(tmp_path / "music")
    render.render(make(tmp_path / "music", tmp_path / "out", "shards.train=3", "per_shard=2", "seed=5"))
    shutil.copytree(folder / separated.FOLDER, tmp_path / "out" / separated.FOLDER)
    with pytest.raises(UserError, match="other captures"):
        captures(tmp_path / "out")
    with pytest.raises(UserError, match="of other captures"):
        separate.add(tmp_path / "out", tiny_weights()[0])


def test_captures_of_two_separators_are_not_mixed(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    index = tmp_path / "copy" / separated.FOLDER / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"separator": "0" * 64}))
    with pytest.raises(UserError, match="different separators"):
        CachedCaptures([folder, tmp_path / "copy"], "train", 0.5, 3, with_separated=True)


def test_a_damaged_index_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    index = tmp_path / "copy" / separated.FOLDER / "index.json"
    known = json.loads(index.read_text())
    nan = json.dumps(known | {"scale": {"train-00000000": [1.0, float("nan")]}})
    for text in ("[]", '{"scale": 3, "separator": "", "captures": ""}', "no", "[" * 100000, nan):
        index.write_text(text)
        with pytest.raises(UserError, match="damaged"):
            separated.Index(tmp_path / "copy")
    index.write_text(json.dumps(known))
    (index.parent / "train-000000.tar").write_bytes(b"no tar")
    with pytest.raises(UserError, match="remove it, and make it again"):
        separated.Index(tmp_path / "copy").read(shards.choose(folder, "train")[0])
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


@pytest.mark.parametrize("in_memory", [False, True])
def test_clean_music_has_its_own_separation_and_a_share_hears_the_capture_twice(folder, in_memory):
    given = {"length": 60, "clean_share": 0.3, "in_memory": in_memory}
    plain, mixed = captures(folder, **given), captures(folder, **given, alone_share=0.3)
    index, metas = separated.Index(folder), [meta for _, meta in plain.items]
    wholes = [index.read(meta, clean=True).mean(0) for meta in metas]
    alone = []
    for i in range(60):
        before, after = plain[i], mixed[i]
        alone.append(torch.equal(after["separated"], after["capture"]))
        assert alone[-1] or torch.equal(after["separated"], before["separated"])
        if torch.equal(before["capture"], before["dry"].sum(0)):
            crop = before["separated"].mean(0).numpy()
            assert any(np.abs(np.lib.stride_tricks.sliding_window_view(whole, len(crop)) - crop).max(1).min() < 1e-3
                       * np.abs(whole).max() for whole in wholes)
    assert 8 <= sum(alone) <= 30


def test_another_tone_of_the_music_leaves_the_share_that_is_taken_for_it(folder):
    example = CachedCaptures([folder], "train", 0.9, 20, seed=3)[0]
    example["separated"] = 0.6 * example["wet"].sum(0) + 0.3 * (example["capture"] - example["wet"].sum(0))
    # In place of the early sound, what is separated gets the filter itself, crowd and all.
    toned = with_tone(example | {"early": example["separated"]}, measure_stats(example["wet"].sum(0)),
                      6 * np.sin(np.arange(1025) / 50))
    heard = [spectrum(sound[:1]) for sound in (example["capture"], toned["capture"], toned["capture"])]
    taken = [spectrum(sound[:1]) for sound in (example["separated"], toned["separated"], toned["early"])]
    before, kept, filtered = (music_share_db(a, b)[0, 5:900, 4:-4].mean(-1) for a, b in zip(taken, heard, strict=True))
    assert (filtered - before).abs().mean() > 1.0
    assert (kept - before).abs().mean() < 0.5 * (filtered - before).abs().mean()


@pytest.mark.parametrize("settings", [{"music": "x"}, {"cache": "x", "shards": "x-{0..1}.tar"}])
def test_it_needs_a_rendered_folder(settings):
    data = DataConfig(separated=True, **settings)
    with pytest.raises(UserError, match=r"data\.(separated|cache)"):
        CaptureData(data, ChainConfig(), 1).setup()


def test_the_share_of_the_music():
    music = torch.tensor([0.0, 1.0, 1.0, 0.5j, 0.0])
    heard = torch.tensor([0.0, 1.0, 1.0 + 1.0j, 1.0j, 1.0])
    share = music_share_db(music, heard)
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


def test_training_adds_the_ear_and_keeps_it(folder, tmp_path, monkeypatch):
    drawn, original = [], CachedCaptures.__getitem__
    monkeypatch.setattr(CachedCaptures, "__getitem__", lambda data, i: drawn.append(i) or original(data, i))

    def run(name, *more):
        words = f"data.cache={folder}", "data.seconds=0.5", "trainer.max_steps=2", "trainer.checkpoint_every=1"
        drawn.clear()
        return train(config("restorer", tmp_path / name, *words, *more))[1]

    run("first", f"model.pretrained={tiny_weights()[1]}", "data.separated=true", "data.in_memory=true")
    weights = tmp_path / "first" / "weights.safetensors"
    model = load_restorer(weights)
    entrance = torch.cat([layer.weight[:, Restorer.FEATURES :: Restorer.FEATURES + 1].flatten()
                          for layer in model.network.inputs])
    assert model.config.hears_music and entrance.abs().max() > 0
    with pytest.raises(UserError, match="hears what the separator takes"):
        run("second", f"model.pretrained={weights}")
    run("third", f"model.pretrained={weights}", "data.separated=true")
    with pytest.raises(UserError, match=r"data\.separated=True, not False"):
        run("third", f"model.pretrained={weights}", "trainer.max_steps=3")
    objects = run("third", f"model.pretrained={weights}", "data.separated=true", "trainer.max_steps=3")
    batch = objects["data"].config.batch_size
    assert objects["trainer"].global_step == 3 and [i for i in drawn if i >= batch] == list(range(2 * batch, 3 * batch))
    record = json.loads((tmp_path / "third" / "record.json").read_text())
    assert record["data"]["train"]["separators"] == [separated.Index(folder).separator]


@pytest.fixture
def hearing(tmp_path):
    """A work of 15 s, more than a block of the restorer, whose network hears the separated music; stems that change."""
    torch.manual_seed(1)
    model = with_music(load_restorer(tiny_weights()[1]))
    for layer in model.network.inputs:
        layer.weight.data[:, Restorer.FEATURES :: Restorer.FEATURES + 1].normal_()
    x = music(15.0, 44100)
    made = work_on(x, tmp_path, mode="reveal", strength=Strength(crowd=0.0), veto=Veto(enabled=False),
                   choose=Choice(track="auto", seconds=3.0))
    made.models.__dict__["restorer"] = model
    taken = (0.5 + 0.4 * np.sin(np.arange(x.shape[1]) / 20000)).astype(np.float32) * x
    made.new_track("separated", 8).fill([(0, np.concatenate([taken / 4] * 4))])
    yield made
    made.close()


def test_the_chain_gives_it_to_the_network_in_every_block(hearing):
    x, taken = (hearing.track[name].read(0, hearing.length) for name in ("separator_input", "separated"))
    given = [torch.from_numpy(y)[None] for y in (x, taken.reshape(4, 2, -1).sum(0))]
    with torch.no_grad():
        wanted, alone = (hearing.models.restorer(given[0], hearing.stats, faithful=True, extension_strength=0.0,
                                                 music=music).gain[0].T.numpy() for music in (given[1], None))
    Restore().run(hearing)
    gain = hearing.store["gain"].read_rows(0, hearing.frames).astype(np.float32)
    assert hearing.frames > RESTORE_BLOCK and np.allclose(gain[4:-4], wanted[4:-4], rtol=0.02, atol=1e-3)
    assert not np.allclose(gain, alone, rtol=0.1, atol=1e-2)


def test_made_from_stems_the_crowd_is_not_weighed_twice(hearing, monkeypatch):
    asked = []
    monkeypatch.setattr(networks, "gain_rows", lambda *given: asked.append(given[2]) or gain_rows(*given))
    hearing.made_from = "stems"
    Restore().run(hearing)
    assert asked == [None]


def test_each_way_is_tried_with_what_is_separated_of_what_it_hears(hearing, monkeypatch):
    heard = []

    def watched(work, source, stems, extend):
        n = work.length
        heard.append((source.read(0, n), None if stems is None else stems.read(0, n).reshape(4, 2, n).sum(0)))
        return gain_rows(work, source, stems, extend)

    monkeypatch.setattr(choice, "gain_rows", watched)
    crowd = 0.1 * np.random.default_rng(0).standard_normal((2, 3 * 44100)).astype(np.float32)
    folder = hearing.folder / "tried"
    folder.mkdir()
    choice.compare(hearing, 44100, crowd, folder)
    stretch = [hearing.track[name].read(44100, crowd.shape[1]) for name in ("separator_input", "separated")]
    (clean, alone), (mixed, found), (masked, none) = heard
    assert np.array_equal(clean, stretch[0]) and np.allclose(alone, stretch[1].reshape(4, 2, -1).sum(0), atol=1e-6)
    assert np.allclose(mixed, clean + crowd, atol=1e-6) and not np.allclose(found, alone, atol=1e-2)
    assert none is None and np.square(masked).sum() < np.square(mixed).sum()


def test_the_share_is_calibrated_with_it(folder, tmp_path, monkeypatch):
    model = with_music(load_restorer(tiny_weights()[1]))
    weights = save_weights(model, tmp_path / "a.safetensors", "restorer", model.config.to_dict())
    heard, original = [], Restorer.forward
    monkeypatch.setattr(Restorer, "forward", lambda *x, **named: heard.append(named["music"]) or original(*x, **named))
    calibrate.calibrate(weights, folder, tmp_path / "b.safetensors", separator=tiny_weights()[0])
    index = separated.Index(folder)
    wanted = [index.read(example) for example in shards.choose(folder, "valid")]
    assert len(heard) == len(wanted) == 2
    assert all(np.allclose(a[0].numpy(), b, atol=1e-3) for a, b in zip(heard, wanted, strict=True))


@pytest.mark.parametrize("option", ["faithful_share=0.5", "hears_music=true"])
def test_what_is_not_set_by_hand_is_refused(option, tmp_path):
    with pytest.raises(UserError, match="not set by hand"):
        check_model(config("restorer", tmp_path, f"+model.options.{option}").model)


def test_the_separator_does_not_take_it(folder, tmp_path):
    settings = config("finetune_demucs", tmp_path, f"data.cache={folder}", "data.separated=true")
    with pytest.raises(UserError, match="for the restorer"):
        data_for(settings).setup()


def test_a_run_of_an_earlier_version_does_not_begin_to_hear_it_when_it_is_resumed(tmp_path):
    record = {"config": {"model": {}, "data": {}}, "data_hash": "a"}
    (tmp_path / "record.json").write_text(json.dumps(record))
    check_same(record, tmp_path)
    with pytest.raises(UserError, match=r"data\.separated=False, not True"):
        check_same({**record, "config": {"model": {}, "data": {"separated": True}}}, tmp_path)
