"""The Python API: light to import, the package still a package, and the code of infer.py."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

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
