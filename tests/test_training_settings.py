"""Settings of a training that cannot be, or would do nothing: one sentence each, before anything is trained."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rendering import make, make_music
from restoring import tiny_weights
from test_training import CONFIGS, TINY, config

from data_recipes import render
from resonate.data import shards
from resonate.errors import UserError
from resonate.models.restorer import RestorerConfig
from resonate.models.weights import SEPARATOR
from resonate.training import run, start
from resonate.training.run import train
from resonate.training.start import PLAIN_RESTORER, build_task, check_model, start_separator

ROOT = Path(CONFIGS).parent


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and not re.search(r"\. [A-Z]", text), text
    return text


@pytest.mark.parametrize(("words", "contradiction"), [
    (("+model.options.channels=48",), "channels=48"),
    (("+model.options.chanels=24",), "no such setting"),
    (("ablation=restorer_unet",), "network=unet"),
    (("model=htdemucs_small", "model.pretrained={tiny}"), "segment=5.0"),
    (("ablation=scratch", "model.pretrained={tiny}"), "segment=5.0"),
    # What is the same, or the default of what the file leaves out, contradicts nothing.
    (("model=htdemucs_small", "model.pretrained=repo"), ""),
    (("model.pretrained={tiny}", "+model.options.growth=2", "+model.options.channels=8"), ""),
    (("ablation=lora",), ""),
    (("ablation=scratch",), ""),
])
def test_an_option_that_the_separators_weights_contradict_is_refused(words, contradiction, tmp_path):
    words = [word.format(tiny=tiny_weights()[0]) for word in words]
    model = config("finetune_demucs", tmp_path, *words).model
    check_model(model)
    if not contradiction:
        start_separator(model)
        return
    with pytest.raises(UserError, match=contradiction) as error:
        start_separator(model)
    assert "contradicts the weights" in one_sentence(error)


@pytest.mark.parametrize(("words", "contradiction"), [
    (("model=restorer_base",), "width=192"),
    (("ablation=restorer_no_context",), "context=0"),
    (("ablation=restorer_unet",), "network=unet"),
    (("ablation=restorer_no_equaliser",), "eq_range_db=0.0"),
    (("ablation=restorer_no_crowd_loss",), ""),
    ((), ""),
    # The experiment brings a size by itself, which nobody asked for.
    (("model.pretrained={tiny}",), ""),
])
def test_an_option_that_the_restorers_weights_contradict_is_refused(words, contradiction, tmp_path):
    words = [word.format(tiny=tiny_weights()[1]) for word in words]
    made = config("restorer", tmp_path, "model.pretrained=repo", *words)
    if not contradiction:
        assert build_task(made, None).kind == "restorer"
        return
    with pytest.raises(UserError, match=contradiction) as error:
        build_task(made, None)
    assert "contradicts the weights" in one_sentence(error)


def test_what_the_experiment_brings_unasked_is_known(tmp_path):
    assert RestorerConfig(**config("restorer", tmp_path).model.options).to_dict() == PLAIN_RESTORER


def test_every_documented_choice_of_weights_and_options_goes_together(tmp_path, monkeypatch):
    """Of each training command in the docs: the options are those of the weights, or make a new model."""
    monkeypatch.setattr(start, "fetch_released", lambda instead: SEPARATOR)
    commands = set()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        commands |= set(re.findall(r"python train\.py (experiment=[^#`\n]*)", path.read_text(encoding="utf-8")))
    assert len(commands) > 8
    for command in sorted(commands):
        words = [word.replace("runs/pretrain_separator/weights.safetensors", str(SEPARATOR)).replace("`", "")
                 for word in command.split() if not word.startswith(("experiment=", "output="))]
        made = config(re.match(r"experiment=(\w+)", command)[1], tmp_path, *words)
        check_model(made.model)
        if made.model.kind == "separator":
            start_separator(made.model)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Three train shards of two captures and a valid one."""
    root = tmp_path_factory.mktemp("cache")
    make_music(root / "music")
    render.render(make(root / "music", root / "out", "shards.train=3"))
    return root / "out"


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory) -> Path:
    """A run of one step; its checkpoint is checkpoints/last.ckpt."""
    output = tmp_path_factory.mktemp("trained")
    train(config("restorer", output, *short(cache)))
    return output


def short(cache: Path | str, *words: str, experiment: str = "restorer") -> list[str]:
    return [f"data.cache={cache}", *TINY[experiment], "data.seconds=0.5", "data.valid_examples=1", "data.batch_size=1",
            "trainer.max_steps=1", "trainer.checkpoint_every=1", *words]


@pytest.fixture
def untrained(monkeypatch):
    """No step may be taken."""
    def fit(*_, **__):
        raise AssertionError("training began")

    monkeypatch.setattr(run.L.Trainer, "fit", fit)


def refused(cache: Path, output: Path, *words: str, experiment: str = "restorer") -> str:
    with pytest.raises(UserError) as error:
        train(config(experiment, output, *short(cache, *words, experiment=experiment)))
    return one_sentence(error)


