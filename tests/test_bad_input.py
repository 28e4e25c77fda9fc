"""Bad input: one clear sentence, a non-zero exit, no traceback, nothing half-written, and no network loaded for it."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from restoring import infer, music, tiny_weights, weights_arguments

from resonate import audio
from resonate.errors import UserError, command
from resonate.models.weights import save_weights
from resonate.restore import command as restoring
from resonate.restore import work
from resonate.restore.command import main


@pytest.fixture
def no_models(monkeypatch):
    """Loading a network fails the test."""

    def refuse(*_):
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(work, "load_separator", refuse)
    monkeypatch.setattr(work, "load_restorer", refuse)


def silent_video(path: Path) -> None:
    """A video of 10 pictures without sound."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


def make(kind: str, folder: Path) -> Path:
    """The bad recording called `kind`."""
    path = folder / "bad.m4a"
    rng = np.random.default_rng(0)
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
        (path / "notes.txt").write_text("no sound here")
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("This is a letter and no recording.\n" * 50)
    elif kind == "playlist":
        audio.write(folder / "other.wav", music(1, 8000), 8000)
        path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.wav\n#EXT-X-ENDLIST\n")
    elif kind == "random":
        path.write_bytes(rng.bytes(50_000))
    elif kind == "random-mp3":
        path = folder / "bad.mp3"
        path.write_bytes(rng.bytes(50_000))
    elif kind == "half-header":
        audio.encode(folder / "whole.m4a", music(1, 44100), 44100)
        path.write_bytes((folder / "whole.m4a").read_bytes()[:2000])
    elif kind == "video":
        path = folder / "bad.mp4"
        silent_video(path)
    elif kind in ("nan", "inf"):
        path = folder / "bad.wav"
        x = music(1, 8000)
        x[0, 5000] = float(kind)
        soundfile.write(path, x.T, 8000, subtype="FLOAT")
    elif kind == "short":
        audio.encode(path, music(0.45, 44100), 44100)
    elif kind == "no-samples":
        path = folder / "bad.wav"
        soundfile.write(path, np.zeros((0, 2)), 44100)
    return path


KINDS = (
    "missing",
    "folder",
    "empty",
    "text",
    "playlist",
    "random",
    "random-mp3",
    "half-header",
    "video",
    "nan",
    "inf",
    "short",
    "no-samples",
)


def one_sentence(text: str) -> bool:
    """A line with an end, without a traceback."""
    return text.count("\n") == 1 and len(text) > 20 and text.strip().endswith(".") and "Traceback" not in text


#: Kinds whose header is good: only decoding shows what is wrong, after the networks were loaded.
DECODED = ("nan", "inf", "short")


@pytest.mark.parametrize("kind", KINDS)
def test_one_sentence_and_nothing_written(kind, tmp_path, capsys, request):
    if kind not in DECODED:
        request.getfixturevalue("no_models")
    (tmp_path / "in").mkdir()
    path = make(kind, tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    status = main([str(path), "-o", str(tmp_path / "out"), *weights_arguments()])
    error = capsys.readouterr().err
    assert status == 2
    assert one_sentence(error), error
    assert path.name in error
    # The run's own log may be there: the container's header was good, the samples were not.
    assert [p for p in sorted(tmp_path.rglob("*")) if ".hydra" not in p.parts and p.name != "out"] == before


def test_a_subprocess_shows_the_same_sentence_without_traceback(tmp_path):
    path = make("text", tmp_path)
    done = infer(path, "-o", tmp_path / "out")
    assert done.returncode == 2 and one_sentence(done.stderr) and not (tmp_path / "out").exists()


def test_output_that_cannot_be_written(tmp_path, capsys, no_models):
    audio.write(tmp_path / "a.wav", music(1, 8000), 8000)
    (tmp_path / "file").write_text("in the way")
    for output in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / (300 * "x")):
        assert main([str(tmp_path / "a.wav"), "-o", str(output), *weights_arguments()]) == 2
        error = capsys.readouterr().err
        assert one_sentence(error) and "cannot be written" in error


