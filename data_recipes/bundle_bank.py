"""Build the starter bank that the repo carries: only material that may be passed on, split like everything else."""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_recipes import bank_names, deb
from data_recipes.cheers import cheers
from data_recipes.common import BANK_COLUMNS, read_at_rate, safe_name, shippable, whole_folder, write_table
from data_recipes.fetch import Fetcher, table
from resonate import RATE, audio
from resonate.audio import sha256
from resonate.data import splits
from resonate.errors import UserError

log = logging.getLogger(__name__)

#: What sources.tsv does not hold: (group, package, end of the path in it, licence, note).
FROM_DEBIAN = (
    ("stk_applause", "supertuxkart-data", "data/sfx/gp_end.ogg", "CC-BY-3.0", "10 s applause, Mike Koenig 2009"),
    ("stk_goal", "supertuxkart-data", "data/sfx/goal_scored.ogg", "CC-BY-3.0", "goal in a stadium, jordiroquer 2012"),
    ("stk_restaurant", "supertuxkart-data", "data/sfx/lenautile_restaurant.ogg", "CC0",
     "restaurant, Alcappuccino 2015"),
    ("uh_main_square", "unknown-horizons", "content/audio/sounds/main_square.ogg", "CC-BY-SA-3.0",
     "market square, Unknown Horizons Team"),
)
LIMIT_BYTES = 40_000_000

#: Who is to be named for a source (first words of the `source` column).
CREDITS = {
    "https://github.com/mateusfg7/Noisekun": "Noisekun contributors (CC0 recordings)",
    "debian:unknown-horizons": "Unknown Horizons Team",
    "debian:supertuxkart-data": "named in the note of each file",
    "https://github.com/iver56/audiomentations": "Iver Jordal and contributors of audiomentations",
    "https://github.com/facebookresearch/BinauralSDM": "Facebook Research, BinauralSDM (Amengual Gari et al.)",
    "https://github.com/GoogleChromeLabs/web-audio-samples": "Google, Web Audio Samples",
    "https://github.com/QVbDev/quantumVerb": "OpenAIR library, University of York",
    "https://github.com/rerdavies/ToobAmp": "Kristoffer Ekstrand (CabIR)",
    "https://github.com/fschmid56/cpjku_dcase23": "Microphone Impulse Response Project (MicIRP), Xaudia",
    "synthesised": "OLPC Berklee library, through Tonejs/audio (sung notes, layered)",
}


def build(fetcher: Fetcher, debs: Path | None, cache: Path, out: Path) -> list[dict[str, object]]:
    """Build the bank into `out` (replaced as a whole); returns the rows of bank.tsv.

    Raises UserError when a source is missing, the bank would exceed 40 MB, or `out` holds something else.
    """
    with whole_folder(out, "bundle bank", [path for path in (fetcher.mirror, debs, cache) if path]) as part:
        rows = [*_from_table(fetcher, part), *_from_packages(debs, cache, part), *_synthesised(fetcher, part)]
        size = sum(p.stat().st_size for p in part.rglob("*") if p.is_file())
        if size > LIMIT_BYTES:
            raise UserError(f"The bank would take {size / 1e6:.0f} MB, more than 40; leave material out.")
        write_table(part / "bank.tsv", BANK_COLUMNS, rows)
        (part / "LICENSES.md").write_text(licences(rows), encoding="utf-8")
    log.info("%d files, %.1f MB in %s", len(rows), size / 1e6, out)
    return rows


def _row(part: Path, path: Path, kind: str, group: str, **more: str) -> dict[str, object]:
    split = splits.split_of(kind, group)
    if split is None:
        raise UserError(f"splits.yaml does not list {kind}/{group}; what the repo carries must be listed.")
    return {"file": path.relative_to(part).as_posix(), "kind": kind, "split": split, "group": group,
            "sha256": sha256(path), **more}


def _from_table(fetcher: Fetcher, part: Path) -> Iterable[dict[str, object]]:
    for row in table():
        kind = row["file"].split("/")[0]
        if kind in ("music", "voices") or not shippable(row["licence"]):
            continue
        kind, group = bank_names.place(row["file"])
        source = fetcher.get(row)
        target = part / kind / f"{group}__{safe_name(Path(row['file']).stem)}{source.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        yield _row(part, target, kind, group, licence=row["licence"], source=row["source"], origin=row["origin"],
                   note=row["note"])


def _from_packages(debs: Path | None, cache: Path, part: Path) -> Iterable[dict[str, object]]:
    for group, package, tail, licence, note in FROM_DEBIAN:
        folder = cache / "unpacked" / package
        if not folder.is_dir():
            deb.unpack(deb.obtain(package, debs, cache / "debs"), folder)
        found = [p for p in folder.rglob(Path(tail).name) if p.as_posix().endswith(tail)]
        if not found:
            raise UserError(f"{package} holds no {tail}; this release has another version of the package.")
        target = part / "crowd" / f"{group}{found[0].suffix}"
        shutil.copyfile(found[0], target)
        yield _row(part, target, "crowd", group, licence=licence, source=f"debian:{package}",
                   origin=f"debian:{package}:{tail}", note=note)


def _synthesised(fetcher: Fetcher, part: Path) -> Iterable[dict[str, object]]:
    voices = [row for row in table() if row["file"].startswith("voices/berklee")]
    for number, split in enumerate(splits.SPLITS):
        mine = [r for r in voices if splits.split_of("voices", bank_names.place(r["file"])[1]) == split]
        notes = [read_at_rate(fetcher.get(r), RATE).mean(0) for r in mine]
        for take in range(2):
            rng = np.random.default_rng([2024, number, take])
            sound = cheers(rng, notes, seconds=12.0, people=(60, 120)[take])
            target = part / "crowd" / f"cheers_{split}_{take}.opus"
            audio.encode(target, audio.resample(sound, RATE, 48000), 48000, codec="libopus", bit_rate=112_000)
            yield _row(part, target, "crowd", f"cheers_{split}", licence="CC-BY-3.0", source="synthesised",
                       origin=f"cheers from {len(notes)} sung notes of Tonejs/audio berklee",
                       note=f"{(60, 120)[take]} layered voices; notes from the OLPC Berklee library, CC-BY-3.0")


def licences(rows: list[dict[str, object]]) -> str:
    """LICENSES.md of the bank: per source its licence, credit and files."""
    lines = ["# Licences of the starter bank", "",
             "Per file: `bank.tsv` (licence, source, origin, SHA-256). Built by `python -m data_recipes.bundle bank`.",
             ""]
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        groups.setdefault((str(row["source"]), str(row["licence"])), []).append(str(row["file"]))
    lines += ["| source | licence | to be named | files |", "|---|---|---|---|"]
    for (source, licence), files in sorted(groups.items()):
        credit = next((c for key, c in CREDITS.items() if source.startswith(key)), "")
        names = ", ".join(f"`{f}`" for f in sorted(files)) if len(files) <= 8 else f"{len(files)} files"
        lines.append(f"| {source} | {licence} | {credit} | {names} |")
    lines += ["", "Crowds under the GPL are not in this bank; `python -m data_recipes.starter` adds them for training."]
    return "\n".join(lines) + "\n"
