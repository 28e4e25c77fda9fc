"""Train what tells recordings in a room from finished mixes: python -m resonate.restore.diagnosis.fit_finished
--cache CACHE ... --music FOLDER ... [--seed 0] [--output FILE].

Recordings are the captures of rendered caches, split train, as they are and changed. Finished mixes are the sums of
their dry stems and stretches of the songs of split train below the folders; made-up music is heard both ways, too. What
may be changed in either: a codec, a limiter, a shelf, a filter, mono or a lower rate, so that none of these tells one
from the other. Says for captures and mixes of songs that a model had not heard (an eighth of them left out in turn) how
many mixes lie below the captures that are most like one. Replaces this part of the listener's file alone.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.signal import butter, sosfilt
from torch import nn

from resonate import RATE, audio
from resonate.data import shards
from resonate.data.music import load_song, scan_music
from resonate.degrade import codec
from resonate.errors import command
from resonate.restore.diagnosis.finished import PREFIX, STRETCH, Finished, details
from resonate.restore.diagnosis.levels import measure_levels
from resonate.restore.diagnosis.listener import WEIGHTS, write_part
from resonate.restore.diagnosis.truth import Source, captures, made_up_stems

log = logging.getLogger(__name__)

#: Stretches of each song, and of music that was made up.
PIECES, MADE_UP = 10, 128
#: Noise on the normalised features, so that songs are not learned by heart.
NOISE = 0.4
STEPS, BATCH, LR, DECAY = 1200, 512, 2e-3, 1.0
#: Parts of the songs, each left out in turn.
FOLDS = 8
#: Of captures: where this share of them lies below a limit, how many mixes do is told.
SHARES = (0.0, 0.002, 0.005, 0.01, 0.02)


class Example(NamedTuple):
    """Details (n, 492) of stretches of a song, and whether they were recorded in a room."""

    details: np.ndarray
    is_capture: bool
    song: str


def _heard(x: np.ndarray, is_capture: bool, song: str) -> Example:
    return Example(details(measure_levels(x)), is_capture, song)


def from_cache(folder: Path, split: str, seed: int) -> Iterator[Example]:
    """Every capture of a rendered cache, as it is, changed, and as a better phone might have left it (its music without
    overload and codec, and the crowd of the capture before, 0 to 20 dB down); its dry music, finished somehow."""
    crowd = None
    for i, entry in enumerate(shards.choose(folder, split)):
        rng = np.random.default_rng([seed, i])
        rows = shards.read_audio(folder, entry, slice(10))
        wet, dry = rows[1:5].sum(0), rows[6:10].sum(0)
        # The stems of two songs may be mixed; the first gives most.
        song = str(entry["song"]).partition(" + ")[0]
        yield _heard(rows[0], True, song)
        yield _heard(changed(rows[0], int(rng.integers(1, 3)), rng), True, song)
        if crowd is not None and np.abs(wet).max() > 1e-3:
            level = 10 ** (-rng.uniform(0, 20) / 20) * np.sqrt(np.square(wet).mean() / np.square(crowd).mean())
            yield _heard(changed(wet + level * crowd, int(rng.integers(0, 2)), rng), True, song)
        crowd = rows[0] - wet
        if np.abs(dry).max() > 1e-3 and not entry["gaps"]:
            yield _heard(finish(dry, rng), False, song)


def from_music(folder: Path, split: str, seed: int) -> Iterator[Example]:
    """Stretches of the songs of a split in a folder, each finished somehow; shorter and silent ones are left out."""
    for i, song in enumerate(s for s in scan_music(folder) if s.split == split and s.duration >= STRETCH + 1):
        rng = np.random.default_rng([seed, i, 1])
        for _ in range(PIECES):
            mix, _ = load_song(song, float(rng.uniform(0, song.duration - STRETCH - 1)), STRETCH)
            mix = np.nan_to_num(mix).sum(0)
            if np.sqrt(np.square(mix).mean()) > 1e-3:
                yield _heard(finish(mix, rng), False, song.name)


def from_made_up(count: int, split: str, seed: int) -> Iterator[Example]:
    """Music that was made up, drier and sparser than any song: as captured, and finished somehow."""
    source = Source.load(None, None, split)
    for i, truth in enumerate(captures(source, count, STRETCH, seed, agc_share=0.5)):
        rng = np.random.default_rng([seed, i, 2])
        song = f"made up {i}"
        yield _heard(changed(truth.capture, int(rng.integers(0, 2)), rng), True, song)
        yield _heard(finish(made_up_stems(truth.capture.shape[1], rng).sum(0), rng), False, song)


def finish(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mix (2, n) as it may be published: three in ten as it is, else with one or two changes, at some level."""
    x = changed(x, int(rng.choice([0, 1, 2], p=[0.3, 0.45, 0.25])), rng)
    return (x * 10 ** (rng.uniform(-15, 3) / 20) / max(np.abs(x).max(), 1e-6)).astype(np.float32)


