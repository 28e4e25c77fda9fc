"""The released htdemucs weights, and the recorded hashes of weights files."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import yaml

from resonate.errors import UserError

log = logging.getLogger(__name__)

#: What `separator=` calls the released weights (41.5 M parameters; Rouard, Massa and Defossez, 2023).
RELEASED = "htdemucs"

#: File of hashes beside weights, in the form that `sha256sum` writes and checks.
SUMS = "SHA256SUMS"


def check_hash(path: Path) -> None:
    """UserError where a `SHA256SUMS` beside the weights lists them with another hash."""
    try:
        lines = (path.parent / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        wanted, _, name = line.partition(" ")
        if name.lstrip(" *") == path.name and wanted != hashlib.sha256(path.read_bytes()).hexdigest():
            raise UserError(
                f"The weights {path} are not those whose hash stands in {path.parent / SUMS}: the file is damaged or "
                "was changed; get it again."
            )


def fetch_released() -> Path:
    """The released weights, where the demucs package keeps them; downloaded (81 MB) on first use.

    The package's own loader would import what the file names, or fall back on a pickle; so the file is only fetched as
    the package does, and read by this project's loader. UserError where it cannot be had.
    """
    from demucs.hf import DEFAULT_NAMESPACE, hf_repo_name
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # its retries; what comes of them is said below
    repository = f"{DEFAULT_NAMESPACE}/{hf_repo_name(RELEASED)}"
    try:
        bag = yaml.safe_load(Path(hf_hub_download(repository, f"{RELEASED}.yaml")).read_text(encoding="utf-8"))
        (signature,) = bag["models"]
        return Path(hf_hub_download(repository, f"{signature}.safetensors"))
    except (OSError, RuntimeError, HfHubHTTPError, HFValidationError, yaml.YAMLError, KeyError, TypeError,
            ValueError) as error:  # fmt: skip
        raise UserError(
            f"The released htdemucs weights cannot be downloaded ({type(error).__name__}): check the network, or name "
            "a weights file with separator=FILE."
        ) from error
