"""Scoring from the command line: pairs, a rendered cache, the bundled recording, and what is refused."""

import json

import numpy as np
import pytest
from rich.console import Console
from scipy import signal

from resonate import RATE, audio
from resonate.errors import UserError
from resonate.evaluate import __main__ as command
from resonate.evaluate import cases, demo, rivals, table
from resonate.evaluate.suite import Suite

N = 2 * RATE


def sounds(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(clean stems (4, 2, N), wet (4, 2, N), noise (2, N)); the first 0.6 s hold no music."""
    rng = np.random.default_rng(seed)
    clean = 0.05 * rng.standard_normal((4, 2, N)) * (1 + np.sin(np.arange(N) / 3000))
    clean[..., : int(0.6 * RATE)] = 0
    wet = signal.lfilter([0.5, 0.2, 0.1], [1, -0.3], clean, axis=-1)
    return clean, wet, 0.03 * rng.standard_normal((2, N))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    examples = []
    for k, (split, severity) in enumerate([("test", 0.2), ("test", 0.7), ("train", 0.5)]):
        clean, wet, noise = sounds(k)
        rows = np.concatenate([(wet.sum(0) + noise)[None], wet, clean.sum(0)[None], clean])
        np.save(folder / f"{k:06d}.npy", rows.astype(np.float16))
        examples.append({"file": f"{k:06d}.npy", "split": split, "song": f"song {k % 2}", "severity": severity,
                         "gaps": [[0.0, 0.6]]})  # fmt: skip
    names = ["capture", *(f"wet:{i}" for i in range(4)), "early", *(f"dry:{i}" for i in range(4))]
    (folder / "index.json").write_text(json.dumps({"format": 1, "rate": RATE, "rows": names, "examples": examples}))
    return folder


@pytest.fixture(scope="module")
def pair_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    clean, wet, noise = sounds(5)
    for kind in ("captures", "references"):
        (folder / kind).mkdir()
    audio.write(folder / "captures" / "a=1, b.wav", audio.resample(wet.sum(0) + noise, RATE, 48000), 48000)
    audio.write(folder / "references" / "a=1, b.flac", 0.3 * clean.sum(0), RATE, "PCM_24")
    (folder / "out" / "a=1, b").mkdir(parents=True)
    audio.write(folder / "out" / "a=1, b" / "master.wav", wet.sum(0), RATE)
    return folder


def run(*arguments: str) -> tuple[int, str]:
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    return command.main(list(arguments), console), console.export_text()


def test_a_cache_is_scored_by_severity(cache, tmp_path):
    arguments = (f"cache={cache}", "split=test", "systems=gate,oracle noise mask", f"json={tmp_path / 'x.json'}")
    code, text = run(*arguments)
    assert code == 0 and "all: 2 recordings of 2 songs" in text and "severity to 0.3: 1 recording" in text
    scores = json.loads((tmp_path / "x.json").read_text())
    assert set(scores["groups"]) == {"all", "severity to 0.3", "severity 0.6 to 0.8"}
    mean = scores["groups"]["all"]["mean"]
    assert mean["input"]["noise_attenuation"] == 0 and mean["gate"]["gap_db"] < mean["input"]["gap_db"] - 10
    assert mean["gate"]["noise_attenuation"] < 0.3 < 1 < mean["oracle noise mask"]["noise_attenuation"]
    assert all(row["verdict"] != "better" for row in scores["rows"] if row["system"] == "gate")
    assert scores["measures"]["gap_db"]["cheat"]


def test_pairs_are_scored_with_what_was_restored(pair_folder, tmp_path):
    systems = "systems=low-pass,oracle noise mask"
    arguments = ("--pairs", str(pair_folder), f"restored={pair_folder / 'out'}", systems)
    code, text = run(*arguments, f"json={tmp_path / 'y.json'}")
    assert code == 0 and "left out: oracle noise mask" in text
    scores = json.loads((tmp_path / "y.json").read_text())
    mean = scores["groups"]["all"]["mean"]
    assert mean["resonate master"]["f_sdr"] > mean["input"]["f_sdr"] + 10
    assert mean["input"]["gap_db"] < -3  # the gap was found in the reference
    assert {row["recording"] for row in scores["rows"]} == {"a=1, b"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pairs=/nowhere/at all"], "no folder"),
        (["cache=/nowhere"], "no rendered cache"),
        (["systems=magic"], "no system 'magic'"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_sentence(arguments, says, capsys, tmp_path):
    code, _ = run(*arguments, f"json={tmp_path / 'z.json'}")
    error = capsys.readouterr().err
    assert code == 2 and says in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "z.json").exists()


def test_lonely_files_and_empty_splits_are_named(pair_folder, cache, tmp_path):
    for kind in ("captures", "references"):
        (tmp_path / kind).mkdir()
    with pytest.raises(UserError, match="holds no audio"):
        cases.pair_files(tmp_path)
    (tmp_path / "captures" / "x.wav").touch()
    with pytest.raises(UserError, match="'x'"):
        cases.pair_files(tmp_path)
    with pytest.raises(UserError, match=r"'valid'.*test, train"):
        cases.cache_index(cache, "valid")


def test_every_rival_keeps_the_shape_and_says_why_it_cannot_run():
    clean, wet, noise = (x.astype(np.float32) for x in sounds(1))
    gaps = np.arange(N) < 0.6 * RATE
    case = rivals.Case("made", wet.sum(0) + noise, clean.sum(0), gaps, wet.sum(0), noise)
    for name in ("input", "gate", "low-pass", "spectrum match", "afftdn", "oracle noise mask", "oracle magnitude"):
        try:
            output = rivals.RIVALS[name](case)
        except rivals.NotAvailable as reason:
            assert name == "afftdn" and str(reason)
            continue
        assert output.shape == case.capture.shape and output.dtype == np.float32 and np.isfinite(output).all(), name
    blind = rivals.Case("blind", case.capture, case.reference, gaps)
    with pytest.raises(rivals.NotAvailable, match="apart"):
        rivals.oracle_noise_mask(blind)
    suite = Suite(["input", "oracle noise mask"])
    suite.add(blind)
    assert "oracle noise mask" in suite.left_out and [row.system for row in suite.rows] == ["input"]


def test_the_low_pass_and_the_spectrum_match_do_not_shift_time():
    clean = sounds(2)[0].astype(np.float32)
    case = rivals.Case("made", clean.sum(0), clean.sum(0), np.zeros(N, bool))
    matched = rivals.spectrum_match(case)
    np.testing.assert_allclose(matched, case.capture, atol=0.02 * np.abs(case.capture).max())
    assert np.corrcoef(rivals.low_pass(case)[0], case.capture[0])[0, 1] > 0.3


def test_the_table_marks_change_and_direction(tmp_path):
    built = table.build({"input": {"f_sdr": 1.0, "lsd": 10.0}, "x": {"f_sdr": 2.0, "lsd": float("nan")}},
                        ["f_sdr", "lsd"], title="t")  # fmt: skip
    assert "[green](+1.0)" in built.columns[1]._cells[1] and built.columns[2]._cells[1] == "-"
    table.write_json(tmp_path / "a.json", {"x": float("inf"), "y": [1.23456789]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": [1.2346]}
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot write"):
        table.write_json(tmp_path / "file" / "b.json", {})


def test_the_demo_table_compares_the_bundled_recording_with_its_result(tmp_path, capsys):
    assert demo.main([str(tmp_path)]) == 2
    assert "infer.py" in capsys.readouterr().err
    case = cases.bundled()
    (tmp_path / "demo").mkdir()
    clean = audio.resample(0.5 * case.reference, RATE, 48000)
    audio.write(tmp_path / "demo" / "master.wav", clean, 48000)
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    assert demo.main([str(tmp_path)], console) == 0
    text = console.export_text()
    assert all(word in text for word in (*demo.COLUMNS, "input", "restored", "master.wav"))
    scores = json.loads((tmp_path / "demo" / "scores.json").read_text())["scores"]
    assert scores["restored"]["f_sdr"] > 30 and scores["restored"]["lsd"] < 1 < scores["input"]["lsd"]
    assert scores["restored"]["gap_db"] < -50 and scores["input"]["gap_db"] > -20
