"""The Python API: light to import, the package still a package, and the code of infer.py."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
from restoring import infer, music, tiny_weights

import resonate
from resonate.errors import UserError


def test_importing_is_light_and_the_package_stays_one():
    code = "import sys, resonate, resonate.restore.loudness; assert callable(resonate.restore)"
    light = "import sys, resonate; assert not {'torch', 'numpy', 'hydra'} & set(sys.modules)"
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
