"""All stages by name, and the chain of them that the settings ask for."""

from __future__ import annotations

from resonate.errors import UserError
from resonate.restore.choice import Choose
from resonate.restore.config import RestoreConfig
from resonate.restore.deliver import Ledger, Master, Stems
from resonate.restore.networks import Remix, Restore
from resonate.restore.precondition import Precondition
from resonate.restore.prepare import Diagnose, Ingest
from resonate.restore.separation import Separate
from resonate.restore.tone import Compress, Equalise, Match, Width
from resonate.restore.work import Stage

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Ingest(),
        Diagnose(),
        Precondition(),
        Separate(),
        Choose(),
        Restore(),
        Remix(),
        Ledger(),
        Stems(),
        Equalise(),
        Match(),
        Compress(),
        Width(),
        Master(),
    )
}

#: Stages that every restoration needs.
REQUIRED = ("ingest", "diagnose", "precondition", "separate", "restore", "remix", "stems", "master")

#: What has to come earlier than a stage. All others may stand in any order.
AFTER: dict[str, tuple[str, ...]] = {
    "diagnose": ("ingest",),
    "precondition": ("diagnose",),
    "separate": ("precondition",),
    "choose": ("separate",),
    "restore": ("separate", "choose"),
    "remix": ("restore",),
    "ledger": ("remix",),
    "stems": ("remix",),
    **dict.fromkeys(("equalise", "match", "compress", "width"), ("stems",)),
    "master": ("stems", "equalise", "match", "compress", "width"),
}


def chain(config: RestoreConfig) -> list[Stage]:
    """The stages to run, in order; with `diagnose_only` up to the diagnosis.

    UserError, in one sentence, for a name that is not known, one given twice, a required one left out, or an order in
    which a stage comes before what it needs.
    """
    names = config.stages
    for name in names:
        if name not in STAGES:
            raise UserError(f"stages: there is no stage {name}: choose among {', '.join(STAGES)}.")
        if names.count(name) > 1:
            raise UserError(f"stages: {name} is there {names.count(name)} times: name each stage once.")
    for name in REQUIRED:
        if name not in names:
            raise UserError(f"stages: {name} cannot be left out; every restoration needs {', '.join(REQUIRED)}.")
    for name, earlier in AFTER.items():
        for other in earlier:
            if name in names and other in names and names.index(other) > names.index(name):
                raise UserError(f"stages: {name} works on what {other} leaves: put {other} before it.")
    last = names.index("diagnose") if config.diagnose_only else len(names)
    return [STAGES[name] for name in names[: last + 1]]
