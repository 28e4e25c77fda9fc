"""The hidden folder beside a result in which a run works: locked while it runs, kept when it is stopped.

Policy: the folder is deleted once the result is complete (unless `keep=true`), and at once where the recording itself
cannot be used, which shows while it is read in. After Ctrl-C, a kill, a full disk or any other failure it stays, and
the same command goes on from it. A note in it says whose work it is, so that another recording of that name leaves it.
Previews and diagnoses have a folder of their own, by their stretch. Any may be deleted by hand at any time; then the
work is done again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resonate.audio import AudioError
from resonate.errors import UserError

#: Where a former result waits while the new one is put in its place.
OLD = "old"

#: Written in a stage's folder once the stage is done.
DONE = "done.json"

#: The note of whose work a folder holds: `folder`, the result's name, and of the recording `name`, `path`, `sha256`.
OWNER = "recording.json"

_PREFIX = ".work-"


def scratch_path(folder: Path, part: str = "") -> Path:
    """The folder that belongs to the result `folder`, or to a `part` of it: a preview or a diagnosis in between must
    not clear away what a stopped run of the whole had got to."""
    # A hash: a name may be as long as the file system allows.
    name = os.fsencode(folder.name) + (b"\0" + part.encode() if part else b"")
    return folder.parent / f"{_PREFIX}{hashlib.sha256(name).hexdigest()[:16]}"


def owners(output: Path) -> Iterator[dict[str, Any]]:
    """The notes of all runs below `output` that were stopped, or whose work is kept; see OWNER."""
    for file in sorted(output.glob(f"{_PREFIX}*/{OWNER}")):
        try:
            note = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(note, dict) and "folder" in note:
            yield note


@contextmanager
def lock(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file `path` (made with its folder); UserError `busy` where another process holds it.

    The lock ends with the process, however that ends.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # another run has just cleared the folder away
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise UserError(busy) from None
        except OSError as error:
            os.close(handle)
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise
            raise UserError(
                f"{path.parent} lies on a disk that cannot lock files, so two runs could spoil each other's work: "
                "choose an output on another disk."
            ) from None
        if os.fstat(handle).st_nlink:
            break
        os.close(handle)  # deleted between opening and locking: it protects nothing
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def scratch_folder(folder: Path, keep: bool = False, part: str = "") -> Iterator[Path]:
    """The run's folder for the result `folder` or a `part` of it, with what a stopped run left in it; see the module
    for its end.

    UserError where another run works on the same result.
    """
    scratch = scratch_path(folder, part)
    with lock(scratch / "lock", f"Another run is working on {folder}; wait for it, or choose another output."):
        if (scratch / OLD).exists() and not os.path.lexists(folder):
            os.rename(scratch / OLD, folder)  # stopped between the two renames of `move_in_place`
        try:
            yield scratch
        except AudioError:
            # Once the recording was taken in, what is done stands, whatever became of the file since.
            if not any(scratch.glob(f"*/{DONE}")):
                shutil.rmtree(scratch)
            raise
        if not keep:
            shutil.rmtree(scratch)


def clear(folder: Path, part: str = "") -> None:
    """Delete what an earlier run kept for a result that is complete, unless a run is busy there."""
    scratch = scratch_path(folder, part)
    if scratch.is_dir():
        with lock(scratch / "lock", f"Another run is working on {folder}; wait for it, or choose another output."):
            shutil.rmtree(scratch)


def move_in_place(made: Path, folder: Path, scratch: Path) -> None:
    """Put the finished folder `made` at `folder`; a former result there goes away only after that."""
    old = scratch / OLD
    _remove(old)
    if os.path.lexists(folder):
        os.rename(folder, old)
    os.rename(made, folder)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
