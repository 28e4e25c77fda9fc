"""Files of the room bank: one simulated room with all its places, as an npz without pickled objects.

kernels (places, 2 speakers, 2 capsules, L) float16, peak 1; onset (places, 2, 2, A) int32; format, an integer. Half
precision keeps 66 dB below each sample's own level, which a decaying tail never asks more of.
"""

import os
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from resonate import RATE
from resonate.audio_wav import temporary_beside
from resonate.degrade.filters import LEAD
from resonate.errors import UserError

FORMAT = 1
#: Nothing larger is read: 16 places, 10 s, 4 arrivals.
MOST_PLACES, LONGEST, MOST_ARRIVALS = 16, 10 * RATE, 4


def save(path: Path, kernels: np.ndarray, onset: np.ndarray) -> None:
    """Write a room aside, then move it in place."""
    part = temporary_beside(path)
    try:
        with part.open("wb") as handle:
            scaled = (kernels / np.abs(kernels).max()).astype(np.float16)
            np.savez(handle, kernels=scaled, onset=onset.astype(np.int32), format=np.int32(FORMAT))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@lru_cache(maxsize=48)
def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """kernels (places, 2, 2, L) float16 and onset (places, 2, 2, A) of a room.

    Raises UserError for a file that is missing, broken or not a room of this format.
    """
    broken = UserError(f"{path} is not a room of this version; remove it and make the room bank again.")
    try:
        with np.load(path, allow_pickle=False) as data:
            if int(data["format"]) != FORMAT:
                raise broken
            kernels, onset = data["kernels"], data["onset"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise broken from error
    fits = (
        kernels.dtype == np.float16 and kernels.ndim == 4 and kernels.shape[1:3] == (2, 2)
        and 1 <= len(kernels) <= MOST_PLACES and LEAD + RATE // 20 < kernels.shape[-1] <= LONGEST
        and onset.dtype == np.int32 and onset.ndim == 4 and onset.shape[:3] == kernels.shape[:3]
        and 1 <= onset.shape[-1] <= MOST_ARRIVALS
        and onset[..., 0].min() >= LEAD and onset.max() < kernels.shape[-1] and bool(np.isfinite(kernels).all())
    )  # fmt: skip
    if not fits:
        raise broken
    return kernels, onset
