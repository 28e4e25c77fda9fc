"""The stages that restore: the network's gains and synthesis on a fixed grid of blocks, and their application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from resonate import STEMS
from resonate.models.restorer import Restorer, follow
from resonate.models.stats import BINS, HOP, RecordingStats
from resonate.restore import grid, operator, veto
from resonate.restore.config import RestoreConfig
from resonate.restore.precondition import bypassed
from resonate.restore.separation import Music
from resonate.restore.store import Store, Track
from resonate.restore.work import Work, finite, to_db

#: Frames per block of the restorer and from one block to the next (11.9 s and 8.9 s).
RESTORE_BLOCK, RESTORE_HOP = 1024, 768

#: dB by which the captured bands of a recording rise over their own noise floor, below which all of it is steady noise
#: (white and pink noise: 0.8 at most; 48 captures of the validation split: 4.5 at least).
STEADY_DB = 2.0

#: Bins (0.7 kHz) over which the mask against the crowd is smoothed, see :func:`crowd_mask`.
MASK_BINS = 33

#: Unit of the masks on disk: whole numbers that add up to it over the four stems.
MASK_UNIT = 65535


class Restore:
    """The restorer's bounded gains inside the captured band and, in mode extend, its synthesis outside it."""

    name = "restore"
    networks = ("restorer",)

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """Strengths as they act: no extension in mode reveal."""
        return {
            "mode": config.mode,
            "gain": config.strength.gain,
            "crowd": config.strength.crowd,
            "extension": extension_strength(config),
            "block_frames": RESTORE_BLOCK,
            "hop_frames": RESTORE_HOP,
            "bypass": config.clean.bypass,
            "veto": asdict(config.veto),
        }

    def run(self, work: Work) -> dict[str, Any]:
        """Adds track `extension` and stores `gain` (frames, 1025) and `mask` (frames, 3, 1025)."""
        extension = work.new_track("extension")
        gain = work.new_store("gain", (BINS,), "<f2")
        mask = work.new_store("mask", (len(STEMS) - 1, BINS), "<u2")
        if work.silent:
            return {"skipped": "the recording is silent"}
        untouched = bypassed(work) and not _extends(work)
        if untouched:
            ones = np.ones((operator.FRAMES, BINS), dtype=np.float32)
            for first in range(0, work.frames, operator.FRAMES):
                gain.write_rows(first, ones)
        else:
            self._network(work, gain, extension)
        for first in range(0, work.frames, operator.FRAMES):
            count = min(operator.FRAMES, work.frames - first)
            parts = operator.spectrum(work.track["separated"], first, count).reshape(len(STEMS), 2, BINS, count)
            mask.write_rows(first, ratio_masks(magnitude(parts), work.stats_at(first, count).in_band))
        taken_back = [] if untouched else veto.apply(work, gain, extension)
        return {**self._effect(work), "taken_back": taken_back}

    def _network(self, work: Work, gain: Store, extension: Track) -> None:
        from_stems = work.made_from == "stems"
        source = _music(work) if from_stems else work.track["separator_input"]
        # Where the crowd is masked already, a second opinion on it would count twice.
        separated = None if from_stems else work.track["separated"]
        masked = crowd_share(work) > 0
        places, done = grid.starts(work.frames, RESTORE_BLOCK, RESTORE_HOP), work.progress.done
        # After a stop, the block before is computed again for its end, which fades into the next.
        first = max(0, done - 1)
        extend = _extends(work)
        for i, (rows, wave) in enumerate(gain_rows(work, source, separated, extend, first), first):
            start = places[i]
            if i >= done:
                if masked:
                    rows = rows[: work.frames - start]
                    # The statistics that the network was given for this block.
                    rows = rows * crowd_mask(work, start, len(rows), work.stats_at(start, RESTORE_BLOCK)).T
                gain.write_rows(start, rows)
                if extend:
                    extension.write(start * HOP, wave)
                work.progress.mark(i + 1, [gain, extension])
            work.tell(self.name, (i + 1) / len(places))

    def _effect(self, work: Work) -> dict[str, Any]:
        low, high, total = np.inf, 0.0, 0.0
        for first in range(0, work.frames, operator.FRAMES):
            count = min(operator.FRAMES, work.frames - first)
            rows = work.store["gain"].read_rows(first, count).astype(np.float64)
            inside = rows[:, work.stats_at(first, count).in_band > 0]
            low, high, total = min(low, inside.min()), max(high, inside.max()), total + inside.mean(1).sum()
        return {
            **({"held_back": "nothing rises over the noise: no equaliser, no extension"} if steady(work) else {}),
            "gain_bound": gain_bound(work.models.restorer, work.config.mode),
            "gain_least": float(low),
            "gain_most": float(high),
            "gain_mean": float(total / work.frames),
            "mask_unit": MASK_UNIT,
        }


def gain_bound(model: Restorer, mode: str) -> float:
    """Largest linear gain of any bin: the network's own in mode reveal, else with the corrective EQ's on top."""
    return float(10 ** (model.config.max_gain_db / 20) if mode == "reveal" else model.max_gain)


