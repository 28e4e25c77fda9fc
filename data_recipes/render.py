"""Render degraded training data to disk, so that training need not simulate.

    python -m data_recipes.render --music data/starter/music=2 data/debian=1 --bank resonate/bank \\
        --out data/cache/train --examples 1000 --seconds 10 --split train --severity mix --workers 4

writes NNNNNN.npy (float16, rows x 2 x samples), NNNNNN.json (all parameters and measures) and index.json. An example is
a pure function of (settings, seed, its number): the bytes do not depend on the number of workers, and a run that was
stopped goes on where it was. A 10 s example takes 17.6 MB.
"""

import argparse
import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_recipes.common import parser, run
from resonate import RATE, STEMS
from resonate.data.excerpts import Excerpts, Remix
from resonate.data.splits import SPLITS
from resonate.degrade.bank import Bank
from resonate.degrade.chain import CaptureChain, ChainConfig
from resonate.errors import UserError

log = logging.getLogger(__name__)

FORMAT = 1
ROWS = ("capture", *(f"wet:{s}" for s in STEMS), "early", *(f"dry:{s}" for s in STEMS))
PRESETS = ("near", "mid", "far", "brutal")
#: Shares of near, mid, far and brutal under --severity mix.
MIX = (0.25, 0.35, 0.25, 0.15)
CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "degrade"
INDEX_EVERY = 25


@dataclass(frozen=True)
class Settings:
    """All that an example depends on besides its number."""

    music: tuple[tuple[str, float], ...]
    bank: tuple[str, ...]
    seconds: float
    seed: int
    split: str
    severity: str
    remix: float
    degrade: dict = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A hash that changes with any setting (music and banks by name, not by content)."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


class Renderer:
    """Renders examples of one setting, one by one. Raises UserError for music or a bank that cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        remix = Remix(share=settings.remix) if settings.split == "train" else None
        self.excerpts = Excerpts(settings.music, settings.split, settings.seconds, remix)
        bank = Bank.load(list(settings.bank), settings.split)
        self.chains = {name: CaptureChain(bank, ChainConfig(**values)) for name, values in settings.degrade.items()}

    def example(self, index: int) -> tuple[np.ndarray, dict]:
        """Example `index`: (rows, 2, T) float16 and its entry for the index, with the full parameters in "params"."""
        s = self.settings
        seed = int(np.random.SeedSequence([s.seed, SPLITS.index(s.split), index]).generate_state(1, np.uint64)[0] >> 1)
        rng = np.random.default_rng(seed)
        excerpt = self.excerpts.draw(rng)
        level = s.severity if s.severity != "mix" else str(rng.choice(PRESETS, p=MIX))
        params = self.chains[level].sample(rng, excerpt.stems.shape[-1])
        with torch.inference_mode():
            made = self.chains[level].apply(torch.from_numpy(excerpt.stems)[None], [params])
        parts = [made.capture[0][None], made.stems_wet[0], made.stems_early[0].sum(0, keepdim=True), made.stems_dry[0]]
        data = torch.cat(parts).to(torch.float16).numpy()
        entry = {
            "file": f"{index:06d}.npy", "seconds": s.seconds, "split": s.split, "song": excerpt.song,
            "start": round(excerpt.start, 3), "mix_only": excerpt.mix_only, "present": excerpt.present.tolist(),
            "severity": round(params["severity"], 4), "seed": seed, "measures": made.measures[0],
            "gaps": params["gaps"],
        }
        return data, {**entry, "params": made.params[0]}


def write_example(out: Path, data: np.ndarray, entry: dict) -> None:
    """Write the array, then its JSON, each atomically: an example exists once its JSON does."""
    target = out / entry["file"]
    _replace(target, lambda handle: np.save(handle, data))
    text = json.dumps(entry, indent=1, sort_keys=True).encode()
    _replace(target.with_suffix(".json"), lambda handle: handle.write(text))


def _replace(target: Path, fill) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    with part.open("wb") as handle:
        fill(handle)
    os.replace(part, target)


def write_index(out: Path, settings: Settings, examples: list[dict]) -> None:
    """index.json: what training reads. Entries are sorted by file and hold no parameters."""
    entries = [{k: v for k, v in e.items() if k != "params"} for e in sorted(examples, key=lambda e: e["file"])]
    index = {"format": FORMAT, "rate": RATE, "rows": list(ROWS), "key": settings.key, "settings": asdict(settings),
             "examples": entries}
    _replace(out / "index.json", lambda handle: handle.write(json.dumps(index, indent=1).encode()))


def found(out: Path, count: int) -> Iterator[dict]:
    """Entries of the examples below `count` that are complete on disk."""
    for index in range(count):
        path = out / f"{index:06d}.json"
        if path.is_file() and path.with_suffix(".npy").is_file():
            yield json.loads(path.read_text(encoding="utf-8"))


_renderer: Renderer | None = None


def _start(settings: Settings) -> None:
    global _renderer  # one renderer per worker process, so that a bank is decoded once and not per example
    torch.set_num_threads(1)
    _renderer = Renderer(settings)


def _one(out: Path, index: int) -> dict:
    data, entry = _renderer.example(index)
    write_example(out, data, entry)
    return entry


def render(settings: Settings, out: Path, examples: int, workers: int = 1) -> list[dict]:
    """Render examples 0 .. `examples` - 1 into `out`, skipping those that are there; returns the index's entries.

    Raises UserError when `out` holds a cache made with other settings, or music or bank cannot be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    index = out / "index.json"
    if index.is_file() and json.loads(index.read_text(encoding="utf-8")).get("key") != settings.key:
        raise UserError(f"{out} holds a cache made with other settings; choose another --out or remove it.")
    Renderer(settings)  # what is wrong with the music or the bank is said before any worker starts
    done = list(found(out, examples))
    write_index(out, settings, done)
    have = {entry["file"] for entry in done}
    todo = [i for i in range(examples) if f"{i:06d}.npy" not in have]
    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=examples, completed=len(done))
        for entry in _results(settings, out, todo, workers):
            done.append(entry)
            progress.advance(task)
            if len(done) % INDEX_EVERY == 0:
                write_index(out, settings, done)
    write_index(out, settings, done)
    return done


