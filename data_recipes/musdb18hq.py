"""Use MUSDB18-HQ (150 songs in four stems), as it comes from its zip file.

    python -m data_recipes.musdb18hq --source musdb18hq/ --out data/musdb18hq

checks every song and writes links and songs.tsv. The songs of test/ are the test split; 14 of train/ are the validation
split, as its authors chose them. Its songs are for research only: the licence column says so, and licence=cc leaves
them out.
"""

from pathlib import Path

from data_recipes import layouts
from data_recipes.common import run
from resonate import STEMS
from resonate.data.music import Song
from resonate.errors import UserError

ORIGIN = layouts.Origin("MUSDB18-HQ", "research-only (MUSDB18)", "doi:10.5281/zenodo.3338373")
#: The validation songs of the `musdb` package (its mus.yaml).
VALID = frozenset({
    "Actions - One Minute Smile", "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies", "Patrick Talbot - A Reason To Leave", "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero", "Fergessen - Nos Palpitants", "Leaf - Summerghost",
    "Skelpolu - Human Mistakes", "Young Griffo - Pennies", "ANiMAL - Rockshow", "James May - On The Line",
    "Meaxic - Take A Step", "Traffic Experiment - Sirens",
})


def songs(source: Path) -> list[Song]:
    """The songs of a MUSDB18-HQ folder. Raises UserError that says which file or folder is missing or too many."""
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; name the one that holds train/ and test/.")
    parts = [part for part in ("train", "test") if (source / part).is_dir()]
    if len(parts) < 2:
        packed = next(iter(sorted(source.rglob("*.stem.mp4"))), None)
        if packed:
            raise UserError(f"{packed} holds all stems in one file: this is MUSDB18, take MUSDB18-HQ, which has wavs.")
        raise UserError(f"{source} has no folders train/ and test/; name the folder that MUSDB18-HQ was unpacked to.")
    found = []
    for part in parts:
        for folder in sorted(p for p in (source / part).iterdir() if p.is_dir() and not p.name.startswith(".")):
            for stem in (*STEMS, "mixture"):
                if not (folder / f"{stem}.wav").is_file():
                    raise UserError(f"{folder} has no {stem}.wav; unpack MUSDB18-HQ again.")
            split = "test" if part == "test" else "valid" if folder.name in VALID else "train"
            artist = folder.name.split(" - ")[0]
            found.append(Song(folder.name, artist, split, {stem: [folder / f"{stem}.wav"] for stem in STEMS},
                              folder / "mixture.wav", ORIGIN.licence))
    if not found:
        raise UserError(f"{source} holds no songs in train/ and test/; unpack MUSDB18-HQ again.")
    return found


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    layouts.command(argv, __doc__, "folder with train/ and test/", songs, ORIGIN)


if __name__ == "__main__":
    run(main)
