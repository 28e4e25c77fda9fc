"""Make a bank of your own: room responses, crowd recordings, phone responses and hand noises.

    python -m data_recipes.own_bank --rooms my_rooms/ --crowd my_crowds/ --devices my_phones/ --licence CC-BY-4.0 \\
        --out data/my_bank

copies the recordings (any format) as 24-bit FLAC at 44.1 kHz with bank.tsv; give the folder as one more bank. Files in
one sub-folder belong together (one room, one venue's crowd, one phone) and stay in one split, train or valid, by the
hash of its name as with songs. A file beside the sub-folders is a group of its own.
"""

import logging
from pathlib import Path

import numpy as np

from data_recipes.common import BANK_COLUMNS, parser, read_at_rate, run, safe_name, whole_folder, write_table
from resonate import RATE, audio
from resonate.audio import sha256
from resonate.data import splits
from resonate.data.music import AUDIO_SUFFIXES
from resonate.degrade.bank import KINDS
from resonate.errors import UserError

log = logging.getLogger(__name__)

#: Shortest and longest length of a recording in s, by kind; outside of them it cannot be what its folder says.
LENGTHS = {"rooms": (0.02, 30.0), "crowd": (2.0, 3600.0), "devices": (0.001, 5.0), "handling": (0.02, 120.0)}
MIN_RATE = 16_000
_SILENT = 1e-3


def build(folders: dict[str, Path], licence: str, out: Path) -> list[dict[str, object]]:
    """Make the bank `out` from one folder per kind; returns the rows of bank.tsv.

    Raises UserError, with the file's name, for a recording that is damaged, silent, too short or long for its kind, or
    below 16 kHz; for a folder without recordings; and where `out` holds something else than a bank of this
    recipe. Nothing is left behind then.
    """
    with whole_folder(out, "own_bank", folders.values()) as part:
        rows = [row for kind, folder in folders.items() for row in _kind(kind, folder, licence, part)]
        write_table(part / "bank.tsv", BANK_COLUMNS, rows)
    return rows


def _kind(kind: str, folder: Path, licence: str, part: Path) -> list[dict[str, object]]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; --{kind} takes one with recordings.")
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file()
             and not any(name.startswith(".") for name in p.relative_to(folder).parts)]
    if not files:
        raise UserError(f"{folder} holds no recordings; --{kind} takes a folder with wav, flac, m4a or the like.")
    rows: list[dict[str, object]] = []
    taken: set[str] = set()
    for path in files:
        inside = path.relative_to(folder)
        group = safe_name("_".join(inside.parts[:-1]) or path.stem)
        name = f"{kind}/{group}__{safe_name(path.stem)}.flac"
        if name in taken:
            raise UserError(f"{path} would overwrite another recording of the same name; rename one of them.")
        taken.add(name)
        x = _checked(path, kind)
        target = part / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Of a response or a noise only the shape counts, the chain sets its level.
        peak = float(np.abs(x).max())
        audio.write(target, x * np.float32(min(1.0, 0.98 / peak)), RATE, subtype="PCM_24")
        rows.append({"file": name, "kind": kind, "group": group,
                     "licence": licence, "source": "own", "origin": inside.as_posix(), "sha256": sha256(target),
                     "note": f"{x.shape[0]} channels, {x.shape[1] / RATE:.2f} s"})
    chosen = splits.assign({(str(row["group"]), "") for row in rows})
    return [row | {"split": chosen[str(row["group"]), ""]} for row in rows]


def _checked(path: Path, kind: str) -> np.ndarray:
    source = audio.probe(path)
    if source.rate < MIN_RATE:
        raise UserError(f"{path} has a sample rate of {source.rate} Hz; {kind} need {MIN_RATE} Hz or more.")
    x = read_at_rate(path, RATE)
    low, high = LENGTHS[kind]
    if not low <= x.shape[1] / RATE <= high:
        raise UserError(f"{path} lasts {x.shape[1] / RATE:.2f} s; {kind} last {low:g} to {high:g} s.")
    if np.abs(x).max() < _SILENT:
        raise UserError(f"{path} is silent; record it again or take it out.")
    if x.shape[0] > 8:
        raise UserError(f"{path} has {x.shape[0]} channels; give it with 8 or fewer.")
    return x


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parser(__doc__)
    for kind in KINDS:
        args.add_argument(f"--{kind}", type=Path, help=f"folder with recordings for {kind}")
    args.add_argument("--licence", required=True, help="their licence, such as CC0-1.0; own if you keep it")
    args.add_argument("--out", type=Path, required=True, help="folder of the bank")
    opts = args.parse_args(argv)
    folders = {kind: getattr(opts, kind) for kind in KINDS if getattr(opts, kind)}
    if not folders:
        raise UserError(f"There is nothing to make a bank of; give at least one of "
                        f"{', '.join(f'--{k}' for k in KINDS)}.")
    rows = build(folders, opts.licence, opts.out)
    counts = ", ".join(f"{sum(r['kind'] == kind for r in rows)} {kind}" for kind in folders)
    log.info("%s in %s", counts, opts.out)


if __name__ == "__main__":
    run(main)
