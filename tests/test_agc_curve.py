"""What is heard of the phone's gain control, against the gain that a simulated one applied."""

import re
from pathlib import Path

import numpy as np
from rich.console import Console

from resonate.degrade import ChainConfig
from resonate.restore.diagnosis.errors import Error, gain_error_db, table
from resonate.restore.diagnosis.levels import measure_levels
from resonate.restore.diagnosis.listener import WEIGHTS, listen
from resonate.restore.diagnosis.truth import Source, captures

NAMES = ("AGC gain over time (dB)", "taken as constant (dB)")


def stated_db(card: Path) -> float:
    """The median error of the curve over captures in dB, as the model card has it beside that of the best constant."""
    return float(re.search(r"AGC gain (\d+\.\d+) / \d+\.\d+ dB", card.read_text(encoding="utf-8"))[1])


def test_the_predicted_curve_is_as_near_as_its_card_says():
    """Prints the errors (shown with -s). Twelve captures are few, but a flat curve would not pass."""
    found = []
    for truth in captures(Source.load(None, None, "valid"), 12, 12.0, seed=1, config=ChainConfig(codecs=False)):
        if np.ptp(truth.gain_db) > 1.0:  # a gain control was at work
            heard = listen(measure_levels(truth.capture))
            for name, curve in zip(NAMES, (heard, np.zeros_like(heard)), strict=True):
                found.append(Error(name, gain_error_db(curve, truth.gain_db), 0.0))
    Console(width=120).print(table(found))
    curve, constant = (np.median([e.said for e in found if e.name == name]) for name in NAMES)
    stated = stated_db(WEIGHTS.with_suffix(".md"))
    assert len(found) >= 20
    assert curve <= stated < constant, (curve, stated, constant)
