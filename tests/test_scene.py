"""What hears crowd and room: truths of its estimates, of its training and of its file."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.signal import butter, sosfilt

from resonate import RATE
from resonate.data import shards
from resonate.errors import UserError
from resonate.restore.diagnosis import fit, fit_finished, fit_scene, scene
from resonate.restore.diagnosis.levels import Levels, measure_levels
from resonate.restore.diagnosis.listener import WEIGHTS
from resonate.restore.diagnosis.room import estimate_room
from resonate.restore.diagnosis.sentences import sentences
from resonate.restore.diagnosis.truth import made_up_stems


def music(seconds: float, seed: int = 0) -> np.ndarray:
    x = made_up_stems(round(seconds * RATE), np.random.default_rng(seed)).sum(0)
    return (0.05 * x / np.sqrt(np.square(x).mean())).astype(np.float32)


def crowd(seconds: float) -> np.ndarray:
    """Steady voices: noise between 300 and 4000 Hz, as loud as the music."""
    inside = butter(2, [300, 4000], "bandpass", fs=RATE, output="sos")
    x = sosfilt(inside, np.random.default_rng(9).standard_normal((2, round(seconds * RATE))))
    return (0.05 * x / np.sqrt(np.square(x).mean())).astype(np.float32)


def test_more_crowd_is_heard_as_less_music_over_it():
    x, noise = music(12.0), crowd(12.0)
    said = [np.median(scene.hear(measure_levels(x + g * noise)).snr_db) for g in (0.03, 0.3, 1.0, 3.0)]
    assert (np.diff(said) < -0.5).all(), said
    assert said[0] - said[-1] > 6, said


def test_where_the_crowd_is_louder_is_heard():
    x, noise = music(20.0, 1), crowd(20.0)
    noise[:, : 10 * RATE] *= 0.05
    said = scene.hear(measure_levels(x + noise)).snr_db
    assert np.median(said[:160]) > np.median(said[240:]) + 2


def test_level_does_not_matter():
    x = music(12.0) + 0.3 * crowd(12.0)
    one, other = (scene.hear(measure_levels(g * x)) for g in (1.0, 0.1))
    np.testing.assert_allclose(one.snr_db, other.snr_db, atol=0.3)
    assert one.c80_db == pytest.approx(other.c80_db, abs=0.3)


@pytest.mark.parametrize("rows", [1, 7, 199, 200, 201, 3333])
def test_every_row_of_any_length_is_heard(rows):
    rng = np.random.default_rng(rows)
    levels = Levels(*(rng.normal(-40, 5, shape).astype(np.float32) for shape in ((rows, 17), (rows, 17), (rows,))))
    found = scene.hear(levels)
    assert found.snr_db.shape == (rows,) and np.isfinite(found.snr_db).all() and found.rt60_s > 0


def test_batches_of_stretches_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    levels = Levels(*(rng.normal(-40, 5, shape).astype(np.float32) for shape in ((1234, 17), (1234, 17), (1234,))))
    whole = scene.hear(levels)
    monkeypatch.setattr(scene, "_BATCH", 3)
    np.testing.assert_allclose(scene.hear(levels).snr_db, whole.snr_db, atol=1e-3)


def test_the_shipped_file_keeps_its_size_and_names_what_is_not_heard():
    model = scene.load()
    assert sum(p.numel() for p in model.parameters()) < 100_000
    assert float(model.share[0]) > 0.5 and all(0 <= share <= 1 for share in model.share)
    found = scene.hear(measure_levels(music(12.0)))
    assert (found.c80_told, found.rt60_told) == tuple(bool(share > 0) for share in model.share[1:])
    for k, told in ((1, found.c80_db), (2, np.log2(found.rt60_s))):
        if model.share[k] == 0:
            assert told == pytest.approx(float(model.typical[k]), abs=1e-5)


def test_what_is_not_measured_is_said_to_be_typical():
    levels = measure_levels(music(6.0))
    heard = scene.Scene(np.zeros(120, np.float32), 6.0, 1.3, False, False)
    rest = {
        "silent": False, "finished": False, "clean": False, "seconds": 6.0, "peak_dbfs": -3.0, "low_hz": 50.0,
        "high_hz": 9000.0, "parts": [],
        "music_to_crowd_db": 3.0, "music_to_crowd_over_time_db": [3.0], "noise_floor_dbfs": -60.0, "clipped_share": 0.0,
        "soft_clipped_share": 0.0, "agc": {"range_db": 0.0}, "hum": {"base_hz": 0.0}, "dc_offset": [0.0],
        "codec": {"step_db": 0.0, "cutoff_hz": 22050.0}, "channels": {"kind": "mono"},
        "songs": {"songs": [], "gaps": []}, "range_over_floor_db": 20.0,
    }  # fmt: skip
    room = estimate_room(levels, heard).to_dict()
    assert (room["mid_s"], room["mid_measured"], room["clarity_db"]) == (1.3, False, None)
    assert set(room["rt60_s"].values()) == {None}
    words = " ".join(sentences(rest | {"room": room}))
    assert "not measured (1.3 s would be typical)" in words and "C80" not in words
    assert "3 dB over the crowd (3 at the worst), so the crowd is nearly as loud: expect quiet pauses" in words
    told = estimate_room(levels, replace(heard, c80_told=True, rt60_told=True)).to_dict()
    words = " ".join(sentences(rest | {"room": json.loads(json.dumps(told))}))
    assert "rings for 1.3 s" in words and "C80 is 6 dB" in words


def test_a_file_without_these_weights_is_refused(tmp_path):
    held = {k: v for k, v in load_file(str(WEIGHTS)).items() if not k.startswith(scene.PREFIX)}
    save_file(held, str(tmp_path / "old.safetensors"))
    with pytest.raises(UserError, match="holds no weights that hear crowd and room"):
        scene.load(tmp_path / "old.safetensors")


def test_music_over_crowd_is_the_truth_and_forgives_distortion():
    rng = np.random.default_rng(0)
    wet, noise = rng.standard_normal((2, 2, 10 * RATE)).astype(np.float32)
    noise[:, 5 * RATE :] *= 0.1
    overall = 10 * np.log10(np.square(wet).sum() / np.square(noise).sum())
    for overdriven in (1.0, 1.3):
        told = fit_scene.music_over_crowd(overdriven * wet + noise, wet, overall, np.ones(200, bool))
        assert told[40:60] == pytest.approx(0.0, abs=0.5)
        assert 12 < told[150:160].mean() < 23


def examples(rng, count):
    """The first value tells the crowd, nothing tells the room."""
    for i in range(count):
        snr = rng.normal(5, 8)
        moving, still = rng.standard_normal((20, scene.MOVING)), rng.standard_normal(scene.STILL)
        moving[:, :8] += snr / 4
        room = (float(rng.normal(6, 4)), float(rng.normal(0, 1)))
        yield fit_scene.Example(moving.astype(np.float32), still.astype(np.float32), np.full(20, snr, np.float32),
                                room, frozenset({f"song {i % 40}"}), f"room {i}", False)  # fmt: skip


def test_what_cannot_be_heard_becomes_the_typical_value():
    rng = np.random.default_rng(0)
    model = fit_scene.train(list(examples(rng, 300)), epochs=30)
    assert model.share[0] > 0.8 and model.share[1] == model.share[2] == 0
    found = fit_scene.errors(model, list(examples(rng, 100)))
    crowd_error, clarity, _ = found.values()
    assert crowd_error[1] < 0.5 * crowd_error[3] and clarity[1] == pytest.approx(clarity[3], abs=1e-5)
    again = fit_scene.train(list(examples(np.random.default_rng(0), 300)), epochs=30)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Captures of 10 s of five songs, as they are rendered, in one shard."""
    folder = tmp_path_factory.mktemp("scene")
    entries = []
    with tarfile.open(folder / "train-000000.tar", "w") as tar:
        for i in range(5):
            wet, noise = music(10.0, i), 10 ** (-i / 4) * crowd(10.0)
            rows = np.zeros((len(shards.ROWS), 2, wet.shape[1]), np.float32)
            rows[0], rows[1] = wet + noise, wet
            flacs, scale = shards.encode(rows)
            measures = {"snr_db": 5.0 * i, "c80_db": 3.0 * i, "rt60_s": 1.0}
            entry = {"file": f"train-{i:08d}", "split": "train", "seconds": 10.0, "songs": [f"song {i}"],
                     "gaps": [], "measures": measures, "scale": scale}  # fmt: skip
            details = entry | {"params": {"venue": {"room": "", "kind": "synthetic", "seed": i}}}
            files = dict(zip(shards.row_names(entry), flacs, strict=True)) | {"json": json.dumps(details).encode()}
            for name, data in files.items():
                member = tarfile.TarInfo(f"{entry['file']}.{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            entries.append(entry | {"shard": "train-000000.tar"})
    index = {"format": shards.FORMAT, "rate": RATE, "rows": list(shards.ROWS), "examples": entries}
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def test_the_command_adds_its_part_and_keeps_the_rest(cache, tmp_path, monkeypatch, capsys):
    before = load_file(str(WEIGHTS))
    fit_scene.main(["--cache", str(cache), "--epochs", "1", "--output", str(tmp_path / "new.safetensors")])
    after = load_file(str(tmp_path / "new.safetensors"))
    assert after.keys() == before.keys() and [p.name for p in tmp_path.iterdir()] == ["new.safetensors"]
    others = [name for name in before if not name.startswith(scene.PREFIX)]
    assert others and all(torch.equal(after[name], before[name]) for name in others)
    assert any(not torch.equal(after[name], before[name]) for name in set(before) - set(others))
    assert sum(p.numel() for p in scene.load(tmp_path / "new.safetensors").parameters()) > 0

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)
    again = ["--cache", str(cache), "--epochs", "1", "--output", str(tmp_path / "new.safetensors")]
    assert fit_scene.main(again) == 2 and "no space" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["new.safetensors"]
    kept = load_file(str(tmp_path / "new.safetensors"))
    assert all(torch.equal(kept[name], after[name]) for name in after)


@pytest.mark.parametrize("trainer", [fit, fit_finished, fit_scene])
def test_a_missing_folder_is_told_in_one_sentence(trainer, tmp_path, capsys):
    words = ["--output", str(tmp_path / "new.safetensors")]
    words += ["--music", str(tmp_path / "none")] if trainer is not fit_scene else []
    words += ["--cache", str(tmp_path / "none")] if trainer is not fit else []
    assert trainer.main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(tmp_path / "none") in said and not list(tmp_path.iterdir())
