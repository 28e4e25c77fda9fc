"""A training killed and resumed ends with the weights of one that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from resonate import RATE, audio

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


def start(experiment: str, songs: Path, output: Path) -> subprocess.Popen:
    command = [sys.executable, "train.py", f"experiment={experiment}", "debug=smoke", f"data.music={songs}",
               f"output={output}", "data.seconds=2.0", "trainer.max_steps=24", "trainer.valid_every=12",
               "trainer.checkpoint_every=4", "trainer.threads=1", "trainer.accelerator=cpu", "callbacks.progress=false",
               "degrade.codecs=false", *MODELS[experiment]]
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