def test_weights_that_cannot_be_used(tmp_path, capsys):
    audio.write(tmp_path / "a.wav", music(1, 8000), 8000)
    separator, restorer = tiny_weights()
    (tmp_path / "text.safetensors").write_text("no weights")
    wrong = save_weights(
        work.load_restorer(restorer), tmp_path / "wrong.safetensors", "restorer", {"width": 16, "dilations": [1, 2]}
    )
    for words in (
        [f"separator={tmp_path}/none.safetensors"],
        [f"separator={restorer}"],
        [f"restorer={separator}"],
        [f"restorer={tmp_path}/text.safetensors"],
        [f"separator={separator}", f"restorer={wrong}"],
    ):
        assert main([str(tmp_path / "a.wav"), "-o", str(tmp_path / "out"), *weights_arguments(), *words]) == 2
        assert one_sentence(capsys.readouterr().err)
        assert not list((tmp_path / "out").glob("[!.]*")) and not list((tmp_path / "out").glob(".work*"))


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("mode=invent", "extend, reveal"),
        ("mod=reveal", "did you mean mode?"),
        ("abacus=1", "no such setting"),
        ("start=-1", "between 0"),
        ("start=soon", "a number"),
        ("duration=0.1", "0.5"),
        ("ledger=7", "true or false"),
        ("device=abacus", "cpu"),
        ("strength.gain=2", "between 0 and 1"),
        ("strength=1", "strength.gain"),
        ("mode=[reveal", "cannot be read"),
        ("--faster", "no option"),
        ("restore=none", "the presets are best, extend, fast, reveal"),
        ("strength.gain=0,5", "a point, 0.5"),
    ],
)
def test_settings_that_make_no_sense(word, part, tmp_path, capsys, no_models):
    audio.write(tmp_path / "a.wav", music(1, 8000), 8000)
    assert main([str(tmp_path / "a.wav"), "-o", str(tmp_path / "out"), *weights_arguments(), word]) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_start_after_the_end(tmp_path, capsys):
    audio.write(tmp_path / "a.wav", music(1, 8000), 8000)
    assert main([str(tmp_path / "a.wav"), "-o", str(tmp_path / "out"), "start=5", *weights_arguments()]) == 2
    assert "ends at 1.00 s" in capsys.readouterr().err


def test_no_input_at_all(capsys):
    assert main([]) == 2
    assert one_sentence(capsys.readouterr().err)


def test_a_disk_that_is_too_small(tmp_path, capsys, monkeypatch, no_models):
    audio.write(tmp_path / "a.wav", music(1, 8000), 8000)
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("resonate.restore.estimate.shutil.disk_usage", lambda _: usage)
    assert main([str(tmp_path / "a.wav"), "-o", str(tmp_path / "out"), *weights_arguments()]) == 2
    error = capsys.readouterr().err
    assert one_sentence(error) and "free" in error and not (tmp_path / "out").exists()


def test_one_bad_file_does_not_stop_the_others(tmp_path, capsys):
    audio.write(tmp_path / "a.wav", music(0.6, 44100), 44100)
    soundfile.write(tmp_path / "b.wav", np.full((30_000, 2), np.nan), 44100, subtype="FLOAT")
    make("text", tmp_path)
    audio.write(tmp_path / "c.wav", music(0.6, 44100, seed=1), 44100)
    status = main([f"input={tmp_path}", "-o", str(tmp_path / "out"), *weights_arguments(), "ledger=false"])
    screen = capsys.readouterr()
    assert status == 1
    assert "2 of 4 recordings are done, 2 failed" in screen.out
    assert "bad.m4a" in screen.err and "b.wav" in screen.err and screen.err.count("\n") == 2
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".hydra", "a", "c"]


@pytest.mark.parametrize("failure", [ValueError("odd"), RuntimeError("shapes\ndiffer"), MemoryError()])
def test_an_error_that_nobody_foresaw_does_not_stop_the_others(failure, tmp_path, capsys, monkeypatch):
    real = restoring.restore

    def restore(path, *rest):
        if path.name == "a.wav":
            raise failure
        return real(path, *rest)

    monkeypatch.setattr(restoring, "restore", restore)
    for name in ("a", "b"):
        audio.write(tmp_path / f"{name}.wav", music(0.6, 44100), 44100)
    words = ["-o", str(tmp_path / "out"), *weights_arguments(), "diagnose_only=true"]
    assert main([str(tmp_path / "a.wav"), str(tmp_path / "b.wav"), *words]) == 1
    screen = capsys.readouterr()
    assert one_sentence(screen.err) and "1 of 2 recordings are done, 1 failed" in screen.out
    (written,) = (tmp_path / "out" / ".hydra").glob("*/infer.log")
    foreseen = isinstance(failure, MemoryError)
    assert (str(written) in screen.err) != foreseen
    assert ("Traceback" in written.read_text()) != foreseen
    assert [p.name for p in (tmp_path / "out").glob("[!.]*")] == ["b"]
    if not foreseen:  # alone, it is shown as it is: nothing else waits for its turn
        with pytest.raises(type(failure)):
            main([str(tmp_path / "a.wav"), *words])