def test_paths_begin_at_home(cache, trained, tmp_path, monkeypatch):
    """Also Hydra's folder: nothing is called "~"."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, there in (("cache", cache), ("first", trained), ("weights.safetensors", trained / "weights.safetensors")):
        (tmp_path / name).symlink_to(there)
    # Quoted, as train.py gives names to Hydra.
    words = short('"~/cache"', 'data.shards="~/cache/train-{000000..000002}.tar"', "trainer.max_steps=2")
    _, objects = train(config("restorer", '"~/runs/a"', *words, 'resume="~/first/checkpoints/last.ckpt"'))
    assert objects["trainer"].global_step == 2 and (tmp_path / "runs" / "a" / "weights.safetensors").is_file()
    made = config("restorer", tmp_path, 'model.pretrained="~/weights.safetensors"')
    assert build_task(made, None).kind == "restorer"
    command = [sys.executable, str(ROOT / "train.py"), "experiment=restorer", "output=~/runs/c", "data.music=~/none"]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and str(tmp_path / "none") in done.stderr
    assert (tmp_path / "runs" / "c" / "hydra" / ".hydra").is_dir() and not (tmp_path / "~").exists()


@pytest.mark.parametrize("word", ["optimiser.lr=0", "optimiser.lr=-1e-3", "optimiser.lr=nan", "optimiser.lr=inf",
                                  "optimiser.weight_decay=-1", "trainer.max_steps=0"])
def test_numbers_that_train_nothing_are_refused(word, cache, tmp_path, untrained):
    assert word.split("=")[0] in refused(cache, tmp_path / "out", word)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "machine", "reason"), [
    ("cuda", set(), "does not find"), ("gpu", set(), "does not find"), ("mps", {"cuda"}, "does not find"),
    ("cuda", {"mps"}, "gpu or mps"), ("tpu", {"cuda"}, "choices"),
    ("cuda", {"cuda"}, ""), ("gpu", {"mps"}, ""), ("mps", {"mps"}, ""), ("auto", set(), ""), ("cpu", set(), ""),
])
def test_an_accelerator_that_is_not_there_is_refused(name, machine, reason, cache, tmp_path, untrained, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in machine)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in machine)
    if not reason:
        run.check_accelerator(name)
        return
    told = refused(cache, tmp_path / "out", f"trainer.accelerator={name}")
    assert reason in told and name in told and not (tmp_path / "out").exists()


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "flipped":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    elif how == "text":
        path.write_text("no checkpoint")
    elif how == "empty":
        torch.save({"state_dict": {}}, path)
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["cut", "flipped", "text", "empty", "gone"])
def test_a_damaged_checkpoint_is_told_before_training(how, cache, trained, tmp_path, untrained):
    path = tmp_path / "my.ckpt"
    shutil.copy(trained / "checkpoints" / "last.ckpt", path)
    damage(path, how)
    assert "my.ckpt" in refused(cache, tmp_path / "out", f"resume={path}")
    assert not (tmp_path / "out" / "record.json").exists()


def test_another_models_checkpoint_is_told_before_training(cache, trained, tmp_path, untrained):
    last = trained / "checkpoints" / "last.ckpt"
    for words, experiment in (((), "finetune_demucs"), (("model.options.width=8",), "restorer"),
                              (("model.options.context=0",), "restorer")):
        told = refused(cache, tmp_path / "out", *words, f"resume={last}", experiment=experiment)
        assert "another model" in told and "last.ckpt" in told
    assert "model.pretrained" in refused(cache, tmp_path / "out", f"resume={trained / 'weights.safetensors'}")
    # The same model, of which another run trained only a part.
    state = torch.load(last, weights_only=True)
    state["optimizer_states"][0]["param_groups"][0]["params"].pop()
    torch.save(state, tmp_path / "part.ckpt")
    assert "other parts" in refused(cache, tmp_path / "out", f"resume={tmp_path / 'part.ckpt'}")


@pytest.mark.parametrize(("name", "how"), [
    ("train-000001.tar", "gone"), ("train-000001.tar", "cut"), ("train-000002.tar", "text"),
    ("valid-000000.tar", "gone"),
])
@pytest.mark.parametrize("experiment", ["restorer", "finetune_demucs"])
def test_a_damaged_shard_is_told_before_training(name, how, experiment, cache, tmp_path, untrained):
    shutil.copytree(cache, tmp_path / "cache")
    damage(tmp_path / "cache" / name, how)
    assert name in refused(tmp_path / "cache", tmp_path / "out", experiment=experiment)
    if name.startswith("train") and how != "gone":
        stream = f'data.shards="{tmp_path}/cache/train-{{000000..000002}}.tar"'
        assert name in refused(tmp_path / "cache", tmp_path / "out", stream)


def test_captures_that_the_shards_lack_are_told_before_training(cache, tmp_path, untrained):
    shutil.copytree(cache, tmp_path / "cache")
    index = json.loads((cache / "index.json").read_text())
    middle = next(e for e in index["examples"] if e["shard"] == "train-000001.tar")
    middle["file"] = "train-99999999"
    (tmp_path / "cache" / "index.json").write_text(json.dumps(index))
    assert "train-99999999" in refused(tmp_path / "cache", tmp_path / "out")
    # What is there, but no FLAC.
    shutil.copy(cache / "index.json", tmp_path / "cache" / "index.json")
    shard = tmp_path / "cache" / "train-000002.tar"
    whole = bytearray(shard.read_bytes())
    for name, (offset, size) in shards.members(shard).items():
        if name.endswith(".flac"):
            whole[offset : offset + size] = bytes(size)
    shard.write_bytes(whole)
    assert shard.name in refused(tmp_path / "cache", tmp_path / "out")
