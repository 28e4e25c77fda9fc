"""Resonate: rebuild a performance from a phone recording made in the crowd.

Revealing what was captured, never inventing notes. Importing this package loads nothing heavy.
"""

from types import ModuleType
from typing import Any

import resonate.restore as _package

__version__ = "0.1.0"

#: Sample rate in Hz at which every model and every capture works.
RATE = 44100

#: Stem names in the channel order used throughout (the order of the demucs package).
STEMS = ("drums", "bass", "other", "vocals")


class _Callable(ModuleType):
    """The package resonate.restore, which can also be called, as resonate.api.restore."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from resonate.api import restore

        return restore(*args, **kwargs)


_package.__class__ = _Callable
