"""`python -m resonate.evaluate.expected docs/results/captures.json --cache FOLDER`: what a report tells to expect.

Writes resonate/weights/expected.json: median and quartiles of the change from recording to restored track, by the true
music over crowd and clarity of the test captures, which lie beside each capture in the cache that was scored.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resonate.errors import UserError, command
from resonate.evaluate import table
from resonate.restore.expected import AXES, EXPECTED, MEASURES, class_of

_TRUTH = {"crowd": "snr_db", "clarity": "c80_db"}


def truths(cache: Path) -> dict[str, dict[str, Any]]:
    """Capture -> its facts (song, severity, measures), from the shards in `cache`. UserError where there are none."""
    found = {}
    for shard in sorted(cache.glob("*.tar")):
        with tarfile.open(shard) as file:
            for member in file:
                content = file.extractfile(member) if member.name.endswith(".json") else None
                if content is not None:
                    found[member.name.removesuffix(".json")] = json.load(content)
    if not found:
        raise UserError(f"{cache} holds no rendered captures; name the folder that was scored with --cache.")
    return found


def _spread(changes: Sequence[float]) -> dict[str, float]:
    lower, median, upper = np.percentile(changes, (25, 50, 75))
    return {"median": round(float(median), 2), "lower": round(float(lower), 2), "upper": round(float(upper), 2)}


def _change(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """Measure -> spread of after less before, over the pairs that have it."""
    changes = {
        name: [
            after[name] - before[name]
            for before, after in pairs
            if before.get(name) is not None and after.get(name) is not None
        ]
        for name in MEASURES
    }
    return {name: _spread(values) for name, values in changes.items() if values}


def summarise(result: Mapping[str, Any], captures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What expected.json holds, from the rows of a suite and the captures' facts. UserError where they do not agree."""
    rows = {(row["recording"], row["system"]): row["values"] for row in result["rows"]}
    scored = {row["recording"]: row for row in result["rows"] if row["system"] == "input"}
    for name, row in scored.items():
        if name not in captures or any(row[fact] != captures[name][fact] for fact in ("song", "severity")):
            raise UserError(f"The cache does not hold the capture {name} that was scored; name the one that does.")
    classes: dict[str, list[dict[str, Any]]] = {}
    for axis, _, bounds in AXES:
        truth = {name: class_of(axis, captures[name]["measures"][_TRUTH[axis]]) for name in scored}
        classes[axis] = [{} for _ in range(len(bounds) + 1)]
        for mode in ("reveal", "extend"):
            system = f"resonate {mode}"
            for index, found in enumerate(classes[axis]):
                here = [name for name in scored if truth[name] == index and (name, system) in rows]
                pairs = [(rows[name, "input"], rows[name, system]) for name in here]
                if pairs:
                    found[mode] = {"captures": len(pairs), "change": _change(pairs)}
    weights = {name.removesuffix(".safetensors"): digest for name, digest in result["weights"].items()}
    return {"command": result["command"], "weights": weights, "classes": classes}


@command
def main(arguments: list[str] | None = None) -> int:
    """Write; 0, or 2 for a UserError."""
    parser = argparse.ArgumentParser(prog="python -m resonate.evaluate.expected", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("results", type=Path, help="JSON file of python -m resonate.evaluate suite=captures")
    parser.add_argument("--cache", type=Path, required=True, help="the rendered captures that were scored")
    parser.add_argument("--output", type=Path, default=EXPECTED)
    options = parser.parse_args(arguments)
    try:
        result = json.loads(options.results.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{options.results} holds no results of python -m resonate.evaluate.") from error
    table.write_text(options.output, json.dumps(summarise(result, truths(options.cache)), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
