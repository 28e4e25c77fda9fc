"""infer.py from recording to result folder: files, lengths, loudness, names, repeats, silence."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace

import av
import numpy as np
import pytest
import soundfile
from restoring import infer, music, weights_arguments

from resonate import STEMS, audio
from resonate.restore.arguments import parse
from resonate.restore.command import _announce, main, read_config
from resonate.restore.config import Master
from resonate.restore.diagnosis import clean
from resonate.restore.estimate import estimate, used
from resonate.restore.loudness import LoudnessMeter
from resonate.restore.mastering import master
from resonate.restore.pipeline import Outcome, restore
from resonate.restore.screen import Screen
from resonate.restore.store import Track
from resonate.restore.work import Models

WEIRD = (
    "Voice 001 (1).m4a",
    "Don't stop.m4a",
    "Tom & Jerry.m4a",
    "a,b=c.m4a",
    "[1] #2!.m4a",
    "café.m4a",
    "20240501.m4a",
    "🎸 encore.m4a",
)


def ebur128(path) -> tuple[float, float]:
    """(integrated LUFS, true peak in dB) by FFmpeg's own filter."""
    with av.open(str(path)) as container:
        graph = av.filter.Graph()
        source = graph.add_abuffer(template=container.streams.audio[0])
        meter, sink = graph.add("ebur128", "peak=true:metadata=1"), graph.add("abuffersink")
        source.link_to(meter)
        meter.link_to(sink)
        graph.configure()
        loudness, peak = -np.inf, 1e-9
        for frame in container.decode(audio=0):
            graph.push(frame)
            while True:
                try:
                    out = graph.pull()
                except av.error.BlockingIOError:
                    break
                loudness = float(out.metadata["lavfi.r128.I"])
                peak = max([peak, *(float(v) for k, v in out.metadata.items() if "true_peaks_ch" in k)])
    return loudness, 20 * np.log10(peak)


def run(*words) -> int:
    return main([*map(str, words), "threads=1", *weights_arguments()])


