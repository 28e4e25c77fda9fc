"""What the repairs before the networks gain: declipping by how far music was overdriven, and turning down of single
claps by how many people clap.

    python benchmarks/repairs.py [--music FOLDER] [--songs 6] [--seconds 20] [--seed 0]

Declipping: SDR in dB of clipped music against the music, before and after. Claps: as loud as the music (rms), how far
they and the music sink under the same mask, in dB; their difference is what is gained. Without ``--music`` the music is
made up. Songs of a folder are those of its split valid, as the project splits them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from resonate import RATE
from resonate.audio import read, resample, to_stereo
from resonate.data.excerpts import Excerpts
from resonate.degrade import claps
from resonate.models.restorer import stft
from resonate.restore.config import Precondition
from resonate.restore.diagnosis.truth import made_up_stems
from resonate.restore.repair import declip, transients

HALL = Path(__file__).parents[1] / "resonate" / "bank" / "crowd" / "stk_applause.ogg"
FULL = declip.ClipLevels((0.9999, 0.9999), (-0.9999, -0.9999))
OVERDRIVE_DB = (1.0, 3.0, 6.0, 10.0, 15.0)
#: What is said of the applause -> people, and how far away they are at most (m).
PEOPLE = {"one, a metre away": (1, 1.0), "3 within 5 m": (3, 5.0), "10 within 10 m": (10, 10.0),
          "100 within 15 m": (100, 15.0)}
RECORDED, SINGLE = "a recorded hall", "single claps, 3 s apart"


def songs(music: str | None, count: int, seconds: float, seed: int) -> list[np.ndarray]:
    """`count` stretches (2, n) of music, peak 1."""
    rng, out = np.random.default_rng(seed), []
    excerpts = None if music is None else Excerpts([(music, 1.0)], "valid", seconds)
    for _ in range(count):
        x = made_up_stems(round(seconds * RATE), rng) if excerpts is None else excerpts.draw(rng).stems
        mix = x.sum(0)
        out.append((mix / np.abs(mix).max()).astype(np.float32))
    return out


def sdr(true: np.ndarray, made: np.ndarray) -> float:
    """10 log10 of the energy of `true` over that of the difference."""
    return float(10 * np.log10(np.square(true).sum() / np.square(true - made).sum()))


def clipping(music: list[np.ndarray]) -> Table:
    """Per overdrive: share of clipped samples, SDR before and after."""
    table = Table(title=f"Declipping, {len(music)} songs, means", title_justify="left")
    for name in ("overdriven by, dB", "clipped, %", "SDR before", "SDR after", "gain", "least gain"):
        table.add_column(name, justify="right")
    for overdrive in OVERDRIVE_DB:
        rows = []
        for x in music:
            true = x * np.float32(10 ** (overdrive / 20))
            clipped = np.clip(true, -1, 1)
            rows.append((100 * float((np.abs(clipped) >= 0.9999).mean()), sdr(true, clipped),
                         sdr(true, declip.declip(clipped, FULL))))
        share, before, after = np.mean(rows, axis=0)
        least = min(made - given for _, given, made in rows)
        table.add_row(f"{overdrive:g}", f"{share:.2f}", *(f"{x:.1f}" for x in (before, after, after - before, least)))
    return table


def energy_db(spectrum: np.ndarray, mask: np.ndarray) -> float:
    """How far a spectrum sinks under a mask, dB."""
    return float(10 * np.log10(np.square(np.abs(spectrum * mask)).sum() / np.square(np.abs(spectrum)).sum()))


@cache
def hall() -> np.ndarray:
    """(2, samples) of recorded applause."""
    sound = read(HALL)
    return resample(to_stereo(sound.samples)[0], sound.rate, RATE)


def applause(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """(2, n) of one kind."""
    if kind == RECORDED:
        return np.tile(hall(), (1, -(-n // hall().shape[1])))[:, :n]
    if kind == SINGLE:
        x = np.zeros((2, n), np.float32)
        for start in range(RATE, n - claps.LENGTH, 3 * RATE):
            x[:, start : start + claps.LENGTH] = claps.clap(rng)
        return x
    people, spread = PEOPLE[kind]
    return claps.applause(rng, people, n, spread)


def clapping(music: list[np.ndarray], seed: int) -> Table:
    """Per kind of applause: how far it and the music sink."""
    table = Table(title=f"Claps as loud as the music, {len(music)} songs, means in dB", title_justify="left")
    for name in ("who claps", "applause", "music", "gain", "least gain"):
        table.add_column(name, justify="left" if name == "who claps" else "right")
    found, rng, margin = defaultdict(list), np.random.default_rng(seed), Precondition().events_margin_db
    for kind in (SINGLE, *PEOPLE, RECORDED):
        for x in music:
            noise = applause(kind, x.shape[1], rng)
            noise *= np.sqrt(np.square(x).mean() / np.square(noise).mean())
            spectra = [stft(torch.from_numpy(y.astype(np.float32))).numpy() for y in (x, noise)]
            power = np.square(np.abs(sum(spectra))).sum(0)
            stretches = transients.gain_stretches(lambda a, n, p=power: p[:, a : a + n], power.shape[1], margin)
            mask = transients.to_mask(np.concatenate([rows for _, rows in stretches]))
            found[kind].append([energy_db(spectrum, mask) for spectrum in spectra])
    for kind, rows in found.items():
        lost, sunk = np.mean(rows, axis=0)
        least = min(kept - down for kept, down in rows)
        table.add_row(kind, *(f"{x:.1f}" for x in (sunk, lost, lost - sunk, least)))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--music", help="folder of songs; their split valid is taken")
    parser.add_argument("--songs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    music = songs(given.music, given.songs, given.seconds, given.seed)
    console = Console()
    console.print(clipping(music))
    console.print(clapping(music, given.seed))


if __name__ == "__main__":
    main()
