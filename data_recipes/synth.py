"""Render MIDI to sound with the fluidsynth command, and the soundfonts that the recipes use."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_recipes import deb
from resonate import RATE
from resonate.errors import UserError

_PROGRAM = "fluidsynth"
_TIMEOUT = 1800  # s


@dataclass(frozen=True)
class Soundfont:
    """One soundfont file, its short name and its licence."""

    name: str
    path: Path
    licence: str


#: Soundfonts in Debian packages: package -> (name, path in it, licence).
PACKAGES = {
    "fluid-soundfont-gm": ("fluidr3", "usr/share/sounds/sf2/FluidR3_GM.sf2", "MIT"),
    "musescore-general-soundfont": ("musescore", "usr/share/sounds/sf3/MuseScore_General_Full.sf3", "MIT"),
}


def check() -> None:
    """Raises UserError where the fluidsynth program is missing."""
    if not shutil.which(_PROGRAM):
        raise UserError("The program fluidsynth is not installed; install it (apt-get install fluidsynth, or brew "
                        "install fluid-synth) to render MIDI.")


def from_package(package: str, debs: Path | None, cache: Path) -> Soundfont:
    """The soundfont of a Debian package: as installed on this system, else from the package, unpacked into `cache`."""
    name, inside, licence = PACKAGES[package]
    installed = Path("/") / inside
    if installed.is_file():
        return Soundfont(name, installed, licence)
    path = cache / "soundfonts" / package / inside
    if not path.is_file():
        deb.unpack(deb.obtain(package, debs, cache / "debs"), cache / "soundfonts" / package)
    if not path.is_file():
        raise UserError(f"The package {package} holds no {inside}; this release has another version of it.")
    return Soundfont(name, path, licence)


def from_file(path: Path, licence: str) -> Soundfont:
    """A soundfont of the user's own. Raises UserError where it is none."""
    try:
        with path.open("rb") as handle:
            head = handle.read(12)
    except OSError:
        raise UserError(f"{path}: there is no such soundfont; name an .sf2 or .sf3 file.") from None
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise UserError(f"{path} is not a soundfont; name an .sf2 or .sf3 file.")
    return Soundfont(path.stem, path, licence)


def render(midi: bytes, font: Soundfont, room: float = 0.2, reverb: float = 0.9) -> np.ndarray:
    """Render a MIDI file.

    Args:
        midi: the file's bytes.
        font: the instruments.
        room: size of fluidsynth's reverb, 0..1.
        reverb: its level, 0..1.

    Returns:
        (2, time) float32 at 44.1 kHz, not limited to [-1, 1], with the sounds' own decay at the end.

    Raises:
        UserError: fluidsynth is missing or fails.
    """
    check()
    with tempfile.TemporaryDirectory(prefix="resonate-midi-") as folder:
        source, target = Path(folder) / "in.mid", Path(folder) / "out.raw"
        source.write_bytes(midi)
        settings = ("synth.dynamic-sample-loading=1", f"synth.reverb.room-size={room:g}",
                    f"synth.reverb.level={reverb:g}")
        command = [_PROGRAM, "-q", "-n", "-i", "-T", "raw", "-O", "float", "-E", "little", "-r", str(RATE), "-g", "0.4",
                   *(part for setting in settings for part in ("-o", setting)),
                   "-F", str(target), str(font.path.resolve()), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise UserError(f"fluidsynth took more than {_TIMEOUT // 60} minutes for one stem; leave the song "
                            "out.") from None
        if done.returncode or not target.is_file():
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"fluidsynth could not render with {font.path.name}: {reason}.")
        raw = np.fromfile(target, "<f4")
    return np.ascontiguousarray(raw[: raw.size // 2 * 2].reshape(-1, 2).T)
