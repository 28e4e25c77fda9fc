"""What a separator takes for music in the captures of a rendered folder, and in their clean music, kept beside them.

    FOLDER/separated/index.json         SHA-256 of the separator's weights, key of the captures, and per example the
                                        scales of its two sounds
    FOLDER/separated/train-000000.tar   KEY.separated.flac and KEY.clean.flac per example of the shard of that name

``python -m data_recipes.separate`` makes it. It is apart from the shards (`resonate.data.shards`) because it belongs to
one separator, which changes more often than the captures do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resonate.data import shards
from resonate.errors import UserError

FOLDER = "separated"
#: Of the capture, and of its clean music.
SUFFIXES = ("separated.flac", "clean.flac")


def read_details(path: Path) -> list[dict[str, Any]]:
    """As `shards.read_details`, of a tar in `FOLDER`."""
    try:
        return shards.read_details(path)
    except UserError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged or missing; remove it, and make it again with python -m data_recipes.separate "
                     f"{path.parent.parent}.")


class Index:
    """What is separated in one rendered folder.

    Raises:
        UserError: there is none, it is damaged, or it is of other captures.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / FOLDER
        self._again = f"make it with python -m data_recipes.separate {folder}"
        path = self.folder / "index.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            self.separator = str(known["separator"])
            self.scale = {str(key): [float(s) for s in scales] for key, scales in known["scale"].items()}
            captures = known["captures"]
            whole = all(len(s) == len(SUFFIXES) and all(map(math.isfinite, s)) for s in self.scale.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{folder} holds nothing that was separated ({path.name} is missing or damaged); "
                            f"{self._again}.") from error
        if not whole:
            raise _damaged(path)
        if captures != shards.read_index(folder)["key"]:
            raise UserError(f"{self.folder} belongs to other captures than those of {folder}; remove it, then "
                            f"{self._again}.")

    def check(self, example: Mapping[str, Any]) -> None:
        """UserError where an example of the folder is missing."""
        if "shard" not in example or example["file"] not in self.scale:
            raise UserError(f"{self.folder} lacks {example['file']}; {self._again}.")

    def read(self, example: Mapping[str, Any], start: int = 0, stop: int | None = None, clean: bool = False
             ) -> np.ndarray:
        """(2, T) float32 between two samples, by default all, of what is separated of the capture or of its `clean`
        music. Raises UserError for what is damaged or missing."""
        self.check(example)
        path = self.folder / example["shard"]
        try:
            offset, size = shards.members(path)[f"{example['file']}.{SUFFIXES[clean]}"]
            with path.open("rb") as handle:
                handle.seek(offset)
                return shards.decode(handle.read(size), self.scale[example["file"]][clean], start, stop)
        except (OSError, ValueError, KeyError, UserError) as error:
            raise _damaged(path) from error
