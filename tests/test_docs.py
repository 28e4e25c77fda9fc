"""The commands in README and docs: each is understood by what it calls; those of the guide are run, in order."""

import argparse
import ast
import importlib
import importlib.util
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from data_recipes import render_config
from resonate import RATE, audio
from resonate.evaluate import settings as evaluation
from resonate.restore.arguments import parse
from resonate.restore.command import read_config
from resonate.training.run import TrainConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*.ipynb"))]
#: What the docs call that is not part of this project: installing tools, opening a page.
SYSTEM = ("brew install", "sudo apt-get install", "xcode-select --install", "source .venv/bin/activate", "open",
          "xdg-open")  # fmt: skip
PROGRAMS = ("python", "make", "srun", "wandb", "pip", *{words.split()[0] for words in SYSTEM})


def commands(page: Path) -> list[str]:
    """Every command line of a page, fenced, indented or inline; continued lines are joined, comments cut off."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    if page.suffix == ".ipynb":
        prose = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n".join("".join(lines) for lines in prose)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for language, block in blocks if language != "python" for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines += re.findall(r"^    (\S.*)$", prose, re.MULTILINE) + re.findall(r"`([^`\n]+)`", prose)
    bare = [re.sub(r"\s#.*$", "", line).strip() for line in lines]
    return [line for line in bare if line.startswith(tuple(f"{name} " for name in PROGRAMS))]


COMMANDS = [(page.name, command) for page in PAGES for command in dict.fromkeys(commands(page))]


class Parsed(Exception):
    """A program has read its arguments and would begin."""


_parse_args = argparse.ArgumentParser.parse_args


def _stop(self, *given, **more):
    _parse_args(self, *given, **more)
    raise Parsed


def test_there_are_commands():
    assert len(COMMANDS) > 60 and {page for page, _ in COMMANDS} >= {"README.md", "guide.md", "data.md", "training.md"}


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_documented_command_is_understood(page, command):
    # "..." and <name> stand for what a reader fills in
    given = shlex.split(command)
    words = [word for before, word in zip(["", *given], given, strict=False)
             if not word.startswith(("...", "<")) or before.startswith("--")]  # fmt: skip
    words = words[1:] if words[0] == "srun" else words
    if command.startswith(SYSTEM):
        return
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == "pip":
        assert words[1] == "install"
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for extra in re.findall(r"\[([\w,]+)\]", command):
            assert extra in known
    elif words[0] == "wandb":
        from wandb.cli.cli import cli

        assert words[1] in cli.commands
    elif words[1] == "train.py":
        ConfigStore.instance().store(name="train_schema", node=TrainConfig)
        with initialize_config_dir(str(ROOT / "configs"), version_base=None):
            assert compose("train", words[2:]).name
    elif words[1] == "infer.py":
        assert read_config(parse(words[2:]))[0].mode in ("extend", "reveal")
    elif words[1] == "-m" and len(words) > 2 and READERS.get(words[2]):
        READERS[words[2]](words[3:])
    else:
        program_reads(words)


def evaluate_reads(words):
    """Settings of python -m resonate.evaluate; its folders need not be there."""
    assert evaluation.read(words).suite


READERS = {
    "resonate.evaluate": evaluate_reads,
    "resonate.evaluate.scorecard": evaluate_reads,
    "data_recipes.render": render_config.parse,
}


def program_reads(words):
    """A module or script that uses argparse reads its words, and begins nothing."""
    if words[1] == "-m":
        if len(words) == 2:
            return  # python -m <name>, a placeholder
        found = importlib.util.find_spec(words[2])
        assert found is not None, words[2]
        text, rest = Path(found.origin).read_text("utf-8"), words[3:]
        run = lambda: runpy.run_module(words[2], run_name="__main__", alter_sys=True)  # noqa: E731
    else:
        text, rest = (ROOT / words[1]).read_text("utf-8"), words[2:]
        run = lambda: runpy.run_path(str(ROOT / words[1]), run_name="__main__")  # noqa: E731
    assert "argparse" in text or "data_recipes.common" in text, f"no test understands {words}"
    if "--help" in rest or not rest:
        return
    stopped = mock.patch.object(argparse.ArgumentParser, "parse_args", _stop)
    with stopped, mock.patch.object(sys, "argv", ["x", *rest]), pytest.raises(Parsed):
        run()


PYTHON = [
    (page.name, block)
    for page in PAGES
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
]


@pytest.mark.parametrize(("page", "block"), PYTHON)
def test_documented_python_names_what_there_is(page, block):
    """Every import works and has the names; the guide's blocks and the capture chain's are run elsewhere."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
        elif isinstance(node, ast.Import):
            assert all(importlib.import_module(alias.name) for alias in node.names)


