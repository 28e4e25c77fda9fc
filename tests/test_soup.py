"""The mean of weights: exact, of one architecture, and it says what it is made of."""

import hashlib
from dataclasses import replace

import pytest
import torch
from test_models import TINY

from resonate.models.restorer import Restorer
from resonate.models.weights import load_restorer, read_header, save_weights
from resonate.training import soup


@pytest.fixture
def runs(tmp_path):
    """Two restorers of one architecture, with another share of the faithful gain, and one of another architecture."""
    files = []
    for seed, config in enumerate((TINY, replace(TINY, faithful_share=0.6), replace(TINY, width=TINY.width + 2))):
        torch.manual_seed(seed)
        path = tmp_path / f"{seed}.safetensors"
        files.append(save_weights(Restorer(config), path, "restorer", config.to_dict(), {"step": seed}))
    return files


def words(files, output, *more: str) -> list[str]:
    return ["restorer", *map(str, files), "--output", str(output), *more]


def test_the_mean_is_that_of_each_weight_and_says_what_it_is_made_of(runs, tmp_path):
    assert soup.main(words(runs[:2], tmp_path / "mean.safetensors", "--weights", "3", "1")) == 0
    one, two, mean = (load_restorer(path).state_dict() for path in (*runs[:2], tmp_path / "mean.safetensors"))
    assert any(not torch.equal(one[name], two[name]) for name in one)
    for name in one:
        torch.testing.assert_close(mean[name], (0.75 * one[name].double() + 0.25 * two[name].double()).float())
    header = read_header(tmp_path / "mean.safetensors", "restorer")
    assert header["settings"]["faithful_share"] == 1.0, "it has to be calibrated anew"
    made_of = header["record"]["mean_of"]
    assert [m["share"] for m in made_of] == [0.75, 0.25] and [m["record"]["step"] for m in made_of] == [0, 1]
    assert [m["sha256"] for m in made_of] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in runs[:2]]


def test_a_file_that_leaves_out_a_setting_has_its_default(runs, tmp_path):
    settings = {name: value for name, value in TINY.to_dict().items() if name != "hears_music"}
    older = save_weights(load_restorer(runs[0]), tmp_path / "older.safetensors", "restorer", settings)
    soup.average("restorer", [older, runs[0]], tmp_path / "mean.safetensors")
    assert load_restorer(tmp_path / "mean.safetensors").config.hears_music is TINY.hears_music


def test_order_does_not_matter_and_the_mean_with_itself_is_itself(runs, tmp_path):
    results = []
    for k, files in enumerate((runs[:2], runs[1::-1], [runs[0], runs[0]])):
        soup.average("restorer", files, tmp_path / f"mean{k}.safetensors")
        results.append(load_restorer(tmp_path / f"mean{k}.safetensors").state_dict())
    for name, weight in load_restorer(runs[0]).state_dict().items():
        assert torch.equal(results[0][name], results[1][name]) and torch.equal(results[2][name], weight)


@pytest.mark.parametrize(("chosen", "more", "told"), [
    ((0,), (), "two files"),
    ((0, 2), (), "another architecture"),
    ((0, 1), ("--weights", "1"), "2 numbers above 0"),
    ((0, 1), ("--weights", "1", "0"), "2 numbers above 0"),
    ((0, 1), ("--weights", "1", "nan"), "2 numbers above 0"),
])  # fmt: skip
def test_what_has_no_mean_is_refused_in_one_line(runs, tmp_path, capsys, chosen, more, told):
    output = tmp_path / "mean.safetensors"
    assert soup.main(words([runs[k] for k in chosen], output, *more)) == 2
    assert told in (said := capsys.readouterr().err) and len(said.splitlines()) == 1 and not output.exists()


def test_a_separator_is_no_restorer_and_the_output_is_a_safetensors_file(runs, tmp_path, capsys):
    assert soup.main(["separator", *map(str, runs[:2]), "--output", str(tmp_path / "x.safetensors")]) == 2
    assert "not of a separator" in capsys.readouterr().err
    assert soup.main(words(runs[:2], tmp_path / "mean.pt")) == 2
    assert "must end in .safetensors" in capsys.readouterr().err and not (tmp_path / "mean.pt").exists()
