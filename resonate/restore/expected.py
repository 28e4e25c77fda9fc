"""What was measured on test captures like a recording: figures for what can be expected of its restoration."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Written by `python -m resonate.evaluate.expected`.
EXPECTED = Path(__file__).parents[1] / "weights" / "expected.json"
#: (name, what it is, bounds in dB between its classes)
AXES = (("crowd", "music over crowd", (1.0, 7.0, 14.0)), ("clarity", "clarity C80", (5.0, 12.0)))
#: Measure -> (what it is, whether more is better).
MEASURES = {
    "f_sdr": ("likeness to the clean mix, EQ and early echoes forgiven (f_sdr)", True),
    "lsd": ("distance of the spectra from the clean mix (lsd)", False),
    "noise_attenuation": ("crowd under the music turned down by", True),
}


def class_of(axis: str, value: float) -> int:
    """Which class of `axis` a value in dB belongs to, from 0."""
    bounds = next(bounds for name, _, bounds in AXES if name == axis)
    return sum(value >= bound for bound in bounds)


def _range(bounds: tuple[float, ...], index: int) -> str:
    if index == 0:
        return f"below {bounds[0]:g} dB"
    return f"{bounds[-1]:g} dB or more" if index == len(bounds) else f"{bounds[index - 1]:g} to {bounds[index]:g} dB"


def expected(
    diagnosis: Mapping[str, Any], mode: str, weights: Mapping[str, Mapping[str, str]], path: Path = EXPECTED
) -> dict[str, Any] | None:
    """Change from the recording to the restored track, as measured on test captures of the diagnosed classes.

    By music over crowd and by clarity, each: the class in words, how many captures stand behind it, and per measure
    (dB) median and quartiles. `same_weights`: whether the weights in use are those measured; None where it is not
    known, as with diagnose_only. None where nothing is known: no figures, a silent recording or a finished mix.
    """
    if diagnosis.get("silent") or diagnosis.get("finished") or not path.is_file():
        return None
    table = json.loads(path.read_text("utf-8"))
    values = {"crowd": diagnosis.get("music_to_crowd_db"), "clarity": (diagnosis.get("room") or {}).get("clarity_db")}
    classes = []
    for axis, title, bounds in AXES:
        value = values[axis]
        if value is None or not math.isfinite(value):
            continue
        index = class_of(axis, value)
        found = table["classes"][axis][index].get(mode)
        if found is not None:
            classes.append({"of": title, "class": _range(bounds, index), **found})
    if not classes:
        return None
    hashes = [(weights[name]["sha256"], digest) for name, digest in table["weights"].items() if name in weights]
    same = all(used == measured for used, measured in hashes) if hashes else None
    return {"mode": mode, "same_weights": same, "classes": classes, "words": _words(classes, mode, same)}


def _words(classes: list[dict[str, Any]], mode: str, same: bool | None) -> list[str]:
    out = []
    for found in classes:
        told = "; ".join(
            f"{MEASURES[name][0]} {f['median']:+.1f} dB (half of them {f['lower']:+.1f} to {f['upper']:+.1f})"
            for name, f in found["change"].items()
        )
        count = found["captures"]
        few = ", too few to rely on" if count < 5 else ""
        out.append(
            f"Measured on {count} simulated test capture{'s' * (count != 1)} with {found['of']} {found['class']}{few}, "
            f"mode {mode}, median change: {told}."
        )
    if same is False:
        out.append("These figures are of earlier weights than those in use.")
    return out
