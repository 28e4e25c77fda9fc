"""Stopped runs go on where they stopped, to what an uninterrupted run gives; only what a change touches is redone."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from restoring import ROOT, music, weights_arguments

from resonate import audio
from resonate.errors import UserError
from resonate.models.weights import load_separator, read_header, save_weights
from resonate.report import page
from resonate.restore import checkpoint, networks, results, work
from resonate.restore.arguments import parse
from resonate.restore.command import main, read_config
from resonate.restore.config import RestoreConfig
from resonate.restore.pipeline import restore
from resonate.restore.scratch import scratch_folder, scratch_path
from resonate.restore.work import Models


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.fixture(autouse=True, scope="module")
def many_blocks():
    """Several blocks of the restorer in a few seconds of sound, and a note after each; no page, which takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "RESTORE_BLOCK", 96)
        patch.setattr(networks, "RESTORE_HOP", 72)
        patch.setattr(checkpoint, "EVERY", 0.0)
        patch.setattr(page, "build", lambda result, report: None)
        yield


def settings(*words: str) -> RestoreConfig:
    return read_config(parse([*words, "threads=1", "device=cpu", *weights_arguments()]))[0]


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("resume") / "x.wav"
    audio.write(path, music(3.3, 48000), 48000)
    return path


def files(result: Path) -> dict[str, bytes]:
    """All sound and all masks of a result."""
    names = sorted(p for p in result.rglob("*") if p.suffix in (".wav", ".npy"))
    return {p.relative_to(result).as_posix(): p.read_bytes() for p in names}


def account(result: Path) -> dict:
    """The report without its timings."""
    report = json.loads((result / "report.json").read_text(encoding="utf-8"))
    del report["timings"]
    for stage in report["stages"]:
        del stage["seconds"]
    return report


def go(path: Path, folder: Path, config: RestoreConfig, stop_at: int | None = None) -> list[tuple[str, float]]:
    """Restore; killed at the progress message of this number. The messages."""
    told: list[tuple[str, float]] = []

    def tell(stage: str, share: float) -> None:
        told.append((stage, share))
        if len(told) - 1 == stop_at:
            raise Killed

    folder.parent.mkdir(exist_ok=True)
    try:
        restore(path, folder, config, Models(config), tell)
    except Killed:
        assert not folder.exists()
    return told


def stages_of(told: list[tuple[str, float]]) -> list[str]:
    return list(dict.fromkeys(stage for stage, _ in told))


@pytest.fixture(scope="module")
def plan() -> tuple[str, ...]:
    return ("separate.shifts=2", "separate.again=true", "separate.residual=true", "equalise.max_db=3")


def test_killed_again_and_again_gives_the_same_bytes(recording, tmp_path, plan):
    config = settings(*plan)
    told = go(recording, tmp_path / "whole" / "x", config)
    places = [i for i, (stage, share) in enumerate(told) if stage in ("separate", "restore") and 0 < share < 1]
    assert len(places) > 15
    shares = []
    # Each run is killed a little further on than the last one came.
    for step in (3, 9, 7, 8, 3, 4, 5, 12):
        again = go(recording, tmp_path / "killed" / "x", config, stop_at=step)
        shares.append(again[min(1, len(again) - 1)])
    go(recording, tmp_path / "killed" / "x", config)
    assert any(stage == "separate" and share > 0.5 for stage, share in shares), shares
    assert files(tmp_path / "killed" / "x") == files(tmp_path / "whole" / "x")
    assert account(tmp_path / "killed" / "x") == account(tmp_path / "whole" / "x")
    assert [p.name for p in (tmp_path / "killed").iterdir()] == ["x"]


@pytest.fixture(scope="module")
def whole(recording, tmp_path_factory) -> tuple[list[tuple[str, float]], Path]:
    """Messages and result of an uninterrupted run with the default settings."""
    folder = tmp_path_factory.mktemp("whole") / "out" / "x"
    return go(recording, folder, settings()), folder


def blocks(told: list[tuple[str, float]]) -> list[float]:
    """Shares after each block of the restorer."""
    return [share for stage, share in told if stage == "restore" and share > 0]


