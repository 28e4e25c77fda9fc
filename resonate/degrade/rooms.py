"""Make a room bank: simulated rooms on disk, which the chain draws from instead of simulating.

    python -m resonate.degrade.rooms --out data/rooms --rooms 200 --workers 4

writes bank.tsv and rooms/VENUE_NUMBER.npz (see `roomfile.py`; about 1 to 2 MB each, three places per room). A room is a
pure function of its venue and number, so the bytes do not depend on the number of workers, more rooms extend a bank,
and a run that was stopped goes on where it was. Name the folder beside the other banks, as --bank resonate/bank
data/rooms or data.bank=[resonate/bank,data/rooms]. Of every eight rooms of a venue, six are for training, one for
validation, one for tests.
"""

import argparse
import csv
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resonate import audio
from resonate.audio_wav import temporary_beside
from resonate.degrade import roomfile, simulated
from resonate.errors import UserError, command

log = logging.getLogger(__name__)

COLUMNS = ("file", "kind", "split", "group", "licence", "source", "origin", "sha256", "note")
#: The order in which venues get their rooms: their shares among the draws of `venue.VENUES`, in twentieths.
ORDER = (
    "club", "bar", "theatre", "hall", "arena", "club", "bar", "open_air", "hall", "club",
    "bar", "theatre", "arena", "club", "hall", "bar", "theatre", "arena", "open_air", "club",
)  # fmt: skip
#: Split of room `number` of a venue: SPLITS[number % 8].
SPLITS = ("train", "valid", "train", "test", "train", "train", "train", "train")


def plan(rooms: int) -> list[tuple[str, int]]:
    """(venue, number) of the first `rooms` rooms; a longer plan begins with the shorter one."""
    counts: dict[str, int] = dict.fromkeys(ORDER, 0)
    out = []
    for i in range(rooms):
        venue = ORDER[i % len(ORDER)]
        out.append((venue, counts[venue]))
        counts[venue] += 1
    return out


def make(folder: Path, venue: str, number: int) -> None:
    """Simulate one room into `folder`/rooms."""
    room = simulated.build(venue, number)
    roomfile.save(_path(folder, venue, number), room.kernels, room.onset)


def build(folder: Path, rooms: int, workers: int = 1) -> None:
    """Make the first `rooms` rooms that `folder` lacks, then its bank.tsv.

    Raises UserError when `folder` holds another bank or a broken room.
    """
    if rooms < 1:
        raise UserError(f"A room bank needs at least one room; --rooms {rooms} asks for none.")
    (folder / "rooms").mkdir(parents=True, exist_ok=True)
    _refuse_others(folder)
    for stale in (folder / "rooms").glob(".part-*"):
        stale.unlink()
    planned = plan(rooms)
    todo = []
    for venue, number in planned:
        if _path(folder, venue, number).is_file():
            roomfile.load(_path(folder, venue, number))
        else:
            todo.append((venue, number))
    columns = (TextColumn("rooms"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=rooms, completed=rooms - len(todo))
        for _ in _made(folder, todo, workers):
            progress.advance(task)
    _write_table(folder, planned)


def _made(folder: Path, todo: list[tuple[str, int]], workers: int) -> Iterator[None]:
    if workers <= 1:
        for venue, number in todo:
            yield make(folder, venue, number)
        return
    # Each process computes with one thread, which the libraries read when they are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(make, folder, *one) for one in todo]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _path(folder: Path, venue: str, number: int) -> Path:
    return folder / "rooms" / f"{venue}_{number:04d}.npz"


def _refuse_others(folder: Path) -> None:
    table = folder / "bank.tsv"
    if not table.is_file():
        return
    with table.open(newline="", encoding="utf-8") as handle:
        if any(row.get("source") != "simulated" for row in csv.DictReader(handle, delimiter="\t")):
            raise UserError(f"{folder} holds another bank; choose an --out of its own for the rooms.")


def _write_table(folder: Path, planned: list[tuple[str, int]]) -> None:
    """bank.tsv of the planned rooms and of those that an earlier, longer run made."""
    names = {f"{venue}_{number:04d}.npz" for venue, number in planned}
    names |= {p.name for p in (folder / "rooms").glob("*.npz") if p.stem.rpartition("_")[0] in simulated.SHAPES}
    part = temporary_beside(folder / "bank.tsv")
    with part.open("w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, COLUMNS, delimiter="\t", lineterminator="\n")
        table.writeheader()
        for name in sorted(names):
            path = folder / "rooms" / name
            venue, _, number = path.stem.rpartition("_")
            kernels, onset = roomfile.load(path)
            table.writerow({
                "file": f"rooms/{name}", "kind": "rooms", "split": SPLITS[int(number) % len(SPLITS)],
                "group": path.stem, "licence": "CC0-1.0", "source": "simulated",
                "origin": f"pyroomacoustics, {venue} {int(number)}",
                "sha256": audio.sha256(path),
                "note": f"{len(kernels)} places{', delay towers' if onset.shape[-1] > 1 else ''}",
            })  # fmt: skip
    os.replace(part, folder / "bank.tsv")


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m resonate.degrade.rooms", description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder of the bank")
    parser.add_argument("--rooms", type=int, default=200, help="how many rooms the bank shall hold")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build(options.out, options.rooms, options.workers)
    log.info("%d rooms in %s", options.rooms, options.out)


if __name__ == "__main__":
    sys.exit(main())
