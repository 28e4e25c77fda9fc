"""Train what tells recordings in a room from finished mixes: python -m resonate.restore.diagnosis.fit_finished
--cache CACHE ... --music FOLDER ... [--seed 0] [--output FILE].

Recordings are the captures of rendered caches, split train. Finished mixes are the sums of their dry stems and
stretches of the songs of split train below the folders: as they are, as they come out of a codec, or mastered dull,
bright, loud or in mono. Says for captures and mixes that a model had not heard (every eighth block of 23 left out in
turn) how many mixes lie below the capture that is most like one. Replaces this part of the listener's file alone.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.signal import butter, sosfilt
from torch import nn

from resonate import RATE, audio
from resonate.data import shards
from resonate.data.music import load_song, scan_music
from resonate.degrade import codec
from resonate.errors import command
from resonate.restore.diagnosis.finished import PREFIX, STRETCH, Finished, features
from resonate.restore.diagnosis.levels import measure_levels
from resonate.restore.diagnosis.listener import WEIGHTS, write_part

log = logging.getLogger(__name__)

#: Stretches of each song.
PIECES = 3
#: Noise on the normalised features, so that songs are not learned by heart; steps, learning rate, weight decay.
NOISE, STEPS, LR, DECAY = 0.6, 1200, 1e-2, 0.3
#: Captures count three times: one that is taken for a mix is left as it is, a mix that is not is only processed.
CAPTURE_WEIGHT = 3.0
_BLOCK, _FOLDS = 23, 8


def from_cache(folder: Path, split: str, seed: int) -> Iterator[tuple[np.ndarray, bool]]:
    """(features, True) of every capture of a rendered cache, (features, False) of its dry music, finished somehow."""
    for i, entry in enumerate(shards.choose(folder, split)):
        rng = np.random.default_rng([seed, i])
        rows = shards.read_audio(folder, entry, slice(10))
        yield features(measure_levels(rows[0])), True
        dry = rows[6:10].sum(0)
        if np.abs(dry).max() > 1e-3 and not entry["gaps"]:
            yield features(measure_levels(finish(dry, rng))), False


def from_music(folder: Path, split: str, seed: int) -> Iterator[tuple[np.ndarray, bool]]:
    """(features, False) of a stretch of every song of a split in a folder; shorter and silent ones are left out."""
    seconds = PIECES * STRETCH
    for i, song in enumerate(s for s in scan_music(folder) if s.split == split and s.duration >= seconds + 1):
        rng = np.random.default_rng([seed, i, 1])
        mix, _ = load_song(song, float(rng.uniform(0, song.duration - seconds - 1)), seconds)
        mix = np.nan_to_num(np.asarray(mix, np.float32))
        mix = mix.sum(0) if mix.ndim == 3 else mix
        if np.sqrt(np.square(mix).mean()) > 1e-3:
            yield features(measure_levels(finish(mix, rng))), False


def finish(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mix (2, n) as it may be published: three in ten as it is, else with one or two changes, at some level."""
    count = int(rng.choice([0, 1, 2], p=[0.3, 0.45, 0.25]))
    for k in rng.choice(len(CHANGES), count, replace=False):
        x = CHANGES[k](x, rng)
    return (x * 10 ** (rng.uniform(-15, 3) / 20) / max(np.abs(x).max(), 1e-6)).astype(np.float32)


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


def _mono(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    del rng
    return np.repeat(x.mean(0, keepdims=True), 2, axis=0)


def _resampled(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low = int(rng.choice([22050, 32000]))
    back = audio.resample(audio.resample(x.astype(np.float32), RATE, low), low, RATE)[:, : x.shape[1]]
    return np.pad(back, ((0, 0), (0, x.shape[1] - back.shape[1])))


#: What may have been done to a finished mix.
CHANGES: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    _coded, _coded, _mastered, _mastered, _toned, _toned, _mono, _resampled)  # fmt: skip


def train(x: np.ndarray, is_capture: np.ndarray, seed: int = 0) -> Finished:
    """Fit to (m, 85) features and (m,) bool."""
    torch.manual_seed(seed)
    model = Finished()
    model.mean[:] = torch.from_numpy(x.mean(0))
    model.scale[:] = torch.from_numpy(x.std(0) + 1e-3)
    given, wanted = model.normalised(torch.from_numpy(x)), torch.from_numpy(is_capture.astype(np.float32))
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    weight = torch.tensor(CAPTURE_WEIGHT)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = LR * (1 - step / STEPS)
        logits = model.layers(given + NOISE * torch.randn_like(given))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def left_out(x: np.ndarray, is_capture: np.ndarray, seed: int = 0) -> np.ndarray:
    """(m,) logits, each from a model that was trained without the example's block."""
    folds = (np.arange(len(x)) // _BLOCK) % _FOLDS
    out = np.zeros(len(x))
    for fold in range(_FOLDS):
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
    examples: list[tuple[np.ndarray, bool]] = []
    for k, folder in enumerate(given.cache):
        examples += from_cache(folder, "train", given.seed + k)
        log.info("%s: %d stretches so far", folder, len(examples))
    for k, folder in enumerate(given.music):
        examples += from_music(folder, "train", given.seed + k)
        log.info("%s: %d stretches so far", folder, len(examples))
    x = np.concatenate([rows for rows, _ in examples])
    is_capture = np.concatenate([np.full(len(rows), kind) for rows, kind in examples])
    logits = left_out(x, is_capture, given.seed)
    least = np.sort(logits[is_capture])[:3]
    shares = [float((logits[~is_capture] < limit).mean()) for limit in least]
    log.info("%d captures, %d mixes; left out: least logits of captures %s, mixes below %s",
             is_capture.sum(), (~is_capture).sum(), np.round(least, 2), np.round(shares, 3))  # fmt: skip
    model = train(x, is_capture, given.seed)
    write_part(model, PREFIX, given.output)


if __name__ == "__main__":
    sys.exit(main())
