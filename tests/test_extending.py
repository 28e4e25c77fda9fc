"""The examples of docs/extending.md, run as they stand there."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from restoring import music, tiny_weights
from test_tone import noise, result, work_with

from resonate import RATE, audio
from resonate.degrade import Bank, CaptureChain, ChainConfig, converter
from resonate.errors import UserError
from resonate.restore import stages, work
from resonate.restore.config import RestoreConfig

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


def block(part: str) -> str:
    """The block of Python on the page that holds `part`."""
    (found,) = (b for b in re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.M) if part in b)
    return found


def run(code: str) -> dict:
    names = {"__name__": "extending"}
    exec(compile(code, PAGE.name, "exec", dont_inherit=True), names)
    return names


@pytest.fixture
def fade(monkeypatch):
    """The class of the example, which has entered itself among copies of the tables."""
    monkeypatch.setattr(stages, "STAGES", dict(stages.STAGES))
    monkeypatch.setattr(stages, "AFTER", dict(stages.AFTER))
    return run(block("class Fade"))["Fade"]


def test_the_stage_does_what_the_page_says(fade, tmp_path):
    there = work_with(noise(), tmp_path)
    x = result(there)
    assert fade().run(there) == {"seconds": 0.5} == fade().settings(there.config)
    y, half = result(there), 24_000
    assert np.array_equal(y[:, half:-half], x[:, half:-half])
    assert not y[:, 0].any() and not y[:, -1].any()
    assert np.allclose(y[:, 12_000], 0.5 * x[:, 12_000]) and np.allclose(y[:, -12_001], 0.5 * x[:, -12_001])
    there.silent = True
    assert "skipped" in fade().run(there)


def test_the_stage_takes_part_in_a_restoration(fade, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audio.encode(Path("show.m4a"), music(2.0, 48000), 48000)
    for name, path in zip(("SEPARATOR", "RESTORER"), tiny_weights(), strict=True):
        monkeypatch.setattr(work, name, path)
    done = run(block("resonate.restore("))["done"]
    accounts = {stage["name"]: stage["effect"] for stage in done.report["stages"]}
    assert list(accounts)[-2:] == ["fade", "master"] and accounts["fade"] == {"seconds": 0.5}
    master = soundfile.read(done.folder / "master.wav")[0]
    assert np.abs(master[:100]).max() < 0.02 * np.abs(master).max()


def test_what_comes_too_early_is_refused(fade):
    order = list(stages.STAGES)
    order.remove("fade")
    order.insert(order.index("stems"), "fade")
    with pytest.raises(UserError, match="fade works on what stems leaves"):
        stages.chain(RestoreConfig(stages=order))


def test_the_places_that_are_named_exist():
    root, text = PAGE.parents[1], PAGE.read_text("utf-8")
    for path in re.findall(r"`((?:resonate|configs|docs|tests|benchmarks)/[\w/]*(?:\.\w+)?)`", text):
        assert (root / path).exists(), path
    for file, names in {
        "resonate/restore/stages.py": ("STAGES", "AFTER", "REQUIRED"),
        "resonate/restore/config.py": ("_STAGES", "_BOUNDS", "class RestoreConfig"),
        "resonate/restore/estimate.py": ("PACE", "_SCRATCH_STEREO"),
        "resonate/restore/pipeline.py": ("FORMAT",),
        "resonate/report/words.py": ("STAGES", "EFFECTS"),
        "resonate/degrade/chain.py": ("class ChainConfig", "def sample", "def _one"),
        "benchmarks/chain.py": ("STAGES",),
        "tests/test_degrade.py": ("def test_every_stage_survives_json",),
    }.items():
        lines = (root / file).read_text("utf-8").splitlines()
        for name in names:
            assert any(line.strip().startswith(name) for line in lines), (file, name)


def test_the_degradation_does_what_the_page_says(monkeypatch):
    case = run(block("class CaseParams"))
    drawn = {s: [case["sample"](np.random.default_rng(k), s) for k in range(400)] for s in (0.0, 1.0)}
    share = {s: np.mean([p.cutoff_hz > 0 for p in found]) for s, found in drawn.items()}
    assert 0.05 < share[0.0] < 0.15 and 0.2 < share[1.0] < 0.4
    params = case["CaseParams"](4000.0)
    assert case["CaseParams"](**json.loads(json.dumps(asdict(params)))) == params
    click = torch.zeros(1, 2, 8192)
    click[..., 1000] = 1.0
    heard = case["apply"](click, params)[0, 0].numpy()
    db = 20 * np.log10(np.abs(np.fft.rfft(heard)))
    at = lambda hertz: db[round(hertz * 8192 / RATE)]  # noqa: E731
    assert abs(np.abs(heard).argmax() - 1000) < 10
    assert at(500) == pytest.approx(0.0, abs=0.5) and at(4000) == pytest.approx(-3.0, abs=0.5)
    assert at(16000) - at(8000) == pytest.approx(-12.0, abs=1.5)
    # Within the chain, behind the gain control: the components go on summing to the capture.
    linear = converter.linear
    chain = CaptureChain(Bank(), ChainConfig(codecs=False, moving_share=0.0))
    stems = 0.1 * torch.randn(1, 4, 2, RATE, generator=torch.Generator().manual_seed(0))
    drawn = chain.from_seed(1, RATE)
    plain = chain.apply(stems, [drawn])
    monkeypatch.setattr(converter, "linear", lambda tracks, adc: linear(case["apply"](tracks, params), adc))
    made = chain.apply(stems, [drawn])
    total = made.stems_wet.sum(1) + made.crowd + made.handling + made.distortion
    assert (total - made.capture).abs().max() < 1e-5
    treble = [torch.fft.rfft(x.stems_wet).abs()[..., 12_000:].sum() for x in (made, plain)]
    assert treble[0] < 0.5 * treble[1]
