"""What tells recordings in a room from finished mixes."""

from __future__ import annotations

import numpy as np
import soundfile
from safetensors.torch import load_file

from resonate import RATE
from resonate.evaluate import cases
from resonate.restore.diagnosis import errors, fit_finished
from resonate.restore.diagnosis.finished import DETAILS, FEATURES, captured, details, features
from resonate.restore.diagnosis.levels import measure_levels
from resonate.restore.diagnosis.listener import WEIGHTS, Listener
from resonate.restore.diagnosis.truth import made_up_stems


def test_features_are_per_stretch_and_know_no_level():
    x = made_up_stems(round(24.6 * RATE), np.random.default_rng(0)).sum(0)
    one, other = features(measure_levels(x)), features(measure_levels(0.1 * x))
    assert one.shape == (2, FEATURES) and one.dtype == np.float32
    np.testing.assert_allclose(one, other, atol=0.1)  # where there is next to nothing, rounding shows
    assert features(measure_levels(x[:, :1000])).shape == (1, FEATURES)


def test_details_begin_with_the_features_and_know_no_level():
    x = made_up_stems(round(24.6 * RATE), np.random.default_rng(0)).sum(0)
    one, other = details(measure_levels(x)), details(measure_levels(0.1 * x))
    assert one.shape == (2, DETAILS) and one.dtype == np.float32
    np.testing.assert_array_equal(one[:, :FEATURES], features(measure_levels(x)))
    assert (np.abs(one - other) > 0.1).mean() < 0.01  # where there is next to nothing, rounding shows
    assert np.isfinite(details(measure_levels(x[:, :1000]))).all()


def test_the_bundled_recording_is_heard_as_one_and_its_clean_song_is_not():
    case = cases.bundled()
    assert captured(measure_levels(case.capture)) > 0.9
    assert captured(measure_levels(case.reference)) < 0.1


def test_what_is_learned_holds_for_what_was_left_out():
    rng = np.random.default_rng(0)
    is_capture = rng.uniform(size=400) < 0.5
    songs = np.array([f"song {k}" for k in rng.integers(0, 60, 400)])
    # Besides what tells captures, every song has marks of its own that say nothing of another song.
    marks = {song: rng.standard_normal(DETAILS) for song in songs}
    x = rng.standard_normal((400, DETAILS)) + np.array([marks[song] for song in songs])
    x[:, :60] += 3 * is_capture[:, None]
    logits = fit_finished.left_out(x.astype(np.float32), is_capture, songs)
    assert ((logits > 0) == is_capture).mean() > 0.97


def test_a_song_is_never_judged_by_a_model_that_heard_it(monkeypatch):
    heard = []
    monkeypatch.setattr(fit_finished, "train", lambda x, y, seed: heard.append(set(x[:, 0])) or fit_finished.Finished())
    songs = np.repeat([f"song {k}" for k in range(20)], 5)
    x = np.repeat(np.arange(20, dtype=np.float32), 5)[:, None] * np.ones((1, DETAILS), np.float32)
    fit_finished.left_out(x, np.arange(100) % 2 == 0, songs)
    # each model lacks the songs that it judges, and every song is judged once
    judged = [song for seen in heard for song in set(range(20)) - seen]
    assert len(heard) == fit_finished.FOLDS and sorted(judged) == list(range(20))


def test_a_finished_mix_keeps_its_length_and_is_finite():
    rng = np.random.default_rng(1)
    x = made_up_stems(2 * RATE, rng).sum(0)
    for change in fit_finished.CHANGES:
        y = change(x, rng)
        assert y.shape == x.shape and np.isfinite(y).all()
    assert not np.array_equal(fit_finished.finish(x, rng), fit_finished.finish(x, rng))


def test_songs_of_other_splits_and_pieces_of_silence_are_not_judged(tmp_path):
    rows = ["song\tsplit"]
    for name, split, level in (("heard", "train", 0.3), ("loud", "test", 0.3), ("silent", "test", 0.0)):
        sound = level * made_up_stems(24 * RATE, np.random.default_rng(0)).sum(0)
        soundfile.write(tmp_path / f"{name}.wav", sound.T, RATE)
        rows.append(f"{name}\t{split}")
    (tmp_path / "songs.tsv").write_text("\n".join(rows))
    found = errors.heard_as_captured(tmp_path, "test")
    assert list(found) == ["loud"] and 0 < found["loud"] < 0.1


def test_the_file_holds_both_networks():
    names = set(load_file(str(WEIGHTS)))
    assert set(Listener().state_dict()) < names and any(name.startswith("finished.") for name in names)
