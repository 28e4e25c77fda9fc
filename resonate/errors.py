"""The one kind of failure that a user is meant to read."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any


class UserError(Exception):
    """One sentence that says what is wrong and what to do about it; commands print it and exit non-zero."""


def check_bounds(config: Any, bounds: Mapping[str, tuple[float, float]]) -> None:
    """UserError where a setting of `config`, by its dotted name, lies outside its (least, greatest) value."""
    for name, (low, high) in bounds.items():
        value = attrgetter(name)(config)
        if not low <= value <= high:
            raise UserError(f"{name}={value} is out of range: it lies between {low:g} and {high:g}.")
