"""The comparison of restorers on rendered captures: table, picture, and what is refused."""

from functools import partial

import numpy as np
import pytest
import torch
from rendering import make, make_music
from restoring import tiny_weights
from test_models import TINY

from data_recipes import render
from resonate import RATE
from resonate.evaluate import choices, limits, restorers
from resonate.models.restorer import Restorer, with_music
from resonate.models.stats import measure_stats
from resonate.models.weights import load_restorer, save_weights
from resonate.restore import choice
from resonate.restore.config import RestoreConfig, Veto


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("restorers")
    make_music(root / "music")
    render.render(make(root / "music", root / "out", "shards.train=0", "shards.valid=2", "per_shard=1"))
    return root / "out"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    return save_weights(Restorer(TINY), tmp_path_factory.mktemp("weights") / "a.safetensors", "restorer",
                        TINY.to_dict())


def test_balance_error_is_blind_to_level_and_time_and_sees_a_tilt():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 2 * RATE)).astype(np.float32)
    assert restorers.balance_error(0.1 * x, x) < 1e-6
    assert restorers.balance_error(x[:, ::-1].copy(), x) < 0.5
    tilted = np.cumsum(x, axis=1)
    assert restorers.balance_error(tilted - tilted.mean(), x) > 5


def test_the_table_has_the_recording_and_each_network_in_both_modes(folder, weights, tmp_path):
    page, picture = tmp_path / "table.md", tmp_path / "hours.png"
    words = [f"one={weights}", f"two={weights}", "--cache", str(folder), "--markdown", str(page)]
    assert restorers.main([*words, "--hours", "0.5", "1", "--picture", str(picture)]) == 0
    lines = page.read_text().splitlines()
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if line.startswith("|")}
    assert {"input", "one, reveal", "one, extend", "two, reveal", "two, extend"} < cells.keys()
    assert cells["one, extend"] == cells["two, extend"] and "2 captures" in lines[0]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_separators_opinion_is_heard_and_masks_as_asked(folder, weights, tmp_path, monkeypatch):
    asked = []

    def tenths(model, x):
        asked.append(x)
        return 0.4 * x

    monkeypatch.setattr(restorers, "separated_music", tenths)
    torch.manual_seed(0)
    deaf = load_restorer(weights)
    ear = with_music(deaf)
    for layer in ear.network.inputs:
        layer.weight.data[:, 4::5] = 0.5
    found = restorers.compare({"deaf": deaf}, folder, "valid")
    assert not asked
    both = restorers.compare({"deaf": deaf, "ear": ear, "without": ear}, folder, "valid", alone=["without"])
    assert len(asked) == 2 and both["deaf", "reveal"] == found["deaf", "reveal"]
    alone = both["without", "reveal"]
    assert [f["f_sdr"] for f in alone] == pytest.approx([f["f_sdr"] for f in both["deaf", "reveal"]], abs=1e-3)
    assert both["ear", "reveal"] != alone
    # Four tenths of the magnitudes are music everywhere: the mask is the same for all bins, and no measure sees it.
    masked = restorers.compare({"deaf": deaf}, folder, "valid", crowd=1.0)
    assert len(asked) == 4
    assert [f["f_sdr"] for f in masked["deaf", "reveal"]] == pytest.approx(
        [f["f_sdr"] for f in found["deaf", "reveal"]], abs=0.5)
    ones = np.ones((2, RATE), np.float32)
    restored, _ = restorers.restore(deaf, ones, measure_stats(ones), crowd=torch.zeros(1025, 1))
    assert np.abs(restored["reveal"]).max() < 1e-6


@pytest.mark.parametrize("words", [["--split", "test"], ["--hours", "1"], ["--hours", "1", "2", "--picture", "p.png"],
                                   ["--crowd", "2"]])
def test_what_cannot_be_compared_is_one_sentence(folder, weights, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert restorers.main([str(weights), "--cache", str(folder), *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_limits_let_the_captured_music_pass(folder, weights, tmp_path, capsys):
    page = tmp_path / "limits.md"
    assert limits.main([str(weights), "--cache", str(folder), "--markdown", str(page)]) == 0
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in page.read_text().splitlines()
             if line.startswith("|")}
    assert cells["captured music"][0].strip() == "0 of 2" and cells[limits.OTHER][0].strip().endswith("of 1")
    assert {"reveal", "extend"} < cells.keys()
    assert cells[limits.ADDED][0].strip().endswith("of 2") and cells[limits.OTHER_ADDED][0].strip().endswith("of 1")
    # Of what is added only the onsets are compared; pitch classes and tones outside the band are new by intent.
    assert [bool(cell.strip()) for cell in cells[limits.ADDED][1:]] == [name == "onsets" for name in limits.SHOWN]
    assert limits.main([str(weights), "--cache", str(folder), "--split", "test"]) == 2
    assert "holds no examples of split 'test'" in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_choice_of_the_track_is_held_against_what_came_of_it(folder, weights, tmp_path, capsys, monkeypatch):
    separator = tiny_weights()[0]
    words = ["--cache", str(folder), "--separator", str(separator), "--restorer", str(weights)]
    assert choices.main([*words, "--seconds", "100"]) == 2
    assert "no capture" in capsys.readouterr().err.lower()

    # Made-up music is not found by diagnosis: what it would try is put in place of that.
    def tried(self, work):
        work.made_from = work.config.choose.track if work.config.choose.track != "auto" else "mix"
        return {"tried": [{"sdr_mix": 0.0, "sdr_stems": 2.0, "octaves_mix": 0.0, "octaves_stems": 1.0}]}

    monkeypatch.setattr(choice.Choose, "run", tried)
    # Untrained, the separator would be taken back, and both ways alike.
    monkeypatch.setattr(choices, "RestoreConfig", partial(RestoreConfig, veto=Veto(enabled=False)))
    page = tmp_path / "table.md"
    assert choices.main([*words, "--markdown", str(page)]) == 0
    lines = page.read_text().splitlines()
    found = [line.split("|")[1:-1] for line in lines if line.startswith("| valid")]
    assert len(found) == 2 and all(cells[3].strip() == "stems" and cells[1].strip() == "+2.0" for cells in found)
    assert any(cells[4].strip() not in ("+0.0", "-0.0") for cells in found)


def test_choices_count_what_the_other_way_would_have_brought():
    made = [choices.Choice("a", 2.0, 1.0, "stems", -1.0), choices.Choice("b", -3.0, 0.0, "mix", -2.0),
            choices.Choice("c", 0.5, 0.0, "mix", 0.5)]
    title, _, lines = choices.rows(made)
    assert "on 2, 0.50 dB" in title and [line[0] for line in lines] == ["b", "c", "a"]
