"""`python -m resonate.report.screenshot out/show/report.html --out FOLDER`: the page as seen on a desk and on a phone.

Needs the package playwright (pip install -e '.[dev]') and an installed Chromium; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resonate.errors import UserError, command

_NAMES = (
    "chromium", "chromium-browser", "google-chrome", "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)  # fmt: skip
#: No sandbox, as this may run as root in a container; nothing is fetched in the background.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--no-first-run", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
#: name -> (width, height, colour scheme)
VIEWS = {"desk": (1280, 900, "light"), "phone": (390, 844, "light"), "desk_dark": (1280, 900, "dark"),
         "phone_dark": (390, 844, "dark")}  # fmt: skip


def find_browser() -> str:
    """The path of an installed Chromium. UserError where there is none, or no playwright to steer it."""
    if find_spec("playwright") is None:
        raise UserError("The package playwright is not installed: pip install -e '.[dev]'.")
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise UserError("No Chromium is installed (Debian: apt-get install chromium; macOS: brew install chromium).")
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium of playwright. UserError where there is none."""
    path = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield opened
        finally:
            opened.close()


def take(page_file: Path, out: Path, whole: bool = False) -> list[Path]:
    """Write out/<page>_<view>.jpg for all of VIEWS, of the window or of the `whole` page; returns the paths."""
    if not page_file.is_file():
        raise UserError(f"There is no {page_file}; name the report.html of a result.")
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    with browser() as opened:
        for view, (width, height, scheme) in VIEWS.items():
            page = opened.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(page_file.resolve().as_uri(), wait_until="load")
            page.wait_for_timeout(500)
            paths.append(out / f"{page_file.stem}_{view}.jpg")
            page.screenshot(path=paths[-1], type="jpeg", quality=80, full_page=whole)
            page.close()
    return paths


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Take the pictures and say where they are."""
    parser = argparse.ArgumentParser(prog="python -m resonate.report.screenshot", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("page", type=Path, help="an HTML page: report.html, or that of a listening test")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the pictures go")
    parser.add_argument("--whole", action="store_true", help="the whole page, not only its first window")
    given = parser.parse_args(arguments)
    paths = take(given.page, given.out, given.whole)
    sys.stdout.write("".join(f"  {path}\n" for path in paths))


if __name__ == "__main__":
    sys.exit(main())