def test_a_stop_costs_one_block_and_not_the_stage(recording, whole, tmp_path):
    config, (told, _) = settings(), whole
    third = told.index(("restore", blocks(told)[2]))
    go(recording, tmp_path / "stopped" / "x", config, stop_at=third)
    again = go(recording, tmp_path / "stopped" / "x", config)
    assert stages_of(again)[0] == "restore"
    # The last block on the disk is computed again, for its end, and then those that lack.
    assert blocks(again) == blocks(told)[2:]


@pytest.mark.parametrize(
    ("word", "first"),
    [
        ("master.loudness=-16", "master"),
        ("strength.gain=0.5", "choose"),
    ],
)
def test_only_later_stages_run_again(recording, whole, tmp_path, word, first):
    folder, (told, _) = tmp_path / "out" / "x", whole
    go(recording, folder, settings(), stop_at=told.index(("report", 0.0)))
    again, everything = stages_of(go(recording, folder, settings(word))), stages_of(told)
    assert again == everything[everything.index(first) :]
    go(recording, tmp_path / "fresh" / "x", settings(word))
    assert files(folder) == files(tmp_path / "fresh" / "x")


def test_kept_intermediates_serve_other_settings(recording, tmp_path):
    folder = tmp_path / "out" / "x"
    go(recording, folder, settings("keep=true"))
    assert scratch_path(folder).is_dir()
    again = stages_of(go(recording, folder, settings("keep=true", "overwrite=true", "precondition.rumble_hz=30")))
    assert again[0] == "precondition"
    words = ("overwrite=true", "precondition.rumble_hz=30", "compress.ratio=2")
    master = stages_of(go(recording, folder, settings(*words)))
    assert master == ["compress", "width", "master", "report"]
    assert not scratch_path(folder).exists()


def test_a_preview_or_a_diagnosis_leaves_the_work_of_a_stopped_run_alone(recording, whole, tmp_path):
    folder, (told, result) = tmp_path / "out" / "x", whole
    go(recording, folder, settings(), stop_at=told.index(("stems", 0.0)))
    kept = sorted(scratch_path(folder).rglob("*"))
    go(recording, folder, settings("diagnose_only=true"))
    go(recording, folder, settings("duration=0.7"))
    assert sorted(scratch_path(folder).rglob("*")) == kept
    assert stages_of(go(recording, folder, settings("overwrite=true")))[0] == "stems"
    assert files(folder) == files(result)
    assert [p.name for p in folder.parent.iterdir()] == ["x"]


def test_a_namesake_leaves_the_work_of_a_stopped_run_alone(recording, whole, tmp_path):
    output, (told, _) = tmp_path / "out", whole
    go(recording, output / "x", settings(), stop_at=told.index(("stems", 0.0)))
    namesake = tmp_path / "x.wav"
    audio.write(namesake, music(1.3, 48000, seed=5), 48000)
    assert results.folder_names([namesake], output) == ["x_wav"]
    assert results.folder_names([recording], output) == ["x"]
    moved = tmp_path / "moved" / "x.wav"
    moved.parent.mkdir()
    shutil.copy(recording, moved)
    assert results.folder_names([moved, namesake], output) == ["x", "x_wav"]
    # Before the namesake's own result is there, too.
    go(namesake, output / "x_wav", settings(), stop_at=12)
    assert results.folder_names([namesake], output) == ["x_wav"]
    assert stages_of(go(recording, output / "x", settings()))[0] == "stems"


def test_an_array_that_is_gone_is_made_again(recording, whole, tmp_path):
    folder, (told, result) = tmp_path / "out" / "x", whole
    go(recording, folder, settings(), stop_at=told.index(("stems", 0.0)))
    (lost,) = scratch_path(folder).glob("remix-*/revealed.npy")
    lost.unlink()
    # What remix needs of earlier stages was freed when it was done, but for what the networks had given.
    assert stages_of(go(recording, folder, settings()))[0] in ("separate", "restore", "remix")
    assert files(folder) == files(result)


