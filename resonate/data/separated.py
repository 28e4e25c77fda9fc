"""What a separator takes for music in the captures of a rendered folder, kept beside them.

    FOLDER/separated/index.json         SHA-256 of the separator's weights, and per example the scale of its samples
    FOLDER/separated/train-000000.tar   KEY.separated.flac per example of the shard of that name (see `shards`)

``python -m data_recipes.separate`` makes it. It is apart from the shards because it belongs to one separator, which
changes more often than the captures do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resonate.data import shards
from resonate.errors import UserError

FOLDER = "separated"
SUFFIX = "separated.flac"


def member(example: Mapping[str, Any]) -> str:
    """Name in its tar of what is separated of an example."""
    return f"{example['file']}.{SUFFIX}"


class Index:
    """What is separated in one rendered folder.

    Raises:
        UserError: there is none, or it is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / FOLDER
        self._again = f"make it with python -m data_recipes.separate {folder}"
        path = self.folder / "index.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            self.separator = str(known["separator"])
            self.scale = {str(key): float(scale) for key, scale in known["scale"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder} holds nothing that was separated ({path.name} is missing or damaged); "
                            f"{self._again}.") from error

    def check(self, example: Mapping[str, Any]) -> None:
        """UserError where an example of the folder is missing."""
        if example["file"] not in self.scale:
            raise UserError(f"{self.folder} lacks {example['file']}; {self._again}.")

    def read(self, example: Mapping[str, Any], start: int = 0, stop: int | None = None) -> np.ndarray:
        """(2, T) float32 between two samples, by default all. Raises UserError for what is damaged or missing."""
        self.check(example)
        path, name = self.folder / example["shard"], member(example)
        try:
            offset, size = shards.members(path)[name]
            with path.open("rb") as handle:
                handle.seek(offset)
                return shards.decode(handle.read(size), self.scale[example["file"]], start, stop)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{name} in {path} cannot be read; {self._again}.") from error
