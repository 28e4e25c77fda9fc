"""Training examples: captures from a rendered cache, or made on the fly.

Every dataset here is a pure function of (seed, index), so a run that resumes sees the examples it would have seen.
An example is a dict of tensors: ``capture`` (2, T), ``wet`` (4, 2, T), ``dry`` (4, 2, T), ``early`` (2, T),
``present`` (4,) bool and the recording's ``ltas_db``, ``floor_db``, ``in_band``, (1025,) each; where the source has it
also ``crowd`` (2, T) and ``separated`` (2, T), what the separator takes for music. 44.1 kHz throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.interpolate import PchipInterpolator
from torch import Tensor
from torch.utils.data import Dataset

from resonate import RATE
from resonate.data import separated, shards
from resonate.data.excerpts import Excerpts
from resonate.degrade.chain import CaptureChain
from resonate.errors import UserError
from resonate.models.restorer import istft, music_share, stft
from resonate.models.stats import N_FFT, RecordingStats, bin_frequencies, measure_stats

Example = dict[str, Tensor]
_FIELDS = ("ltas_db", "floor_db", "in_band")


def stats_tensors(stats: RecordingStats) -> Example:
    """The statistics that the restorer reads, as tensors of 1025 values."""
    return {name: torch.as_tensor(getattr(stats, name)) for name in _FIELDS}


def as_example(rows: Tensor, present: Sequence[bool]) -> Example:
    """(rows, 2, T) in the order of `shards.ROWS` as an example, without the recording's statistics."""
    crowd = shards.crowd_of(rows)
    return {"capture": rows[0], "wet": rows[1:5], "early": rows[5], "dry": rows[6:10],
            "present": torch.tensor(list(present)), **({} if crowd is None else {"crowd": crowd})}


