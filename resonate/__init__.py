"""Resonate: rebuild a performance from a phone recording made in the crowd.

    import resonate
    resonate.restore("show.m4a", "out", preset="reveal")         # what infer.py does, for one recording
    resonate.degrade("my_song.flac", "simulated", preset="far")  # what a phone in the crowd would have made of a song

Revealing what was captured, never inventing notes. Importing this package loads nothing heavy.
"""

import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Ops without an MPS kernel run on the CPU; torch reads this when it is imported, so it is set before anything is.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

__version__ = "0.1.0"

#: Sample rate in Hz at which every model and every capture works.
RATE = 44100

#: Stem names in the channel order used throughout (the order of the demucs package).
STEMS = ("drums", "bass", "other", "vocals")

if TYPE_CHECKING:
    from resonate.api import degrade as degrade
    from resonate.api import restore as restore
else:
    import resonate.degrade as _degrade
    import resonate.restore as _restore

    class _Callable(ModuleType):
        """A package that can also be called: resonate.restore and resonate.degrade, as in `resonate.api`."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            from resonate import api

            return getattr(api, self.__name__.rpartition(".")[2])(*args, **kwargs)

    _degrade.__class__ = _Callable
    _restore.__class__ = _Callable
