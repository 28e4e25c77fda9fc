"""What goes wrong on the way: full disks, locks, damaged weights, files that change or break off, hostile names."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from restoring import infer, music, tiny_weights, weights_arguments

from resonate import audio
from resonate.errors import UserError
from resonate.models import released
from resonate.models.restorer import Restorer, RestorerConfig
from resonate.models.weights import FOLDER, save_weights
from resonate.report import page
from resonate.restore import command, pipeline, work
from resonate.restore.arguments import parse
from resonate.restore.command import main
from resonate.restore.deliver import Master
from resonate.restore.prepare import Ingest
from resonate.restore.results import RUNS
from resonate.restore.scratch import DONE, lock, scratch_folder, scratch_path
from resonate.restore.store import Store


def run(*words) -> int:
    return main([*map(str, words), "threads=1", "device=cpu", *weights_arguments()])


def one_sentence(text: str) -> bool:
    return text.count("\n") == 1 and text.strip().endswith(".") and "Traceback" not in text


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def no_page(monkeypatch):
    monkeypatch.setattr(page, "build", lambda result, report: None)


@pytest.fixture
def recording(tmp_path) -> Path:
    audio.write(tmp_path / "x.wav", music(1.4, 44100), 44100)
    return tmp_path / "x.wav"


@pytest.mark.parametrize("where", ["store", "wav", "account"])
def test_a_full_disk_is_said_and_the_work_is_kept(where, recording, tmp_path, monkeypatch, capsys, no_page):
    out, calls = tmp_path / "out", 0
    target, name = {
        "store": (Store, "write_rows"),
        "wav": (audio.WavWriter, "write"),
        "account": (pipeline.checkpoint, "write_json"),
    }[where]
    real = getattr(target, name)

    def write(*arguments):
        nonlocal calls
        calls += 1
        return full() if calls > 9 else real(*arguments)

    monkeypatch.setattr(target, name, write)
    assert run(recording, "-o", out) == 2
    error = capsys.readouterr().err
    assert one_sentence(error) and "is full" in error and "goes on" in error
    assert not (out / "x").exists() and list(scratch_path(out / "x").glob("*/done.json"))
    monkeypatch.undo()
    monkeypatch.setattr(page, "build", lambda result, report: None)
    assert run(recording, "-o", out) == 0 and run(recording, "-o", tmp_path / "fresh") == 0
    for file in (tmp_path / "fresh" / "x").rglob("*.wav"):
        assert file.read_bytes() == (out / "x" / file.relative_to(tmp_path / "fresh" / "x")).read_bytes()
    assert sorted(p.name for p in out.iterdir()) == [RUNS, "x"]


def test_a_disk_that_fills_while_the_page_is_made(recording, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("resonate.report.page.previews.make", full)
    assert run(recording, "-o", tmp_path / "out") == 2
    assert "is full" in capsys.readouterr().err
    (kept,) = scratch_path(tmp_path / "out" / "x").glob("master-*/done.json")
    assert kept.is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_on_a_full_disk_does_not_stop_the_run(recording, tmp_path, monkeypatch, capsys):
    class Full(command._Log):
        def __init__(self, path, **options):
            super().__init__("/dev/full", **options)

    monkeypatch.setattr(command, "_Log", Full)
    assert run(recording, "-o", tmp_path / "out", "diagnose_only=true") == 0
    assert not capsys.readouterr().err


def test_the_second_of_two_runs_refuses(recording, tmp_path, capsys):
    out = tmp_path / "out"
    with lock(out / RUNS / "lock", "busy"):
        done = infer(recording, "-o", out)
    assert done.returncode == 2 and one_sentence(done.stderr) and "Another run is writing to" in done.stderr
    assert sorted(p.name for p in out.iterdir()) == [RUNS]
    assert run(recording, "-o", out, "diagnose_only=true") == 0


def test_two_runs_on_one_result_never_share_its_folder(tmp_path):
    with scratch_folder(tmp_path / "x") as scratch:
        (scratch / "half.npy").write_bytes(b"0" * 1000)
        with pytest.raises(UserError, match="Another run is working on"), scratch_folder(tmp_path / "x"):
            pass
        assert (scratch / "half.npy").exists()
    assert not list(tmp_path.iterdir())


def test_an_unusable_recording_leaves_nothing_and_a_usable_one_its_work(tmp_path):
    with pytest.raises(audio.AudioError), scratch_folder(tmp_path / "x"):
        raise audio.AudioError("no sound")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError), scratch_folder(tmp_path / "x"):
        raise UserError("weights")
    assert scratch_path(tmp_path / "x").is_dir()
    with pytest.raises(audio.AudioError), scratch_folder(tmp_path / "x") as scratch:
        (scratch / "ingest-1").mkdir()
        (scratch / "ingest-1" / DONE).touch()
        raise audio.AudioError("gone since")
    assert (scratch / "ingest-1" / DONE).is_file()


def test_a_file_that_grows_while_it_is_read_is_refused(recording, tmp_path, capsys, monkeypatch):
    real = pipeline.chain

    def chain(config):
        stages = real(config)
        ingest = stages[0]

        class Grows:
            name, settings = ingest.name, staticmethod(ingest.settings)

            def run(self, work):
                with open(recording, "ab") as file:
                    file.write(b"more")
                return ingest.run(work)

        return [Grows(), *stages[1:]]

    monkeypatch.setattr(pipeline, "chain", chain)
    assert run(recording, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert one_sentence(error) and "changed while" in error
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [RUNS]


def test_a_file_that_is_deleted_once_it_was_read_costs_nothing(recording, tmp_path, monkeypatch, no_page):
    finish = Master.run

    def gone(self, work):
        recording.unlink()
        return finish(self, work)

    monkeypatch.setattr(Master, "run", gone)
    assert run(recording, "-o", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "x" / "report.json").read_text())
    assert report["input"]["sha256_after"] is None and any("deleted" in note for note in report["notes"])


@pytest.mark.parametrize("when", ["deleted", "shorter", "deleted while the page is made"])
def test_the_page_does_without_a_recording_that_is_no_more_what_was_read(when, recording, tmp_path, monkeypatch):
    finish, collect = Master.run, page.collect

    def master(self, work):
        if when == "deleted":
            recording.unlink()
        elif when == "shorter":
            audio.write(recording, music(0.6, 44100), 44100)
        return finish(self, work)

    def collected(folder, report):
        sounds = collect(folder, report)
        recording.unlink(missing_ok=True)
        return sounds

    monkeypatch.setattr(Master, "run", master)
    if when == "deleted while the page is made":
        monkeypatch.setattr(page, "collect", collected)
    assert run(recording, "-o", tmp_path / "out", "ledger=false", "start=0.7") == 0
    result = tmp_path / "out" / "x"
    media = {path.name for path in (result / "report").iterdir()}
    assert {"spectrogram_restored.png", "restored.m4a"} <= media and not [name for name in media if "input" in name]
    text = (result / "report.html").read_text("utf-8")
    assert "report/restored.m4a" in text and "input.m4a" not in text
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [RUNS, "x"]


def test_a_full_disk_while_comparing_is_one_sentence(recording, tmp_path, monkeypatch, capsys, no_page):
    monkeypatch.setattr(command, "compare", full)
    assert run(recording, "-o", tmp_path / "out", f"reference={recording}", "ledger=false") == 1
    error = capsys.readouterr().err
    assert one_sentence(error) and "cannot be compared" in error and "is full" in error
    assert (tmp_path / "out" / "x" / "master.wav").is_file()


def faststart(path: Path, seconds: float, rate: int = 44100) -> None:
    """An m4a with its index before the sound, as streaming services and some recorders write it."""
    audio.encode(path, music(seconds, rate), rate)
    moved = path.with_suffix(".fast.m4a")
    with av.open(str(path)) as given, av.open(str(moved), "w", options={"movflags": "+faststart"}) as made:
        stream = made.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(given.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                made.mux(packet)
    moved.replace(path)


def test_a_truncated_m4a_gives_what_decodes_and_says_how_much(tmp_path, capsys):
    path = tmp_path / "cut.m4a"
    faststart(path, 4.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert run(path, "-o", tmp_path / "out", "diagnose_only=true") == 0
    report = json.loads((tmp_path / "out" / "cut" / "report.json").read_text())
    assert 1.5 < report["input"]["seconds"] < 3.0
    missing = 4.0 - report["input"]["seconds"]
    (note,) = [n for n in report["notes"] if "before the end that it states" in n]
    assert f"{round(missing * 44100)} samples" in note
    assert f"note: {note}\n" in capsys.readouterr().out


def test_an_m4a_that_lost_its_index_says_so(tmp_path, capsys):
    path = tmp_path / "cut.m4a"
    audio.encode(path, music(4.0, 44100), 44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert run(path, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert one_sentence(error) and "index" in error
    assert not (tmp_path / "out").exists()


def test_weights_with_another_hash_are_refused_at_the_start(recording, tmp_path, capsys):
    separator, restorer = (shutil.copy(path, tmp_path) for path in tiny_weights())
    data = bytearray(Path(separator).read_bytes())
    (tmp_path / released.SUMS).write_text(f"{audio.sha256(separator)}  {Path(separator).name}\n")
    words = [recording, "-o", tmp_path / "out", f"separator={separator}", f"restorer={restorer}"]
    assert main([*map(str, words), "diagnose_only=true"]) == 0
    shutil.rmtree(tmp_path / "out")
    data[-100] ^= 1
    Path(separator).write_bytes(data)
    assert main([*map(str, words)]) == 2
    error = capsys.readouterr().err
    assert one_sentence(error) and "hash" in error and not (tmp_path / "out").exists()


def test_the_listener_is_checked_even_for_a_diagnosis(recording, tmp_path, capsys, monkeypatch):
    listener = Path(shutil.copy(work.LISTENER, tmp_path))
    (tmp_path / released.SUMS).write_text(f"{audio.sha256(listener)}  {listener.name}\n")
    monkeypatch.setattr(work, "LISTENER", listener)
    assert run(recording, "-o", tmp_path / "out", "diagnose_only=true") == 0
    capsys.readouterr()
    data = bytearray(listener.read_bytes())
    data[-100] ^= 1
    listener.write_bytes(data)
    assert run(recording, "-o", tmp_path / "other", "diagnose_only=true") == 2
    error = capsys.readouterr().err
    assert one_sentence(error) and "hash" in error and not (tmp_path / "other").exists()
    listener.unlink()
    assert run(recording, "-o", tmp_path / "other", "diagnose_only=true") == 2
    assert "missing" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["short", "long", "shape"])
def test_damaged_weights_are_refused_at_the_start(damage, recording, tmp_path, capsys):
    separator, _ = (shutil.copy(path, tmp_path) for path in tiny_weights())
    data = Path(separator).read_bytes()
    shape = data.replace(b'\\"channels\\": 8', b'\\"channels\\": 4')
    changed = {"short": data[:-1000], "long": data + b"0" * 64, "shape": shape}
    assert changed[damage] != data
    Path(separator).write_bytes(changed[damage])
    assert main([str(recording), "-o", str(tmp_path / "out"), f"separator={separator}"]) == 2
    error = capsys.readouterr().err
    assert one_sentence(error) and "separator.safetensors" in error
    assert not list((tmp_path / "out").glob("[!.]*")) and not list((tmp_path / "out").glob(".work*"))


def test_weights_that_turn_the_captured_phase_are_refused(recording, tmp_path, capsys):
    config = RestorerConfig(width=8, dilations=(1, 2), correction=0.3)
    restorer = save_weights(Restorer(config), tmp_path / "restorer.safetensors", "restorer", config.to_dict())
    assert main([str(recording), "-o", str(tmp_path / "out"), f"restorer={restorer}"]) == 2
    error = capsys.readouterr().err
    assert one_sentence(error) and "phase" in error and not list((tmp_path / "out").glob("[!.]*"))


def test_the_recorded_hashes_are_those_of_the_weights_in_the_repo():
    lines = (FOLDER / released.SUMS).read_text().splitlines()
    names = {line.split()[1] for line in lines}
    assert {"separator.safetensors", "restorer.safetensors", "listener.safetensors"} <= names
    for name in names:
        released.check_hash(FOLDER / name)


def test_released_weights_that_cannot_be_had(recording, tmp_path, monkeypatch, capsys):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    assert main([str(recording), "-o", str(tmp_path / "out"), "separator=htdemucs"]) == 2
    error = capsys.readouterr().err
    assert one_sentence(error) and "separator=FILE" in error and not (tmp_path / "out").exists()


class Tags(HTMLParser):
    """Collects tags; none may run anything by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


