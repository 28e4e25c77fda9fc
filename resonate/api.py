"""Restore from Python: the code of infer.py for one recording, without a screen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Restored:
    """A finished restoration: its folder, the files in it, its report, and whether it was there before the call."""

    folder: Path
    files: tuple[Path, ...]
    report: Mapping[str, Any]
    already: bool


def restore(path: str | Path, output: str | Path, *, preset: str | None = None, **settings: Any) -> Restored:
    """Restore one recording into a folder below `output`.

    `preset` names a file of configs/restore; `settings` are those of infer.py (nested: `**{"master.loudness": -14}`).

    Raises:
        UserError: the recording, a setting or the output cannot be used.
    """
    from resonate.audio import probe
    from resonate.errors import UserError
    from resonate.restore.arguments import parse
    from resonate.restore.command import read_config, ready
    from resonate.restore.pipeline import restore as run

    named = {} if preset is None else {"restore": preset}
    words = [f"{name}={_word(value)}" for name, value in (named | settings).items()]
    arguments = parse([*words, "--", str(path)])
    if arguments.output or arguments.reference or len(arguments.inputs) > 1:
        raise UserError("restore() takes one recording and no reference; use infer.py for several or to compare.")
    config, _ = read_config(arguments)
    recording = Path(path).expanduser()
    with ready(config, {recording: probe(recording)}, Path(output).expanduser()) as it:
        outcome = run(recording, it.folders[recording], config, it.models)
    files = tuple(sorted(p for p in outcome.folder.rglob("*") if p.is_file()))
    return Restored(outcome.folder, files, outcome.report, outcome.already)


def _word(value: Any) -> str:
    return str(value) if isinstance(value, (str, Path)) else json.dumps(value)