def test_weird_names_through_a_subprocess(tmp_path):
    x = music(0.6, 44100)
    first = tmp_path / WEIRD[0]
    audio.encode(first, x, 44100)
    for name in WEIRD[1:]:
        shutil.copy(first, tmp_path / name)
    half = len(WEIRD) // 2
    words = [f"input={name}" for name in WEIRD[:half]] + list(WEIRD[half:])
    done = infer(*words, "output=the #1, out=put", "ledger=false", "mode=reveal", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "the #1, out=put"
    assert sorted(p.name for p in output.iterdir()) == sorted([".hydra", *(n.removesuffix(".m4a") for n in WEIRD)])
    for name in WEIRD:
        assert name in done.stdout
        assert soundfile.info(output / name.removesuffix(".m4a") / "master.wav").frames == x.shape[1]
    assert not (tmp_path / "outputs").exists() and not (tmp_path / ".hydra").exists()


def test_everything_that_is_promised_is_there(tmp_path):
    path = tmp_path / "show.m4a"
    x = music(2.5, 48000)
    audio.encode(path, x, 48000)
    before = path.read_bytes()
    assert run(path, "-o", tmp_path / "out") == 0
    assert path.read_bytes() == before
    result = tmp_path / "out" / "show"
    info = soundfile.info(result / "master.wav")
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (x.shape[1], 48000, 2, "PCM_24")
    for name in STEMS:
        info = soundfile.info(result / "stems" / f"{name}.wav")
        assert (info.frames, info.samplerate, info.channels, info.subtype) == (x.shape[1], 48000, 2, "FLOAT")
    assert (result / "report.html").is_file()
    report = json.loads((result / "report.json").read_text(encoding="utf-8"))
    assert report["input"]["sha256"] == audio.sha256(path) and report["input"]["source"]["has_edit_list"]
    assert [stage["name"] for stage in report["stages"]] == [
        "ingest",
        "diagnose",
        "precondition",
        "separate",
        "choose",
        "restore",
        "remix",
        "ledger",
        "stems",
        "equalise",
        "match",
        "compress",
        "width",
        "master",
    ]
    assert {"settings", "weights", "versions", "seed", "timings", "diagnosis", "files"} <= set(report)
    for name, entry in report["files"].items():
        assert audio.sha256(result / name) == entry["sha256"]
    loudness, peak = ebur128(result / "master.wav")
    assert abs(loudness + 14) < 0.2 and peak <= -1.0
    log = list((tmp_path / "out" / ".hydra").glob("*/infer.log"))
    assert len(log) == 1 and "separate" in log[0].read_text()


@pytest.mark.parametrize(
    ("rate", "rate_out"), [(8000, 48000), (11025, 44100), (96000, 48000), (37800, 44100), (32000, 48000)]
)
def test_length_and_rate_of_the_master(rate, rate_out, tmp_path):
    x = music(0.73, rate, channels=1 if rate < 30000 else 6)
    audio.write(tmp_path / "x.wav", x, rate, "PCM_24")
    assert run(tmp_path / "x.wav", "-o", tmp_path / "out", "ledger=false") == 0
    info = soundfile.info(tmp_path / "out" / "x" / "master.wav")
    assert (info.samplerate, info.frames) == (rate_out, round(x.shape[1] * rate_out / rate))
    report = json.loads((tmp_path / "out" / "x" / "report.json").read_text())
    assert any(("mono" if rate < 30000 else "6 channels") in note for note in report["notes"])
    assert not (tmp_path / "out" / "x" / "ledger").exists() and not (tmp_path / "out" / "x" / "work").exists()


def test_the_sound_of_a_video(tmp_path):
    path = tmp_path / "clip.mp4"
    x = music(1.0, 44100)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        sound = container.add_stream("aac", rate=44100, layout="stereo")
        for _ in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        for start in range(0, x.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x[:, start : start + 1024]), "fltp", "stereo")
            frame.sample_rate, frame.pts = 44100, start
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    assert run(path, "-o", tmp_path / "out") == 0
    assert soundfile.info(tmp_path / "out" / "clip" / "master.wav").frames == x.shape[1]


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_silence_gives_silence(level, tmp_path):
    """Digital silence, and nothing but an offset."""
    audio.write(tmp_path / "x.wav", np.full((2, 50_000), level, np.float32), 44100)
    assert run(tmp_path / "x.wav", "-o", tmp_path / "out") == 0
    files = [p for p in (tmp_path / "out" / "x").rglob("*.wav") if p.stem != "removed"]
    assert len(files) == 1 + 4 + 9
    for file in files:
        y, _ = soundfile.read(file)
        assert np.abs(y).max() < 1e-6 and len(y) == 50_000


def test_steady_noise_is_not_made_louder(tmp_path):
    """Mode extend puts the balance of music right; where there is none, the equaliser would only lift the hiss."""
    x = 1e-3 * np.random.default_rng(0).standard_normal((2, 3 * 44100)).astype(np.float32)
    audio.write(tmp_path / "x.wav", x, 44100)
    assert run(tmp_path / "x.wav", "-o", tmp_path / "out", "clean.bypass=false", "veto.enabled=false") == 0
    y, _ = soundfile.read(tmp_path / "out" / "x" / "ledger" / "premaster.wav")
    added, _ = soundfile.read(tmp_path / "out" / "x" / "ledger" / "extended.wav")
    assert np.sqrt(np.mean(np.square(y))) < 1.2e-3 and not added.any()
    stages = json.loads((tmp_path / "out" / "x" / "report.json").read_text("utf-8"))["stages"]
    assert "held_back" in next(s for s in stages if s["name"] == "restore")["effect"]


