"""Where a file of `sources.tsv` belongs in a bank: its kind, and the group (room, device, recording, singer)."""

import re
from pathlib import PurePosixPath

_ROOMS = {
    "echo-chamber": "google_echo_chamber",
    "kitchen-true-stereo": "google_kitchen",
}


def place(file: str) -> tuple[str, str]:
    """(kind, group) of a path like "crowd/etw/crowd01.flac". The group is what must not straddle two splits."""
    path = PurePosixPath(file)
    top, folder, stem = path.parts[0], path.parts[1], path.stem
    if top == "crowd" and folder == "handling_audiomentations":
        return "handling", _handling(stem)
    groupers = {"crowd": _crowd, "rooms": _room, "devices": _device, "voices": _voice}
    return top, groupers[top](folder, stem)


def _handling(stem: str) -> str:
    if "iPhone_rub" in stem:
        return "iphone_rub"
    if "laptopmic" in stem:
        return "laptop_tap"
    return stem.rstrip("01")  # friction0 and friction1 are takes of one sitting


def _crowd(folder: str, stem: str) -> str:
    if folder in ("etw", "tuxfootball"):
        return folder
    if folder == "noice":
        return f"noice_{re.sub(r'_[01]$', '', stem)}"
    return f"{'uh' if folder == 'unknown-horizons' else folder}_{stem}"


def _room(folder: str, stem: str) -> str:
    if folder == "google_web_audio_samples":
        return _ROOMS.get(stem, "google_warehouse")  # one warehouse, measured with several microphones
    return "frl_room" if folder == "frl_room" else f"openair_{stem}"


def _device(folder: str, stem: str) -> str:
    if folder == "cabinet_toob":
        words = stem.split()
        return "cab_" + "_".join(words if words[0] == "Speaker" else words[:-1])
    base = re.sub(r"_(flat|HPF|[12]|fig8|Flat|Overload|Cardioid|Pressure|Ribbon|RedLabel)$", "", stem)
    return re.sub(r"(?<=Altec_670)[AB]$|(?<=RB)250$|(?<=Toshiba_Type)K$", "", base) or base


def _voice(folder: str, stem: str) -> str:
    if folder == "berklee_vowels":
        return stem.split("_")[0]
    return stem.split("-")[0] if stem.startswith("soprano") else stem
