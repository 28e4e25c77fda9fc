"""The scorecard as a whole: results that are kept, groups of systems and recordings, extras, all suites in one call."""

import json
import sys
import types
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from resonate import RATE, audio
from resonate.errors import UserError
from resonate.evaluate import __main__ as command
from resonate.evaluate import cases, extras, publish, rivals, run, scorecard, settings, store, suites, systems
from resonate.evaluate.alignment import align, find_lag
from resonate.evaluate.picture import Panel


def call(*words: str) -> int:
    return command.main(list(words), Console(width=200, file=open("/dev/null", "w")))


# --- results are kept -------------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_and_scores_nothing_twice(tmp_path, monkeypatch):
    calls = []

    def counted(case: rivals.Case) -> np.ndarray:
        calls.append(case.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 0.5 * case.capture

    monkeypatch.setitem(rivals.RIVALS, "counted", counted)
    words = ("suite=silence", "seconds=2", "systems=gain,counted", "pictures=1", f"json={tmp_path / 'a.json'}")
    assert call(*words) == 130
    assert len(calls) == 3 and not (tmp_path / "a.json").exists()
    assert call(*words) == 0
    first = json.loads((tmp_path / "a.json").read_text())
    # Input, gain and counted of the first two recordings, input and gain of the third.
    assert len(calls) == 4 and first["reused"] == 8 and len(first["rows"]) == 9
    assert call(*words) == 0
    again = json.loads((tmp_path / "a.json").read_text())
    assert len(calls) == 4 and again["reused"] == 9 and again["rows"] == first["rows"]
    assert again["spent"] == first["spent"] > 0
    # The same figures as without anything kept.
    monkeypatch.setitem(rivals.RIVALS, "counted", lambda case: 0.5 * case.capture)
    assert call(*words, f"store={tmp_path / 'new'}") == 0
    fresh = json.loads((tmp_path / "a.json").read_text())
    bare = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows["rows"]] for rows in (first, fresh)]
    assert bare[0] == bare[1] and fresh["reused"] == 0


def test_what_a_result_depends_on_is_part_of_its_name(tmp_path, monkeypatch):
    kept = store.Store(tmp_path / "scores")
    assert (tmp_path / "scores" / ".gitignore").read_text() == "*\n"
    panel = Panel("gate", np.arange(6, dtype=np.uint8).reshape(2, 3), 1.5)
    entry = store.Entry({"system": "gate", "values": {"lsd": 0.1 + 0.2}}, "", [panel], 1.25)
    kept.put(entry, "captures", "x", "gate")
    found = kept.get("captures", "x", "gate")
    assert found.row == entry.row and found.spent == 1.25 and found.panels[0].name == "gate"
    np.testing.assert_array_equal(found.panels[0].levels, panel.levels)
    assert kept.get("captures", "y", "gate") is None and kept.get("captures", "xgate") is None
    (file,) = (tmp_path / "scores").glob("*.npz")
    file.write_bytes(file.read_bytes()[:50])  # cut short
    assert kept.get("captures", "x", "gate") is None
    package = tmp_path / "package"
    for name in ("restore/work.py", "evaluate/fir.py", "evaluate/page.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("1")
    monkeypatch.setattr(store, "PACKAGE", package)

    def changed(name: str) -> list[bool]:
        before = [store.code.__wrapped__(restoring) for restoring in (True, False)]
        (package / name).write_text("2")
        return [store.code.__wrapped__(restoring) != was for restoring, was in zip((True, False), before, strict=True)]

    assert changed("restore/work.py") == [True, False]
    assert changed("evaluate/fir.py") == [True, True] and changed("evaluate/page.py") == [False, False]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another folder"):
        store.Store(tmp_path / "file" / "scores")


def test_a_recording_is_known_by_its_source_and_a_system_by_its_weights(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"x")
    item = suites.Item("a", "a", partial(cases.read_stereo, tmp_path / "a.wav", 3.0), files=(tmp_path,))
    known = item.identity()
    assert known == suites.Item("a", "a", partial(cases.read_stereo, tmp_path / "a.wav", 3.0),
                                files=(tmp_path,)).identity()  # fmt: skip
    assert known != suites.Item("a", "a", partial(cases.read_stereo, tmp_path / "a.wav", 4.0)).identity()
    (tmp_path / "a.wav").write_bytes(b"xy")
    assert known != item.identity()
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"1")
    theirs = systems.Settings(separator=str(weights), command="tool {input} {output}")
    own, bare = systems.Settings(), systems.identity("resonate extend", systems.Settings())
    assert systems.identity("resonate extend", theirs) != bare != systems.identity("resonate reveal", own)
    assert systems.identity("resonate extend -restore", own) != bare
    assert systems.identity("gate", theirs) == systems.identity("gate", own)
    assert "tool" in systems.identity("command", theirs)