def test_repeats_refusals_and_overwriting(tmp_path, capsys):
    path, out = tmp_path / "x.wav", tmp_path / "out"
    audio.write(path, music(0.6, 44100), 44100)
    assert run(path, "-o", out, "diagnose_only=true") == 0
    page = (out / "x" / "report.html").read_text("utf-8")
    assert sorted(p.name for p in (out / "x").iterdir()) == ["report", "report.html", "report.json"]
    assert [p.name for p in (out / "x" / "report").iterdir()] == ["spectrogram_input.png"]
    assert "Music was captured" in page and "nothing was restored" in page and "<audio" not in page
    assert all(name not in page for name in ("master.wav", "ledger=false", "No check of faithfulness"))
    assert "Music was captured" in capsys.readouterr().out
    assert run(path, "-o", out, "ledger=false") == 0
    first = {p: p.stat().st_mtime_ns for p in (out / "x").rglob("*") if p.is_file()}
    capsys.readouterr()
    assert run(path, "-o", out, "ledger=false") == 0
    assert "already done" in capsys.readouterr().out
    assert run(path, "-o", out, "ledger=false", "mode=reveal") == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in (out / "x").rglob("*") if p.is_file()} == first
    assert run(path, "-o", out, "ledger=false", "mode=reveal", "overwrite=true") == 0
    assert json.loads((out / "x" / "report.json").read_text())["mode"] == "reveal"
    capsys.readouterr()
    assert run(path, "-o", out, "ledger=false", "mode=reveal", "overwrite=true") == 0
    assert "already done" in capsys.readouterr().out
    (out / "x" / "master.wav").unlink()
    assert run(path, "-o", out, "ledger=false", "mode=reveal") == 0
    assert "already done" not in capsys.readouterr().out and (out / "x" / "master.wav").is_file()
    assert sorted(p.name for p in out.iterdir()) == [".hydra", "x"]


@pytest.mark.parametrize("word", ["input", "reference", "tonal_reference"])
def test_what_a_run_reads_is_not_replaced_by_its_result(word, tmp_path, capsys):
    path, out = tmp_path / "x.wav", tmp_path / "out"
    audio.write(path, music(0.6, 44100), 44100)
    assert run(path, "-o", out, "diagnose_only=true") == 0
    inside = out / "x" / "x.wav"
    if word == "input":
        path.rename(inside)
    else:
        shutil.copy(path, inside)
    words = [inside] if word == "input" else [path, f"{word}={inside}"]
    before = {p: p.read_bytes() for p in (out / "x").rglob("*") if p.is_file()}
    capsys.readouterr()
    assert run(*words, "-o", out, "ledger=false", "overwrite=true") == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "lies in the result folder" in said.err and not said.out
    assert {p: p.read_bytes() for p in (out / "x").rglob("*") if p.is_file()} == before


def test_notes_and_vetoes_are_told(tmp_path, capsys):
    report = {
        "diagnosis": {"words": ["Music was captured."]}, "expected": None, "timings": {"ingest": 1.0},
        "notes": ["2 damaged packets of 9 were left out"],
        "stages": [{"name": "restore", "effect": {"taken_back": [{"from": 0, "to": 4}, {"from": 8, "to": 12}]}}],
    }  # fmt: skip
    _announce(Screen(), Outcome(tmp_path, report))
    said = capsys.readouterr().out
    assert "note: 2 damaged packets of 9 were left out\n" in said and "took back 2 stretches" in said


def test_results_that_are_there_ask_for_no_room(tmp_path, monkeypatch, capsys):
    path, out = tmp_path / "x.wav", tmp_path / "out"
    audio.write(path, music(0.6, 44100), 44100)
    assert run(path, "-o", out, "ledger=false") == 0
    usage = shutil.disk_usage(out)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert run(path, "-o", out, "ledger=false") == 0
    assert "already done" in capsys.readouterr().out
    assert run(path, "-o", tmp_path / "other", "ledger=false") == 2
    assert "are needed" in capsys.readouterr().err