class CachedCaptures(Dataset):
    """Random crops of the captures in rendered folders (see `resonate.data.shards`), read where they lie.

    Args:
        folders: rendered folders; examples are drawn evenly from all of them.
        split: which split of theirs to take.
        seconds: length of a crop; None gives whole examples in order, one per index.
        length: number of examples to pretend to have; with crops it is the number drawn in a whole run.
        seed: of the draw.
        stems_only: leave out finished mixes, whose stems are unknown.
        curriculum: over how many examples the highest severity drawn grows from the mildest to the worst (linearly, by
            rank); 0 draws from all of them from the first one on.
        in_memory: decode each capture once and keep its mid channel, with its stems summed (``capture`` and ``early``
            are (1, T), ``wet`` and ``dry`` (1, 1, T)): 0.4 MB per second, for models that hear the mid of mixes alone.
        tone_share: share of the crops whose music, captured and clean, gets another balance of bands: a smooth random
            EQ (see :func:`random_tone`), so that a model does not learn the balance of few songs by heart. The crowd
            stays as it is; what clipping and codecs would make of it is left out. With ``in_memory`` only.
        clean_share: share of the examples whose clean music stands in for the capture, so that a model learns to leave
            it as it is; with crops only.
        with_separated: also give ``separated``, which `resonate.data.separated` keeps beside the captures.
        alone_share: share of the crops whose ``separated`` is the capture itself, which says nothing of what is music,
            so that a model does not rest on it alone.
    """

    def __init__(self, folders: Sequence[str | Path], split: str, seconds: float | None, length: int | None = None,
                 seed: int = 0, stems_only: bool = False, curriculum: int = 0, in_memory: bool = False,
                 clean_share: float = 0.0, tone_share: float = 0.0, with_separated: bool = False,
                 alone_share: float = 0.0) -> None:
        self.items: list[tuple[Path, dict]] = []
        with_crowd = True
        for folder in folders:
            index = shards.read_index(folder)
            with_crowd = with_crowd and shards.CROWD in index["rows"]
            for example in index["examples"]:
                if example["split"] == split and not (stems_only and example["mix_only"]):
                    self.items.append((Path(folder), example))
        if not self.items:
            raise UserError(f"No example of the {split} split is in {', '.join(map(str, folders))}; render some with "
                            f"python -m data_recipes.render shards.{split}=1.")
        # Examples of one batch have the same parts.
        self.rows = len(shards.ROWS) + with_crowd
        self.samples = None if seconds is None else int(seconds * RATE)
        shortest = min(example["seconds"] for _, example in self.items)
        if seconds is not None and shortest < seconds:
            raise UserError(f"The cache holds examples of {shortest:g} s, shorter than data.seconds={seconds:g}; "
                            "lower data.seconds or render longer ones.")
        self.length = len(self.items) if length is None else length
        self.seed = seed
        self.curriculum = curriculum
        if curriculum:
            self.items.sort(key=lambda item: item[1]["severity"])
        self.clean_share, self.tone_share, self.alone_share = clean_share, tone_share, alone_share
        self._separated = {folder: separated.Index(folder) for folder in map(Path, folders)} if with_separated else {}
        for folder, example in self.items if with_separated else ():
            self._separated[folder].check(example)
        if len(self.separators()) > 1:
            raise UserError("The folders in data.cache were separated by different separators; separate them again by "
                            "one, with python -m data_recipes.separate.")
        self._music: dict[int, RecordingStats] = {}
        self._stats: dict[tuple[int, bool], Example] = {}
        self._sums: dict[int, tuple[Tensor, Tensor]] | None = {} if in_memory else None

    def __len__(self) -> int:
        return self.length

    def separators(self) -> list[str]:
        """Hashes of the weights that made ``separated``; none without it."""
        return sorted({index.separator for index in self._separated.values()})

    def _stats_of(self, item: int, clean: bool) -> Example:
        """Statistics of the whole capture, or of its clean music."""
        if (item, clean) not in self._stats:
            if self._sums is not None:
                whole, scale = self._whole(item)
                heard = whole[3 if clean else 0] * scale[3 if clean else 0]
            else:
                rows = shards.read_audio(*self.items[item], slice(6, 10) if clean else slice(1))
                heard = torch.from_numpy(rows.sum(0))
            self._stats[item, clean] = stats_tensors(measure_stats(heard))
        return self._stats[item, clean]

    def _reach(self, index: int) -> int:
        """How many items, from the mildest on, example ``index`` is drawn from."""
        if index >= self.curriculum:
            return len(self.items)
        return max(1, round(len(self.items) * (index + 1) / self.curriculum))

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([self.seed, index])
        item = index if self.samples is None else int(rng.integers(self._reach(index)))
        folder, meta = self.items[item]
        start, stop, clean = 0, None, False
        if self.samples is not None:
            start = int(rng.integers(max(1, shards.length_of(folder, meta) - self.samples + 1)))
            stop = start + self.samples
            clean = bool(rng.uniform() < self.clean_share)
        if self._sums is not None:
            example = self._summed(item, start, stop, clean)
        else:
            example = as_example(torch.from_numpy(shards.read_audio(folder, meta, slice(self.rows), start, stop)),
                                 meta["present"])
            if self._separated:
                example["separated"] = torch.from_numpy(self._separated[folder].read(meta, start, stop, clean))
        example = (uncaptured(example) if clean else example) | self._stats_of(item, clean)
        if self.samples is not None and rng.uniform() < self.tone_share:
            example = with_tone(example, self._music_of(item, clean), random_tone(rng))
        if self._separated and self.samples is not None and rng.uniform() < self.alone_share:
            example["separated"] = example["capture"]
        return example

    def _music_of(self, item: int, clean: bool) -> RecordingStats:
        """Statistics of the music alone, captured or clean."""
        key = 2 * item + clean
        if key not in self._music:
            whole, scale = self._whole(item)
            row = 3 if clean else 1
            self._music[key] = measure_stats(whole[row] * scale[row])
        return self._music[key]

    def _whole(self, item: int) -> tuple[Tensor, Tensor]:
        """(rows, 1, T) int16 and (rows, 1, 1) scales: mid channel of the capture, the captured, early and clean music,
        and where it is asked for what is separated of the capture and of the clean music."""
        assert self._sums is not None
        if item not in self._sums:
            folder, meta = self.items[item]
            rows = shards.read_audio(folder, meta, slice(len(shards.ROWS)))
            parts = [rows[0], rows[1:5].sum(0), rows[5], rows[6:10].sum(0)]
            sums = torch.from_numpy(np.stack([*parts, *self._separated_of(folder, meta)]))
            sums = sums.mean(1, keepdim=True)
            # 16 bits under a scale of each row's own, as the shards have them.
            scale = sums.abs().amax((1, 2), keepdim=True).clamp(min=1e-6) / 32767
            self._sums[item] = (sums / scale).round().to(torch.int16), scale
        return self._sums[item]

    def _separated_of(self, folder: Path, meta: dict) -> list[np.ndarray]:
        return [self._separated[folder].read(meta, clean=clean) for clean in (False, True)] if self._separated else []

    def _summed(self, item: int, start: int, stop: int | None, clean: bool) -> Example:
        whole, scale = self._whole(item)
        capture, wet, early, dry, *rest = whole[..., start:stop] * scale
        return {"capture": capture, "wet": wet[None], "early": early, "dry": dry[None],
                "present": torch.tensor(self.items[item][1]["present"]),
                **({"separated": rest[clean]} if rest else {})}