@pytest.mark.skipif(sys.platform == "darwin", reason="names are narrower there")
def test_names_with_quotes_newlines_emoji_and_html(tmp_path, capsys):
    name = "<img src=x onerror=alert(1)> \"it's\" [red] &amp;\n🎸.wav"
    audio.write(tmp_path / name, music(0.6, 8000, 1), 8000)
    assert run(tmp_path / name, "-o", tmp_path / "out") == 0
    text = (tmp_path / "out" / name.removesuffix(".wav") / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert "img" in tags.tags and name.split("\n")[0] not in text and escape(name) in text
    report = json.loads((tmp_path / "out" / name.removesuffix(".wav") / "report.json").read_text())
    assert report["input"]["name"] == name
    assert "[red]" in capsys.readouterr().out


SEEDS = ("m4a", "mp3", "wav", "flac", "ogg", "mp4", "aac", "mkv", "webm", "caf", "aiff")


@pytest.fixture(scope="module")
def containers(tmp_path_factory) -> dict[str, bytes]:
    """A short recording in each container that can be written."""
    folder, made = tmp_path_factory.mktemp("containers"), {}
    x = music(0.7, 48000)
    codecs = {"mp3": "libmp3lame", "flac": "flac", "ogg": "libvorbis", "webm": "libopus", "wav": "pcm_s16le"}
    for suffix in SEEDS:
        try:
            path = folder / f"x.{suffix}"
            audio.encode(path, x, 48000, codecs.get(suffix, "pcm_s16be" if suffix in ("caf", "aiff") else "aac"))
        except ValueError:
            continue
        made[suffix] = path.read_bytes()
    return made


class Found:
    """Stands for the diagnosis, which takes longer than reading such short files."""

    name = "diagnose"

    def settings(self, config):
        return {}

    def run(self, work):
        work.diagnosis = {"words": []}
        return {}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_thousand_mutated_recordings(containers, tmp_path_factory, monkeypatch):
    """Whatever the bytes: a result or one sentence, and no file outside the output folder."""
    monkeypatch.setattr(pipeline, "chain", lambda config: [Ingest(), Found()])
    # Pictures of a thousand recordings take hours, and need the diagnosis that is left out here.
    monkeypatch.setattr(page, "build", lambda result, report: None)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    # The words are the same each time, and composing the settings takes longer than reading such a file.
    read = command.read_config(parse(["threads=1", "device=cpu", "diagnose_only=true", *weights_arguments()]))
    monkeypatch.setattr(command, "read_config", lambda arguments: read)
    folder = tmp_path_factory.mktemp("fuzz")
    assert len(containers) >= 6
    statuses = []

    calm = list(HealthCheck)

    @settings(max_examples=1000, deadline=None, database=None, derandomize=True, suppress_health_check=calm)
    @given(data=st.data())
    def mutate(data):
        suffix = data.draw(st.sampled_from(sorted(containers)))
        content = bytearray(containers[suffix])
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, len(content) - 1)) if content else 0
            if data.draw(st.booleans()):  # headers are at the start or the end
                at = min(at, 400) if data.draw(st.booleans()) else max(0, len(content) - 1 - min(at, 1200))
            kind = data.draw(st.sampled_from(("byte", "cut", "drop", "repeat", "zero", "random")))
            size = data.draw(st.integers(1, 64))
            if kind == "byte" and content:
                content[at] = data.draw(st.integers(0, 255))
            elif kind == "cut":
                del content[at:]
            elif kind == "drop":
                del content[at : at + size]
            elif kind == "repeat":
                content[at:at] = content[at : at + size]
            elif kind == "zero":
                content[at : at + size] = bytes(len(content[at : at + size]))
            else:
                content[at : at + size] = data.draw(st.binary(min_size=1, max_size=size))
        given_to = folder / "in" / f"x.{suffix}"
        given_to.parent.mkdir(exist_ok=True)
        given_to.write_bytes(content)
        status = run(given_to, "-o", folder / "out", "diagnose_only=true")
        statuses.append(status)
        assert status in (0, 2)
        assert given_to.read_bytes() == bytes(content)
        assert sorted(p.name for p in folder.iterdir()) in (["in"], ["in", "out"])
        assert [p.name for p in given_to.parent.iterdir()] == [given_to.name]
        if (folder / "out").exists():
            left = sorted(p.name for p in (folder / "out").iterdir())
            assert left == ([RUNS, "x"] if status == 0 else [RUNS])
            if status == 0:
                json.loads((folder / "out" / "x" / "report.json").read_text())
            shutil.rmtree(folder / "out")
        given_to.unlink()

    mutate()
    assert len(statuses) >= 1000
    assert np.mean(np.array(statuses) == 0) > 0.1 and np.mean(np.array(statuses) == 2) > 0.1
