"""Debian packages without a Debian: fetch, unpack, and read which licence each file has."""

import fnmatch
import gzip
import io
import lzma
import re
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO

from resonate.data import splits
from resonate.errors import UserError


def obtain(package: str, debs: Path | None, cache: Path) -> Path:
    """The .deb file of `package`: from the folder `debs` where given, else through `apt-get download` into `cache`.

    Raises UserError when the package is reserved, not in the folder, or cannot be downloaded.
    """
    if splits.is_reserved(package):
        raise UserError(f"{package} is kept for an independent evaluation; choose another package.")
    for folder in (debs, cache):
        found = sorted(folder.glob(f"{package}_*.deb")) if folder and folder.is_dir() else []
        if found:
            return found[-1]
    if debs is not None:
        raise UserError(f"{debs} holds no {package}_*.deb; download that package or leave it out with --packages.")
    if not shutil.which("apt-get"):
        raise UserError("There is no apt-get here; download the .deb files elsewhere and give their folder as --debs.")
    # apt-get writes under the final name from the first byte on, goes on with what a stopped run left, and checks the
    # whole: only what it has finished moves to where it is looked for.
    part = cache / "part"
    part.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["apt-get", "download", package], cwd=part, capture_output=True, text=True, check=False)
    found = sorted(part.glob(f"{package}_*.deb"))
    if done.returncode or not found:
        errors = [line for line in done.stderr.strip().splitlines() if not line.startswith("W:")]
        reason = (errors or ["no reason given"])[-1]
        raise UserError(f"apt-get could not download {package} ({reason}); run apt-get update or use --debs.")
    return found[-1].replace(cache / found[-1].name)


def unpack(path: Path, folder: Path) -> None:
    """Unpack the files of a .deb into `folder`, through dpkg-deb where it exists, else by reading ar and tar."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if shutil.which("dpkg-deb"):
        done = subprocess.run(["dpkg-deb", "-x", str(path), str(part)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{path} is not a readable Debian package ({done.stderr.strip()}); download it again.")
    else:
        unpack_with_python(path, part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def seek_data(path: Path, handle: BinaryIO) -> tuple[str, int]:
    """Bring the open .deb, which is an ar archive, to its data.tar.*; returns the name and size of that.

    Raises UserError for what is no package, is cut short or holds no such member.
    """
    if handle.read(8) != b"!<arch>\n":
        raise UserError(f"{path} is not a Debian package; download it again.")
    while header := handle.read(60):
        if len(header) < 60 or header[58:60] != b"`\n" or not header[48:58].strip().isdigit():
            raise UserError(f"{path} is cut short; download it again.")
        name, size = header[:16].decode(errors="replace").rstrip(" /"), int(header[48:58])
        if handle.tell() + size > path.stat().st_size:
            raise UserError(f"{path} is cut short; download it again.")
        if name.startswith("data.tar"):
            return name, size
        handle.seek(size + size % 2, 1)
    raise UserError(f"{path} holds no files; download it again.")


def unpack_with_python(path: Path, folder: Path) -> None:
    """Unpack data.tar.{xz,gz,zst,} of a .deb; zstd needs Python 3.14 or dpkg-deb."""
    with path.open("rb") as handle:
        name, size = seek_data(path, handle)
        content = handle.read(size)
    if name.endswith(".zst"):
        raise UserError(f"{path} is packed with zstd; install dpkg to unpack it.")
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); download it again.") from error


class Copyright:
    """`debian/copyright` of a package: which licence and holder a file has.

    A machine-readable file (DEP-5) is a list of paragraphs with patterns, of which the last that matches counts, its
    patterns being relative to the source package. Free text counts for the whole package when it names one licence.
    """

    def __init__(self, text: str) -> None:
        self.paragraphs: list[tuple[list[str], str, str]] = []
        for block in re.split(r"\n[ \t]*\n", text):
            fields = _fields(block)
            if "files" in fields and "license" in fields:
                licence = fields["license"].split("\n")[0].strip()
                self.paragraphs.append((fields["files"].split(), licence, _holder(fields.get("copyright", ""))))
        self.whole = "" if self.paragraphs else _free_text(text)

    def of(self, tail: str) -> tuple[str, str]:
        """(licence, holder) of the file whose path ends with `tail` (without the install prefix); "" if unknown."""
        if not self.paragraphs:
            return self.whole, ""
        answer = ("", "")
        for patterns, licence, holder in self.paragraphs:
            if any(fnmatch.fnmatchcase(tail, pattern.removeprefix("./")) for pattern in patterns):
                answer = (licence, holder)
        return answer


def rights_of(folder: Path, package: str) -> Copyright:
    """The copyright file of a package that is unpacked in `folder`. Raises UserError where it has none."""
    documents = sorted((folder / "usr/share/doc" / package).glob("copyright*"))
    if not documents:
        raise UserError(f"{package} has no copyright file; its licences are unknown, leave it out with --packages.")
    return Copyright(documents[0].read_text(encoding="utf-8", errors="replace"))


def _fields(block: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        if match := re.match(r"^([A-Za-z][\w\-]*):(.*)$", line):
            name = match.group(1).lower()
            fields[name] = match.group(2).strip()
        elif name and line[:1] in " \t":
            fields[name] += "\n" + line.strip()
    return fields


def _holder(text: str) -> str:
    """Names out of a copyright field, without years, addresses and links ("0zone0ne" is a name, not a year)."""
    names = []
    for line in text.splitlines():
        plain = re.sub(r"\s*<.*?>|\s*\(?https?://[^\s)]*\)?", "", line)
        names.append(re.sub(r"^(\d{4}|\?{4})([\s,\-]+|\d{4}|\?{4})*(?=\s*\S)", "", plain).strip())
    return ", ".join(dict.fromkeys(n for n in names if n))


def _free_text(text: str) -> str:
    """CC-BY-SA-3.0, GPL-2+, or "" for a text that is not understood."""
    flat = " ".join(text.split())
    if re.search(r"Attribution[ -]Share-?Alike licence 3\.0|by-sa/3\.0", flat, re.IGNORECASE):
        return "CC-BY-SA-3.0"
    if "CREATIVE COMMONS PUBLIC LICENSE" in flat and "License Elements" in flat and "Attribution, ShareAlike" in flat:
        return "CC-BY-SA-3.0"
    if re.search(r"General Public License(?: as published by the Free Software Foundation;?)? (?:either )?version 2",
                 flat, re.IGNORECASE):
        return "GPL-2+"
    return ""
