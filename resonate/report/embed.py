"""What the pages carry inside them."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def asset(name: str) -> str:
    """The text of a file that lies beside this module: page.css, page.js, listening.html."""
    return files("resonate.report").joinpath(name).read_text("utf-8")


def script_json(content: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(content).replace("<", "\\u003c")
