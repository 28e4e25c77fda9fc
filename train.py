"""Train a model: ``python train.py experiment=restorer`` or ``experiment=finetune_demucs data.music=[FOLDER]``."""

from __future__ import annotations

import os

# Ops without an MPS kernel run on the CPU; torch reads this when it is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

import logging
import re
import sys

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resonate.errors import UserError, command
from resonate.training.run import TrainConfig, train

ConfigStore.instance().store(name="train_schema", node=TrainConfig)
# For Hydra's own folder; train() expands the paths that it uses itself.
OmegaConf.register_new_resolver("expanduser", os.path.expanduser, replace=True)
log = logging.getLogger("resonate")


@hydra.main(version_base=None, config_path="configs", config_name="train")
def main(config: DictConfig) -> None:
    """Run one training."""
    try:
        figures, _ = train(OmegaConf.to_object(config))
    except UserError as error:
        # Here, since Hydra would add a line of its own.
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    for name, value in sorted(figures.items()):
        log.info("%s %.3f", name, value)


#: What follows these is a name and is taken literally, unless it is a list ([A,B]) or null: Hydra's grammar would
#: refuse or rewrite commas, quotes, brackets and numbers in it.
NAMES = ("data.music", "data.bank", "data.cache", "data.shards", "output", "model.pretrained", "resume")


def literal(word: str) -> str:
    """An override with its name quoted for Hydra."""
    key, _, value = word.partition("=")
    if key not in NAMES or value[:1] in ("[", '"', "'") or value in ("", "null"):
        return word
    # Backslashes count before a quote alone, which the closing one is, too; "${" would be worked out.
    escaped = re.sub(r'(\\+)(?="|$)', r"\1\1", value).replace('"', '\\"').replace("${", "\\${")
    return f'{key}="{escaped}"'


@command
def run() -> None:
    """`main`; a failure that the user can mend is one sentence and exit status 2, also where Hydra finds it."""
    # Else Hydra, which makes the output folder, prints a traceback of what goes wrong there and ends the process.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        main()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError("\n".join(str(e) for e in (error, error.__cause__) if e)) from None


if __name__ == "__main__":
    sys.argv[1:] = [literal(word) for word in sys.argv[1:]]
    sys.exit(run())