def uncaptured(example: Example) -> Example:
    """The same example with its clean music in place of the capture, and no crowd."""
    dry = example["dry"]
    out = example | {"capture": dry.sum(0), "wet": dry, "early": dry.sum(0)}
    return out | {"crowd": torch.zeros_like(dry[0])} if "crowd" in example else out


#: Standard deviation in dB, and knots in Hz, of a random balance of bands.
TONE_DB = 4.0
TONE_KNOTS = 31.25 * 2.0 ** np.arange(10)


def random_tone(rng: np.random.Generator) -> np.ndarray:
    """(1025,) dB: a curve through independent normal values an octave apart, mean 0."""
    values = rng.normal(0, TONE_DB, len(TONE_KNOTS))
    octaves = np.log2(np.maximum(bin_frequencies(), 10.0))
    curve = PchipInterpolator(np.log2(TONE_KNOTS), values - values.mean())
    return curve(np.clip(octaves, *np.log2(TONE_KNOTS[[0, -1]])))


def with_tone(example: Example, music: RecordingStats, tone_db: np.ndarray) -> Example:
    """The example as if its music had been mixed with another balance.

    Args:
        example: as :class:`CachedCaptures` makes it.
        music: statistics of its music alone, whose share of the recording's own the balance moves. Levels of music and
            crowd add as powers.
        tone_db: (1025,).
    """
    wet = example["wet"]
    n = wet.shape[-1]
    size = next_fast_len(n + N_FFT, real=True)
    gain = torch.from_numpy(np.interp(np.fft.rfftfreq(size, 1 / RATE), bin_frequencies(), 10 ** (tone_db / 20))).float()

    def shaped(x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x, size) * gain, size)[..., :n]

    out = example | {name: shaped(example[name]) for name in ("wet", "early", "dry")}
    out["capture"] = example["capture"] + (out["wet"] - wet).sum(0)
    if "separated" in example:
        # Its share of what is heard stays: the filter is the music's, and a good part of it is crowd.
        share = music_share(stft(example["separated"]), stft(example["capture"]))
        out["separated"] = istft(stft(out["capture"]) * share, n)
    more = torch.from_numpy(10 ** (tone_db / 10) - 1)
    for name in ("ltas_db", "floor_db"):
        before = 10 ** (example[name].double() / 10)
        part = torch.minimum(torch.from_numpy(10 ** (getattr(music, name).astype(np.float64) / 10)), before)
        out[name] = (10 * torch.log10(before + more * part + 1e-15)).float()
    return out


class FreshCaptures(Dataset):
    """Captures made on the fly: a stretch of music, through the capture chain.

    Args:
        excerpts: where the music comes from.
        chain: the capture chain.
        length: number of examples.
        seed: of all draws.
        curriculum: over how many examples the highest severity grows from the lowest to the highest of the chain's
            range; 0 draws from the whole range from the first one on.
    """

    def __init__(self, excerpts: Excerpts, chain: CaptureChain, length: int, seed: int = 0,
                 curriculum: int = 0) -> None:
        self.excerpts = excerpts
        self.chain = chain
        self.length = length
        self.seed = seed
        self.curriculum = curriculum

    def __len__(self) -> int:
        return self.length

    def _severity(self, rng: np.random.Generator, index: int) -> float | None:
        """A severity below the curriculum's present limit; None leaves the draw to the chain."""
        if index >= self.curriculum:
            return None
        low, high = self.chain.config.severity
        return float(rng.uniform(low, low + (high - low) * (index + 1) / self.curriculum))

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([self.seed, index])
        excerpt = self.excerpts.draw(rng)
        params = self.chain.sample(rng, excerpt.stems.shape[-1], self._severity(rng, index))
        with torch.no_grad():
            capture = self.chain.apply(torch.from_numpy(excerpt.stems)[None], [params])
        heard = capture.capture[0]
        return {"capture": heard, "wet": capture.stems_wet[0], "early": capture.stems_early[0].sum(0),
                "dry": capture.stems_dry[0], "crowd": capture.crowd[0],
                "present": torch.from_numpy(excerpt.present), **stats_tensors(measure_stats(heard))}