def test_other_weights_or_another_recording_start_anew(recording, tmp_path, monkeypatch):
    folder, config = tmp_path / "out" / "x", settings()
    go(recording, folder, config, stop_at=12)
    other = tmp_path / "x.wav"
    audio.write(other, music(3.3, 48000, seed=5), 48000)
    assert stages_of(go(other, folder, config, stop_at=12))[0] == "ingest"
    given = Path(config.separator)
    network = load_separator(given)
    network.encoder[0].conv.weight.data.mul_(1.01)
    about = read_header(given, "separator")["settings"]
    changed = save_weights(network, tmp_path / "s.safetensors", "separator", about)
    assert stages_of(go(other, folder, replace(config, separator=str(changed)), stop_at=0)) == ["separate"]
    listener = tmp_path / "listener.safetensors"
    listener.write_bytes(work.LISTENER.read_bytes() + b" ")
    monkeypatch.setattr(work, "LISTENER", listener)
    # Diagnosis anew, and what it reads: that was freed once the precondition was done.
    assert stages_of(go(other, folder, config, stop_at=0))[0] in ("ingest", "diagnose")


def test_a_former_result_survives_a_kill_between_the_two_renames(recording, tmp_path):
    """Then nothing is at the result's place; the next run puts the former result back before anything else."""
    folder = tmp_path / "out" / "x"
    go(recording, folder, settings())
    before, scratch = files(folder), scratch_path(folder)
    scratch.mkdir()
    folder.rename(scratch / "old")
    with pytest.raises(UserError, match="overwrite=true"), scratch_folder(folder):
        results.finished(folder, "another", overwrite=False)
    assert files(folder) == before


def comparable(result: Path) -> dict:
    return {"files": files(result), "account": account(result)}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_kill_9_at_random_moments(tmp_path):
    """The real thing: a process that is killed, five times, and then left to finish."""
    path = tmp_path / "x.wav"
    audio.write(path, music(12, 44100), 44100)
    words = [str(path), "threads=1", "device=cpu", "separate.shifts=2", *weights_arguments()]
    stages = [*RestoreConfig().stages, "report"]

    def start(output: str) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "infer.py"), *words, "-o", str(tmp_path / output)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for(process: subprocess.Popen, stage: str) -> None:
        """Until it says that it is at this stage or, where the run before came further, at a later one."""
        for line in process.stdout:
            if line.strip() in stages[stages.index(stage) :]:
                return
        raise AssertionError(f"it ended without a word of {stage} or what follows")

    def finish(output: str) -> None:
        process = start(output)
        try:
            out, _ = process.communicate(timeout=900)
        finally:
            process.kill()
        assert process.returncode == 0, out

    finish("whole")
    took = json.loads((tmp_path / "whole" / "x" / "report.json").read_text(encoding="utf-8"))["timings"]
    rng = random.Random(0)
    # At most half of a stage is waited for: a quicker run must not end before it is killed.
    for stage in ("separate", "separate", "restore", "remix", "report"):
        process = start("killed")
        wait_for(process, stage)
        time.sleep(0.5 * took[stage] * rng.random())
        assert process.poll() is None, f"it had ended before it was killed in {stage}"
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    finish("killed")
    assert comparable(tmp_path / "killed" / "x") == comparable(tmp_path / "whole" / "x")
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == [".hydra", "x"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_signal_says_that_it_goes_on(kind, recording, tmp_path):
    command = [sys.executable, str(ROOT / "infer.py"), str(recording), "-o", str(tmp_path / "out"), "threads=1"]
    process = subprocess.Popen(
        [*command, *weights_arguments()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell starts jobs in the background deaf to SIGINT, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if line.strip() == "separate":
            break
    process.send_signal(kind)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on from there" in error and error.count("\n") == 1
    kept = scratch_path(tmp_path / "out" / "x")
    assert list(kept.glob("ingest-*/done.json")) and not (tmp_path / "out" / "x").exists()
    assert main([str(recording), "-o", str(tmp_path / "out"), "threads=1", *weights_arguments()]) == 0
    assert not kept.exists() and np.isfinite(audio.read(tmp_path / "out" / "x" / "master.wav").samples).all()