def steady(work: Work) -> bool:
    """Whether nothing in the recording rises over its noise: there is no music whose balance could be put right, and a
    corrective equaliser would only make the noise louder (see `STEADY_DB`)."""
    rise = work.diagnosis["range_over_floor_db"]
    return rise is not None and rise < STEADY_DB


def _extends(work: Work) -> bool:
    """Whether missing bands are filled: of a clean recording none are missing."""
    whole = bypassed(work) and work.diagnosis["clean"]
    return extension_strength(work.config) > 0 and not whole and not steady(work)


def gain_rows(work: Work, source: Track, separated: Track | None, extend: bool, first: int = 0
              ) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """What the restorer makes of `source` and of the stems `separated` from it, from block `first` of the fixed grid
    on; None for the latter: no second opinion on what is music.

    Yields:
        ((n, 1025) gains per frame, (2, n * 512) samples of extension) per block, joined, so consecutive; zeros for the
        latter without `extend`.
    """
    model, config = work.models.restorer, work.config
    opinion = Music(separated) if separated is not None and model.config.hears_music else None
    block, hop = RESTORE_BLOCK, RESTORE_HOP
    places = grid.starts(work.frames, block, hop)
    if work.frames < block:
        block = hop = max(work.frames, 6)
    gain_fader, wave_fader = grid.Crossfader(block, hop), grid.Crossfader(block * HOP, hop * HOP)
    for i in range(first, len(places)):
        x, music = (torch.from_numpy(sound.read(places[i] * HOP, block * HOP))[None].to(work.models.device)
                    if sound else None for sound in (source, opinion))  # fmt: skip
        with torch.inference_mode():
            out = model(x, work.stats_at(places[i], block), 0.0 if bypassed(work) else config.strength.gain,
                        extension_strength(config) if extend else 0.0,
                        faithful=config.mode == "reveal" or steady(work), music=music)  # fmt: skip
        last = i == len(places) - 1
        rows = finite(out.gain[0, :, :block].cpu().numpy(), "restorer")
        wave = finite(out.extension[0].cpu().numpy(), "restorer")
        # Rounding to float16 must not lead above the bound.
        rows = np.clip(gain_fader.push(rows, last).T, 0.0, gain_bound(model, config.mode) * (1 - 2**-11))
        yield rows, wave_fader.push(wave, last)


def crowd_share(work: Work) -> float:
    """How much, in dB, of the separator's mask against the crowd the gains hold, 0..1."""
    if bypassed(work):
        return 0.0
    return 1.0 if work.made_from == "stems" else work.config.strength.crowd * work.config.strength.gain


def crowd_mask(work: Work, first: int, count: int, stats: RecordingStats) -> np.ndarray:
    """(1025, count) in [0, 1]: how far the separator's mask against the crowd counts beside the restorer's gains.

    It is a second opinion on what is crowd, of a network that errs elsewhere. Where the track is made from the mix, a
    share of it in dB, and only as it is over 0.7 kHz: a mask that moves bin by bin makes noise sing, and tells no more.
    All of :func:`presence` where the track is made from the stems, and the restorer has heard the crowd masked.
    """
    if work.made_from == "stems":
        return presence(work, first, count, stats)
    return smoothed_mask(_music_share_db(work, first, count), stats.in_band, crowd_share(work))


def smoothed_mask(share_db: np.ndarray, in_band: np.ndarray, share: float) -> np.ndarray:
    """(1025, frames) in [0, 1]: `share` in dB of the music's share of the magnitudes, as it is over `MASK_BINS`; beyond
    the captured band see :func:`resonate.models.restorer.follow`.

    Args:
        share_db: (1025, frames), of :func:`share_of_music_db`.
        in_band: (1025,) 1 inside the captured band.
        share: 0..1.
    """
    inside, even = in_band > 0, share_db.copy()
    even[inside] = ndimage.uniform_filter1d(even[inside], MASK_BINS, axis=0, mode="reflect")
    return 10 ** (share / 20 * follow(torch.from_numpy(even), in_band).numpy())


def share_of_music_db(music: torch.Tensor, given: torch.Tensor) -> np.ndarray:
    """(1025, frames) dB, at most 0: the separated music's share of the magnitudes, music and what it leaves.

    Args:
        music, given: (2, 1025, frames) spectra of the separated music and of what it was separated from.
    """
    parts = magnitude(torch.stack([music, given - music]))
    return 20 * np.log10((parts[0] + 1e-6) / (parts[0] + parts[1] + 1e-6))


def presence(work: Work, first: int, count: int, stats: RecordingStats) -> np.ndarray:
    """(1025, count) float32 in [0, 1]: the separated music's share of the magnitudes, music and crowd, in frames
    [first, first + count). Beyond the captured band, where nothing can be separated, it begins as the share next to it
    and fades to 1. See :func:`ratio_masks` and :func:`resonate.models.restorer.follow`."""
    return 10 ** (follow(torch.from_numpy(_music_share_db(work, first, count)), stats.in_band).numpy() / 20)