def test_names_that_fit_nothing_do_not_stop_the_others(tmp_path, capsys):
    audio.write(tmp_path / "a.wav", music(0.6, 44100), 44100)
    (tmp_path / "empty").mkdir()
    odd = [str(tmp_path / "mistyped.wav"), str(tmp_path / "empty")]
    words = ["-o", str(tmp_path / "out"), *weights_arguments(), "diagnose_only=true"]
    assert main([odd[0], str(tmp_path / "a.wav"), odd[1], *words]) == 1
    screen = capsys.readouterr()
    assert "1 of 3 recordings are done, 2 failed" in screen.out
    assert "no such file" in screen.err and "no recordings in this folder" in screen.err
    assert screen.err.count("\n") == 2 and (tmp_path / "out" / "a" / "report.json").is_file()
    assert main([*odd, *words]) == 2
    screen = capsys.readouterr()
    assert screen.err.count("\n") == 2 and "0 of 2 recordings are done, 2 failed" in screen.out


def test_a_result_that_must_stay_is_told_before_any_work(tmp_path, capsys, request):
    for name in ("a", "b"):
        audio.write(tmp_path / f"{name}.wav", music(0.6, 44100), 44100)
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "diary.txt").write_text("dear")
    words = ["-o", str(tmp_path / "out"), *weights_arguments()]
    assert main([str(tmp_path / "a.wav"), str(tmp_path / "b.wav"), *words, "diagnose_only=true"]) == 1
    screen = capsys.readouterr()
    told = screen.out.splitlines()
    assert told[0].startswith("Left out: ") and "is not a result" in told[0] and told[1].startswith("1 recording, ")
    assert f"{tmp_path / 'a.wav'}" not in told and "1 of 2 recordings are done, 1 failed" in told[-1]
    assert one_sentence(screen.err) and "is not a result" in screen.err
    request.getfixturevalue("no_models")
    before = sorted((tmp_path / "out").rglob("*"))
    assert main([str(tmp_path / "a.wav"), *words]) == 2
    screen = capsys.readouterr()
    assert one_sentence(screen.err) and "is not a result" in screen.err and not screen.out
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_a_network_that_gives_nan_is_an_error_not_a_result(tmp_path, capsys, monkeypatch):
    audio.write(tmp_path / "a.wav", music(0.6, 44100), 44100)
    monkeypatch.setattr(
        "resonate.restore.separation.apply_separator", lambda model, x: x[:, None].expand(1, 4, 2, -1) * float("nan")
    )
    assert main([str(tmp_path / "a.wav"), "-o", str(tmp_path / "out"), *weights_arguments()]) == 2
    assert "not finite" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").glob("[!.]*")] == []


def test_damage_in_the_middle_is_reported(tmp_path):
    path = tmp_path / "a.mp3"
    audio.encode(path, music(3, 44100), 44100, "libmp3lame")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    assert main([str(path), "-o", str(tmp_path / "out"), "diagnose_only=true"]) == 0
    report = json.loads((tmp_path / "out" / "a" / "report.json").read_text())
    assert report["input"]["samples"] < 3 * 44100 + 2000 and report["notes"]


@pytest.mark.parametrize(("failure", "status", "said"), [
    (UserError("There is no music; add some."), 2, "There is no music; add some."),
    (FileNotFoundError(2, "No such file or directory", "songs/a.wav"), 2, "songs/a.wav: No such file or directory."),
    (OSError(28, "No space left on device"), 2, "No space left on device."),
    (KeyboardInterrupt(), 130, ""),
])
def test_a_command_ends_in_one_sentence_and_a_status(failure, status, said, capsys):
    @command
    def fails() -> None:
        raise failure

    assert fails() == status
    assert capsys.readouterr().err.strip() == said
