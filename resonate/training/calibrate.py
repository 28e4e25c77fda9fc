"""How much of the restorer's faithful gain keeps the waveform most alike, measured on validation captures.

    python -m resonate.training.calibrate runs/restorer/weights.safetensors --cache valid/ --output restorer.safetensors

writes the weights again with `faithful_share`, the least share (in dB) of the gain whose mean f_sdr lies within 0.1 dB
of the greatest: where it hardly matters on average, less of it does less harm at the worst. Training cannot know it:
there the gain pays for crowd that stays, too.
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
from torch import Tensor

from resonate.errors import UserError, command
from resonate.evaluate import cases, measures
from resonate.evaluate.restorers import opinion
from resonate.models.restorer import Restorer, apply_gain
from resonate.models.stats import measure_stats
from resonate.models.weights import SEPARATOR, load_restorer, read_header, save_weights

log = logging.getLogger(__name__)

#: dB of mean f_sdr that are given for less harm.
GIVEN_DB = 0.1
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def gains_by_share(model: Restorer, captures: Iterable[tuple[np.ndarray, np.ndarray, Tensor | None]]) -> np.ndarray:
    """(captures, len(SHARES)) rise of f_sdr in dB.

    Args:
        model: with a `faithful_share` of 1.
        captures: with their dry references, (2, T) at 44.1 kHz, aligned, and what the separator takes for music in
            them, (1, 2, T) or None; silent references are left out.
    """
    rows = []
    for capture, reference, music in captures:
        if not np.abs(reference).max() > 1e-3:
            continue
        x = torch.from_numpy(capture)[None]
        with torch.inference_mode():
            gain = model(x, measure_stats(x[0]), extension_strength=0.0, faithful=True, music=music).gain
            outputs = [apply_gain(x, gain**share)[0].numpy() for share in SHARES]
        before = measures.f_sdr(capture, reference)
        rows.append([measures.f_sdr(output, reference) - before for output in outputs])
    return np.array(rows)


def calibrate(weights: Path, cache: Path, output: Path, limit: int | None = None, separator: Path = SEPARATOR
              ) -> float:
    """Write `output` with the best share for the validation captures in `cache`, of which at most `limit` are used;
    returns it. Raises UserError for weights or a cache that cannot be used, or without a capture with music."""
    header, model = read_header(weights, "restorer"), load_restorer(weights)
    model.config = replace(model.config, faithful_share=1.0)
    chosen = cases.cache_index(cache, "valid")[:limit]
    heard = (cases.cached(cache, example) for example in chosen)
    rises = gains_by_share(model, ((c.capture, c.reference, opinion([model], c.capture, separator)) for c in heard))
    if not len(rises):
        raise UserError(f"No validation capture in {cache} has music; render others.")
    mean = rises.mean(0)
    for share, rise, least in zip(SHARES, mean, rises.min(0), strict=True):
        log.info("share %.1f: f_sdr %+.2f dB on average, %+.2f dB at the worst", share, rise, least)
    place = int(np.argmax(mean >= mean.max() - GIVEN_DB))
    best = SHARES[place]
    found = {"captures": len(rises), "f_sdr_rise": round(float(mean[place]), 3)}
    record = {**header["record"], "faithful_share": found}
    save_weights(model, output, "restorer", {**header["settings"], "faithful_share": best}, record)
    log.info("faithful_share=%.1f over %d captures, written to %s", best, len(rises), output)
    return best


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="restorer weights that train.py wrote")
    parser.add_argument("--cache", type=Path, required=True, help="rendered folder with validation captures")
    parser.add_argument("--output", type=Path, required=True, help="file to write; may be WEIGHTS itself")
    parser.add_argument("--limit", type=int, help="at most so many captures (default: all)")
    parser.add_argument("--separator", type=Path, default=SEPARATOR,
                        help="weights of the separator that the restorer hears (default: the repo's)")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    calibrate(given.weights, given.cache, given.output, given.limit, given.separator)


if __name__ == "__main__":
    sys.exit(main())
