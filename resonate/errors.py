"""The one kind of failure that a user is meant to read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from operator import attrgetter
from typing import Any, ParamSpec

Given = ParamSpec("Given")


class UserError(Exception):
    """One sentence that says what is wrong and what to do about it; commands print it and exit non-zero."""


def command(main: Callable[Given, int | None]) -> Callable[Given, int]:
    """`main` of a command line: a UserError, or a file that cannot be read or written, goes to standard error, and the
    exit status is 2; Ctrl-C ends it with 130."""

    @wraps(main)
    def told(*args: Given.args, **kwargs: Given.kwargs) -> int:
        try:
            return main(*args, **kwargs) or 0
        except UserError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            sys.stderr.write(f"{where}{error.strerror or error}.\n")
            return 2
        except KeyboardInterrupt:
            return 130

    return told


def check_bounds(config: Any, bounds: Mapping[str, tuple[float, float]]) -> None:
    """UserError where a setting of `config`, by its dotted name, lies outside its (least, greatest) value."""
    for name, (low, high) in bounds.items():
        value = attrgetter(name)(config)
        if not low <= value <= high:
            raise UserError(f"{name}={value} is out of range: it lies between {low:g} and {high:g}.")