def _results(settings: Settings, out: Path, todo: list[int], workers: int) -> Iterator[dict]:
    if workers <= 1:
        _start(settings)
        for index in todo:
            yield _one(out, index)
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(workers, context, _start, (settings,)) as pool:
        try:
            for future in as_completed([pool.submit(_one, out, index) for index in todo]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def presets() -> dict[str, dict]:
    """The fields of ChainConfig for near, mid, far and brutal, from configs/degrade."""
    values = {name: yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")) for name in PRESETS}
    return {name: {k: v for k, v in fields.items() if k != "_target_"} for name, fields in values.items()}


def music_folder(text: str) -> tuple[str, float]:
    """FOLDER or FOLDER=WEIGHT."""
    folder, _, weight = text.rpartition("=")
    if not folder:
        return text, 1.0
    try:
        return folder, float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: the weight after '=' must be a number") from None


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parser(__doc__)
    args.add_argument("--music", type=music_folder, nargs="+", required=True, metavar="FOLDER[=WEIGHT]",
                      help="music folders; with weights, how often each is drawn from")
    args.add_argument("--bank", nargs="+", default=["resonate/bank"], help="bank folders, merged")
    args.add_argument("--out", type=Path, required=True, help="folder of the cache")
    args.add_argument("--examples", type=int, required=True, help="how many examples the cache shall hold")
    args.add_argument("--seconds", type=float, default=10.0, help="length of an example")
    args.add_argument("--seed", type=int, default=0, help="seed of the whole cache")
    args.add_argument("--split", choices=SPLITS, default="train", help="which songs, rooms, crowds and devices")
    args.add_argument("--severity", choices=[*PRESETS, "mix"], default="mix", help="how bad the captures are")
    args.add_argument("--remix", type=float, default=0.6, help="share of examples with stems of several songs (train)")
    args.add_argument("--workers", type=int, default=1, help="processes")
    opts = args.parse_args(argv)
    settings = Settings(tuple(opts.music), tuple(opts.bank), opts.seconds, opts.seed, opts.split, opts.severity,
                        opts.remix, presets())
    entries = render(settings, opts.out, opts.examples, opts.workers)
    log.info("%d examples, %.2f h in %s", len(entries), sum(e["seconds"] for e in entries) / 3600, opts.out)


if __name__ == "__main__":
    run(main)
