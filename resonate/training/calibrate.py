"""How much of the restorer's gains brings the music nearest, measured on validation captures.

    python -m resonate.training.calibrate runs/restorer/weights.safetensors --cache valid/ --output restorer.safetensors

writes the weights again with two shares (in dB). `faithful_share` is the least share of the faithful gain whose mean
f_sdr lies within 0.1 dB of the greatest: where it hardly matters on average, less of it does less harm at the worst.
`full_share` is the least share of the full gain whose mean lsd lies within 0.05 dB of the least, among those whose mean
f_sdr is no more than 0.05 dB below that of the whole gain (share 1). Training cannot know either: there one gain pays
for crowd that stays, too, and the other hedges between what may be music and what may not.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from resonate.errors import UserError
from resonate.evaluate import cases, measures
from resonate.models.restorer import Restorer, apply_gain
from resonate.models.stats import measure_stats
from resonate.models.weights import load_restorer, read_header, save_weights

log = logging.getLogger(__name__)

#: dB of mean f_sdr that are given for less harm.
GIVEN_DB = 0.1
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
#: Shares of the full gain.
FULL_SHARES = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
#: dB of mean lsd or f_sdr within which two of them are alike.
ALIKE_DB = 0.05

#: A capture and its dry reference, (2, T) each at 44.1 kHz, aligned.
Pair = tuple[np.ndarray, np.ndarray]


def gains_by_share(model: Restorer, pairs: Iterable[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """What the shares bring, in dB, on pairs whose reference is not silent.

    Args:
        model: with a `faithful_share` of 1; its `full_share` is set to each of FULL_SHARES and back to 1.
        pairs: see :data:`Pair`.

    Returns:
        (pairs, len(SHARES)) rise of f_sdr under the faithful gain; (pairs, len(FULL_SHARES), 2) rise of f_sdr and fall
        of lsd under the full one with the synthesis.
    """
    faithful, full = [], []
    for capture, reference in pairs:
        if not np.abs(reference).max() > 1e-3:
            continue
        x = torch.from_numpy(capture)[None]
        stats = measure_stats(x[0])
        before = measures.f_sdr(capture, reference), measures.lsd(capture, reference)
        with torch.inference_mode():
            gain = model(x, stats, extension_strength=0.0, faithful=True).gain
            outputs = [apply_gain(x, gain**share)[0].numpy() for share in SHARES]
            faithful.append([measures.f_sdr(output, reference) - before[0] for output in outputs])
            row = []
            for share in FULL_SHARES:
                model.config = replace(model.config, full_share=share)
                out = model(x, stats)
                output = (apply_gain(x, out.gain) + out.extension)[0].numpy()
                row.append((measures.f_sdr(output, reference) - before[0], before[1] - measures.lsd(output, reference)))
            full.append(row)
        model.config = replace(model.config, full_share=1.0)
    return np.array(faithful), np.array(full)


def choose_full(gains: np.ndarray) -> int:
    """Place in FULL_SHARES, from (pairs, len(FULL_SHARES), 2); see the module."""
    f_sdr, lsd = gains.mean(0).T
    kept = f_sdr >= f_sdr[FULL_SHARES.index(1.0)] - ALIKE_DB
    return int(np.argmax(kept & (lsd >= lsd[kept].max() - ALIKE_DB)))


def calibrate(weights: Path, cache: Path, output: Path, limit: int | None = None) -> tuple[float, float]:
    """Write `output` with the best shares for the validation captures in `cache`, of which at most `limit` are used;
    returns them. Raises UserError for weights or a cache that cannot be used, or without a capture with music."""
    header, model = read_header(weights, "restorer"), load_restorer(weights)
    model.config = replace(model.config, faithful_share=1.0, full_share=1.0)
    chosen = cases.cache_index(cache, "valid")[:limit]
    pairs = (cases.cached(cache, example) for example in chosen)
    rises, gains = gains_by_share(model, ((case.capture, case.reference) for case in pairs))
    if not len(rises):
        raise UserError(f"No validation capture in {cache} has music; render others.")
    mean = rises.mean(0)
    for share, rise, worst in zip(SHARES, mean, rises.min(0), strict=True):
        log.info("share %.1f of the faithful gain: f_sdr %+.2f dB on average, %+.2f at worst", share, rise, worst)
    for share, (f_sdr, lsd) in zip(FULL_SHARES, gains.mean(0), strict=True):
        log.info("share %.1f of the full gain: f_sdr %+.2f dB, lsd %+.2f dB on average", share, f_sdr, -lsd)
    place, of_full = int(np.argmax(mean >= mean.max() - GIVEN_DB)), choose_full(gains)
    shares = {"faithful_share": SHARES[place], "full_share": FULL_SHARES[of_full]}
    found = {"captures": len(rises), "f_sdr_rise": round(float(mean[place]), 3)}
    found_full = {"captures": len(rises), "lsd_fall": round(float(gains.mean(0)[of_full, 1]), 3)}
    record = {**header["record"], "faithful_share": found, "full_share": found_full}
    save_weights(model, output, "restorer", {**header["settings"], **shares}, record)
    log.info("faithful_share=%.1f and full_share=%.1f over %d captures, written to %s", *shares.values(), len(rises),
             output)  # fmt: skip
    return shares["faithful_share"], shares["full_share"]


def main(argv: list[str] | None = None) -> int:
    """Command line. Exit status 0, or 2 with one line on standard error for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="restorer weights that train.py wrote")
    parser.add_argument("--cache", type=Path, required=True, help="rendered folder with validation captures")
    parser.add_argument("--output", type=Path, required=True, help="file to write; may be WEIGHTS itself")
    parser.add_argument("--limit", type=int, help="at most so many captures (default: all)")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        calibrate(given.weights, given.cache, given.output, given.limit)
    except (UserError, OSError) as error:
        log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
