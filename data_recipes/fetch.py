"""Get the files of `sources.tsv`: from a local mirror, or from where they come from, always by checksum."""

import re
from pathlib import Path
from urllib.parse import quote

from data_recipes import deb
from data_recipes.common import read_table
from resonate.audio import sha256
from resonate.errors import UserError

SOURCES = Path(__file__).with_name("sources.tsv")
_GIT = re.compile(r"^([\w.\-]+/[\w.\-]+)@([0-9a-f]{40}):(.+)$")


def table() -> list[dict[str, str]]:
    """Rows of `sources.tsv`: file, source, origin, origin_sha256, bytes, sha256, licence, note."""
    return read_table(SOURCES)


class NoOrigin(UserError):
    """The table knows the repository of a file but not its path there, so only a mirror has it."""


class Fetcher:
    """Hands out files of `sources.tsv`.

    Args:
        mirror: a folder laid out like the `file` column, or None to go to the origin.
        cache: where downloads are kept.
        debs: a folder of .deb files for rows that come from a Debian package, or None for `apt-get download`.
    """

    def __init__(self, mirror: Path | None, cache: Path, debs: Path | None = None) -> None:
        if mirror is not None and not mirror.is_dir():
            raise UserError(f"{mirror} is not a folder; give the mirror of the starter audio, or leave --source out.")
        self.mirror, self.cache, self.debs = mirror, cache, debs
        self._packages: dict[str, dict[str, Path]] = {}

    def get(self, row: dict[str, str]) -> Path:
        """The file of one row. Raises UserError when it is missing or its checksum differs."""
        if self.mirror is not None:
            path = self.mirror / row["file"]
            if not path.is_file():
                raise UserError(f"{path} is missing in the mirror; copy it again or leave --source out.")
            if sha256(path) != row["sha256"]:
                raise UserError(f"{path} does not have the checksum of sources.tsv; copy it again.")
            return path
        if row["origin"].startswith("debian:"):
            return self._from_debian(row)
        return self._download(row)

    def _from_debian(self, row: dict[str, str]) -> Path:
        package = row["origin"].removeprefix("debian:")
        if package not in self._packages:
            folder = self.cache / "debian" / package
            if not folder.is_dir():
                deb.unpack(deb.obtain(package, self.debs, self.cache / "debs"), folder)
            self._packages[package] = {sha256(p): p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()}
        try:
            return self._packages[package][row["origin_sha256"]]
        except KeyError as error:
            raise UserError(f"The package {package} does not hold the file of {row['file']}; this release has another "
                            "version, so use a mirror with --source.") from error

    def _download(self, row: dict[str, str]) -> Path:
        places = origins(row)
        if not places:
            raise NoOrigin(f"The path of {row['file']} at its origin is not known; use a mirror with --source.")
        import pooch  # here, so that a mirror needs no downloader

        name = f"{row['origin_sha256'][:16]}{Path(row['file']).suffix}"
        reason = ""
        for url in places:
            try:
                path = pooch.retrieve(url, f"sha256:{row['origin_sha256']}", fname=name, path=self.cache / "origin")
                return Path(path)
            except (OSError, ValueError) as error:
                reason = str(error).splitlines()[0]
        raise UserError(f"{row['file']} could not be fetched from {places[0]} ({reason}); check the network or use "
                        "--source.")


def origins(row: dict[str, str]) -> list[str]:
    """Addresses at which the file of a row may lie; the checksum decides."""
    if match := _GIT.match(row["origin"]):
        repo, commit, path = match.groups()
        return [_raw(repo, commit, path)]
    repo, _, commit = row["origin"].partition("@")
    if repo != "GoogleChromeLabs/web-audio-samples":
        return []
    # The table has no path for these; the repository moved its responses once.
    stem = Path(row["file"]).stem
    folder = {"kitchen-true-stereo": "house-impulses/", "echo-chamber": ""}.get(
        stem, f"tim-warehouse/{stem.removesuffix('-spread')}/")
    tops = ("archive/demos", "samples/audio")
    return [_raw(repo, commit, f"{top}/impulse-responses/{folder}{stem}.wav") for top in tops]


def _raw(repo: str, commit: str, path: str) -> str:
    return f"https://raw.githubusercontent.com/{repo}/{commit}/{quote(path)}"
