"""Scoring from the command line: pairs, a rendered cache, the bundled recording, and what is refused."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import signal

from resonate import RATE, audio
from resonate.errors import UserError
from resonate.evaluate import __main__ as command
from resonate.evaluate import (
    bandwidth,
    bootstrap,
    cases,
    demo,
    drift,
    judges,
    material,
    ours,
    page,
    publish,
    rivals,
    run,
    settings,
    success,
    suites,
    systems,
    table,
    worst,
)
from resonate.evaluate.command import run as run_program
from resonate.evaluate.picture import panel
from resonate.evaluate.results import Results
from resonate.evaluate.run import Row

N = 3 * RATE


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


def call(*arguments: str) -> tuple[int, str]:
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    return command.main(list(arguments), console), console.export_text()


def test_a_cache_is_scored_by_severity(cache, tmp_path):
    arguments = (f"cache={cache}", "split=test", "systems=gate,oracle noise mask", f"json={tmp_path / 'x.json'}")
    code, text = call(*arguments)
    assert code == 0 and "all: 2 recordings of 2 songs" in text and "severity to 0.3: 1 recording" in text
    scores = json.loads((tmp_path / "x.json").read_text())
    assert set(scores["groups"]) == {"all", "severity to 0.3", "severity 0.6 to 0.8"}
    mean = scores["groups"]["all"]["mean"]
    assert mean["input"]["noise_attenuation"] == 0 and mean["gate"]["gap_db"] < mean["input"]["gap_db"] - 10
    assert mean["gate"]["noise_attenuation"] < 0.3 < 1 < mean["oracle noise mask"]["noise_attenuation"]
    assert all(row["verdict"] != "better" for row in scores["rows"] if row["system"] == "gate")
    assert scores["measures"]["gap_db"]["cheat"]


def test_pairs_are_scored_with_what_was_restored(pair_folder, tmp_path):
    systems = "systems=[low-pass, oracle noise mask]"  # in brackets, as Hydra writes a list
    arguments = ("--pairs", str(pair_folder), f"restored={pair_folder / 'out'}", systems)
    code, text = call(*arguments, f"json={tmp_path / 'y.json'}")
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
        (["suite=magic"], "no suite 'magic'; choose of: bandlimited, captures"),
        (["suite=folder"], "needs pairs="),
        (["cache=a", "pairs=b"], "different suites"),
        (["pairs=a", "suite=clean"], "belongs to suite=folder"),
        (["suite=silence", "sead=1"], "sead"),
        (["suite=silence", "workers=0"], "workers=0 is out of range"),
        (["suite=silence", "count=many"], "count"),
        (["suite=clean", "seconds=60"], "bundled song lasts 21 s"),
        (["systems=resonate loudly"], "after resonate comes one of"),
        (["systems=resonate extend -nothing"], "no stage 'nothing'"),
        (["systems=command"], "needs system.command"),
        (["system.command=tool {input}"], "{output} is missing"),
        (["system.command=no-such-tool {input} {output}"], "no program no-such-tool"),
        (["suite=silence", "systems=gate", "focus=WPE"], "none of the systems that run"),
        (["suite=silence", "systems=demucs", "demucs=/nowhere"], "no such file"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_sentence(arguments, says, capsys, tmp_path):
    code, _ = call(*arguments, f"json={tmp_path / 'z.json'}")
    error = capsys.readouterr().err
    assert code == 2 and says in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "z.json").exists()


def test_words_are_taken_literally():
    words = ["--pairs", "/a=1, b's [x]", "systems=gate, oracle noise mask", "json=out/{x}.json", "limit=3"]
    config = settings.read(words)
    assert config.suite == "folder" and config.pairs == "/a=1, b's [x]" and config.limit == 3
    assert config.systems == ["gate", "oracle noise mask"] and config.json == "out/{x}.json"
    for bad in (["--pairs"], ["pairs="], ["loud"]):
        with pytest.raises(UserError, match=r"value after it|name=value"):
            settings.read(bad)


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
    for name in ("input", "gate", "low-pass", "EQ", "gain", "spectrum match", "noisereduce", "afftdn",
                 "oracle noise mask", "oracle magnitude"):  # fmt: skip
        try:
            output = rivals.RIVALS[name](case)
        except rivals.NotAvailable as reason:
            assert name in ("afftdn", "noisereduce") and str(reason)
            continue
        assert output.shape == case.capture.shape and output.dtype == np.float32 and np.isfinite(output).all(), name
    blind = rivals.Case("blind", case.capture, case.reference, gaps)
    with pytest.raises(rivals.NotAvailable, match="apart"):
        rivals.oracle_noise_mask(blind)
    config = settings.EvaluateConfig(suite="folder", systems=["oracle noise mask", "oracle stems"], pictures=0)
    scored = run.score_item(suites.Item("blind", "song", lambda: blind), config, "input")
    assert set(scored.left_out) == {"oracle noise mask", "oracle stems"}
    assert [row.system for row in scored.rows] == ["input"]


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


# --- alignment of a user's files --------------------------------------------------------------------------------------


def long_music(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(8)
    x = signal.lfilter([1], [1, -0.8], rng.standard_normal((2, round(seconds * RATE))))
    return (0.1 * x * (1.2 + np.sin(np.arange(x.shape[1]) / 9000))).astype(np.float32)


@pytest.mark.parametrize(("offset", "ppm"), [(1.25, 120.0), (-2.5, -80.0), (0.5, 0.0)])
def test_offset_and_drift_of_a_reference_are_found(offset, ppm):
    import soxr

    clean = long_music(24.0)
    late = soxr.resample(clean.T, RATE, RATE * (1 + ppm * 1e-6)).T
    n = round(abs(offset) * RATE)
    recording = np.pad(late, ((0, 0), (n, 0))) if offset > 0 else late[:, n:]
    recording = recording + 0.02 * np.random.default_rng(1).standard_normal(recording.shape)
    y, c, clock = drift.to_clock(recording.astype(np.float32), clean)
    assert clock.offset == pytest.approx(offset, abs=0.003) and clock.drift_ppm == pytest.approx(ppm, abs=8)
    assert y.shape == c.shape and y.shape[1] > 20 * RATE
    for piece in (slice(0, 3 * RATE), slice(-3 * RATE, None)):  # as good at the end as at the beginning
        assert np.corrcoef(y[0, piece], c[0, piece])[0, 1] > 0.95


def test_sounds_that_cannot_be_aligned_are_refused():
    x = long_music(4.0)
    with pytest.raises(UserError, match="silent"):
        drift.to_clock(x, 0 * x)
    with pytest.raises(UserError, match="share"):
        drift.to_clock(x[:, : RATE + 10], x)


# --- systems ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def a_case() -> rivals.Case:
    clean, wet, noise = (x.astype(np.float32) for x in sounds(1))
    return rivals.Case("made", wet.sum(0) + noise, clean.sum(0), np.arange(N) < 0.6 * RATE, wet.sum(0), noise,
                       wet, clean, np.ones(4, bool))  # fmt: skip


def test_a_program_is_run_without_a_shell_and_says_why_it_fails(a_case):
    copied = run_program(["cp", "{input}", "{output}"], a_case.capture, RATE, 60)
    np.testing.assert_array_equal(copied, a_case.capture)
    script = "import sys; sys.stderr.write('no licence'); sys.exit(3)"
    with pytest.raises(rivals.NotAvailable, match=r"status 3: no licence"):
        run_program([sys.executable, "-c", script, "{input}", "{output}"], a_case.capture, RATE, 60)
    with pytest.raises(rivals.NotAvailable, match="wrote no"):
        run_program(["true", "{input};touch {output}"], a_case.capture, RATE, 60)
    with pytest.raises(rivals.NotAvailable, match="longer than"):
        run_program([sys.executable, "-c", "import time; time.sleep(9)", "{input}{output}"], a_case.capture, RATE, 0.5)


def test_oracle_stems_find_the_stems_and_untuned_demucs_is_never_fetched(a_case, tmp_path, monkeypatch):
    found = systems.oracle_stems(a_case)
    assert found.stems.shape == a_case.stems_wet.shape
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(rivals.NotAvailable, match="demucs=PATH"):
        systems.build(["demucs"], systems.Settings())["demucs"](a_case)


def test_presets_and_stages_of_this_project_are_read_from_the_name():
    assert ours.settings("reveal", ()).mode == "reveal" and ours.settings("extend", ()).mode == "extend"
    assert ours.settings("extend", ("restore",)).strength.gain == 0
    assert ours.settings("extend", ("extend",)).strength.extension == 0
    assert not ours.settings("extend", ("precondition",)).precondition.remove_dc
    assert ours.parse("resonate extend -restore -precondition") == ("extend", ("restore", "precondition"))


def test_restoring_runs_as_a_system_and_gives_stems():
    case = material.captured(None, 2.5, seed=1, number=0, severity=0.3)
    output = systems.build(["resonate extend"], systems.Settings())["resonate extend"](case)
    assert output.mix.shape == case.capture.shape and output.stems.shape == (4, *case.capture.shape)
    assert np.isfinite(output.mix).all() and np.any(output.mix)


# --- suites -----------------------------------------------------------------------------------------------------------


def add_tone(case: rivals.Case) -> np.ndarray:
    return case.capture + 0.05 * np.sin(2 * np.pi * 997 * np.arange(case.capture.shape[1]) / RATE).astype(np.float32)


@pytest.mark.parametrize(
    ("suite", "words"),
    [("clean", ["count=1"]), ("bandlimited", ["limit=2"]), ("crowd_only", ["count=1"]), ("silence", [])],
)
def test_each_suite_fails_what_does_harm(suite, words, tmp_path, monkeypatch):
    monkeypatch.setitem(rivals.RIVALS, "tone", add_tone)
    path = tmp_path / "x.json"
    code, _ = call(f"suite={suite}", *words, "seconds=3", "systems=gain,tone", "pictures=1", f"json={path}")
    assert code == 0
    found = json.loads(path.read_text())
    verdicts = {(row["system"], row["verdict"]) for row in found["rows"]}
    assert ("tone", "holds") not in verdicts and ("tone", "fails") in verdicts
    if suite in ("clean", "crowd_only", "silence"):  # half the level harms none of these
        assert ("gain", "fails") not in verdicts
    assert found["seed"] == 11 and found["command"].startswith("python -m resonate.evaluate suite=")
    with path.with_suffix(".csv").open() as handle:
        assert len(list(csv.DictReader(handle))) == len(found["rows"])
    assert "<table>" in path.with_suffix(".html").read_text()


def test_captures_are_made_on_the_fly_the_same_every_time():
    config = settings.read(["suite=captures", "count=4", "seconds=2.5"])
    items = suites.items(config)
    assert [item.group for item in items] == [name for _, name in suites.SEVERITIES]
    first, again = items[1].load(), items[1].load()
    np.testing.assert_array_equal(first.capture, again.capture)
    np.testing.assert_allclose(first.wet + first.noise, first.capture, atol=1e-6)
    np.testing.assert_allclose(first.stems_dry.sum(0), first.reference, atol=1e-5)
    assert first.interferer is first.crowd
    # Handling, overload and codec are the rest of the noise.
    crowd, noise = first.crowd.mean(0), first.noise.mean(0)
    assert 0 < crowd @ noise / (crowd @ crowd) < 1.5 and np.abs(noise - crowd).max() > 1e-3


def test_a_perfect_extension_holds_and_filling_the_captured_band_fails():
    item = next(i for i in suites.items(settings.read(["suite=bandlimited", "seconds=3"])) if "6000" in i.name)
    case = item.load()
    before = judges.bandlimited(item, case, systems.Output(case.capture), None)
    missing = case.reference - case.capture
    good = judges.bandlimited(item, case, systems.Output(case.capture + missing), before)
    assert abs(good.values["level_error"]) < 0.1 and good.values["lsd_missing"] < before.values["lsd_missing"] - 20
    # Beyond a sixth of an octave from the edge the truth itself is within 60 dB of the input only if the filter is.
    assert good.values["captured_change"] < -20
    bad = judges.bandlimited(item, case, systems.Output(1.01 * case.capture), before)
    assert bad.verdict == "fails"
    # Hiss of the right level and spectrum betters lsd_missing, and does not hold; something of the truth does.
    hiss = np.roll(bandwidth.steady_hiss(case.reference, item.facts["missing"]), 9999)
    cheat = judges.bandlimited(item, case, systems.Output(case.capture + hiss), before)
    assert cheat.values["lsd_missing"] < before.values["lsd_missing"] - 5 and cheat.verdict == "fails"
    spectrum = np.fft.rfft(missing)
    spectrum[:, np.fft.rfftfreq(missing.shape[1], 1 / RATE) < 6800] = 0
    near = judges.bandlimited(item, case, systems.Output(case.capture + 0.7 * np.fft.irfft(spectrum)), before)
    assert near.verdict == "holds"


def test_a_low_pass_and_an_equaliser_do_harm_to_a_clean_track():
    music = long_music(3.0)
    case = rivals.Case("track", music, music, np.zeros(music.shape[1], bool))
    item = suites.Item("track", "song", lambda: case)
    found = {name: judges.clean(item, case, systems.Output(rivals.RIVALS[name](case)), None).verdict
             for name in ("input", "gain", "low-pass", "EQ", "gate")}  # fmt: skip
    assert found == {"input": "holds", "gain": "holds", "low-pass": "fails", "EQ": "fails", "gate": "fails"}


def test_recordings_without_a_reference_are_described(tmp_path):
    audio.write(tmp_path / "it's 1.wav", long_music(4.0), RATE)
    code, _ = call(f"recordings={tmp_path}", "systems=gain", f"json={tmp_path / 'r.json'}")
    assert code == 0
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert {row["recording"] for row in rows} == {"it's 1"}
    assert {"high_hz", "redegradation", "chroma_agreement"} <= set(rows[0]["values"])


@pytest.mark.slow
def test_workers_change_nothing(cache, tmp_path):
    rows = []
    for workers in (1, 2):
        path = tmp_path / f"{workers}.json"
        assert call(f"cache={cache}", "systems=gate", f"workers={workers}", f"json={path}")[0] == 0
        rows.append([{k: v for k, v in row.items() if k != "seconds"} for row in json.loads(path.read_text())["rows"]])
    assert rows[0] == rows[1]


# --- results ----------------------------------------------------------------------------------------------------------


def some_rows() -> list[Row]:
    rows = []
    for k in range(12):
        values = {"lsd": 18.0 + k, "lsd_high": 20.0, "noise_attenuation": 0.0, "f_sdr": 1.0}
        rows.append(Row(f"r{k}", f"song {k // 2}", None, 0.5, "input", values, 0, "", 0.0))
        after = {"lsd": 10.0 + k, "lsd_high": 5.0, "noise_attenuation": 10.0 + k, "f_sdr": 1.0 + 0.1 * k}
        verdict = "better" if k < 5 else "same"
        rows.append(Row(f"r{k}", f"song {k // 2}", None, 0.5, "resonate extend", after, 0, verdict, 1.0))
    return rows


def test_intervals_hold_the_mean_repeat_and_widen_with_alike_recordings():
    x = np.random.default_rng(0).standard_normal(40)
    apart = bootstrap.interval(x, [str(k) for k in range(40)], 2000)
    assert apart[0] < x.mean() < apart[1]
    assert apart[1] - apart[0] == pytest.approx(2 * 1.96 * x.std() / np.sqrt(40), rel=0.15)
    assert apart == bootstrap.interval(x, [str(k) for k in range(40)], 2000)
    alike = bootstrap.interval(np.repeat(x[:10], 4), [str(k // 4) for k in range(40)], 2000)
    single = bootstrap.interval(np.repeat(x[:10], 4), [str(k) for k in range(40)], 2000)
    assert alike[1] - alike[0] > 1.6 * (single[1] - single[0])
    assert bootstrap.interval([1.0], ["a"], 100) is None


def test_the_success_table_is_honest():
    results = Results("captures", some_rows(), 200)
    found = {entry["name"]: entry for entry in success.assess(results, "resonate extend")}
    assert found["crowd"]["figure"] == pytest.approx(15.5) and not found["crowd"]["met"]
    assert [w["recording"] for w in found["crowd"]["worst"]] == ["r0", "r1", "r2"]
    assert found["bandwidth"]["figure"] == pytest.approx(-15) and found["bandwidth"]["met"]
    assert found["vocals"]["figure"] is None and not found["vocals"]["met"]
    # lsd falls by 8 dB, but most recordings are not better.
    assert found["overall"]["figure"] == pytest.approx(-8) and not found["overall"]["met"]
    assert success.told(found["vocals"]) == "no figure" and "n = 12" in success.told(found["crowd"])
    assert results.worst("resonate extend")[0] == "r0"


def test_goals_tell_by_how_much_they_are_missed():
    changes = {"resonate reveal": {"f_sdr": (3.0, -0.5, 1.0), "lsd": (-1.0, -1.0, 2.0)},
               "resonate extend": {"lsd": (-8.0, -5.0, -4.0), "noise_attenuation": (1.0, 2.0, 3.0)}}  # fmt: skip
    rows = []
    for k in range(3):
        rows.append(Row(f"r{k}", f"s{k}", None, None, "input", {"f_sdr": 1.0, "lsd": 20.0}, 0, None, 0.0))
        for system, measures in changes.items():
            values = {name: found[k] + rows[3 * k].values.get(name, 0.0) for name, found in measures.items()}
            rows.append(Row(f"r{k}", f"s{k}", None, None, system, values, 0, None, 0.0))
    found = {(e["system"], e["measure"], e["each"]): e for e in success.goals(Results("captures", rows, 200))}
    # A measure that no recording has is left out, one that is a change already is taken as it is.
    assert set(found) == {("resonate reveal", "f_sdr", False), ("resonate reveal", "f_sdr", True),
                          ("resonate reveal", "lsd", False), ("resonate extend", "lsd", False),
                          ("resonate extend", "noise_attenuation", False)}  # fmt: skip
    short = {key: (e["figure"], e["short"], e["reached"], e["worst"]) for key, e in found.items()}
    approx = pytest.approx
    assert short["resonate reveal", "f_sdr", False] == (approx(3.5 / 3), approx(1.0 / 3), 1, "r1")
    assert short["resonate reveal", "f_sdr", True] == (approx(-0.5), approx(0.2), 2, "r1")
    assert short["resonate reveal", "lsd", False] == (approx(0.0, abs=1e-9), approx(0.0, abs=1e-9), 2, "r2")
    assert short["resonate extend", "lsd", False] == (approx(-17 / 3), approx(4 / 3), 1, "r2")
    assert short["resonate extend", "noise_attenuation", False] == (approx(2.0), approx(7.0), 0, "r0")


def test_the_page_escapes_names_and_draws_the_worst_first(tmp_path):
    evil = "<img src=x onerror=alert(1)>$\\frac{"
    rows = [Row(evil, "s", None, None, system, {"f_sdr": value}, 0, "worse", 0.0)
            for system, value in (("input", 1.0), ("gate", 0.0))]  # fmt: skip
    facts = {"suite": "folder", "command": "x <b>", "resonate": "1", "seed": 1, "seconds": 1,
             "left_out": {"<i>": "<u>"}}  # fmt: skip
    panels = {evil: [panel("input", long_music(1.0))]}
    results = Results("folder", rows)
    order = page.order_of(results, "gate", panels, 3, None)
    page.build(tmp_path / "p.html", facts, results, "gate", panels, order)
    text = (tmp_path / "p.html").read_text()
    for tag in ("<img src=x", "x <b>", "<i>", "<u>"):
        assert tag not in text
    pictures = list((tmp_path / "p").glob("*.png"))
    assert len(pictures) == 1 and f"p/{pictures[0].name}" in text


def test_a_page_clears_its_own_old_pictures_and_nothing_else(tmp_path):
    folder = tmp_path / "demo"  # `json=out/demo.json` beside a result folder of that name
    folder.mkdir()
    kept = [folder / "master.wav", folder / "cover.png"]
    for path in (*kept, folder / "0123456789ab.png"):
        path.write_bytes(b"x")
    facts = {"suite": "folder", "command": "x", "resonate": "1", "seed": 1, "seconds": 1, "left_out": {}}
    rows = [Row("song", "s", None, None, "input", {"f_sdr": 1.0}, 0, "", 0.0)]
    page.build(tmp_path / "demo.html", facts, Results("folder", rows), "input", {}, [])
    assert sorted(folder.iterdir()) == sorted(kept)


def test_the_weights_named_are_those_in_use(tmp_path):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"x")
    assert ours.weights(separator=str(mine))["mine.safetensors"] == mine
    assert "separator.safetensors" in ours.weights() and "separator.safetensors" not in ours.weights(str(mine))


def fake_result(tmp_path: Path) -> Path:
    results = Results("captures", some_rows(), 200)
    facts = {"resonate": "1.0", "suite": "captures", "command": "python -m resonate.evaluate", "seed": 11,
             "seconds": 12.0, "spent": 600.0, "reused": 0, "left_out": {"WPE": "not | here"},
             "settings": {"resamples": 200, "seed": 0}, "focus": "resonate extend",
             "weights": {"restorer.safetensors": "ab" * 32},
             "success": success.assess(results, "resonate extend")}  # fmt: skip
    table.write_json(tmp_path / "captures.json", facts | results.as_dict())
    return tmp_path / "captures.json"


def test_publishing_writes_the_figures_of_the_json_between_the_markers(tmp_path):
    path = fake_result(tmp_path)
    (tmp_path / "resonate" / "weights").mkdir(parents=True)
    (tmp_path / "docs" / "results" / "captures").mkdir(parents=True)
    begin, end = publish.RESULTS
    cards = ("resonate/weights/restorer.md", "resonate/weights/separator.md")
    for name in ("README.md", "docs/results/README.md", *cards):
        (tmp_path / name).write_text(f"# Top\n\n{begin}\n999\n{end}\n\nAfter\n")
    (tmp_path / "docs" / "measures.md").write_text("\n".join(publish.TABLE) + "\n")
    words = [str(path), "--root", str(tmp_path)]
    assert publish.main([*words, "--check"]) == 1
    assert publish.main(words) == 0 and publish.main([*words, "--check"]) == 0
    text = (tmp_path / "README.md").read_text()
    mean = json.loads(path.read_text())["groups"]["all"]["mean"]
    line = next(line for line in text.splitlines() if "| resonate extend |" in line)
    assert f"| {mean['resonate extend']['lsd']:.1f} |" in line and "999" not in text
    assert text.startswith("# Top\n") and text.endswith("After\n") and "missed" in text
    (tmp_path / "README.md").write_text("no markers")
    assert publish.main(words) == 2


def test_the_worst_recordings_are_published_with_their_picture_and_what_was_written_about_them(tmp_path):
    result = json.loads(fake_result(tmp_path).read_text())
    folder = tmp_path / "docs" / "results"
    (folder / "captures").mkdir(parents=True)
    (folder / page.picture_of(Path("captures.html"), "r0")).write_bytes(b"png")
    notes = {"weights": result["weights"], "notes": {"crowd": {"r0": "the choir is taken for music"}}}
    (folder / "notes.yaml").write_text(json.dumps(notes))  # JSON is YAML
    lines = "\n".join(worst.criteria(tmp_path, result)).split("### ")
    crowd = next(text for text in lines if text.startswith("crowd: missed"))
    assert crowd.count("not looked at yet") == 2 and "the choir is taken for music" in crowd
    assert f"[r0]({page.picture_of(Path('captures.html'), 'r0')})" in crowd and "[r1]" not in crowd
    assert "+10.0 dB | song 0, 0.50, better | f_sdr 1.0 → 1.0" in crowd
    notes["weights"] = {"restorer.safetensors": "cd" * 32}  # written about other weights
    (folder / "notes.yaml").write_text(json.dumps(notes))
    assert "choir" not in "\n".join(worst.criteria(tmp_path, result))
    (folder / "notes.yaml").write_text("notes: 3")
    with pytest.raises(UserError, match="must hold weights and notes"):
        worst.criteria(tmp_path, result)


def test_what_is_published_here_are_the_figures_of_the_results_here():
    found = sorted((publish.ROOT / "docs" / "results").glob("*.json"))
    for path, text in publish.pages(publish.ROOT, publish.load(found)).items():
        again = "python -m resonate.evaluate.publish docs/results/*.json"
        assert path.read_text("utf-8") == text, f"{path.name} differs; run {again}"


@pytest.mark.slow
def test_a_scorecard_can_be_tracked_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    code, _ = call("suite=silence", "limit=1", "seconds=2", "systems=gate", "wandb=true", f"json={tmp_path / 'x.json'}")
    assert code == 0 and list((tmp_path / "wandb").glob("offline-run-*"))
    shutil.rmtree(tmp_path / "wandb")
