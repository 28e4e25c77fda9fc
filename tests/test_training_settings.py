"""Settings of a training that cannot be, or would do nothing: one sentence each, before anything is trained."""

import re
from pathlib import Path

import pytest
from restoring import tiny_weights
from test_training import CONFIGS, config

from resonate.errors import UserError
from resonate.models.restorer import RestorerConfig
from resonate.models.weights import SEPARATOR
from resonate.training import start
from resonate.training.start import PLAIN_RESTORER, build_task, check_model, start_separator

ROOT = Path(CONFIGS).parent


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and not re.search(r"\. [A-Z]", text), text
    return text


@pytest.mark.parametrize(("words", "contradiction"), [
    (("+model.options.channels=48",), "channels=48"),
    (("+model.options.chanels=24",), "no such setting"),
    (("ablation=restorer_unet",), "network=unet"),
    (("model=htdemucs_small", "model.pretrained={tiny}"), "segment=5.0"),
    (("ablation=scratch", "model.pretrained={tiny}"), "segment=5.0"),
    # What is the same, or the default of what the file leaves out, contradicts nothing.
    (("model=htdemucs_small", "model.pretrained=repo"), ""),
    (("model.pretrained={tiny}", "+model.options.growth=2", "+model.options.channels=8"), ""),
    (("ablation=lora",), ""),
    (("ablation=scratch",), ""),
])
def test_an_option_that_the_separators_weights_contradict_is_refused(words, contradiction, tmp_path):
    words = [word.format(tiny=tiny_weights()[0]) for word in words]
    model = config("finetune_demucs", tmp_path, *words).model
    check_model(model)
    if not contradiction:
        start_separator(model)
        return
    with pytest.raises(UserError, match=contradiction) as error:
        start_separator(model)
    assert "contradicts the weights" in one_sentence(error)


@pytest.mark.parametrize(("words", "contradiction"), [
    (("model=restorer_base",), "width=192"),
    (("ablation=restorer_no_context",), "context=0"),
    (("ablation=restorer_unet",), "network=unet"),
    (("ablation=restorer_no_equaliser",), "eq_range_db=0.0"),
    (("ablation=restorer_no_crowd_loss",), ""),
    ((), ""),
    # The experiment brings a size by itself, which nobody asked for.
    (("model.pretrained={tiny}",), ""),
])
def test_an_option_that_the_restorers_weights_contradict_is_refused(words, contradiction, tmp_path):
    words = [word.format(tiny=tiny_weights()[1]) for word in words]
    made = config("restorer", tmp_path, "model.pretrained=repo", *words)
    if not contradiction:
        assert build_task(made, None).kind == "restorer"
        return
    with pytest.raises(UserError, match=contradiction) as error:
        build_task(made, None)
    assert "contradicts the weights" in one_sentence(error)


def test_what_the_experiment_brings_unasked_is_known(tmp_path):
    assert RestorerConfig(**config("restorer", tmp_path).model.options).to_dict() == PLAIN_RESTORER


def test_every_documented_choice_of_weights_and_options_goes_together(tmp_path, monkeypatch):
    """Of each training command in the docs: the options are those of the weights, or make a new model."""
    monkeypatch.setattr(start, "fetch_released", lambda instead: SEPARATOR)
    commands = set()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        commands |= set(re.findall(r"python train\.py (experiment=[^#`\n]*)", path.read_text(encoding="utf-8")))
    assert len(commands) > 8
    for command in sorted(commands):
        words = [word.replace("runs/pretrain_separator/weights.safetensors", str(SEPARATOR)).replace("`", "")
                 for word in command.split() if not word.startswith(("experiment=", "output="))]
        made = config(re.match(r"experiment=(\w+)", command)[1], tmp_path, *words)
        check_model(made.model)
        if made.model.kind == "separator":
            start_separator(made.model)
