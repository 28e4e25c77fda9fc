"""What tells recordings in a room from finished mixes."""

from __future__ import annotations

import numpy as np
from safetensors.torch import load_file

from resonate import RATE
from resonate.evaluate import cases
from resonate.restore.diagnosis import fit_finished
from resonate.restore.diagnosis.finished import FEATURES, captured, features
from resonate.restore.diagnosis.levels import measure_levels
from resonate.restore.diagnosis.listener import WEIGHTS, Listener
from resonate.restore.diagnosis.truth import made_up_stems


def test_features_are_per_stretch_and_know_no_level():
    x = made_up_stems(round(24.6 * RATE), np.random.default_rng(0)).sum(0)
    one, other = features(measure_levels(x)), features(measure_levels(0.1 * x))
    assert one.shape == (2, FEATURES) and one.dtype == np.float32
    np.testing.assert_allclose(one, other, atol=0.1)  # where there is next to nothing, rounding shows
    assert features(measure_levels(x[:, :1000])).shape == (1, FEATURES)


def test_the_bundled_recording_is_heard_as_one_and_its_clean_song_is_not():
    case = cases.bundled()
    assert captured(measure_levels(case.capture)) > 0.9
    assert captured(measure_levels(case.reference)) < 0.1


def test_what_is_learned_holds_for_what_was_left_out():
    rng = np.random.default_rng(0)
    is_capture = rng.uniform(size=400) < 0.5
    x = rng.standard_normal((400, FEATURES)).astype(np.float32)
    x[:, :5] += 3 * is_capture[:, None]
    logits = fit_finished.left_out(x, is_capture)
    assert ((logits > 0) == is_capture).mean() > 0.97


def test_a_finished_mix_keeps_its_length_and_is_finite():
    rng = np.random.default_rng(1)
    x = made_up_stems(2 * RATE, rng).sum(0)
    for change in fit_finished.CHANGES:
        y = change(x, rng)
        assert y.shape == x.shape and np.isfinite(y).all()
    assert not np.array_equal(fit_finished.finish(x, rng), fit_finished.finish(x, rng))


def test_the_file_holds_both_networks():
    names = set(load_file(str(WEIGHTS)))
    assert set(Listener().state_dict()) < names and any(name.startswith("finished.") for name in names)
