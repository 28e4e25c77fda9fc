"""One vocabulary for the licences of music and recordings, and the filter `licence=`."""

import re
from collections.abc import Callable

#: What a licence comes down to here: "free" music may be heard by weights that the project ships; "copyleft" (GPL and
#: the like) may serve in training, but not for such weights; "research" forbids commercial use or changed copies.
CLASSES = ("free", "copyleft", "research", "unknown")
#: Values of `licence=`: everything, or only what is free.
FILTERS = ("any", "cc")

_FREE = re.compile(r"^(cc0|cc-by(-sa)?(-\d|$)|public-domain|mit\b|expat|bsd|apache|synthesised)", re.IGNORECASE)
_COPYLEFT = re.compile(r"^(l|a)?gpl", re.IGNORECASE)
_RESEARCH = re.compile(r"-n[cd]\b|research|non-?commercial", re.IGNORECASE)
#: The wording of one source of the starter bank, whose files state their licence one level up.
_PREAMBLE = "Creative Commons; audeering/micirp states "


def classify(licence: str) -> str:
    """The class of a licence as the tables spell it ("CC-BY-SA-4.0", "GPL-2+ or CC-BY-3.0", "MIT (repo)").

    "A or B" lets us choose, so the freest counts; "A and B" needs both, so the strictest counts. What is not understood
    is unknown, and so is an empty text.
    """
    text = re.sub(r"\(.*?\)", "", licence.replace(_PREAMBLE, "")).strip()
    choices = [c for c in re.split(r"\s+or\s+|\s*\|\s*", text, flags=re.IGNORECASE) if c.strip()]
    ranks = [max(CLASSES.index(_class_of(part.strip())) for part in re.split(r"\s+and\s+|,", c, flags=re.IGNORECASE))
             for c in choices]
    return CLASSES[min(ranks)] if ranks else "unknown"


def _class_of(text: str) -> str:
    if _RESEARCH.search(text):
        return "research"
    if _FREE.match(text):
        return "free"
    return "copyleft" if _COPYLEFT.match(text) else "unknown"


def shippable(licence: str) -> bool:
    """Whether music under `licence` may be heard by weights that the project ships: CC0, CC-BY, CC-BY-SA, public
    domain, MIT, BSD, Apache. NC, ND, GPL and anything unknown are not."""
    return classify(licence) == "free"


def allowed(name: str) -> Callable[[str], bool] | None:
    """The test behind `licence=name`: a function of the licence's text, or None where everything passes.

    Raises ValueError for a name that is not in `FILTERS`.
    """
    if name not in FILTERS:
        raise ValueError(f"licence must be one of {', '.join(FILTERS)}, got {name!r}")
    return shippable if name == "cc" else None