def test_the_chain_runs_as_documented(monkeypatch):
    (block,) = (block for page, block in PYTHON if page == "capture_chain.md")
    monkeypatch.chdir(ROOT)
    names = {"stems": 0.1 * torch.randn(1, 4, 2, RATE)}
    exec(compile(block, "capture_chain.md", "exec"), names)
    assert names["made"].capture.shape == (1, 2, RATE)


# The guide's commands, in order. Those that would take hours are made short; what is added says how.
SHORT = {
    "python infer.py show.m4a -o out/": "start=6 duration=6",
    "python infer.py show.m4a -o gentle/": "start=6 duration=3",
    "python infer.py show.m4a -o true/": "start=6 duration=3",
    "python infer.py show.m4a -o finetuned/": "start=6 duration=3",
    "python infer.py show.m4a -o preview/": "duration=3",
    "python infer.py show.m4a -o out2/": "start=6 duration=3",
    "python infer.py show.m4a -o true2/": "start=6 duration=3",
    "python train.py experiment=finetune_demucs": "debug=smoke name=finetune_demucs",
    "python train.py experiment=restorer": "debug=smoke name=restorer",
    "python -m data_recipes.render music=my_music": "per_shard=2 seconds=3",
    "python -m resonate.evaluate suite=captures": "count=2 seconds=4 pictures=0 systems=gate,low-pass",
    "python -m resonate.evaluate pairs=my_pairs": "pictures=0 systems=gate",
    "python -m resonate.evaluate.listening build out/scores.json": "--seconds 3",
}
#: They need a cluster, an account, or a browser; or stand for a check of the whole.
ELSEWHERE = ("make", "srun", "wandb", "python -m resonate.report.screenshot",
             "python -m data_recipes.render music=/data", *SYSTEM)  # fmt: skip


def _songs(folder):
    """What the guide takes for granted: a recording, songs with stems, finished mixes, pairs, a listener's answers."""
    files = (ROOT / "assets/demo/clean").glob("*.flac")
    clean = {path.stem: audio.read(path).samples[:, : 12 * RATE] for path in files}
    mix = sum(clean.values())
    for name in ("Song A", "Song B"):
        (folder / "my_stems" / name).mkdir(parents=True)
        (folder / "my_music").mkdir(exist_ok=True)
        soundfile.write(folder / "my_music" / f"{name}.flac", np.clip(mix, -1, 1).T, RATE)
        for stem, samples in clean.items():
            soundfile.write(folder / "my_stems" / name / f"{stem}.wav", samples.T, RATE)
    for part in ("captures", "references"):
        (folder / "my_pairs" / part).mkdir(parents=True)
        soundfile.write(folder / "my_pairs" / part / "one.wav", mix.T, RATE, "FLOAT")
    (folder / "show.m4a").write_bytes((ROOT / "assets/demo/demo.m4a").read_bytes())
    trial = {"run": "show.m4a", "at": 1.0, "a": "input", "b": "restored", "x": "input", "answer": "input"}
    (folder / "answers").mkdir()
    answers = {"format": "resonate-listening-2", "abx": [trial], "mushra": []}
    (folder / "answers/one.json").write_text(json.dumps(answers))
    for name in ("infer.py", "train.py", "configs", "resonate", "data_recipes", "assets"):
        (folder / name).symlink_to(ROOT / name)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_guide_is_run_from_top_to_bottom(tmp_path):
    _songs(tmp_path)
    guide = ROOT / "docs/guide.md"
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": paths, "WANDB_MODE": "offline"}
    done = []
    for command in dict.fromkeys(commands(guide)):
        if command.startswith(ELSEWHERE):
            continue
        more = next((words for start, words in SHORT.items() if command.startswith(start)), "")
        ran = subprocess.run(["bash", "-c", f"{command} {more}"], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert ran.returncode == 0, (command, ran.stdout[-2000:], ran.stderr[-2000:])
        done.append(command)
    for block in re.findall(r"^```python\n(.*?)^```", guide.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        ran = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-2000:]
    assert len(done) >= 14
    for left in ("out/show/report.html", "blind/listening.html", "blind_scores/listening.html", "out/scores.json",
                 "runs/finetune_demucs/weights.safetensors", "finetuned/show/master.wav", "true/show/master.wav",
                 "from_python/show/master.wav", "simulated/Song A/capture.wav", "out2/show/master.wav",
                 "my_restorer.safetensors", "true2/show/master.wav"):  # fmt: skip
        assert (tmp_path / left).is_file(), left