def test_recordings_of_one_name_from_two_folders_keep_their_results(tmp_path):
    for k, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        audio.write(tmp_path / folder / "x.wav", music(0.6, 44100, seed=k), 44100)
    for folder in ("a", "b", "a", "b"):
        assert run(tmp_path / folder / "x.wav", "-o", tmp_path / "out", "diagnose_only=true") == 0
    paths = {name: json.loads((tmp_path / "out" / name / "report.json").read_text())["input"]["path"]
             for name in ("x", "x_wav")}  # fmt: skip
    assert paths == {"x": str(tmp_path / "a" / "x.wav"), "x_wav": str(tmp_path / "b" / "x.wav")}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".hydra", "x", "x_wav"]
    # Moved, it is still the same recording.
    (tmp_path / "c").mkdir()
    (tmp_path / "a" / "x.wav").rename(tmp_path / "c" / "x.wav")
    assert run(tmp_path / "c" / "x.wav", "-o", tmp_path / "out", "diagnose_only=true") == 0
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_channels_of_opposite_polarity_are_heard(tmp_path):
    x = music(1.2, 44100, channels=1)
    revealed = {}
    for name, right in (("same", x), ("opposite", -x)):
        audio.write(tmp_path / f"{name}.wav", np.concatenate([x, right]), 44100)
        assert run(tmp_path / f"{name}.wav", "-o", tmp_path / "out", "mode=reveal") == 0
        revealed[name] = soundfile.read(tmp_path / "out" / name / "ledger" / "revealed.wav")[0]
    assert np.abs(revealed["same"]).max() > 1e-3
    np.testing.assert_array_equal(revealed["opposite"], revealed["same"])
    notes = json.loads((tmp_path / "out" / "opposite" / "report.json").read_text("utf-8"))["notes"]
    assert any("opposite polarity" in note for note in notes)


@pytest.mark.parametrize(("rate", "rate_out"), [(48000, 48000), (96000, 48000), (44100, 44100)])
def test_a_finished_mix_keeps_what_44100_hz_cannot_hold(rate, rate_out, tmp_path, monkeypatch):
    monkeypatch.setattr(clean, "faults", lambda diagnosis, limits: [])
    t = np.arange(round(1.2 * rate)) / rate
    x = (music(1.2, rate) + 0.1 * np.sin(2 * np.pi * 21800 * t)).astype(np.float32)
    audio.write(tmp_path / "x.wav", x, rate)
    assert run(tmp_path / "x.wav", "-o", tmp_path / "out", "mode=reveal", "master.loudness=-30") == 0
    made = {name: soundfile.read(tmp_path / "out" / "x" / "ledger" / f"{name}.wav")[0].T
            for name in ("revealed", "removed", "premaster")}  # fmt: skip
    np.testing.assert_array_equal(made["revealed"], x)
    assert not made["removed"].any()
    np.testing.assert_array_equal(made["premaster"], x)
    y, got = soundfile.read(tmp_path / "out" / "x" / "master.wav")
    assert got == rate_out
    wanted = audio.resample(x, rate, rate_out)
    y = y.T[:, 2000:-2000]
    wanted = wanted[:, 2000 : 2000 + y.shape[1]]
    gain = float((y * wanted).sum() / np.square(wanted).sum())
    assert np.abs(y - gain * wanted).max() < 1e-4


def test_preview_is_the_stretch(tmp_path):
    x = music(3, 44100)
    audio.write(tmp_path / "x.wav", x, 44100)
    assert run(tmp_path / "x.wav", "-o", tmp_path / "out", "start=1", "duration=0.7") == 0
    ledger = tmp_path / "out" / "x" / "ledger"
    parts = [soundfile.read(ledger / f"{name}.wav")[0].T for name in ("revealed", "removed")]
    assert parts[0].shape[1] == 30_870
    assert np.abs(sum(parts) - x[:, 44_100 : 44_100 + 30_870]).max() < 1e-6


def test_same_input_gives_the_same_bytes(tmp_path):
    audio.write(tmp_path / "x.wav", music(0.8, 44100), 44100)
    for name in ("1", "2"):
        assert run(tmp_path / "x.wav", "-o", tmp_path / name) == 0
    for file in sorted((tmp_path / "1" / "x").rglob("*.wav")):
        assert file.read_bytes() == (tmp_path / "2" / file.relative_to(tmp_path / "1")).read_bytes(), file.name


