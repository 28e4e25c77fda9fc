"""Rendering for real: many examples, several processes, submitit, and a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rendering import hashes, make, make_music

from data_recipes import render
from resonate.data import shards

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    return make_music(tmp_path_factory.mktemp("music"))


def command(music: Path, out: Path, *words: str) -> list[str]:
    small = ["seconds=0.5", "listen=0", "severity=mix"]
    return [sys.executable, "-m", "data_recipes.render", f"music={music}", f"out={out}", *small, *words]


def run(*arguments: str | Path) -> str:
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_fifty_examples_are_the_same_from_one_process_and_from_two(music, tmp_path):
    counts = ("per_shard=10", "shards.train=3", "shards.valid=2", "seed=11")
    name = "it's [two], {x}=1"
    said = run(music, tmp_path / name, *counts, "workers=2")
    assert "30 train, 20 valid examples" in said
    plan = make(music, tmp_path / "one", "seconds=0.5", "severity=mix", *counts)
    render.render(plan)
    assert hashes(tmp_path / name) == hashes(plan.out)
    examples = shards.read_index(plan.out)["examples"]
    captures = {shards.read_audio(plan.out, e, slice(1)).tobytes() for e in examples}
    assert len(examples) == len(captures) == 50


def test_submitit_s_jobs_write_the_same(music, tmp_path):
    counts = ("per_shard=2", "shards.train=2", "shards.valid=1")
    run(music, tmp_path / "jobs", *counts, "workers=2", "hydra/launcher=submitit_local")
    plan = make(music, tmp_path / "here", "seconds=0.5", "severity=mix", *counts)
    render.render(plan)
    assert hashes(tmp_path / "jobs") == hashes(plan.out)
    assert len(list((tmp_path / "jobs" / "hydra").glob("*/.submitit/*/*_result.pkl"))) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_render_goes_on_and_loses_nothing(music, tmp_path, workers):
    counts = ("per_shard=3", "shards.train=4", "shards.valid=0")
    out = tmp_path / "killed"
    process = subprocess.Popen(command(music, out, *counts, f"workers={workers}"), cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    # In the middle of a shard, with others done.
    while not (list(out.glob("train-*.tar")) and any(p.stat().st_size for p in out.glob(".*.count") if p.exists())):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("train-*.tar")}
    assert 0 < len(done) < 4
    run(music, out, *counts, f"workers={workers}")
    plan = make(music, tmp_path / "whole", "seconds=0.5", "severity=mix", *counts)
    render.render(plan)
    assert hashes(out) == hashes(plan.out)
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in done.items())
    names = [e["file"] for e in shards.read_index(out)["examples"]]
    assert names == [f"train-{n:08d}" for n in range(12)] and not list(out.glob(".*.part"))
