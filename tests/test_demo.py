"""The demo end to end, with the weights of the repo: what `make demo` runs, and what holds on the files it leaves."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from resonate import STEMS, audio
from resonate.report import page
from resonate.restore.command import main
from resonate.restore.deliver import LEDGER
from resonate.restore.proof import prove

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "assets/demo/demo.m4a"
#: -120 dBFS.
LIMIT = 1e-6
#: How far a figure may lie from the recorded one, in dB: processors round differently, and encoders change.
NEAR_DB = 1.0
# Half a minute of processor time, but on a busy machine the whole chain takes longer than other tests may.
pytestmark = pytest.mark.timeout(900)


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load(folder: Path) -> dict[str, np.ndarray]:
    """Name -> (2, time) of each file of a ledger."""
    return {name: soundfile.read(folder / f"{name}.wav", dtype="float64")[0].T for name in LEDGER}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """The result folder, and the table that was printed."""
    folder = tmp_path_factory.mktemp("demo")
    run("infer.py", str(RECORDING), "-o", str(folder))
    return folder / "demo", run("-m", "resonate.evaluate.demo", str(folder))


def test_demo_restores_the_bundled_recording_and_prints_what_it_gained(demo):
    result, printed = demo
    for column in ("f_sdr", "lsd", "lsd_low", "lsd_high", "gap_db"):
        assert column in printed
    for name in ("master.wav", "report.html", "report.json", "ledger/revealed.wav", "stems/vocals.wav"):
        assert (result / name).is_file()
    scores = json.loads((result / "scores.json").read_text())["scores"]
    # What it is for: the crowd goes where no music is. Spectrum and likeness are not better yet; they are as published.
    assert scores["restored"]["gap_db"] < scores["input"]["gap_db"] - 30
    rows = json.loads((ROOT / "docs/results/demo.json").read_text())["rows"]
    published = {row["system"]: row["values"] for row in rows}
    for ours, theirs in (("input", "input"), ("restored", "resonate extend")):
        for name in ("f_sdr", "lsd"):
            assert scores[ours][name] == pytest.approx(published[theirs][name], abs=NEAR_DB), (ours, name)


def test_the_ledgers_equations_hold_on_the_demos_files(demo):
    parts = load(demo[0] / "ledger")
    given, _ = audio.to_stereo(audio.read(RECORDING).samples)
    sums = [
        ((*(f"separated_{name}" for name in STEMS), "crowd"), parts["separator_input"]),
        (("revealed", "extended"), parts["premaster"]),
        (("revealed", "removed"), given),
    ]
    for names, whole in sums:
        assert np.abs(whole).max() > 0.01 and all(np.abs(parts[name]).max() > 1e-4 for name in names), names
        assert np.abs(sum(parts[name] for name in names) - whole).max() < LIMIT, names


def test_reveal_with_the_shipped_weights_is_proved(tmp_path, monkeypatch):
    # The page takes as long as the rest and says nothing here.
    monkeypatch.setattr(page, "build", lambda result, report: None)
    words = ("mode=reveal", "start=4", "duration=4", "device=cpu", "threads=1")
    assert main([str(RECORDING), "-o", str(tmp_path), *words]) == 0
    parts = load(tmp_path / "demo" / "ledger")
    assert np.abs(parts["revealed"]).max() > 0.01 and not parts["extended"].any()
    proof = prove(tmp_path / "demo", RECORDING)
    assert proof.holds and proof.gain_most > 0.1, proof
