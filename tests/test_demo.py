"""The demo end to end, with the weights of the repo: what `make demo` runs."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_demo_restores_the_bundled_recording_and_prints_what_it_gained(tmp_path):
    run("infer.py", "assets/demo/demo.m4a", "-o", str(tmp_path))
    printed = run("-m", "resonate.evaluate.demo", str(tmp_path))
    for column in ("f_sdr", "lsd", "lsd_low", "lsd_high", "gap_db"):
        assert column in printed
    scores = json.loads((tmp_path / "demo" / "scores.json").read_text())["scores"]
    assert scores["restored"]["lsd"] < scores["input"]["lsd"]
    assert scores["restored"]["gap_db"] < scores["input"]["gap_db"] - 3
    result = tmp_path / "demo"
    for name in ("master.wav", "report.html", "report.json", "ledger/revealed.wav", "stems/vocals.wav"):
        assert (result / name).is_file()