def test_a_system_is_known_by_the_listener_and_by_the_files_of_a_command(tmp_path, monkeypatch):
    tool = tmp_path / "tool.py"
    tool.write_text("1")
    theirs = systems.Settings(command=f"{sys.executable} {tool} {{input}} {{output}}")
    ours, command = (systems.identity(name, theirs) for name in ("resonate extend", "command"))
    tool.write_text("12")
    assert systems.identity("command", theirs) != command and systems.identity("resonate extend", theirs) == ours
    listener = tmp_path / "listener.safetensors"
    listener.write_bytes(b"1")
    monkeypatch.setattr(systems, "LISTENER", listener)
    assert systems.identity("resonate extend", theirs) != ours


def test_suites_that_judge_alike_share_what_they_have_scored(tmp_path):
    words = ("count=1", "seconds=2.5", "systems=gate", "pictures=0", f"store={tmp_path / 'scores'}")
    for suite, reused in (("captures", 0), ("stages", 2), ("clean", 0)):
        path = tmp_path / f"{suite}.json"
        assert call(f"suite={suite}", *words, f"json={path}") == 0
        assert json.loads(path.read_text())["reused"] == reused


@pytest.mark.slow
def test_a_process_killed_outright_goes_on(tmp_path):
    import signal
    import subprocess
    import time

    # Whoever edits the code meanwhile makes all results new; here that is not what is tested.
    run_it = ("import sys; from resonate.evaluate import __main__, run; run.code = lambda restoring: 'one'; "
              "sys.exit(__main__.main(sys.argv[1:]))")  # fmt: skip
    words = [sys.executable, "-c", run_it, "suite=silence", "seconds=8", "systems=WPE,noisereduce",
             f"json={tmp_path / 'a.json'}"]  # fmt: skip
    process = subprocess.Popen(words, cwd=publish.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((tmp_path / "scores").glob("*.npz"))) < 3:
        time.sleep(0.01)
    assert process.poll() is None, "it had ended before it was killed"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    kept = len(list((tmp_path / "scores").glob("*.npz")))
    assert subprocess.run(words, cwd=publish.ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert json.loads((tmp_path / "a.json").read_text())["reused"] == kept >= 3


# --- which recordings, which systems ----------------------------------------------------------------------------------


def test_a_limit_leaves_every_group_and_as_many_songs_as_it_can():
    found = [suites.Item(f"{group}{k}", f"song {k % 3}", lambda: None, group=group)
             for group in "abc" for k in range(6)]  # fmt: skip
    names = [item.name for item in suites.choose(found, 6)]
    assert names == ["a0", "a1", "b0", "b1", "c0", "c1"]
    nine = suites.choose(found, 9)
    assert {(item.group, item.song) for item in nine} == {(g, f"song {k}") for g in "abc" for k in range(3)}
    assert suites.choose(found, None) == suites.choose(found, 99) == found
    assert [item.name for item in suites.choose(found[4:8], 3)] == ["a4", "a5", "b0"]


def test_groups_of_systems_are_spelt_out_and_each_runs_once():
    names = systems.expand(["gate", "rivals", "stages", "presets", "my tool"])
    assert names[0] == "gate" and names.count("gate") == 1 and {"WPE", "demucs", "oracle stems"} < set(names)
    assert set(systems.STAGES_OFF) | {f"resonate {p}" for p in ("reveal", "extend", "fast", "best")} <= set(names)
    assert "resonate default" not in names and names[-1] == "my tool"
    off = {name: systems.ours.settings(*systems.ours.parse(name)) for name in systems.STAGES_OFF}
    assert not off["resonate extend -veto"].veto.enabled and not off["resonate extend -clean"].clean.bypass
    assert off["resonate extend -crowd"].strength.crowd == 0 and not off["resonate extend -events"].precondition.events
    assert len({repr(config) for config in off.values()}) == len(off)
    config = settings.read(["suite=captures", "count=4", "seconds=3"])
    assert run.find_focus(config) == "resonate extend"
    alone = run.find_focus(settings.read(["suite=bandlimited"]))
    assert alone.startswith("resonate extend -restore")  # the extension head, where it runs
    assert run.find_focus(settings.read(["suite=bandlimited", "systems=gain"])) == "gain"
    built = systems.build(run.system_names(config), run.system_settings(config))
    assert set(rivals.RIVALS) <= set(built) and next(iter(built)) == "input"


@pytest.mark.parametrize("suite", settings.suites())
def test_every_rival_runs_in_every_suite(suite):
    sources = {"folder": ["pairs=x"], "recordings": ["recordings=x"]}
    names = run.system_names(settings.read([f"suite={suite}", *sources.get(suite, [])]))
    if suite == "stages":
        assert set(systems.STAGES_OFF) <= set(names)
    else:
        assert {*rivals.RIVALS, "demucs", "oracle stems", "resonate reveal", "resonate extend"} <= set(names)


def test_how_a_users_reference_lay_is_told(tmp_path):
    rng = np.random.default_rng(3)
    clean = 0.1 * rng.standard_normal((2, 3 * RATE)).astype(np.float32)
    for kind, x in (("captures", np.pad(clean, ((0, 0), (RATE // 2, 0)))), ("references", clean)):
        (tmp_path / kind).mkdir()
        audio.write(tmp_path / kind / "a.wav", x, RATE)
    assert call(f"pairs={tmp_path}", "systems=gain", "pictures=0", f"json={tmp_path / 'p.json'}") == 0
    rows = json.loads((tmp_path / "p.json").read_text())["rows"]
    assert rows[0]["values"]["offset"] == pytest.approx(0.5, abs=1e-3) and rows[0]["values"]["drift_ppm"] == 0
    assert "offset" not in rows[1]["values"] and "offset" in (tmp_path / "p.csv").read_text().splitlines()[0]


# --- extras -----------------------------------------------------------------------------------------------------------


def test_extras_that_are_not_installed_are_named_and_never_taken(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert extras.choose(None) == () and extras.choose([]) == ()
    assert set(extras.missing()) == set(extras.EXTRAS) and "--no-deps basic-pitch" in extras.missing()["notes"]
    with pytest.raises(UserError, match=r"extras=visqol: it is not installed; pip install visqol-python"):
        extras.choose(["visqol"])
    with pytest.raises(UserError, match="choose of: zimtohrli, visqol, notes"):
        extras.choose(["pesq"])


def test_opinion_models_hear_both_sounds_aligned_at_one_level_and_48_khz(monkeypatch):
    heard = []
    fake = types.SimpleNamespace(mos_from_signals=lambda c, y: heard.append((c, y)) or 3.5)
    monkeypatch.setitem(sys.modules, "zimtohrli", fake)
    c = 0.1 * np.random.default_rng(0).standard_normal((2, RATE))
    late = np.pad(0.01 * c, ((0, 0), (700, 0)))
    assert extras.score(("zimtohrli",), late, c, False) == {"zimtohrli": 3.5}
    (reference, output), = heard
    assert len(reference) == len(output) == 48000 and reference.dtype == np.float32
    np.testing.assert_allclose(reference, output, atol=1e-3)
    assert extras.score(("zimtohrli",), 0 * c, c, False) == {} == extras.score(("zimtohrli",), c, c, True)


def test_what_is_installed_gives_the_same_sound_full_marks_at_any_level():
    chosen = [name for name in extras.choose(None) if name != "notes"]
    if not chosen:
        pytest.skip("neither zimtohrli nor visqol-python is installed")
    c = 0.1 * np.random.default_rng(0).standard_normal((2, 4 * RATE))
    c *= 1 + np.sin(np.arange(4 * RATE) / 5000)
    same = extras.score(chosen, 0.1 * c, c, False)
    worse = extras.score(chosen, c + 0.1 * np.random.default_rng(1).standard_normal(c.shape), c, False)
    assert all(same[name] > 4.5 and worse[name] < same[name] - 0.5 for name in chosen)


def test_notes_are_those_that_sound():
    if "notes" not in extras.choose(None):
        pytest.skip("basic-pitch or onnxruntime is not installed")
    t = np.arange(5 * RATE) / RATE

    def tone(hertz: float) -> np.ndarray:
        return sum(0.2 * np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 6)) * (t % 1 < 0.8)

    keys = extras.sounding_keys(tone(440.0))
    assert keys.shape[0] == 88 and keys[48].mean() > 0.7  # A4 is the 49th key
    x, both = tone(440.0), tone(440.0) + tone(523.25)
    assert extras.notes(0.3 * x, x)["note_f1"] > 0.97 > 0.8 > extras.notes(both, x)["note_f1"]
    assert extras.notes_of_recording(0.3 * x, x)["notes_invented"] < 0.02
    assert extras.notes_of_recording(both, x)["notes_invented"] > 0.3


# --- all suites at once -----------------------------------------------------------------------------------------------


def test_the_scorecards_commands_are_those_of_the_suites():
    words = ["cache=c d", "music=m", "workers=2", "captures.limit=40", "suites=captures,clean,silence"]
    planned = scorecard.plan(words)
    assert list(planned) == ["captures", "clean", "silence"]
    assert planned["captures"][0] == "suite=captures" and "cache=c d" in planned["captures"]
    assert "music=m" in planned["clean"] and "music=m" not in planned["silence"]
    config = settings.read([*planned["captures"], "json=a.json"])
    assert config.limit == 40 and config.cache == "c d" and config.workers == 2
    assert set(scorecard.plan([])) == set(settings.suites())
    for words, says in ((["suites=magic"], "no suite 'magic'"), (["fast"], "name=value")):
        with pytest.raises(UserError, match=says):
            scorecard.plan(words)


def test_the_scorecard_runs_and_publishes_and_finds_mistakes_first(tmp_path, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(scorecard.publish, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scorecard.cases, "BUNDLED", tmp_path / "assets" / "demo")
    monkeypatch.setattr(scorecard.evaluation, "main", lambda words: done.append(words) or 0)
    monkeypatch.setattr(scorecard.publish, "main", lambda words: done.append(["publish", *words]) or 0)
    assert scorecard.main(["suites=silence,clean", "workers=0"]) == 2 and not done
    assert "workers=0 is out of range" in capsys.readouterr().err
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "results" / "clean.json").touch()
    assert scorecard.main(["suites=silence,recordings"]) == 0
    assert [words[0] for words in done] == ["suite=silence", "suite=recordings", "publish"]
    assert "recordings=assets/demo/demo.m4a" in done[1] and done[2][1] == "docs/results/clean.json"
    monkeypatch.chdir("/")
    assert scorecard.main(["suites=silence"]) == 2 and "run it in" in capsys.readouterr().err


def test_the_bundled_pair_lies_as_a_users_files_do(tmp_path):
    folder = scorecard._bundled_pair(tmp_path / "pair")
    (name, capture, reference), = cases.pair_files(folder)
    case = cases.pair(name, capture, reference)
    whole = cases.bundled()
    assert case.facts["offset"] == pytest.approx(1.0, abs=0.05) and abs(case.facts["drift_ppm"]) < 5
    truth = whole.reference[:, case.start : case.start + case.reference.shape[1]]
    assert abs(find_lag(case.reference, truth, RATE)) < 0.06 * RATE  # the room's and the codec's
    assert np.corrcoef(align(case.reference, truth, RATE))[0, 1] > 0.8
