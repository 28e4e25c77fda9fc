"""The released htdemucs weights, and the recorded hashes of weights files."""

from __future__ import annotations

import logging
from pathlib import Path

import yaml

from resonate.audio import sha256
from resonate.errors import UserError

log = logging.getLogger(__name__)

#: What `separator=` and `model.pretrained=` call the released weights (41.5 M parameters; Rouard, Massa and Defossez,
#: 2023).
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
        if name.lstrip(" *") == path.name and wanted != sha256(path):
            raise UserError(
                f"The weights {path} are not those whose hash stands in {path.parent / SUMS}: the file is damaged or "
                "was changed; get it again."
            )


def fetch_released(instead: str = "separator=FILE") -> Path:
    """The released weights, where the demucs package keeps them; downloaded on first use, after their size was said.

    The package's own loader would import what the file names, or fall back on a pickle; so the file is only fetched as
    the package does, and read by this project's loader. UserError where it cannot be had.

    Args:
        instead: the setting that names a local file, for the message.
    """
    from demucs.hf import DEFAULT_NAMESPACE, hf_repo_name
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # its retries; what comes of them is said below
    # A transfer that breaks off raises the error of the HTTP library, which is another one in each version of the hub.
    broken = HfHubHTTPError.__bases__
    repository = f"{DEFAULT_NAMESPACE}/{hf_repo_name(RELEASED)}"
    try:
        bag = yaml.safe_load(Path(hf_hub_download(repository, f"{RELEASED}.yaml")).read_text(encoding="utf-8"))
        (signature,) = bag["models"]
        name = f"{signature}.safetensors"
        if not isinstance(try_to_load_from_cache(repository, name), str):
            size = get_hf_file_metadata(hf_hub_url(repository, name)).size or 0
            # A warning, because those are what infer.py shows of the log.
            log.warning("Downloading the released htdemucs: %.0f MB, once.", size / 1e6)
        return Path(hf_hub_download(repository, name))
    except (*broken, OSError, RuntimeError, HFValidationError, yaml.YAMLError, KeyError, TypeError,
            ValueError) as error:  # fmt: skip
        raise UserError(
            f"The released htdemucs could not be downloaded ({type(error).__name__}): check the network, or name a "
            f"weights file with {instead}."
        ) from error
