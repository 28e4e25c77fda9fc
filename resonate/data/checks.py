"""What may be wrong with the files of a song: said with the file's name, before any long work."""

import logging
from collections.abc import Iterable

import numpy as np

from resonate import RATE, STEMS
from resonate.data.music import Song, duration_of, header_of, read_stretch
from resonate.errors import UserError

log = logging.getLogger(__name__)

#: Stems of one song may differ in length by this much, in seconds; the shorter are padded with silence.
MAX_DIFFERENCE = 1.0
_SAME = 2e-3  # s: encoders round lengths to their frames
#: A mixture is the sum of its stems where what is left lies this far under it, in dB.
MIXTURE_DB = -30.0


def check_lengths(song: Song) -> str:
    """Compare the lengths of a song's stems, as the headers state them.

    A stem in one file has the length of the song. One in several files ("drums__kick", "drums__hats") ends where its
    last file ends, and each of those may end where its sound ends.

    Returns:
        A warning with the name of the shortest file where stems differ by up to `MAX_DIFFERENCE`, else "".

    Raises:
        UserError: naming the file that differs by more, or cannot be read.
    """
    lengths = {files[0]: duration_of(files[0]) for files in song.stems.values() if len(files) == 1}
    if len(lengths) < 2:
        return ""
    longest, shortest = max(lengths, key=lengths.get), min(lengths, key=lengths.get)
    difference = lengths[longest] - lengths[shortest]
    if difference > MAX_DIFFERENCE:
        raise UserError(f"{shortest} is {difference:.1f} s shorter than {longest.name} of the same song; export all "
                        "stems of a song with one length.")
    if difference > _SAME:
        return f"{shortest} is {difference:.3f} s shorter than {longest.name}; it is padded with silence."
    return ""


def check(songs: Iterable[Song]) -> list[str]:
    """Check headers of songs with stems; returns warnings about what is repaired as it is read.

    Raises UserError naming the first file that cannot be repaired.
    """
    warnings, others = [], []
    for song in songs:
        if warning := check_lengths(song):
            warnings.append(warning)
        others += [path for files in song.stems.values() for path in files if header_of(path)[0] != RATE]
    if others:
        more = f" and {len(others) - 1} more files" if len(others) > 1 else ""
        warnings.append(f"{others[0]}{more}: not at {RATE} Hz; resampled as they are read, which takes time.")
    return warnings


def check_sound(song: Song) -> list[str]:
    """Decode a whole song; returns warnings about silent files and a mixture that is not the sum of the stems.

    The sum is compared where all four stems are known. Raises UserError naming a file that cannot be decoded.
    """
    length = round(song.duration * RATE)
    warnings, total = [], np.zeros((2, length), np.float32)
    for path in song.files:
        x = read_stretch(path, 0.0, length)
        if not np.any(x):
            warnings.append(f"{path} is silent throughout.")
        total += x
    if not song.mix_only and song.mixture is not None:
        difference = abs(duration_of(song.mixture) - song.duration)
        if difference > MAX_DIFFERENCE:
            raise UserError(f"{song.mixture} is {difference:.1f} s longer or shorter than the stems beside it; put the "
                            "right mixture there or remove it, it is not needed.")
        mixture = read_stretch(song.mixture, 0.0, length)
        if song.present.all() and (db := _db(mixture - total) - _db(mixture)) > MIXTURE_DB:
            warnings.append(f"{song.mixture} is not the sum of its stems (the difference lies {-db:.0f} dB under it); "
                            "the stems' sum is used.")
    return warnings


def _db(x: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(x)) + 1e-12))


def known(song: Song) -> str:
    """Which stems are known, for a log: "drums, other; vocals silent; bass unknown"."""
    there = [s for s in STEMS if s in song.stems]
    quiet = [f"{s} silent" for s in STEMS if s in song.silent]
    rest = [f"{s} unknown" for s in STEMS if s not in song.stems and s not in song.silent]
    return "; ".join([", ".join(there) or "a finished mix", *quiet, *(rest if there else [])])
