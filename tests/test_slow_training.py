"""A training killed and resumed ends with the weights of one that was not; several processes; the released size."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from demucs.htdemucs import HTDemucs
from demucs.states import save_with_checksum, serialize_model
from omegaconf import OmegaConf
from safetensors.torch import load_file

from resonate import RATE, STEMS, audio
from resonate.models.weights import load_separator
from resonate.training.config import TrainerConfig
from resonate.training.run import pick_precision

ROOT = Path(__file__).parents[1]
MODELS = {"restorer": ("model.options.width=16",),
          "finetune_demucs": ("model=htdemucs_small", "model.options.channels=8", "model.options.bottom_channels=16",
                              "model.options.segment=2.0")}


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    for name in ("One", "Two"):
        (folder / name).mkdir()
        for stem in ("drums", "vocals"):
            x = rng.standard_normal((2, 10 * RATE)) * np.exp(-((np.arange(10 * RATE) / RATE * 3) % 1.0) * 8) * 0.2
            audio.write(folder / name / f"{stem}.wav", x.astype(np.float32), RATE)
    return folder


def start(experiment: str, songs: Path, output: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "train.py", f"experiment={experiment}", "debug=smoke", f"data.music={songs}",
               f"output={output}", "data.seconds=2.0", "trainer.max_steps=24", "trainer.valid_every=12",
               "trainer.checkpoint_every=4", "trainer.threads=1", "trainer.accelerator=cpu", "callbacks.progress=false",
               "degrade.codecs=false", *MODELS[experiment], *overrides]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("experiment", list(MODELS))
def test_killed_training_goes_on_where_it_was(experiment, stop, songs, tmp_path):
    whole = start(experiment, songs, tmp_path / "whole")
    assert whole.wait(600) == 0, whole.stderr.read().decode()[-2000:]

    broken = tmp_path / "broken"
    process = start(experiment, songs, broken)
    deadline = time.monotonic() + 300
    while not (broken / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(stop)
    process.wait(120)
    if stop == signal.SIGTERM:
        assert process.returncode == 0
    again = start(experiment, songs, broken)
    assert again.wait(600) == 0, again.stderr.read().decode()[-2000:]

    expected, got = load_file(tmp_path / "whole" / "weights.safetensors"), load_file(broken / "weights.safetensors")
    assert expected.keys() == got.keys()
    difference = max(float((expected[k] - got[k]).abs().max()) for k in expected)
    assert difference < 1e-5


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_processes_train_one_model_on_different_examples(songs, tmp_path):
    """Two processes with batches of one take the steps of one process with batches of two."""
    ddp = ("trainer=ddp", "trainer.devices=2", "trainer.max_steps=4", "trainer.valid_every=2", "trainer.ema=0.0",
           "trainer.precision=32-true")
    two = start("finetune_demucs", songs, tmp_path / "two", *ddp, "data.batch_size=1")
    assert two.wait(900) == 0, two.stderr.read().decode()[-3000:]
    one = start("finetune_demucs", songs, tmp_path / "one", *ddp[2:], "data.batch_size=2")
    assert one.wait(600) == 0, one.stderr.read().decode()[-3000:]
    expected, got = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert expected.keys() == got.keys()
    # The mean over two losses is the loss of both only as far as their stems are equally many: they are here.
    difference = max(float((expected[k] - got[k]).abs().max()) for k in expected)
    assert difference < 1e-3
    assert json.loads((tmp_path / "two" / "record.json").read_text())["config"]["trainer"]["strategy"] == "ddp"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_released_size_is_fine_tuned_from_demucs_own_package(songs, tmp_path):
    """Architecture and file form of the released htdemucs with random weights, three steps, and back."""
    torch.manual_seed(0)
    model = HTDemucs(sources=list(STEMS), samplerate=RATE, segment=Fraction(39, 5), bottom_channels=512)
    assert 41.4e6 < sum(p.numel() for p in model.parameters()) < 41.6e6
    (tmp_path / "repo").mkdir()
    save_with_checksum(serialize_model(model, OmegaConf.create({"seed": 1})), tmp_path / "repo" / "955717e8.th")
    command = [sys.executable, "train.py", "experiment=finetune_demucs", "debug=smoke", f"data.music={songs}",
               f"output={tmp_path / 'run'}", f"model.pretrained={tmp_path / 'repo'}", "data.seconds=1.0",
               "data.batch_size=1", "data.valid_examples=1", "trainer.valid_seconds=2.0", "trainer.max_steps=3",
               "trainer.valid_every=3", "trainer.accelerator=cpu", "trainer.threads=2", "callbacks.progress=false",
               "degrade.codecs=false"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    exported = tmp_path / "run" / "weights.safetensors"
    again = load_separator(exported)
    from demucs.hf import load_safetensors_model
    theirs = load_safetensors_model(exported).eval()
    assert again.segment == theirs.segment == Fraction(39, 5)
    x = 0.1 * torch.randn(1, 2, RATE)
    with torch.no_grad():
        assert torch.equal(again(x), theirs(x))
        before = model.eval()(x)
        # Trained: not what it was, and not far from it after three steps of warm-up.
        assert 0 < float((again(x) - before).abs().max()) < float(before.abs().max())


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_released_size_comes_back_from_an_export_and_its_cost_is_printed():
    command = [sys.executable, "benchmarks/training.py", "--released", "--batch=1", "--seconds=1", "--threads=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1400, check=False,
                          env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "41.5 M" in done.stdout and "equal outputs" in done.stdout and "DIFFERENT" not in done.stdout
    assert float(re.search(r"peak memory\W+([\d.]+) GB", done.stdout)[1]) > 0.5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_benchmark_of_steps_prints_each_beside_demucs_or_says_what_is_missing():
    command = [sys.executable, "benchmarks/training.py", "--threads=1", "--batch=1", "--seconds=1", "--steps=1",
               "--options", "depth=4", "channels=16"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False,
                          env={**os.environ, "COLUMNS": "160"})
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {name.strip(): [float(x) for x in figures] for name, *figures in re.findall(
        r"│ ([a-z][^│]+)" + 4 * r"│\s+([\d.]+) " + "│", done.stdout)}
    ours = [name for name in rows if name.startswith("train.py")]
    assert len(ours) == (4 if pick_precision(TrainerConfig(accelerator="cpu"))[1] == "bf16-mixed" else 3)
    assert ("demucs's solver, fp32, L1" in rows) != ("Demucs's solver is not installed" in done.stdout)
    for clock, processor, per_clock, per_processor in rows.values():
        assert per_clock == pytest.approx(1 / clock, rel=0.1) and per_processor == pytest.approx(1 / processor, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("word", "reason"), [
    ("output={tmp}/file/run", "Not a directory"), ("experiment=none", "none"), ("data.sconds=3", "sconds"),
    ("data.music={tmp}/nowhere", "does not exist")])  # fmt: skip
def test_what_cannot_be_trained_is_told_without_a_traceback(word, reason, tmp_path):
    (tmp_path / "file").write_text("text")
    command = [sys.executable, "train.py", f"output={tmp_path}/run", word.format(tmp=tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and reason in done.stderr and "Traceback" not in done.stderr
