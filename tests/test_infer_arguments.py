"""Names on the command line are names: nothing of them reaches Hydra, and each gets a folder of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from resonate.errors import UserError
from resonate.restore.arguments import find_inputs, parse
from resonate.restore.command import read_config
from resonate.restore.results import check_outside, finished, folder_names
from resonate.restore.separation import passes
from resonate.restore.stages import chain
from resonate.restore.work import find_device

NAMES = (
    "Voice 001 (1).m4a",
    "Don't stop.m4a",
    "Tom & Jerry.m4a",
    "a,b=c.m4a",
    "[1] #2!.m4a",
    "café.m4a",
    "20240501.m4a",
    "🎸 encore 🎤.m4a",
    "mode=reveal.m4a",
    "{x}$y.m4a",
    "null.m4a",
    "~odd.m4a",
    "a:b.m4a",
    "%d.m4a",
    "-o.m4a",
    "back\\slash.m4a",
    'say "hi".m4a',
    "*.m4a",
    "?.m4a",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_literally_in_both_forms(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    for words in ([f"input={name}", f"output={name}.d"], [name, "-o", f"{name}.d"], ["-o", f"{name}.d", "--", name]):
        arguments = parse([*words, "mode=reveal"] if "--" not in words else ["mode=reveal", *words])
        assert arguments.inputs == [name] and arguments.output == f"{name}.d"
        assert arguments.overrides == ["mode=reveal"]
        assert find_inputs(arguments.inputs) == [Path(name)]


def test_settings_and_presets_reach_the_config():
    arguments = parse(
        [
            "a.m4a",
            "mode=reveal",
            "start=1.5",
            "strength.gain=0.5",
            "diagnose_only=true",
            "ledger=false",
            "device=cpu",
            "overwrite=true",
            "separator=a b.safetensors",
            "restorer=#1.safetensors",
        ]
    )
    config, _ = read_config(arguments)
    assert (config.mode, config.start, config.strength.gain, config.diagnose_only) == ("reveal", 1.5, 0.5, True)
    assert (config.ledger, config.overwrite, config.device) == (False, True, "cpu")
    assert (config.separator, config.restorer) == ("a b.safetensors", "#1.safetensors")


def test_presets():
    plain = read_config(parse([]))[0]
    presets = {name: read_config(parse([f"restore={name}"]))[0] for name in ("reveal", "extend", "fast", "best")}
    assert presets["reveal"].mode == "reveal" and presets["extend"] == plain
    assert not presets["fast"].ledger and presets["fast"].separate.stride > plain.separate.stride
    assert len(passes(presets["best"].separate)) > len(passes(plain.separate))


@pytest.mark.parametrize(
    ("stages", "part"),
    [
        ("ingest,diagnose,dream", "there is no stage dream: choose among ingest, diagnose"),
        ("ingest,diagnose,ingest", "ingest is there 2 times"),
        ("ingest,diagnose,precondition,restore,remix,stems,master", "separate cannot be left out"),
        ("ingest,diagnose,precondition,restore,separate,remix,stems,master", "put separate before it"),
        ("ingest,diagnose,precondition,separate,restore,remix,stems,master,width", "put width before it"),
    ],
)
def test_a_chain_that_makes_no_sense_is_one_sentence(stages, part):
    with pytest.raises(UserError, match=part) as error:
        read_config(parse([f"stages=[{stages}]"]))
    assert str(error.value).endswith(".")


def test_stages_are_chosen_and_ordered():
    names = "ingest,diagnose,precondition,separate,restore,remix,stems,width,match,master"
    names = [stage.name for stage in chain(read_config(parse([f"stages=[{names}]"]))[0])]
    assert names[-3:] == ["width", "match", "master"] and "ledger" not in names


def test_where_and_how_a_result_is_made_does_not_change_what_it_is():
    base = read_config(parse([]))[0].identity()
    assert read_config(parse(["device=cpu", "threads=2", "overwrite=true"]))[0].identity() == base
    assert read_config(parse(["master.loudness=-16"]))[0].identity() != base


def test_folders_globs_and_repeats(tmp_path):
    for name in ("b.m4a", "a.mp4", ".hidden.m4a", "notes.txt", "[x].m4a"):
        (tmp_path / name).touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.m4a").touch()
    found = [p.name for p in find_inputs([str(tmp_path), str(tmp_path / "b.m4a")])]
    assert found == ["[x].m4a", "a.mp4", "b.m4a"]
    assert [p.name for p in find_inputs([str(tmp_path / "*.m4a")])] == ["[x].m4a", "b.m4a"]
    assert [p.name for p in find_inputs([str(tmp_path / "[x].m4a")])] == ["[x].m4a"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no recordings in this folder"):
        find_inputs([str(tmp_path / "empty")])


def test_a_name_that_fits_nothing_does_not_stop_the_others(tmp_path):
    (tmp_path / "a.m4a").touch()
    (tmp_path / "empty").mkdir()
    names, failures = [str(tmp_path / name) for name in ("mistyped.m4a", "empty", "a.m4a", "*.ogg")], {}
    assert find_inputs(names, failures) == [tmp_path / "a.m4a"]
    assert {path.name: text.split(": ")[1] for path, text in failures.items()} == {
        "mistyped.m4a": "there is no such file.",
        "empty": "there are no recordings in this folder.",
        "*.ogg": "there is no such file.",
    }
    # A glob may stand for several.
    failures.clear()
    assert find_inputs([str(tmp_path / "*")], failures) == [tmp_path / "a.m4a"] and len(failures) == 1
    for name in names[:2]:
        with pytest.raises(UserError):
            find_inputs([name], failures)


def test_result_names(tmp_path):
    def names(*paths: str) -> list[str]:
        return folder_names([Path(p) for p in paths], tmp_path)

    assert names("a.m4a", "a.mp4") == ["a", "a_mp4"]
    assert names("a.m4a", "b/a.m4a", "c/a.m4a") == ["a", "a_m4a", "a_m4a_2"]
    assert names("A.m4a", "a.mp4") == ["A", "a_mp4"]
    assert names("cafe\u0301.m4a", "caf\u00e9.mp4")[1] == "caf\u00e9_mp4"
    assert names("...m4a")[0] not in ("", ".", "..")
    assert names(".hydra.m4a") == [".hydra_m4a"]


def result(folder: Path, name: str, key: str) -> None:
    folder.mkdir()
    report = {"settings_key": key, "input": {"name": name}, "settings": {"diagnose_only": False}}
    (folder / "report.json").write_text(json.dumps(report))


def test_a_name_stays_with_its_recording_over_runs(tmp_path):
    result(tmp_path / "a", "a.m4a", "1")
    assert folder_names([Path("a.mp4")], tmp_path) == ["a_mp4"]
    assert folder_names([Path("a.m4a")], tmp_path) == ["a"]


def test_what_may_be_replaced(tmp_path):
    result(tmp_path / "a", "a.m4a", "1")
    assert finished(tmp_path / "a", "1", overwrite=False)
    assert not finished(tmp_path / "a", "2", overwrite=True)
    assert finished(tmp_path / "a", "1", overwrite=True)
    with pytest.raises(UserError, match="overwrite=true"):
        finished(tmp_path / "a", "2", overwrite=False)
    with pytest.raises(UserError, match="whole restoration"):
        finished(tmp_path / "a", "2", overwrite=True, part="0 5 preview")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    with pytest.raises(UserError, match="not a result"):
        finished(tmp_path / "mine", "1", overwrite=True)


def test_a_result_that_lacks_a_file_is_made_again(tmp_path):
    result(tmp_path / "a", "a.m4a", "1")
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    report["files"] = {"master.wav": {"bytes": 3}, "stems/bass.wav": {"bytes": 2}}
    (tmp_path / "a" / "report.json").write_text(json.dumps(report))
    (tmp_path / "a" / "stems").mkdir()
    (tmp_path / "a" / "stems" / "bass.wav").write_bytes(b"12")
    for content, whole in ((None, False), (b"12", False), (b"123", True)):
        if content is not None:
            (tmp_path / "a" / "master.wav").write_bytes(content)
        assert finished(tmp_path / "a", "1", overwrite=False) == whole
        assert finished(tmp_path / "a", "1", overwrite=True) == whole


def test_files_in_a_result_folder_by_whatever_name(tmp_path):
    (tmp_path / "out" / "a" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "a" / "deep" / "x.m4a").touch()
    (tmp_path / "link.m4a").symlink_to(tmp_path / "out" / "a" / "deep" / "x.m4a")
    (tmp_path / "more").symlink_to(tmp_path / "out")
    for file in (tmp_path / "link.m4a", tmp_path / "more" / "a" / "deep" / "x.m4a"):
        with pytest.raises(UserError, match="lies in the result folder"):
            check_outside(tmp_path / "out" / "a", [file])
        check_outside(tmp_path / "out" / "b", [file])


@pytest.mark.parametrize("device", ["cpu:abc", "cpu:", "cuda:99", "mps:x"])
def test_devices_that_are_not_there_are_one_sentence(device):
    with pytest.raises(UserError, match=re.escape(f"device={device} is not on this machine")):
        find_device(device)
    assert find_device("cpu:0") == "cpu:0"
