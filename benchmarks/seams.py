"""What the fixed grid of blocks does to the result: the same recording on the grid and on the grid half a block later.

    python benchmarks/seams.py [RECORDING] [--seconds 20] [--strides 0.5 0.75 0.9]

Per stage and stride (from one block to the next, in blocks):

- f_sdr in dB between the two results, their mid channels held against each other (at stride 0.5, where half a block is
  a whole step, a quarter of a block later). A network that gave every block what the whole recording gives it would
  reach the end of the measure; with more overlap more of each sample comes from the middle of a block.
- level and spectral flux of frames inside the cross-fades against the later grid's, which has none there, in dB (0: no
  different from elsewhere).
- CPU seconds per second of sound.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from resonate import RATE, STEMS
from resonate.audio import read, resample, to_stereo
from resonate.evaluate.measures import f_sdr
from resonate.models.separator import segment_samples
from resonate.models.stats import HOP, measure_stats
from resonate.restore import networks, operator, separation
from resonate.restore.config import RestoreConfig, Separate, Veto
from resonate.restore.work import Models, Work

FRAME = 512
DEMO = Path(__file__).parents[1] / "assets" / "demo" / "demo.m4a"


def work_on(x: np.ndarray, early: int, config: RestoreConfig, models: Models, folder: Path) -> Work:
    """A work whose `separator_input` is (2, n) `x` after `early` samples of silence."""
    folder.mkdir()
    work = Work(DEMO, folder, folder, config, models, rate=RATE, samples=x.shape[1] + early, stats=measure_stats(x))
    work.new_track("separator_input").fill([(early, x)])
    return work


def separated(x: np.ndarray, early: int, *where) -> np.ndarray:
    """(4, n) mid channels of the stems."""
    work = work_on(x, early, *where)
    separation.Separate().run(work)
    y = work.track["separated"].read(early, x.shape[1])
    work.close()
    return y.reshape(len(STEMS), 2, -1).mean(1)


def restored(x: np.ndarray, early: int, *where) -> np.ndarray:
    """(1, n) mid channel of the recording under the restorer's gains, without the separator's opinion, whose own grid
    would move them, too."""
    work = work_on(x, early, *where)
    rows = np.concatenate([r for r, _ in networks.gain_rows(work, work.track["separator_input"], None, extend=False)])
    y = work.new_track("restored").fill(
        (start, block[0])
        for start, block in operator.apply(
            work.track["separator_input"], lambda first, count: rows[None, first : first + count].swapaxes(1, 2)
        )
    )
    out = y.read(early, x.shape[1]).mean(0, keepdims=True)
    work.close()
    return out


def at_seams(on: np.ndarray, late: np.ndarray, block: int, hop: int, shift: int) -> tuple[str, str]:
    """Level and flux in dB of `on` over `late` (n,), frames inside the cross-fades of `on` less those inside nobody's.

    `late` was made on a grid `shift` samples later, so it has no cross-fade there and the same music.
    """
    figures = []
    for sound in (on, late):
        frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
        spectra = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(FRAME))) + 1e-6)
        flux = np.sqrt(np.square(np.diff(spectra, axis=0)).mean(-1))
        figures.append(np.stack([10 * np.log10(np.square(frames[1:]).mean(-1) + 1e-12), 20 * np.log10(flux)]))
    at = (np.arange(figures[0].shape[1]) + 1.5) * FRAME
    seam, others = ((at + early) % hop < block - hop for early in (0, shift))
    over = figures[0] - figures[1]
    inside, outside = seam & ~others, ~seam & ~others
    if not (inside.any() and outside.any()):
        return "-", "-"  # at stride 0.5 there is nothing but cross-fades
    return tuple(f"{v:+.2f}" for v in over[:, inside].mean(1) - over[:, outside].mean(1))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, nargs="?", default=DEMO)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--strides", type=float, nargs="+", default=[0.5, 0.75, 0.9])
    options = parser.parse_args()
    torch.set_num_threads(1)
    given = read(options.recording, duration=options.seconds)
    x = resample(to_stereo(given.samples)[0], given.rate, RATE)
    table = Table(title=f"{options.recording.name}, {x.shape[1] / RATE:.0f} s: the grid against one half a block later")
    for column in ("stage", "stride", "f_sdr", "level at seams", "flux at seams", "CPU s per s"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    models = Models(RestoreConfig(device="cpu"))
    blocks = {"separate": segment_samples(models.separator), "restore": networks.RESTORE_BLOCK * HOP}
    jobs = {"separate": separated, "restore": restored}
    with tempfile.TemporaryDirectory() as name:
        for stage, job in jobs.items():
            for stride in options.strides:
                config = RestoreConfig(device="cpu", separate=Separate(stride=stride), veto=Veto(enabled=False))
                networks.RESTORE_HOP = round(stride * networks.RESTORE_BLOCK)
                folders, began = [Path(name) / f"{stage}-{stride}-{k}" for k in range(2)], time.process_time()
                hop = max(round(stride * blocks[stage]), blocks[stage] // 2)
                # Half a block later; where that is a whole step, the grid would be the same.
                shift = blocks[stage] // (2 if hop > blocks[stage] // 2 + 1 else 4)
                on = job(x, 0, config, models, folders[0])
                pace = (time.process_time() - began) / (x.shape[1] / RATE)
                late = job(x, shift, config, models, folders[1])
                near = [f_sdr(a, b) for a, b in zip(late, on, strict=True)]
                shown = dict(zip(STEMS, near, strict=True)) if stage == "separate" else {"track": near[0]}
                what = ", ".join(f"{part} {value:.1f}" for part, value in shown.items())
                level, flux = at_seams(on.sum(0), late.sum(0), blocks[stage], hop, shift)
                table.add_row(stage, f"{stride:g}", what, level, flux, f"{pace:.3f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
