"""The renderer: shards that are a pure function of settings and number, and what lies beside them."""

import csv
import html
import json
import logging
import os
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from rendering import hashes, make, make_music, noise

from data_recipes import render, render_shards
from data_recipes.render_config import music_folder, presets, read_config
from data_recipes.render_examples import Renderer, left_out, rebuild
from resonate import RATE, audio
from resonate.data import shards
from resonate.data.module import CaptureData, DataConfig
from resonate.degrade.chain import ChainConfig
from resonate.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    return make_music(tmp_path_factory.mktemp("music"))


@pytest.fixture(scope="module")
def rendered(music, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("rendered") / "shards"
    render.render(make(music, out, "crowd=true", "listen=3"))
    return out


# ---- what is written


def test_a_shard_read_back_is_what_was_rendered(rendered, music):
    index = shards.read_index(rendered)
    assert [e["file"] for e in index["examples"]] == [
        "train-00000000", "train-00000001", "train-00000002", "train-00000003", "valid-00000000", "valid-00000001"]
    assert index["rows"] == [*shards.ROWS, "crowd"]
    renderer = Renderer(make(music, rendered, "crowd=true"), "train")
    for number in (0, 3):
        entry = index["examples"][number]
        want, details = renderer.example(number)
        got = shards.read_audio(rendered, entry)
        assert got.dtype == np.float32 and got.shape == want.shape == (11, 2, RATE)
        for row, back, scale in zip(want, got, entry["scale"], strict=True):
            assert np.abs(row).max() <= scale and np.abs(row - back).max() <= scale * 2.0**-15
        assert {k: entry[k] for k in ("song", "present", "severity", "gaps", "measures")} == {
            k: details[k] for k in ("song", "present", "severity", "gaps", "measures")}
        assert np.array_equal(shards.read_audio(rendered, entry, slice(1, 3), 500, 900), got[1:3, :, 500:900])


def test_loud_and_silent_rows_survive_the_sixteen_bits():
    t = np.arange(RATE) / RATE
    rows = np.stack([gain * np.stack([np.sin(900 * t), np.cos(900 * t)]) for gain in (3.7, 1.0, 1e-4, 0.0)])
    files, scales = shards.encode(rows.astype(np.float32))
    for row, data, scale in zip(rows, files, scales, strict=True):
        error = np.abs(shards.decode(data, scale) - row).max()
        assert error <= max(np.abs(row).max(), 2.0**-20) * 2.0**-14


def test_tars_carry_neither_times_nor_owners_and_hold_all_parameters(rendered, music):
    with tarfile.open(rendered / "train-000001.tar") as tar:
        for entry in tar:
            assert (entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) == (0, 0, 0, "", "")
    details = shards.read_details(rendered / "train-000001.tar")
    assert [d["file"] for d in details] == ["train-00000002", "train-00000003"]
    assert all(d["params"]["n_samples"] == RATE and d["key"] == make(music, rendered, "crowd=true").settings.key
               for d in details)


def test_the_manifest_names_every_file_that_was_used_with_its_licence(rendered):
    with (rendered / "manifest.tsv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    licences = {row["name"]: row["licence"] for row in rows if row["kind"] == "music"}
    used = {name for e in shards.read_index(rendered)["examples"] for name in e["songs"]}
    assert set(licences) == used and "Rubidium" in used
    known = {"Lithium": "CC0-1.0", "Sodium": "CC-BY-NC-4.0", "Rubidium": "CC-BY-4.0", "Potassium": "unknown"}
    assert licences == {name: known[name] for name in used}
    texts = "".join(json.dumps(d["params"]) for tar in rendered.glob("*.tar") for d in shards.read_details(tar))
    bank = [row for row in rows if row["kind"] != "music"]
    assert bank and {row["kind"] for row in bank} <= {"crowd", "rooms", "devices", "handling"}
    assert all(json.dumps(row["file"].removeprefix("bank/"))[1:-1] in texts and row["licence"] and row["source"]
               for row in bank)


def test_the_listening_page_works_from_disk(rendered):
    page = (rendered / "listen.html").read_text(encoding="utf-8")
    sources = [html.unescape(src) for src in re.findall(r'src="([^"]*)"', page)]
    assert len(sources) == 9 and sorted(sources) == sorted(
        path.relative_to(rendered).as_posix() for path in (rendered / "listen").iterdir())
    assert "http" not in page and "<script" not in page
    # AAC keeps what a listener hears: the preview is the capture, at another level.
    entry = next(e for e in shards.read_index(rendered)["examples"] if e["file"] in sources[0])
    heard = audio.read(rendered / sources[0]).samples.mean(0)[:RATE]
    want = shards.read_audio(rendered, entry, slice(1))[0].mean(0)[: len(heard)]
    assert np.corrcoef(np.convolve(heard, np.ones(16)), np.convolve(want, np.ones(16)))[0, 1] > 0.9


def test_names_are_escaped_on_the_page(tmp_path):
    name = "<img src=x onerror=alert(1)> & \"Lithium\""
    music = tmp_path / "music"
    music.mkdir()
    audio.write(music / f"{name}.flac", noise(1, 1.5), RATE, subtype="PCM_16")
    render.render(make(music, tmp_path / "out", "shards.valid=0", "shards.train=1", "per_shard=1", "listen=1"))
    page = (tmp_path / "out" / "listen.html").read_text(encoding="utf-8")
    assert "<img" not in page and html.escape(name) in page


# ---- the same bytes, however it was made


def test_a_shard_rendered_again_is_the_same_and_the_others_are_left_alone(rendered, music):
    before = hashes(rendered)
    stamp = (rendered / "train-000000.tar").stat().st_mtime_ns
    (rendered / "train-000001.tar").unlink()
    render.render(make(music, rendered, "crowd=true", "listen=3"))
    assert hashes(rendered) == before
    assert (rendered / "train-000000.tar").stat().st_mtime_ns == stamp


def test_an_example_is_rebuilt_from_its_json_alone(rendered, music, tmp_path):
    """The folders lie elsewhere now, and nothing but the JSON of one example is known of the render."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(music, moved / music.name)
    shard = rendered / "train-000001.tar"
    with tarfile.open(shard) as tar:
        text = tar.extractfile("train-00000003.json").read()
        stored = [tar.extractfile(f"train-00000003.{name}").read() for name in shards.row_names(json.loads(text))]
    rows, details = rebuild(json.loads(text), [str(moved / music.name)])
    files, scales = shards.encode(rows)
    assert files == stored and {**json.loads(json.dumps(details)), "scale": scales} == json.loads(text)
    (moved / music.name / "Potassium.flac").unlink()
    with pytest.raises(UserError, match="not the one"):
        rebuild(json.loads(text), [str(moved / music.name)])
    with pytest.raises(UserError, match="2 are given"):
        rebuild(json.loads(text), [str(moved), str(moved)])
    with pytest.raises(UserError, match="does not hold the settings"):
        rebuild({"split": "train"}, [str(moved)])


def test_a_render_stopped_half_way_goes_on_and_grows(music, tmp_path, monkeypatch):
    plan, whole = make(music, tmp_path / "a", "shards.valid=0"), make(music, tmp_path / "b", "shards.valid=0")
    render.render(whole)
    drawn, original = [], Renderer.example

    def stop_at_the_fourth(self, index):
        drawn.append(index)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return original(self, index)

    monkeypatch.setattr(Renderer, "example", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        render.render(plan)
    left = {path.name for path in plan.out.iterdir()}
    assert left == {".lock", "index.json", "manifest.tsv", "train-000000.tar"}
    assert len(shards.read_index(plan.out)["examples"]) == 2  # what is done can be trained on
    (plan.out / ".train-000001.tar.77.part").write_bytes(b"killed")
    (plan.out / ".train-000001.tar.77.count").write_bytes(b"..")
    drawn[:] = [0] * 10
    render.render(plan)
    assert drawn[10:] == [2, 3]  # none twice
    assert hashes(plan.out) == hashes(whole.out) and not list(plan.out.glob(".*.77.*"))
    render.render(make(music, plan.out, "shards.valid=0", "shards.train=3"))
    assert {k: v for k, v in hashes(plan.out).items() if k in hashes(whole.out) and k.endswith("tar")} == {
        k: v for k, v in hashes(whole.out).items() if k.endswith("tar")}
    assert len(shards.read_index(plan.out)["examples"]) == 6


def test_what_stops_a_job_is_said_and_the_rest_stays(music, tmp_path, monkeypatch):
    plan, original = make(music, tmp_path / "out", "shards.valid=0"), Renderer.example

    def breaks(self, index):
        if index == 2:
            raise UserError("Lithium is broken.")
        return original(self, index)

    monkeypatch.setattr(Renderer, "example", breaks)
    with pytest.raises(UserError, match=r"1 of 2 shards were not rendered: Lithium is broken\."):
        render.render(plan)
    assert (plan.out / "train-000000.tar").exists() and not list(plan.out.glob(".*.part"))


# ---- what is refused, before any work


def test_other_settings_are_refused_and_named(rendered, music):
    before = hashes(rendered)
    with pytest.raises(UserError, match=r"other settings \(seed, crowd\)"):
        render.render(make(music, rendered, "seed=8"))
    assert hashes(rendered) == before


def test_changed_music_is_other_music(rendered, music, tmp_path):
    copy = tmp_path / music.name
    make_music(copy)
    assert make(copy, rendered, "crowd=true").settings == make(music, rendered, "crowd=true").settings
    audio.write(copy / "Lithium" / "bass.flac", noise(7, 2.4), RATE, subtype="PCM_16")
    with pytest.raises(UserError, match=r"other settings \(music\)"):
        render.render(make(copy, rendered, "crowd=true"))


def test_a_damaged_shard_is_named(music, tmp_path):
    plan = make(music, tmp_path / "out", "shards.valid=0", "shards.train=1")
    render.render(plan)
    tar = plan.out / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:30_000])
    with pytest.raises(UserError, match=r"train-000000\.tar"):
        render.render(plan)
    with pytest.raises(UserError, match="cannot be read"):
        shards.read_audio(plan.out, shards.read_index(plan.out)["examples"][1])


def test_two_renders_never_write_to_one_folder(music, tmp_path):
    plan = make(music, tmp_path / "out")
    plan.out.mkdir()
    with render_shards.lock(plan.out), pytest.raises(UserError, match="Another render"):
        render.render(plan)


def test_a_full_disk_and_a_split_without_songs_are_found_first(music, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no song is of the test split"):
        render.render(make(music, tmp_path / "out", "shards.test=1"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match="GB free"):
        render.render(make(music, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["out=x"], "music=FOLDER"),
        (["music=x"], "out=FOLDER"),
        (["music=x", "out=y", "out=z"], "twice"),
        (["music=", "out=y"], "needs the name"),
        (["music=x", "out=y", "--workers", "4"], "no option --workers"),
        (["music=x", "out=y", "-m", "seed=1,2"], "no option -m"),
        (["music=x", "out=y", "seed=1,2"], "cannot be read"),
        (["music=x", "out=y", "sede=1"], "cannot be read"),
        (["music=x", "out=y", "seconds=long"], "cannot be read"),
        (["music=x", "out=y", "seconds=0"], "0.5 to 600"),
        (["music=x", "out=y", "severity=awful"], "near, mid, far, brutal, mix"),
        (["music=x", "out=y", "licence=gpl"], "any, cc"),
        (["music=x", "out=y", "shards.train=0", "shards.valid=0"], "at least one shard"),
        (["music=x", "out=y", "workers=0"], "workers must be"),
        (["music=x", "out=y", "hydra/launcher=pigeon"], "launcher"),
        (["music=nowhere at all", "out=y"], "nowhere at all is not a folder"),
        (["music=x=-1", "out=y"], "above 0"),
        (["music=x", "out=${y}"], "choose another"),
        (["music=x", "out=y", "part=1"], "workers=N"),
    ],
)
def test_wrong_words_are_one_sentence(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert render.main(words) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and "Traceback" not in error
    assert not list(tmp_path.iterdir())


NASTY = ["it's, [1] {a} = #2", "Tom & Jerry", "1e5", "${oc.env:HOME}", "null", 'say "x"', "tab\there", "🎸", "a\\"]


@pytest.mark.parametrize("name", NASTY)
def test_names_are_taken_literally(name):
    config, words = read_config([f"music={name}", f"music={name}/b", f"bank={name}", "out=x", "seed=3"])
    assert (config.music, config.bank) == ([name, f"{name}/b"], [name])
    assert words == ["seed=3"] and config.seed == 3
    if "${" not in name:
        assert read_config(["music=x", f"out={name}"])[0].out == name


def test_weights_of_music_folders_are_read_from_the_right(tmp_path):
    assert music_folder("a/b=2.5") == ("a/b", 2.5)
    assert music_folder("a/b") == ("a/b", 1.0)
    assert music_folder("x=y=0.5") == ("x=y", 0.5)
    assert music_folder("x=y") == ("x=y", 1.0)
    (tmp_path / "songs=2").mkdir()
    assert music_folder(str(tmp_path / "songs=2")) == (str(tmp_path / "songs=2"), 1.0)


def test_the_presets_are_settings_of_the_chain_and_get_worse():
    lows = [values["severity"][0] for values in presets().values()]
    assert lows == sorted(lows) and len(lows) == 4


# ---- licences


def test_licence_cc_leaves_out_what_is_not_free_or_unknown(music, tmp_path):
    plan = make(music, tmp_path / "out", "licence=cc")
    renderer = Renderer(plan, "train")
    assert {song.name for song in renderer.excerpts.songs} == {"Lithium"}  # Sodium is NC, Potassium unknown
    assert left_out(plan) == [
        "licence=cc leaves out 2 of 4 songs, whose licences are: 1 research, 1 unknown."]
    assert left_out(make(music, tmp_path / "out")) == []
    assert plan.settings.key != make(music, tmp_path / "out").settings.key


def test_training_on_the_fly_has_the_same_filter(music):
    data = CaptureData(DataConfig(music=str(music), licence="cc", seconds=1.0), ChainConfig(), 1)
    data.setup()
    assert data.describe() == {"train": {"songs": ["Lithium"]}, "valid": {"songs": ["Rubidium"]}}
    with pytest.raises(UserError, match="any and cc"):
        CaptureData(DataConfig(music=str(music), licence="nc"), ChainConfig(), 1).setup()


def test_licence_cc_holds_for_the_bank_too(music, tmp_path):
    bank = tmp_path / "bank"
    (bank / "crowd").mkdir(parents=True)
    rows = ["file\tkind\tsplit\tgroup\tlicence\tsource\torigin\tsha256\tnote"]
    for name, licence in (("a", "CC0-1.0"), ("b", "GPL-3"), ("c", "")):
        audio.write(bank / "crowd" / f"{name}.wav", noise(ord(name), 1.0), RATE)
        rows.append(f"crowd/{name}.wav\tcrowd\ttrain\t{name}\t{licence}\there\t\t\t")
    (bank / "bank.tsv").write_text("\n".join(rows) + "\n")
    plan = make(music, tmp_path / "out", "licence=cc", f"bank={bank}")
    chain = Renderer(plan, "train").chains["mid"]
    assert [item.name for item in chain.bank.items("crowd")] == ["crowd/a.wav"]
    assert left_out(plan)[1] == ("licence=cc leaves out 2 of 3 files of the bank, whose licences are: 1 copyleft, "
                                 "1 unknown.")


def test_music_that_is_all_left_out_is_an_error(tmp_path):
    audio.write(tmp_path / "mine.flac", noise(1, 1.5), RATE, subtype="PCM_16")
    with pytest.raises(UserError, match="free licence"):
        Renderer(make(tmp_path, tmp_path / "out", "licence=cc"), "train")


# ---- the command


def test_the_command_renders_through_hydra(music, tmp_path, capsys):
    handlers = logging.root.handlers[:]
    out = tmp_path / "a, b=[1] '{x}' %j"
    words = ["seconds=1", "per_shard=1", "shards.train=1", "shards.valid=0", "listen=0", "severity=mid"]
    try:
        assert render.main([f"music={music}", f"out={out}", *words]) == 0
        assert render.main([f"music={music}", f"out={out}", *words]) == 0  # nothing left to do
    finally:
        logging.root.handlers[:] = handlers
    said = capsys.readouterr().err
    assert "1 train examples, 0.00 h" in said and "Files used, by licence" in said
    assert len(list((out / "hydra").iterdir())) == 1 and list(out.glob("hydra/*/render.log"))
    assert json.loads((out / "index.json").read_text())["settings"]["per_shard"] == 1


def test_help_explains_every_setting(capsys):
    assert render.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in ("music", "shards", "per_shard", "severity", "licence", "workers"):
        assert f"{name}:" in text


def documented() -> list[str]:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"^python -m data_recipes\.render (.*)$", text, re.MULTILINE)


def test_documented_commands_are_understood():
    assert len(documented()) >= 3
    for command in documented():
        config, _ = read_config(shlex.split(command.split("#")[0]))
        assert config.out and config.music


def test_a_plan_keeps_no_path_of_this_machine(rendered, music):
    for name in ("index.json", "manifest.tsv", "listen.html"):
        assert str(music.parent) not in (rendered / name).read_text(encoding="utf-8")


def test_a_render_outlives_the_shell_that_started_it_and_a_job_does_not_outlive_its_render(tmp_path, monkeypatch):
    monkeypatch.setattr(render_shards.os, "getppid", lambda: 1)
    with render_shards.lock(tmp_path):
        assert not render_shards._abandoned(4711)
        monkeypatch.setenv(render_shards._RENDER, "4711")  # as a job sees it
        assert render_shards._abandoned(4711) and not render_shards._abandoned(1)
    assert render_shards._RENDER not in os.environ