def test_a_reference_is_measured_against(tmp_path, capsys):
    x = music(2, 44100)
    audio.write(tmp_path / "x.wav", x, 44100)
    assert run(tmp_path / "x.wav", "-o", tmp_path / "out", f"reference={tmp_path / 'x.wav'}", "ledger=false") == 0
    measured = json.loads((tmp_path / "out" / "x" / "reference.json").read_text())
    assert measured["input"]["f_sdr"] > 60 > measured["master"]["f_sdr"] and measured["input"]["lsd"] < 0.1
    assert "against x.wav" in capsys.readouterr().out
    audio.write(tmp_path / "short.wav", x[:, :30000], 44100)
    words = (f"reference={tmp_path / 'short.wav'}", "start=1", "ledger=false")
    assert run(tmp_path / "x.wav", "-o", tmp_path / "later", *words) == 1
    said = capsys.readouterr()
    assert "cannot be compared" in said.err and "done in" in said.out
    assert (tmp_path / "later" / "x" / "master.wav").is_file()


@pytest.mark.skipif(sys.platform == "darwin", reason="names are Unicode there")
def test_names_that_are_no_text_or_as_long_as_can_be(tmp_path):
    names = [os.fsdecode(b"caf\xe9 \xff.wav"), "x" * 251 + ".wav"]
    for name in names:
        audio.write(tmp_path / "x.wav", music(0.6, 8000, 1), 8000)
        os.rename(tmp_path / "x.wav", tmp_path / name)
    assert run(*(tmp_path / name for name in names), "-o", tmp_path / "out", "diagnose_only=true") == 0
    for name in names:
        report = json.loads((tmp_path / "out" / name.removesuffix(".wav") / "report.json").read_text())
        assert report["input"]["name"] == name
    assert run(tmp_path / names[0], "-o", tmp_path / "out", "diagnose_only=true") == 0


