"""A user's own program as a system: `system.command="tool {input} {output}"`, run without a shell."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from resonate import audio
from resonate.errors import UserError
from resonate.evaluate.rivals import NotAvailable

#: How much of what a failing program said is shown.
LAST_WORDS = 200


def split(command: str) -> list[str]:
    """The words of a command, quotes as in a shell. UserError where it cannot be run, before anything runs."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"system.command={command}: cannot be split into words ({error}).") from None
    for place in ("{input}", "{output}"):
        if not any(place in word for word in words):
            raise UserError(f"system.command={command}: {place} is missing, the place of a WAV file's name.")
    if shutil.which(words[0]) is None:
        raise UserError(f"system.command={command}: there is no program {words[0]}.")
    return words


def run(words: list[str], x: np.ndarray, rate: int, timeout: float) -> np.ndarray:
    """Run the program on a 32-bit float WAV of `x` (channels, time); returns what it wrote, as long as `x`, stereo.

    The program is called directly, with its words as they are, in an empty folder. Raises NotAvailable where it fails,
    takes longer than `timeout` seconds, or writes nothing that can be read.
    """
    with TemporaryDirectory(prefix="resonate-") as name:
        source, target = Path(name) / "input.wav", Path(name) / "output.wav"
        audio.write(source, x, rate)
        call = [word.replace("{input}", str(source)).replace("{output}", str(target)) for word in words]
        try:
            done = subprocess.run(call, cwd=name, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout,
                                  check=False)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NotAvailable(f"{words[0]} took longer than {timeout:g} s") from None
        except OSError as error:
            raise NotAvailable(f"{words[0]} cannot be run: {error.strerror}") from None
        if done.returncode != 0:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[-LAST_WORDS:]
            raise NotAvailable(f"{words[0]} ended with status {done.returncode}{': ' + said if said else ''}")
        if not target.is_file():
            raise NotAvailable(f"{words[0]} wrote no {{output}}")
        try:
            heard = audio.read(target)
        except UserError as error:
            raise NotAvailable(f"what {words[0]} wrote cannot be read: {error}") from None
    y, _ = audio.to_stereo(heard.samples)
    y = audio.resample(y, heard.rate, rate) if heard.rate != rate else y
    return np.pad(y, ((0, 0), (0, max(0, x.shape[-1] - y.shape[-1]))))[:, : x.shape[-1]].astype(np.float32)
