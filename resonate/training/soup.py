"""The mean of several runs' weights as one model (a model soup, Wortsman et al., ICML 2022).

    python -m resonate.training.soup separator before.safetensors after.safetensors --output mean.safetensors

Runs that went on from the same weights lie in one valley, where the mean is often better than each of them and costs no
more to run. Whether it is says only a comparison (`resonate.evaluate.separation`, `resonate.evaluate.restorers`).
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resonate.errors import UserError, command
from resonate.models.restorer import Restorer
from resonate.models.weights import load_restorer, load_separator, read_header, save_weights

log = logging.getLogger(__name__)

_LOAD = {"separator": load_separator, "restorer": load_restorer}
#: Settings that are no part of the network: `resonate.training.calibrate` finds them anew.
_CALIBRATED = {"faithful_share": 1.0}


def average(kind: str, files: Sequence[Path], output: Path, weights: Sequence[float] | None = None) -> None:
    """Write the weighted mean of the weights in ``files``.

    Args:
        kind: ``separator`` or ``restorer``.
        files: two or more, of one architecture.
        output: file to write, ends in ``.safetensors``. Of a restorer it takes all of the faithful gain, until it is
            calibrated.
        weights: share of each file, above 0; they are brought to a sum of 1. By default all alike.

    Raises:
        UserError: too few files, one that cannot be used, or another architecture.
    """
    if len(files) < 2:
        raise UserError("A mean takes two files of weights or more.")
    shares = [1.0] * len(files) if weights is None else list(weights)
    if len(shares) != len(files) or not all(0 < share < float("inf") for share in shares):
        raise UserError(f"--weights takes {len(files)} numbers above 0, one for each file.")
    headers = [read_header(path, kind) for path in files]
    models = [_LOAD[kind](path) for path in files]
    architectures = [_architecture(model, header["settings"])
                     for model, header in zip(models, headers, strict=True)]
    for path, found in zip(files, architectures, strict=True):
        if found != architectures[0]:
            raise UserError(f"{path} holds another architecture than {files[0]}; only runs of one can be averaged.")
    # In double precision, so that the order of the files does not matter to a bit.
    total: dict[str, torch.Tensor] = {}
    for each, share in zip(models, shares, strict=True):
        for name, tensor in each.state_dict().items():
            part = tensor.double() * (share / sum(shares))
            total[name] = total[name] + part if name in total else part
    model = models[0]
    model.load_state_dict({name: total[name].to(tensor.dtype) for name, tensor in model.state_dict().items()})
    made_of = [{"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "share": share / sum(shares),
                "record": header["record"]} for path, share, header in zip(files, shares, headers, strict=True)]
    calibrated = {name: value for name, value in _CALIBRATED.items() if name in headers[0]["settings"]}
    save_weights(model, output, kind, {**headers[0]["settings"], **calibrated}, {"mean_of": made_of})
    log.info("mean of %d files, written to %s", len(files), output)


def _architecture(model: nn.Module, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of the network; those of a restorer that older files leave out are there with their defaults."""
    full = model.config.to_dict() if isinstance(model, Restorer) else settings
    return {name: value for name, value in full.items() if name not in _CALIBRATED}


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(_LOAD), help="what the weights are of")
    parser.add_argument("files", type=Path, nargs="+", metavar="WEIGHTS", help="files that train.py wrote")
    parser.add_argument("--weights", type=float, nargs="+", help="share of each file (default: all alike)")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if given.output.suffix != ".safetensors":
        raise UserError(f"--output {given.output} must end in .safetensors.")
    average(given.kind, given.files, given.output, given.weights)


if __name__ == "__main__":
    sys.exit(main())
