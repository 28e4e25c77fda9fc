"""Separated stems against the stems themselves: SI-SDR, museval's SDR, and ESTOI of the vocals."""

from __future__ import annotations

import math
import warnings
from importlib.util import find_spec

import numpy as np

from resonate import RATE, STEMS
from resonate.evaluate.alignment import to_mid
from resonate.evaluate.measures import si_sdr

#: A stem this far under the mix for a whole recording is silent, and a vocal part there is none.
SILENT_DB = -40.0
#: museval's windows: one second, without overlap.
FRAME_SECONDS = 1.0


def merge_absent(stems: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(4, 2, T): stems that are not known apart are added to "other", where their reference sounds too."""
    merged = np.where(present[:, None, None], stems, 0.0)
    merged[STEMS.index("other")] = stems[STEMS.index("other")] + stems[~present].sum(axis=0)
    if not present[STEMS.index("other")]:
        merged[STEMS.index("other")] -= stems[STEMS.index("other")]
    return merged


def sdr(output: np.ndarray, reference: np.ndarray, rate: int = RATE) -> float:
    """museval's SDR (BSS Eval v4, Stöter et al. 2018), in dB.

    Formula: per second 10 log10(|s|^2 / |y - s|^2) over both channels, median over the seconds; the distortion filters
    of BSS Eval v4 share the error out among ISR, SIR and SAR and do not change SDR, so they are not computed.
    Seconds in which either is digital silence do not count (as in museval).  Range: -inf..+inf, higher is better; NaN
    where none counts.  Invariant to: nothing but swapping channels: level and delay matter.  Cheats: where a stem can
    hardly be found, a quieter estimate scores better (0 dB for silence).
    """
    frame = round(FRAME_SECONDS * rate)
    y, s = np.atleast_2d(output).astype(np.float64), np.atleast_2d(reference).astype(np.float64)
    values = []
    for start in range(0, max(1, s.shape[-1] - frame + 1), frame):
        part, true = y[..., start : start + frame], s[..., start : start + frame]
        signal, error = float(np.sum(true**2)), float(np.sum((part - true) ** 2))
        if signal > 0.0 and np.any(part):
            values.append(10.0 * np.log10(signal / error) if error > 0.0 else math.inf)
    return float(np.median(values)) if values else float("nan")


def estoi(output: np.ndarray, reference: np.ndarray, rate: int = RATE) -> float:
    """Extended short-time objective intelligibility of a vocal stem (Jensen and Taal 2016), by pystoi.

    Range: about 0..1, higher is better; NaN where the reference holds under half a second of voice or pystoi is not
    installed.  Invariant to: gain; correlations of spectra over 0.4 s, so blind above 5 kHz.  Cheats: other
    instruments that follow the voice count as voice, so the bare mixture scores well where the voice is loud.
    """
    if find_spec("pystoi") is None:
        return float("nan")
    from pystoi import stoi

    c, y = to_mid(reference), to_mid(output)
    if not np.any(c) or not np.any(y):
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi warns where too little voice is left, and returns 1e-5
        try:
            return float(stoi(c, y, rate, extended=True))
        except RuntimeWarning:
            return float("nan")


def scores(
    estimates: np.ndarray, wet: np.ndarray | None, dry: np.ndarray | None, present: np.ndarray, rate: int = RATE
) -> dict[str, float]:
    """All figures of one set of stems.

    Args:
        estimates: (4, 2, T), in the order of `resonate.STEMS`.
        wet: (4, 2, T), the stems as they sound in the capture; SI-SDR and SDR are against these.
        dry: (4, 2, T), the clean stems; ESTOI of the vocals is against these.
        present: (4,) bool, which stems are known apart; the others' estimates count as part of "other".

    Returns:
        `<stem>_si_sdr`, `<stem>_sdr`, their means `stems_si_sdr` and `stems_sdr` over the stems that sound, and
        `vocals_estoi`, as far as they have a value.
    """
    values: dict[str, float] = {}
    if wet is not None:
        ours, theirs = merge_absent(estimates, present), merge_absent(wet, present)
        mix = float(np.mean(np.square(theirs.sum(axis=0))))
        for k, stem in enumerate(STEMS):
            level = float(np.mean(np.square(theirs[k])))
            if level > mix * 10 ** (SILENT_DB / 10) and level > 0.0:
                values[f"{stem}_si_sdr"] = si_sdr(ours[k], theirs[k])
                values[f"{stem}_sdr"] = sdr(ours[k], theirs[k], rate)
        for kind in ("si_sdr", "sdr"):
            found = [values[f"{s}_{kind}"] for s in STEMS if math.isfinite(values.get(f"{s}_{kind}", math.nan))]
            if found:
                values[f"stems_{kind}"] = float(np.mean(found))
    vocals = STEMS.index("vocals")
    if dry is not None and present[vocals]:
        voice, mix = np.mean(np.square(dry[vocals])), np.mean(np.square(dry.sum(axis=0)))
        if voice > mix * 10 ** (SILENT_DB / 10) and voice > 0.0:
            values["vocals_estoi"] = estoi(estimates[vocals], dry[vocals], rate)
    return {name: value for name, value in values.items() if math.isfinite(value)}
