"""What the browser tests share: headless Chromium on a page from disk, which must ask for nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from resonate.errors import UserError
from resonate.report import screenshot


@contextmanager
def browser() -> Iterator[Any]:
    """A headless browser; skips the test, with the reason, where there is none."""
    try:
        screenshot.find_browser()
    except UserError as reason:
        pytest.skip(f"a browser test is left out: {reason}")
    with screenshot.browser() as opened:
        yield opened


@contextmanager
def shown(path: Path, width: int = 1280, height: int = 900, before: str | None = None) -> Iterator[Any]:
    """A page from disk. When it is closed: no error, no dialog, and no request but for files below its folder.

    `before`: a script to run before the page's own.
    """
    with browser() as opened:
        page = opened.new_page(viewport={"width": width, "height": height})
        asked: list[str] = []
        wrong: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        if before:
            page.add_init_script(before)
        page.goto(path.resolve().as_uri())
        yield page
        below = path.resolve().parent.as_uri() + "/"
        assert not wrong
        assert not [url for url in asked if not url.startswith((below, "blob:"))]


def until(page: Any, condition: str, argument: Any = None, seconds: float = 20.0) -> None:
    """Wait for a JavaScript function to be true; playwright's own waiting needs an eval that the pages forbid."""
    for _ in range(round(seconds / 0.05)):
        if page.evaluate(condition, argument):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {condition}")
