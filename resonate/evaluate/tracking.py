"""Tables of a scorecard to Weights & Biases, offline unless logged in."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resonate.errors import UserError
from resonate.evaluate import success
from resonate.evaluate.results import Results
from resonate.evaluate.settings import EvaluateConfig

HOST = "api.wandb.ai"


def check() -> None:
    """UserError where the package is missing, before any work."""
    if find_spec("wandb") is None:
        raise UserError("wandb=true needs the package wandb; install it, or leave the setting out.")


def mode() -> str:
    """WANDB_MODE, else online where a login is stored and offline where none is."""
    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"]
    try:
        stored = netrc.netrc().authenticators(HOST) is not None
    except (OSError, netrc.NetrcParseError):
        stored = False
    return "online" if stored or os.environ.get("WANDB_API_KEY") else "offline"


def log(config: EvaluateConfig, results: Results, facts: Mapping[str, Any], folder: Path) -> None:
    """One run with tables of all rows, of the means by group and of the mission's criteria, and with the means as
    summary; its files lie in `folder`."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    with wandb.init(project="resonate", job_type="evaluate", name=f"scorecard {config.suite}", config=asdict(config),
                    dir=str(folder), mode=mode()) as run:  # fmt: skip
        columns = results.columns()
        rows = [[r.recording, r.song, r.group, r.system, r.verdict, *(r.values.get(c) for c in columns)]
                for r in results.rows]  # fmt: skip
        run.log({"scorecard": wandb.Table(["recording", "song", "group", "system", "verdict", *columns], data=rows)})
        means = [[name, system, *(values.get(c) for c in columns)] for name, group in results.groups().items()
                 for system, values in results.means(group).items()]  # fmt: skip
        run.log({"means": wandb.Table(["group", "system", *columns], data=means)})
        if facts.get("success"):
            asked = [[entry["name"], entry["asks"], success.told(entry), entry["met"],
                      ", ".join(found["recording"] for found in entry["worst"])]
                     for entry in facts["success"]]  # fmt: skip
            run.log({"success": wandb.Table(["criterion", "asked", "found", "met", "worst"], data=asked)})
        for system, values in results.means(results.rows).items():
            for name, value in values.items():
                run.summary[f"{system}/{name}"] = value
        for entry in facts.get("success") or []:
            run.summary[f"success/{entry['name']}"] = entry["figure"]
