"""How each suite judges what a system made of a recording: the figures, and a verdict in one word."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from resonate import RATE, faithfulness
from resonate.evaluate import artefacts, bandwidth, measures, stems
from resonate.evaluate.alignment import align, to_mid
from resonate.evaluate.rivals import Case
from resonate.evaluate.suites import Item
from resonate.evaluate.systems import Output
from resonate.evaluate.verdict import Score, against, joint_verdict, score
from resonate.models.stats import measure_stats

#: What the suites demand. clean: at least this f_sdr, at most this lsd (a low-pass keeps the one, an equaliser too),
#: and no more added; bandlimited: no more change in the captured band, and the missing one nearer by this than hiss
#: would be; crowd_only: no more tones at a time; silence: no louder than the input or this.
CLEAN_F_SDR, CLEAN_LSD, ADDED_DB, CAPTURED_DB, TONES, SILENT_DBFS = 30.0, 1.0, -60.0, -60.0, 0.01, -100.0
BEYOND_HISS_DB = 1.0
#: The checks of `resonate.faithfulness`, by the names of their measures here.
FAITHFUL = {"support": "energy_support", "chroma": "chroma_agreement", "onsets": "onset_agreement",
            "notes": "note_agreement", "excess_db": "redegradation"}  # fmt: skip
#: How far a level may rise by rounding.
ROUNDING_DB = 0.5


@dataclass(frozen=True)
class Judged:
    """values by measure; verdict: of the joint verdict, or holds / fails; lag in samples against the reference."""

    values: dict[str, float]
    verdict: str
    lag: int = 0
    score: Score | None = None


Judge = Callable[[Item, Case, Output, "Judged | None"], Judged]


def _verdict(holds: bool) -> str:
    return "holds" if holds else "fails"


def _cut(case: Case, output: Output) -> np.ndarray:
    n = case.capture.shape[-1]
    y = output.mix[..., :n]
    return np.pad(y, ((0, 0), (0, n - y.shape[-1])))


def reference(item: Item, case: Case, output: Output, before: Judged | None) -> Judged:
    """Against a reference (captures, folder, demo): all measures of likeness, and the joint verdict."""
    after = score(output.mix, case.reference, gaps=case.gaps, noise=case.noise, crowd=case.crowd, wet=case.wet,
                  capture=case.capture)
    start = before.score if before is not None and before.score is not None else after
    values = against(start, after)
    y = _cut(case, output)
    if case.gaps.sum() > RATE // 4:
        values["musical_noise"] = artefacts.musical_noise(y, case.capture, case.gaps)
    if output.stems is not None and case.present is not None:
        values |= stems.scores(output.stems, case.stems_wet, case.stems_dry, case.present)
    kept = {name: value for name, value in values.items() if not math.isnan(value)}
    return Judged(kept, joint_verdict(start, after), after.lag, after)


def clean(item: Item, case: Case, output: Output, before: Judged | None) -> Judged:
    """Do no harm: f_sdr and lsd against the track itself, and what the extension added."""
    y, c = align(output.mix, case.reference, RATE)
    values = {"f_sdr": measures.f_sdr(y, c), "lsd": measures.lsd(y, c)}
    if output.extended is not None:
        added = bandwidth.level_db(output.extended) - bandwidth.level_db(case.capture)
        values["extended_db"] = max(bandwidth.FLOOR_DB, added)
    kept = values["f_sdr"] >= CLEAN_F_SDR and values["lsd"] <= CLEAN_LSD
    holds = kept and values.get("extended_db", -math.inf) <= ADDED_DB
    return Judged(values, _verdict(holds))


def bandlimited(item: Item, case: Case, output: Output, before: Judged | None) -> Judged:
    """Extension truth: the missing band against what was filtered away, the captured one against the input.

    It holds where the missing band came nearer to the truth than steady hiss of the truth's own spectrum would, by
    BEYOND_HISS_DB, and the captured band was left alone.
    """
    kept, missing = item.facts["kept"], item.facts["missing"]
    y = _cut(case, output)
    values = {
        "lsd_missing": bandwidth.lsd_missing(y, case.reference, missing),
        "level_error": bandwidth.level_error(y, case.reference, missing),
        "captured_change": bandwidth.captured_change(y, case.capture, kept),
    }
    hiss = case.capture.mean(axis=0) + bandwidth.steady_hiss(case.reference, missing)
    nearer = values["lsd_missing"] < bandwidth.lsd_missing(hiss, case.reference, missing) - BEYOND_HISS_DB
    return Judged(values, _verdict(nearer and values["captured_change"] <= CAPTURED_DB))


def crowd_only(item: Item, case: Case, output: Output, before: Judged | None) -> Judged:
    """Nothing invented where there is no music: no tones, no more level."""
    y = _cut(case, output)
    values = {
        "invented_tones": artefacts.invented_tones(y, case.capture),
        "musical_noise": artefacts.musical_noise(y, case.capture),
        "level_change": bandwidth.level_db(y) - bandwidth.level_db(case.capture),
    }
    holds = values["invented_tones"] <= TONES and values["level_change"] <= ROUNDING_DB
    return Judged({k: v for k, v in values.items() if not math.isnan(v)}, _verdict(holds))


def silence(item: Item, case: Case, output: Output, before: Judged | None) -> Judged:
    """Silence stays silence: no louder than the input, or than SILENT_DBFS."""
    level = bandwidth.level_db(output.mix)
    limit = max(bandwidth.level_db(case.capture) + ROUNDING_DB, SILENT_DBFS)
    return Judged({"output_dbfs": level}, _verdict(level <= limit))


def recordings(item: Item, case: Case, output: Output, before: Judged | None) -> Judged:
    """Without a reference: band, noise floor, and faithfulness to the recording inside the band it captured."""
    y, given = _cut(case, output), measure_stats(case.capture)
    stats = measure_stats(y)
    inside = stats.in_band > 0
    values = {"low_hz": stats.low_hz, "high_hz": stats.high_hz}
    if np.any(to_mid(y)) and inside.any():
        values["noise_floor"] = float((stats.floor_db - stats.ltas_db)[inside].mean())
    spectra = [faithfulness.magnitudes(x) for x in (y, case.capture)]
    values["redegradation_residual"] = faithfulness.redegradation(*spectra)[0]
    figures, failed = faithfulness.check(*spectra, given.floor_db, given.in_band)
    values |= {FAITHFUL[name]: value for name, value in figures.items() if name in FAITHFUL}
    return Judged({k: v for k, v in values.items() if not math.isnan(v)}, _verdict(not failed))


JUDGES: dict[str, Judge] = {
    "demo": reference, "captures": reference, "stages": reference, "folder": reference, "clean": clean,
    "bandlimited": bandlimited, "crowd_only": crowd_only, "silence": silence, "recordings": recordings,
}  # fmt: skip