def changed(x: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(2, n) after so many of `CHANGES`."""
    for k in rng.choice(len(CHANGES), count, replace=False):
        x = CHANGES[k](x, rng)
    return x.astype(np.float32)


def _coded(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    encoder, rate = [("aac", 44100), ("libmp3lame", 44100), ("libopus", 48000)][int(rng.integers(3))]
    one = codec.Pass(encoder, rate, int(rng.choice([96, 128, 160])) * 1000, 2)
    return codec.apply((0.9 * x / max(np.abs(x).max(), 1e-6)).astype(np.float32), codec.CodecParams([one]))


def _mastered(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to 9 dB into a hard or a soft limit."""
    driven = x / max(np.abs(x).max(), 1e-6) * 10 ** (rng.uniform(0, 9) / 20)
    return np.clip(driven, -1, 1) if rng.uniform() < 0.5 else np.tanh(driven)


def _toned(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A shelf of -15 to +6 dB above 0.5 to 6 kHz, by adding a part of what lies above."""
    above = sosfilt(butter(1, rng.uniform(500, 6000), "highpass", fs=RATE, output="sos"), x)
    return x + (10 ** (rng.uniform(-15, 6) / 20) - 1) * above


def _filtered(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Without what lies above 3.5 to 15 kHz, or below 60 to 250 Hz, as steeply as it may be cut."""
    kind, low, high = [("lowpass", 3500, 15000), ("highpass", 60, 250)][int(rng.integers(2))]
    hertz = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return sosfilt(butter(int(rng.choice([2, 4, 8])), hertz, kind, fs=RATE, output="sos"), x)


def _mono(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    del rng
    return np.repeat(x.mean(0, keepdims=True), 2, axis=0)


def _resampled(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low = int(rng.choice([22050, 32000]))
    back = audio.resample(audio.resample(x.astype(np.float32), RATE, low), low, RATE)[:, : x.shape[1]]
    return np.pad(back, ((0, 0), (0, x.shape[1] - back.shape[1])))


#: What may have been done to a finished mix, and to a recording.
CHANGES: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    _coded, _coded, _mastered, _mastered, _toned, _toned, _filtered, _filtered, _mono, _resampled)  # fmt: skip


def train(x: np.ndarray, is_capture: np.ndarray, seed: int = 0) -> Finished:
    """Fit to (m, 492) details and (m,) bool; captures count as much together as mixes do."""
    torch.manual_seed(seed)
    model = Finished()
    model.mean[:] = torch.from_numpy(x.mean(0))
    model.scale[:] = torch.from_numpy(x.std(0) + 0.05)
    given, wanted = model.normalised(torch.from_numpy(x)), torch.from_numpy(is_capture.astype(np.float32))
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    weight = torch.tensor(float((~is_capture).sum()) / max(1, int(is_capture.sum())))
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = LR * (1 - step / STEPS)
        chosen = torch.randint(len(given), (BATCH,))
        noisy = given[chosen] + NOISE * torch.randn(BATCH, given.shape[1])
        logits = model.layers(noisy)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted[chosen], pos_weight=weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def left_out(x: np.ndarray, is_capture: np.ndarray, songs: np.ndarray, seed: int = 0) -> np.ndarray:
    """(m,) logits, each from a model that was trained without the example's song (and other songs: an eighth)."""
    names, which = np.unique(songs, return_inverse=True)
    folds = np.random.default_rng(seed).permutation(len(names))[which] % FOLDS
    out = np.zeros(len(x))
    for fold in np.unique(folds):
        model = train(x[folds != fold], is_capture[folds != fold], seed)
        with torch.inference_mode():
            out[folds == fold] = model(torch.from_numpy(x[folds == fold])).numpy()
    return out


@command
def main(words: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, nargs="+", required=True, help="rendered folders")
    parser.add_argument("--music", type=Path, nargs="+", required=True, help="folders of songs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="file of the listener, whose other weights stay")
    given = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    examples: list[Example] = []
    for k, folder in enumerate(given.cache):
        examples += from_cache(folder, "train", given.seed + k)
        log.info("%s: %d examples so far", folder, len(examples))
    for k, folder in enumerate(given.music):
        examples += from_music(folder, "train", given.seed + k)
        log.info("%s: %d examples so far", folder, len(examples))
    examples += from_made_up(MADE_UP, "train", given.seed)
    x = np.concatenate([example.details for example in examples])
    counts = [len(example.details) for example in examples]
    is_capture = np.repeat([example.is_capture for example in examples], counts)
    songs = np.repeat([example.song for example in examples], counts)
    logits = left_out(x, is_capture, songs, given.seed)
    log.info("%d stretches of captures, %d of mixes, %d songs; of songs that were left out:",
             is_capture.sum(), (~is_capture).sum(), len(np.unique(songs)))  # fmt: skip
    for share in SHARES:
        limit = float(np.quantile(logits[is_capture], share))
        log.info("  %.1f %% of captures and %.1f %% of mixes lie below a logit of %.2f",
                 100 * share, 100 * float((logits[~is_capture] < limit).mean()), limit)  # fmt: skip
    model = train(x, is_capture, given.seed)
    write_part(model, PREFIX, given.output)


if __name__ == "__main__":
    sys.exit(main())
