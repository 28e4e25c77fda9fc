"""What restoring takes back is seen in the restorer's validation: the same checks, of the same sound."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from restoring import music

from resonate import RATE, faithfulness
from resonate.data.examples import stats_tensors
from resonate.models.restorer import Restorer, RestorerConfig
from resonate.models.stats import measure_stats
from resonate.training.restorer import RestorerTask
from resonate.training.schedule import OptimiserConfig

FIGURES = {"support", "chroma", "onsets", "notes", "excess_db", "tones_db", "silence_db"}


def validated(task: RestorerTask, capture: np.ndarray, dry: np.ndarray) -> dict[str, float]:
    """What a validation of this one capture logs."""
    x = torch.from_numpy(capture)[None]
    stems = torch.from_numpy(dry)[None, None].repeat(1, 4, 1, 1) / 4
    stats = {name: value[None] for name, value in stats_tensors(measure_stats(capture)).items()}
    logged = defaultdict(list)
    task.log = lambda name, value, **_: logged[name].append(float(value))
    with torch.no_grad():
        task.validation_step({"capture": x, "wet": stems, "dry": stems, **stats}, 0)
    assert all(len(values) == 1 for values in logged.values())
    return {name: values[0] for name, values in logged.items()}


@pytest.fixture
def task() -> RestorerTask:
    torch.manual_seed(0)
    return RestorerTask(Restorer(RestorerConfig(width=8, dilations=(1, 2))), OptimiserConfig(), 2).eval()


@pytest.fixture(scope="module")
def song() -> np.ndarray:
    return music(3.0, RATE)


def test_validation_logs_the_checks_that_restoring_makes(task, song, monkeypatch):
    seen = []
    original = faithfulness.check
    monkeypatch.setattr(faithfulness, "check", lambda *args, **more: seen.append(args) or original(*args, **more))
    figures = validated(task, song, song)
    for mode in ("reveal", "extend"):
        assert {f"valid/{mode}/faithfulness/{name}" for name in FIGURES} <= figures.keys()
        assert figures[f"valid/{mode}/taken_back"] in (0.0, 1.0)
    assert "valid/input/f_sdr" in figures and len(seen) == 2
    # Of what the recording has, where it has anything.
    stats = measure_stats(song)
    for _, given, floor_db, in_band in seen:
        np.testing.assert_array_equal(given, faithfulness.magnitudes(song))
        np.testing.assert_allclose(floor_db, stats.floor_db)
        np.testing.assert_array_equal(in_band, stats.in_band)
    # They are figures of what comes out.
    assert not np.array_equal(seen[0][0], seen[1][0])


def test_what_was_not_played_shows(task, song, monkeypatch):
    t = np.arange(song.shape[-1]) / RATE
    tone = torch.from_numpy(np.stack([0.4 * np.sin(2 * np.pi * 1234 * t)] * 2).astype(np.float32))
    monkeypatch.setattr(task, "restore", lambda batch: (batch["capture"][0], batch["capture"][0] + tone))
    figures = validated(task, song, song)
    assert figures["valid/reveal/taken_back"] == 0 and figures["valid/reveal/faithfulness/notes"] > 0.99
    assert figures["valid/extend/taken_back"] == 1 and figures["valid/extend/faithfulness/notes"] < 0.85
    # Where a crowd is alone, a tone may not come forward, and there is no reference to compare with.
    noise = (0.05 * np.random.default_rng(0).standard_normal(song.shape)).astype(np.float32)
    figures = validated(task, noise, np.zeros_like(noise))
    assert figures["valid/extend/faithfulness/tones_db"] > 6 and "valid/extend/f_sdr" not in figures
