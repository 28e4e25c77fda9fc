"""`python -m resonate.evaluate.scorecard`: every suite on the shipped weights, then README, cards and docs/results.

  python -m resonate.evaluate.scorecard cache=FOLDER workers=2      all suites; captures from a rendered test split
  python -m resonate.evaluate.scorecard music=FOLDER                captures and tracks from the songs of a folder
  python -m resonate.evaluate.scorecard suites=clean,silence        only these
  python -m resonate.evaluate.scorecard captures.limit=40           a setting of one suite alone

Each suite is `python -m resonate.evaluate suite=NAME ...` and may be run by that alone; the commands are printed, and
stand in the results. What is scored is kept, so the same command goes on after a kill. Without music=, cache=, pairs=
and recordings= the bundled song is what there is.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from pathlib import Path

from resonate import RATE, audio
from resonate.errors import UserError, command
from resonate.evaluate import __main__ as evaluation
from resonate.evaluate import cases, publish, settings
from resonate.evaluate.worst import FOLDER

#: Suites in their order, with settings that let each end in some minutes on two cores.
SUITES: dict[str, tuple[str, ...]] = {
    "captures": ("count=16", "limit=16"),
    "stages": ("count=16", "limit=6"),
    "demo": ("limit=1",),
    "folder": ("limit=1",),
    "recordings": ("seconds=30",),
    "bandlimited": ("count=4",),
    "clean": ("count=12",),
    "crowd_only": ("count=6",),
    "silence": ("seconds=5",),
}
#: Settings that only some suites take.
ONLY = {"cache": ("captures", "stages"), "music": ("captures", "stages", "clean", "bandlimited"),
        "pairs": ("folder",), "recordings": ("recordings",)}  # fmt: skip


def plan(words: list[str]) -> dict[str, list[str]]:
    """Suite -> the words of its command. UserError for a suite that there is none of, or a word without a value."""
    wanted, common, own = list(SUITES), [], {suite: [] for suite in SUITES}
    for word in words:
        key, equals, value = word.partition("=")
        suite, dot, rest = key.partition(".")
        if not equals or not value:
            raise UserError(f"{word}: settings are given as name=value; --help lists them.")
        if key == "suites":
            wanted = [name.strip() for name in value.split(",") if name.strip()]
        elif dot and suite in SUITES:
            own[suite].append(f"{rest}={value}")
        else:
            common.append(word)
    for suite in wanted:
        if suite not in SUITES:
            raise UserError(f"There is no suite '{suite}'; choose of: {', '.join(SUITES)}.")
    given = {word.partition("=")[0] for word in (*common, *(w for words in own.values() for w in words))}
    planned = {}
    for suite in wanted:
        fits = [word for word in common if suite in ONLY.get(word.partition("=")[0], (suite,))]
        if "cache" in given:
            fits = [word for word in fits if not (word.startswith("music=") and suite in ONLY["cache"])]
        planned[suite] = [f"suite={suite}", *SUITES[suite], *fits, *own[suite]]
    return planned


def _bundled_pair(folder: Path) -> Path:
    """The bundled recording beside its clean mix, as a user would have them: another rate, another beginning."""
    for kind in ("captures", "references"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(cases.BUNDLED / "demo.m4a", folder / "captures" / "demo.m4a")
    clean = audio.resample(cases.bundled().reference, RATE, 48000)
    audio.write(folder / "references" / "demo.wav", clean[:, 48000:], 48000)
    return folder


@command
def main(words: list[str] | None = None) -> int:
    """Run and publish."""
    words = sys.argv[1:] if words is None else words
    if any(word in ("-h", "--help", "help") for word in words):
        sys.stdout.write(__doc__ or "")
        return 0
    if Path.cwd() != publish.ROOT:
        raise UserError(f"The scorecard is published in the repository: run it in {publish.ROOT}.")
    planned = plan(words)
    found = {suite: {word.partition("=")[0] for word in chosen} for suite, chosen in planned.items()}
    if "folder" in planned and "pairs" not in found["folder"]:
        planned["folder"].append(f"pairs={_bundled_pair(Path('out') / 'bundled_pair')}")
    if "recordings" in planned and "recordings" not in found["recordings"]:
        planned["recordings"].append(f"recordings={cases.BUNDLED.relative_to(publish.ROOT) / 'demo.m4a'}")
    for suite, chosen in planned.items():
        chosen.append(f"json={FOLDER / suite}.json")
        settings.read(chosen)  # every mistake is found before the first suite runs
    for chosen in planned.values():
        sys.stdout.write(f"\n{shlex.join(['python', '-m', 'resonate.evaluate', *chosen])}\n")
        sys.stdout.flush()
        if code := evaluation.main(chosen):
            return code
    return publish.main([str(path) for path in sorted(FOLDER.glob("*.json"))])


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sys.exit(main())
