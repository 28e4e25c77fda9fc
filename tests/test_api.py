"""The Python API: light to import, the package still a package, and the code of infer.py."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from restoring import infer, music, tiny_weights

import resonate
from resonate import audio
from resonate.errors import UserError


def test_importing_is_light_and_the_package_stays_one():
    code = (
        "import sys, resonate, resonate.restore.loudness, resonate.degrade.gaps as gaps; from resonate import degrade\n"
        "assert callable(resonate.restore) and callable(degrade) and degrade.gaps is gaps\n"
        "from resonate.degrade import Bank, CaptureChain; assert CaptureChain.__module__ == 'resonate.degrade.chain'"
    )
    light = (
        "import sys, resonate, resonate.api, resonate.degrade, resonate.restore\n"
        "assert not {'torch', 'numpy', 'hydra', 'scipy'} & set(sys.modules), set(sys.modules)"
    )
    for text in (code, light):
        subprocess.run([sys.executable, "-c", text], check=True)


def test_diagnosis_through_the_api(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (3 * resonate.RATE, 2))
    soundfile.write(tmp_path / "show.wav", noise, resonate.RATE)
    done = resonate.restore(tmp_path / "show.wav", tmp_path / "out", preset="fast", diagnose_only=True)
    assert done.folder == tmp_path / "out" / "show" and done.folder / "report.json" in done.files
    assert done.report["diagnosis"]["words"] and not done.already


def test_an_unknown_setting_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="no such setting"):
        resonate.restore("show.wav", tmp_path / "out", volume=3)
    assert not (tmp_path / "out").exists()


def test_a_tonal_reference_that_cannot_be_read_is_refused_before_anything_is_written(tmp_path):
    soundfile.write(tmp_path / "show.wav", music(1.0, resonate.RATE).T, resonate.RATE)
    (tmp_path / "letter.wav").write_text("no sound")
    with pytest.raises(UserError, match="letter"):
        resonate.restore(tmp_path / "show.wav", tmp_path / "out", tonal_reference=tmp_path / "letter.wav")
    assert not (tmp_path / "out").exists()


def song(folder):
    """A folder with two stems of 2 s."""
    folder.mkdir()
    for name, seed in (("vocals", 1), ("drums", 2)):
        soundfile.write(folder / f"{name}.wav", music(2.0, resonate.RATE, seed=seed).T, resonate.RATE)
    return folder


def test_a_song_becomes_a_capture_whose_parts_add_up(tmp_path):
    made = resonate.degrade(song(tmp_path / "My song (1)"), tmp_path / "out", preset="mid", seed=3)
    assert made.folder == tmp_path / "out" / "My song (1)" and made.capture in made.files
    parts = {path.stem: soundfile.read(path)[0] for path in made.files if path.suffix == ".wav"}
    assert set(parts) == {"capture", "reference", "music", "crowd", "handling", "distortion"}
    total = sum(parts[name] for name in ("music", "crowd", "handling", "distortion"))
    np.testing.assert_allclose(total, parts["capture"], atol=1e-5)
    assert parts["capture"].shape == (2 * resonate.RATE, 2)
    assert np.abs(parts["capture"] - parts["reference"]).max() > 0.01
    facts = json.loads((made.folder / "params.json").read_text())
    assert facts["preset"] == "mid" and facts["params"] == json.loads(json.dumps(made.params))
    assert 0.4 <= made.params["severity"] <= 0.5 and made.measures["snr_db"] > -20
    again = resonate.degrade(tmp_path / "My song (1)", tmp_path / "again", preset="mid", seed=3)
    assert again.capture.read_bytes() == made.capture.read_bytes()
    mix = resonate.degrade(made.reference, tmp_path / "mix", preset="near", start=0.5, duration=1.0)
    assert soundfile.info(mix.capture).frames == resonate.RATE and mix.folder.name == "reference"


def test_what_cannot_be_degraded_is_refused_before_anything_is_written(tmp_path):
    folder, out = song(tmp_path / "song"), tmp_path / "out"
    (tmp_path / "letter.txt").write_text("no sound")
    for path, settings, says in (
        (folder, {"preset": "loud"}, "choose one of brutal"),
        (folder, {"seed": -1}, "whole number"),
        (folder, {"start": 1.5}, "lasts 2.0 s"),
        (folder, {"duration": 3.0}, "lasts 2.0 s"),
        (tmp_path / "letter.txt", {}, "neither a song"),
        (tmp_path / "none", {}, "neither a song"),
        (folder, {"bank": tmp_path}, "not a bank"),
    ):
        with pytest.raises(UserError, match=says):
            resonate.degrade(path, out, **settings)
    assert not out.exists()
    (out / "song").mkdir(parents=True)
    with pytest.raises(UserError, match="left alone"):
        resonate.degrade(folder, out)


def test_a_disk_that_fills_leaves_nothing_half_written(tmp_path, monkeypatch):
    written = []

    def write(path, x, rate):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(b"sound")

    monkeypatch.setattr(audio, "write", write)
    with pytest.raises(UserError, match="No space left"):
        resonate.degrade(song(tmp_path / "song"), tmp_path / "out")
    assert len(written) == 2 and not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_the_api_gives_what_infer_py_gives(tmp_path):
    soundfile.write(tmp_path / "show.wav", music(3.0, 48000).T, 48000)
    separator, restorer = tiny_weights()
    settings = {"mode": "reveal", "master.loudness": -16, "threads": 1, "separator": separator, "restorer": restorer}
    done = resonate.restore(tmp_path / "show.wav", tmp_path / "api", **settings)
    words = ("mode=reveal", "master.loudness=-16")
    assert infer(tmp_path / "show.wav", "-o", tmp_path / "command", *words).returncode == 0
    for name in ("master.wav", "ledger/revealed.wav"):
        assert (done.folder / name).read_bytes() == (tmp_path / "command" / "show" / name).read_bytes()
    assert done.folder / "report.html" in done.files
    assert resonate.restore(tmp_path / "show.wav", tmp_path / "command", **settings).already