def as_track(x: np.ndarray, rate: int, folder) -> Track:
    track = Track(folder / "x.npy", 2, x.shape[1], rate)
    track.write(0, x.astype(np.float32))
    return track


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("kind", ["music", "noise", "quiet", "loud", "drums"])
def test_master_meets_loudness_and_true_peak(kind, rate, tmp_path):
    x = music(4, rate)
    rng = np.random.default_rng(0)
    drums = x + 0.15 * rng.standard_normal(x.shape) * np.exp(-(np.arange(x.shape[1]) % (rate // 2)) / (0.02 * rate))
    x = {"music": x, "noise": rng.standard_normal(x.shape), "quiet": 0.02 * x, "loud": 9 * x, "drums": drums}[kind]
    made, effect = master(as_track(x, rate, tmp_path), Master())
    y = np.concatenate(list(made.blocks()), 1)
    audio.write(tmp_path / "y.wav", y, rate, "PCM_24")
    loudness, peak = ebur128(tmp_path / "y.wav")
    assert abs(loudness + 14) < 0.15 and peak <= -1.0, effect
    assert abs(effect["loudness_after_lufs"] - loudness) < 0.05
    assert abs(effect["true_peak_after_dbtp"] - peak) < 0.3


def test_too_peaky_sound_stays_quieter_and_below_the_ceiling(tmp_path):
    x = 1e-3 * music(3, 48000)
    x[:, ::4800] = 0.9
    made, effect = master(as_track(x, 48000, tmp_path), Master())
    audio.write(tmp_path / "y.wav", np.concatenate(list(made.blocks()), 1), 48000, "PCM_24")
    loudness, peak = ebur128(tmp_path / "y.wav")
    assert loudness < -20 and peak <= -1.0
    assert effect["most_limiting_db"] <= 13


def test_make_up_gain_is_no_new_sound(tmp_path):
    """A pause at -97 dBFS, lifted by the master's gain, is louder than what the checks call silence; the limiter did
    nothing there."""
    rng = np.random.default_rng(0)
    x = np.concatenate([0.05 * rng.standard_normal((2, 5 * 44100)), 3e-6 * rng.standard_normal((2, 44100))], axis=1)
    x[:, 2 * 44100] = 0.7
    track = Track(tmp_path / "x.npy", 2, x.shape[1], 44100).fill([(0, x.astype(np.float32))])
    mastered, effect = master(track, Master(loudness=-9.0))
    assert effect["makeup_gain_db"] > 10 and effect["most_limiting_db"] > 1
    level = [np.abs(np.fft.rfft(sound.read(5 * 44100 + 2000, 2048)[0])) for sound in (mastered, track)]
    alone = mastered.without_makeup().read(0, x.shape[1])
    np.testing.assert_allclose(level[0] / level[1], 10 ** (effect["makeup_gain_db"] / 20), rtol=1e-3)
    np.testing.assert_allclose(alone[:, 5 * 44100 + 2000 :], x[:, 5 * 44100 + 2000 :], rtol=1e-4, atol=1e-9)
    assert np.abs(alone).max() < 0.9 * np.abs(x).max() and (np.abs(alone) <= np.abs(x) + 1e-7).all()


def test_limiting_leaves_quiet_stretches_alone(tmp_path):
    """Only around the peaks does the gain differ from the make-up gain."""
    x = 0.2 * music(4, 44100)
    x[:, 2 * 44100] = 1.0
    track = as_track(x, 44100, tmp_path)
    made, effect = master(track, Master())
    y = np.concatenate(list(made.blocks()), 1)
    ratio = y[0, : 44100 * 3 // 2] / x[0, : 44100 * 3 // 2]
    assert effect["most_limiting_db"] > 1 and np.ptp(20 * np.log10(ratio[np.abs(x[0, : len(ratio)]) > 1e-3])) < 0.01


@pytest.mark.parametrize("rate", [8000, 44100, 48000, 96000])
def test_streamed_loudness_is_that_of_a_known_sine(rate):
    """BS.1770: a 997 Hz sine at -20 dBFS on both sides reads -20 LUFS (+3.01 dB for two channels, -3.01 for RMS)."""
    n = 5 * rate
    x = 0.1 * np.sin(2 * np.pi * 997 * np.arange(n) / rate)
    meter = LoudnessMeter(rate)
    for start in range(0, n, 12_345):
        meter.push(np.stack([x, x])[:, start : start + 12_345])
    assert abs(meter.loudness() + 20.0) < 0.1
    assert len(meter.power) == 500


def test_the_estimate_of_disk_holds_at_every_stage(tmp_path):
    path, out = tmp_path / "x.wav", tmp_path / "out"
    audio.write(path, music(6, 48000), 48000)
    out.mkdir()
    config, _ = read_config(parse(["threads=1", "device=cpu", "restore=best", *weights_arguments()]))
    models = Models(config)
    expected, most = estimate(audio.probe(path), config, models), 0

    def tell(stage: str, share: float) -> None:
        nonlocal most
        most = max(most, used(out))

    restore(path, out / "x", config, models, tell)
    assert 0.4 * (expected.result + expected.scratch) < most < expected.result + expected.scratch
    assert 0.6 * expected.result < used(out) < 1.1 * expected.result


def test_the_estimate_grows_with_what_is_asked(tmp_path):
    source = audio.Source("wav", "pcm_s16le", 44100, 2, expected=60 * 44100)

    def expected(*words: str, length: int = 60):
        config, _ = read_config(parse(["device=cpu", *words, *weights_arguments()]))
        return estimate(replace(source, expected=length * 44100), config, Models(config))

    plain = expected()
    assert expected(length=3600).result > 40 * plain.result and expected(length=3600).time > 20 * plain.time
    # Memory does not grow with the recording, but for the previews, which end at a quarter of an hour.
    assert expected(length=10800).memory == expected(length=1000).memory
    assert expected("restore=best").stages["separate"] > 2 * plain.stages["separate"]
    assert expected("ledger=false").result < 0.7 * plain.result
    assert expected("start=30", "duration=15").seconds == 15
    assert expected("diagnose_only=true").time < 0.5 * plain.time
    assert set(expected("diagnose_only=true").stages) == {"ingest", "diagnose"}