def _music_share_db(work: Work, first: int, count: int) -> np.ndarray:
    given = operator.spectrum(work.track["separator_input"], first, count)
    return share_of_music_db(operator.sum_spectrum(work.track["separated"], first, count), given)


def _music(work: Work) -> Track:
    """Track `music`: the recording under the mask of :func:`presence`."""
    track = work.new_track("music")
    masked = operator.apply(
        work.track["separator_input"],
        lambda first, count: presence(work, first, count, work.stats_at(first, count))[None],
    )
    track.fill((start, block[0]) for start, block in masked)
    work.drop("music")
    return track


def extension_strength(config: RestoreConfig) -> float:
    """0 in mode reveal."""
    return config.strength.extension if config.mode == "extend" else 0.0


def magnitude(parts: torch.Tensor) -> np.ndarray:
    """(parts, 1025, frames) root of the power of both channels, from (parts, 2, 1025, frames) complex."""
    return parts.abs().square().sum(1).sqrt().numpy()


def ratio_masks(magnitudes: np.ndarray, in_band: np.ndarray) -> np.ndarray:
    """Masks of the first three stems as whole numbers out of MASK_UNIT; the fourth has the rest.

    Shares of the magnitudes, not of the powers: a separator that is trained towards the stems gives, where it is in
    doubt, its expectation, so a stem that it believes to be a third of a bin comes out as a third of the bin's
    magnitude. Shares of the powers would apply that doubt twice (measured: docs/training.md, "Choosing the separator").

    Args:
        magnitudes: (4, 1025, frames), of the separated stems.
        in_band: (1025,) 1 inside the captured band. Outside it, where nothing can be separated, each frame takes the
            stems' shares of the captured octave next to it.

    Returns:
        (frames, 3, 1025) uint16. Rounded down, so the fourth is never negative.
    """
    share = (magnitudes + 1e-6) / (magnitudes + 1e-6).sum(0)
    inside = np.flatnonzero(in_band)
    low, high = int(inside[0]), int(inside[-1])
    top = magnitudes[:, high // 2 : high + 1].sum(1, keepdims=True) + 1e-6
    bottom = magnitudes[:, low : 2 * max(low, 1) + 1].sum(1, keepdims=True) + 1e-6
    share[:, high + 1 :] = top / top.sum(0)
    share[:, :low] = bottom / bottom.sum(0)
    return np.floor(share[:-1] * MASK_UNIT).astype(np.uint16).transpose(2, 0, 1)


def stem_masks(rows: np.ndarray) -> np.ndarray:
    """(4, 1025, frames) float32 masks in [0, 1] that sum to one, from (frames, 3, 1025) of :func:`ratio_masks`."""
    whole = rows.astype(np.int32)
    rest = MASK_UNIT - whole.sum(1, keepdims=True)
    return (np.concatenate([whole, rest], axis=1) / MASK_UNIT).astype(np.float32).transpose(1, 2, 0)


def revealing_gains(
    gain: Callable[[int, int], np.ndarray], mask: Callable[[int, int], np.ndarray]
) -> Callable[[int, int], np.ndarray]:
    """Gain times masks, in the form that `operator.apply` takes, from readers of the stored rows."""

    def read(first: int, count: int) -> np.ndarray:
        return stem_masks(mask(first, count)) * gain(first, count).astype(np.float32).T

    return read


class Remix:
    """Apply gains and masks: each stem's revealed and extended part, and their sums.

    Made from the mix, the gains and the extension are those of the recording as a whole, and the masks, which only
    share it out among the stems, add up to one: what the separation knows of the instruments is not heard in the track.
    The gains hold the stems' mask against the crowd, too: a share of it, or all where the track is made from the stems
    (see :func:`crowd_mask` and `resonate.restore.choice`).
    """

    name = "remix"

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """None."""
        return {}

    def run(self, work: Work) -> dict[str, Any]:
        """Adds tracks `revealed` and `extended`, eight channels each, stems in order."""
        tracks = [work.new_track(name, 2 * len(STEMS)) for name in ("revealed", "extended")]
        if work.silent:
            return {"skipped": "the recording is silent"}
        mask = work.store["mask"].read_rows
        jobs = [(work.track["separator_input"], revealing_gains(work.store["gain"].read_rows, mask), tracks[0])]
        if extension_strength(work.config) > 0:
            jobs.append((work.track["extension"], lambda first, count: stem_masks(mask(first, count)), tracks[1]))
        effect: dict[str, Any] = {
            "track_made_from": work.made_from,
            "stems_made_by": f"masks on the {'mix' if work.made_from == 'mix' else 'music'} as restored, sum 1",
        }
        for source, gains, target in jobs:
            energy = 0.0
            for start, block in operator.apply(source, gains):
                target.write(start, block.reshape(2 * len(STEMS), -1))
                energy += float(np.square(block.sum(0), dtype=np.float64).sum())
                work.tell(self.name, start / target.length)
            name = "revealed" if target is tracks[0] else "extended"
            effect[f"{name}_dbfs"] = to_db(float(np.sqrt(energy / (2 * target.length))))
        work.drop("extension")
        return effect
