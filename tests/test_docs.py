"""The commands in README and docs: every one is parsed by what it calls, every module and file it names exists."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from resonate.restore.arguments import parse
from resonate.restore.command import read_config
from resonate.training.run import TrainConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[tuple[str, str]]:
    """(page, command) of every fenced or inline command line; continued lines are joined, comments cut off."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`((?:python|make) [^`]+)`", text)
        for line in lines:
            line = line.split("#")[0].strip()
            if line.startswith(("python ", "make ")):
                found.append((page.name, line))
    return found


COMMANDS = commands()


def test_there_are_commands():
    assert len(COMMANDS) > 10


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_documented_command_is_understood(page, command):
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif words[1] == "train.py":
        ConfigStore.instance().store(name="train_schema", node=TrainConfig)
        with initialize_config_dir(str(ROOT / "configs"), version_base=None):
            assert compose("train", words[2:]).name
    elif words[1] == "infer.py":
        assert read_config(parse(words[2:]))[0].mode in ("extend", "reveal")
    elif words[1].startswith("benchmarks/"):
        assert (ROOT / words[1]).is_file()
    elif words[1] == "-m":
        assert importlib.util.find_spec(words[2]) is not None or "<" in words[2]
    else:
        raise AssertionError(f"{page} documents {command}, which no test understands")
