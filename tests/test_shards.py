"""Training from rendered shards: random access, streams, severity curriculum, and what is refused."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from rendering import make, make_music

import train
from data_recipes import render
from resonate import RATE
from resonate.data import shards
from resonate.data.examples import CachedCaptures, random_tone, stats_tensors, with_tone
from resonate.data.module import CaptureData, DataConfig
from resonate.data.stream import StreamedCaptures, expand
from resonate.degrade.chain import ChainConfig
from resonate.errors import UserError
from resonate.evaluate import cases, settings, suites
from resonate.models.stats import measure_stats

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    make_music(root / "music")
    render.render(make(root / "music", root / "out", "severity=mix", "shards.train=4", "per_shard=1", "crowd=true"))
    return root / "out"


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_crops_are_a_pure_function_of_seed_and_index(folder):
    one = CachedCaptures([folder], "train", 0.5, 20, seed=3)
    late = one[11]
    for index in range(5):
        one[index]
    again = CachedCaptures([folder], "train", 0.5, 20, seed=3)  # a run that resumes at 11
    assert same(again[11], late) and not same(again[12], late)
    other = CachedCaptures([folder], "train", 0.5, 20, seed=4)
    assert not all(same(other[i], again[i]) for i in range(3))


def test_what_is_kept_in_memory_is_the_same_crop_with_its_stems_summed(folder):
    read, kept = (CachedCaptures([folder], "train", 0.5, 9, seed=3, in_memory=kept, clean_share=0.3)
                  for kept in (False, True))
    for index in range(9):
        full, summed = read[index], kept[index]
        assert summed["wet"].shape == (1, 1, 22050) and torch.equal(summed["present"], full["present"])
        mids = {key: full[key] for key in ("capture", "early")} | {key: full[key].sum(0) for key in ("wet", "dry")}
        for key, mid in mids.items():
            assert torch.allclose(summed[key].reshape(-1), mid.mean(0), atol=1e-4 * float(mid.abs().max()) + 1e-6)
        # The mid is rounded to 16 bits of its own: that shows where there is nothing, and on the slope down to it.
        off = (summed["ltas_db"] - full["ltas_db"]).abs()
        assert off.max() < 4 and off[full["ltas_db"] > full["ltas_db"].max() - 50].median() < 0.01
        assert torch.equal(summed["in_band"], full["in_band"])


def test_clean_music_stands_in_for_a_share_of_the_captures(folder):
    examples = [CachedCaptures([folder], "train", 0.5, 40, seed=3, clean_share=0.25)[i] for i in range(40)]
    clean = [torch.equal(e["capture"], e["dry"].sum(0)) for e in examples]
    assert 4 <= sum(clean) <= 16
    for example, is_clean in zip(examples, clean, strict=True):
        if is_clean:
            assert torch.equal(example["wet"], example["dry"]) and not example["crowd"].any()
            assert torch.equal(example["early"], example["capture"])
        else:
            assert float((example["wet"] - example["dry"]).abs().max()) > 0
    # Its statistics are those of the whole of what is heard.
    wholes = [CachedCaptures([folder], "train", None)[i] for i in range(4)]
    known = [measure_stats(whole["dry"].sum(0)).ltas_db for whole in wholes]
    assert any(np.array_equal(examples[clean.index(True)]["ltas_db"], ltas) for ltas in known)


def test_another_tone_of_the_music_leaves_the_crowd_as_it_is(folder):
    plain, toned = (CachedCaptures([folder], "train", 0.5, 12, seed=5, in_memory=True, tone_share=share)
                    for share in (0.0, 1.0))
    for index in range(12):
        a, b = plain[index], toned[index]
        assert torch.allclose(b["capture"] - b["wet"].sum(0), a["capture"] - a["wet"].sum(0), atol=1e-5)
        assert not torch.allclose(a["dry"], b["dry"], atol=1e-3 * float(a["dry"].abs().max()))
        # Captured and clean music get the same filter.
        responses = [torch.fft.rfft(b[k].reshape(-1)).abs() / torch.fft.rfft(a[k].reshape(-1)).abs().clamp(min=1e-6)
                     for k in ("wet", "dry")]
        loud = torch.fft.rfft(a["wet"].reshape(-1)).abs().topk(40).indices
        assert (20 * torch.log10(responses[0][loud] / responses[1][loud])).abs().median() < 1.0


def test_statistics_follow_the_tone():
    rng = np.random.default_rng(0)
    music, crowd = (torch.from_numpy(0.1 * rng.standard_normal((1, 5 * RATE))).float() for _ in range(2))
    example = {"capture": music + crowd, "wet": music[None], "early": music, "dry": music[None]}
    example |= stats_tensors(measure_stats(example["capture"]))
    toned = with_tone(example, measure_stats(music), random_tone(rng))
    measured = measure_stats(toned["capture"])
    heard = slice(20, 900)
    for name in ("ltas_db", "floor_db"):
        assert np.abs(toned[name].numpy() - getattr(measured, name))[heard].mean() < 1.0


def test_an_example_is_its_rows_and_says_which_stems_are_known(folder):
    data = CachedCaptures([folder], "train", None)
    metas = shards.choose(folder, "train")
    assert len(data) == len(metas) == 4
    for index, meta in enumerate(metas):
        example, rows = data[index], torch.from_numpy(shards.read_audio(folder, meta))
        assert torch.equal(example["capture"], rows[0]) and torch.equal(example["wet"], rows[1:5])
        assert torch.equal(example["early"], rows[5]) and torch.equal(example["dry"], rows[6:10])
        assert torch.equal(example["crowd"], rows[10])
        assert example["present"].tolist() == meta["present"] and example["ltas_db"].shape == (1025,)
        for stem, known in enumerate(meta["present"]):
            if not known and not meta["mix_only"]:
                assert example["wet"][stem].abs().max() < 1e-3  # nothing there, and masked out of the loss


def test_folders_with_and_without_crowd_mix(folder, tmp_path):
    write_old_cache(tmp_path)
    data = CachedCaptures([folder, tmp_path], "train", 0.5, 30)
    batch = torch.utils.data.default_collate([data[i] for i in range(30)])
    assert "crowd" not in batch and batch["wet"].shape == (30, 4, 2, RATE // 2)


def test_the_curriculum_begins_mild_and_ends_with_all(folder):
    data = CachedCaptures([folder], "train", 0.5, 400, curriculum=200)
    ranked = [meta["severity"] for _, meta in data.items]
    assert ranked == sorted(ranked)
    reach = [data._reach(index) for index in (0, 49, 99, 149, 199, 5000)]
    assert reach == [1, 1, 2, 3, 4, 4]
    mildest = data.items[0]
    capture = torch.from_numpy(shards.read_audio(*mildest, slice(1))[0])
    for index in range(4):
        crop = data[index]["capture"]
        assert any(torch.equal(crop, capture[:, s : s + crop.shape[1]]) for s in
                   torch.nonzero(capture[0, : RATE // 2 + 1] == crop[0, 0]).flatten().tolist())


def test_cases_to_score_come_from_the_same_reader(folder):
    (example,) = cases.cache_index(folder, "valid")
    case = cases.cached(folder, example)
    rows = shards.read_audio(folder, example)
    assert case.name == "valid-00000000"
    assert np.allclose(case.capture, rows[0]) and np.allclose(case.reference, rows[6:10].sum(0))
    assert np.array_equal(case.interferer, rows[10]) and shards.crowd_of(rows[:10]) is None
    with pytest.raises(UserError, match="'test'; it has: train, valid"):
        cases.cache_index(folder, "test")


# ---- what comes from others


def write_old_cache(path, dtype=np.float16) -> None:
    rows = 0.1 * np.random.default_rng(0).standard_normal((10, 2, RATE))
    np.save(path / "000000.npy", rows.astype(dtype))
    entry = {"file": "000000.npy", "split": "train", "seconds": 1.0, "song": "x", "mix_only": False, "severity": 0.5,
             "present": [True] * 4, "gaps": []}
    index = {"format": 1, "rate": RATE, "rows": list(shards.ROWS), "examples": [entry]}
    (path / "index.json").write_text(json.dumps(index))


def test_a_cache_of_the_first_renderer_can_still_be_read(tmp_path):
    write_old_cache(tmp_path)
    example = CachedCaptures([tmp_path], "train", None)[0]
    assert torch.equal(example["dry"], torch.from_numpy(np.load(tmp_path / "000000.npy")[6:10].astype(np.float32)))


def test_scoring_says_where_the_crowd_is_not_known_alone(folder, tmp_path, caplog):
    write_old_cache(tmp_path)
    for cache, told in ((folder, False), (tmp_path, True)):
        caplog.clear()
        assert suites.items(settings.read(["suite=captures", f"cache={cache}", "split=train"]))
        assert ("rendered without crowd=true" in caplog.text) == told


def test_pickles_are_never_loaded(tmp_path):
    write_old_cache(tmp_path, object)
    with pytest.raises(UserError, match="cannot be read"):
        shards.read_audio(tmp_path, shards.choose(tmp_path, "all")[0])


@pytest.mark.parametrize("change", [{"shard": "../train-000000.tar"}, {"file": "/etc/passwd"}, {"split": "../x"}])
def test_an_index_stays_inside_its_folder(folder, tmp_path, change):
    index = shards.read_index(folder)
    index["examples"][0].update(change)
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="outside its folder"):
        shards.read_index(tmp_path)


@pytest.mark.parametrize("change", [{"scale": [1.0]}, {"file": "train-99999999"}, {"shard": "gone.tar"}])
def test_an_index_that_does_not_fit_is_an_error_with_a_name(folder, change):
    example = shards.choose(folder, "train")[0] | change
    with pytest.raises(UserError, match="render it again"):
        shards.read_audio(folder, example)


def test_only_flac_of_the_right_kind_is_decoded():
    for data in (b"", b"fLaC", b"RIFF" + bytes(100)):
        with pytest.raises(ValueError, match="not a"):
            shards.decode(data, 1.0)
    (flac,), (scale,) = shards.encode(np.zeros((1, 2, 100), np.float32))
    with pytest.raises(ValueError, match="shorter"):
        shards.decode(flac, scale, 50, 200)


# ---- streams


def test_a_stream_passes_over_every_shard_in_another_order_each_time(folder):
    pattern = f"{folder}/train-{{000000..000003}}.tar"
    stream = StreamedCaptures(expand(pattern), 1.0, seed=1)
    captures = [torch.from_numpy(shards.read_audio(folder, meta, slice(1))[0])
                for meta in shards.choose(folder, "train")]
    order = [next(n for n, capture in enumerate(captures) if torch.equal(capture, example["capture"]))
             for example in islice(stream, 24)]
    passes = [order[i : i + 4] for i in range(0, 24, 4)]
    assert all(sorted(one) == [0, 1, 2, 3] for one in passes) and len({tuple(one) for one in passes}) > 1
    again = list(islice(StreamedCaptures(expand(pattern), 0.5, seed=1), 3))
    assert all(same(a, b) for a, b in zip(again, StreamedCaptures(expand(pattern), 0.5, seed=1), strict=False))
    resumed = next(iter(StreamedCaptures(expand(pattern), 0.5, seed=1, start=8)))
    assert not same(resumed, again[0]) and resumed.keys() == CachedCaptures([folder], "train", 0.5)[0].keys() - {
        "crowd"}


def test_shards_are_dealt_out_to_processes_and_workers(folder, monkeypatch):
    urls = expand([f"{folder}/train-{{000000..000003}}.tar"])
    seen = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        stream = StreamedCaptures(urls, 1.0, seed=5)
        seen += [example["capture"].sum().item() for example in islice(stream, 2)]
    assert len(set(seen)) == 4
    with pytest.raises(UserError, match="too few for 2 processes"):
        next(iter(StreamedCaptures(urls[:1], 1.0)))


@pytest.mark.parametrize("pattern", ["pipe:touch {1..2}", "nowhere/train-{0..3}.tar", "a{1..", "file:x.tar"])
def test_streams_run_no_commands_and_name_what_is_missing(pattern, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"does not exist|brace"):
        expand(pattern)
    assert expand("https://example.org/train-{0..1}.tar")[1].endswith("train-1.tar")


@pytest.mark.parametrize("pattern", ["a b/train-{000000..000003}.tar", "a\\", 'a\\"b"', "${a}", "a]='b', c"])
def test_a_name_passes_the_command_line_unchanged(pattern):
    with initialize_config_dir(str(ROOT / "configs"), version_base=None):
        config = compose("train", ["data=shards", train.literal(f"data.shards={pattern}")])
    assert config.data.shards == pattern and config.data.workers == 2


def test_the_data_module_trains_from_a_stream_and_validates_from_the_folder(folder):
    config = DataConfig(shards=f"{folder}/train-{{000000..000003}}.tar", cache=str(folder), seconds=0.5, batch_size=2)
    data = CaptureData(config, ChainConfig(), 2)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch["wet"].shape == (2, 4, 2, RATE // 2) and batch["present"].dtype == torch.bool
    assert next(iter(data.val_dataloader()))["capture"].shape == (1, 2, RATE // 2)
    assert data.describe() == {"train": {"shards": 4}, "valid": {"examples": 1}}
    assert len(data.look(3)) == 3
    with pytest.raises(UserError, match=r"data\.cache=FOLDER"):
        CaptureData(DataConfig(shards=config.shards), ChainConfig(), 2).setup()


def test_too_short_examples_are_refused(folder):
    with pytest.raises(UserError, match="shorter than"):
        CachedCaptures([folder], "train", 2.0)
    with pytest.raises(UserError, match="shorter than"):
        next(iter(StreamedCaptures(expand(f"{folder}/train-000000.tar"), 2.0)))
