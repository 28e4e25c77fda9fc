"""The stage that chooses what the track is made from: the mix restored as a whole, or the sum of the restored stems.

A separator that tells music from crowd well makes the stems' sum the better start; one that does not takes music away
with the crowd. So both ways are tried on stretches of this very recording with this very separator. To a stretch of
music, crowd is added: of the recording's own pauses, or else of the starter bank at the level that was heard. Both ways
are gains per bin, so what they do to the stretch and to the added crowd is known apart, and the added crowd stands for
the one that the stretch already holds. With R the gain that the restorer finds without the added crowd, G the way's
gain with it, a and b the spectra of stretch and crowd, and sums over bins and frames:

    music wanted   S = sum R^2 |a|^2 - sum R^2 |b|^2
    found of it    C = sum G R |a|^2 - sum G R |b|^2
    all that comes E = sum G^2 |a|^2

C^2 / (S E) is the squared coherence of the wanted music and what comes out, -10 log10(1 - C^2 / (S E)) its signal to
distortion ratio: 0 dB where nothing of the music is left, indifferent to gain. The stems are taken only where theirs
is higher and their mean over octaves, in which each counts alike, no lower; else the mix, on which no flaw of the
separation is heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from resonate import RATE, STEMS
from resonate.audio import read, resample, to_stereo
from resonate.models.stats import HOP, bin_frequencies
from resonate.restore import operator
from resonate.restore.config import Choose as Settings
from resonate.restore.config import RestoreConfig
from resonate.restore.networks import crowd_mask, gain_rows, presence
from resonate.restore.precondition import bypassed
from resonate.restore.separation import Separate
from resonate.restore.store import Track
from resonate.restore.work import Work

#: A crowd that no shipped weights have heard, for recordings without pauses.
CROWD = Path(__file__).parents[1] / "bank" / "crowd" / "noisekun_playground__playground.ogg"
#: Shorter pauses show too little of a crowd (seconds).
_LEAST_GAP = 2.0
#: A stretch is tried for each so many seconds of the recording, so that a long one costs next to nothing more.
_EACH = 150.0
#: An octave counts where music makes at least this share of what is there.
_LEAST_MUSIC = 0.1
#: Squared coherence (20 dB) beyond which nearer makes no difference.
_NEAR = 0.99
#: Octaves from 20 Hz up that the bins belong to; -1: below.
_OCTAVE = np.floor(np.log2(np.maximum(bin_frequencies(), 1.0) / 20.0)).clip(-1).astype(int)


class Choose:
    """See the module. Changes no sound."""

    name = "choose"
    networks = ("separator", "restorer")

    def settings(self, config: RestoreConfig) -> dict[str, Any]:
        """The choice, or how it is measured."""
        strength = config.strength
        return {**asdict(config.choose), "mode": config.mode, "gain": strength.gain, "crowd": strength.crowd,
                "bypass": config.clean.bypass}  # fmt: skip

    def run(self, work: Work) -> dict[str, Any]:
        """Sets `made_from`."""
        settings = work.config.choose
        work.made_from, why, tried = "mix", self._not_tried(work), []
        if settings.track != "auto":
            work.made_from, why = settings.track, f"choose.track={settings.track}"
        elif not why:
            crowd, origin = _crowd(work)
            places = stretches(work.diagnosis["songs"]["songs"], settings)
            for k, start in enumerate(places):
                with TemporaryDirectory(dir=work.folder) as name:
                    tried.append({"from": round(start, 2), **compare(work, round(start * RATE), crowd, Path(name))})
                work.tell(self.name, (k + 1) / len(places))
            work.made_from, why = verdict(tried, settings.least_db)
            why = f"{why} (tried with crowd {origin} added)"
        return {"track_made_from": work.made_from, "because": why, "tried": tried}

    @staticmethod
    def _not_tried(work: Work) -> str:
        """Why nothing is measured; empty where something is."""
        if work.silent or bypassed(work):
            return "the recording is silent" if work.silent else "the recording is a finished mix"
        if work.config.strength.gain == 0:
            return "strength.gain=0 leaves the mix as it is"
        seconds = work.config.choose.seconds
        if not stretches(work.diagnosis["songs"]["songs"], work.config.choose):
            return f"there are no {2 * seconds:g} s of music in one piece to try both on"
        return ""


def stretches(songs: Sequence[Sequence[float]], settings: Settings) -> list[float]:
    """Where the tried stretches begin, in s: spread over the music, one for each 150 s of it, at most
    `settings.most`. Only songs of twice a stretch's length count."""
    usable = [(a, b - settings.seconds) for a, b in songs if b - a >= 2 * settings.seconds]
    total = sum(b - a for a, b in usable)
    count = min(settings.most, 1 + int(total / _EACH)) if usable else 0
    out = []
    for k in range(count):
        at = (k + 0.5) / count * total
        for a, b in usable:
            if at <= b - a:
                out.append(a + at)
                break
            at -= b - a
    return out


def verdict(tried: Sequence[dict[str, float]], least_db: float) -> tuple[str, str]:
    """(mix or stems, why) from the means over all stretches."""
    whole, octaves = (np.mean([t[f"{k}_stems"] - t[f"{k}_mix"] for t in tried]) for k in ("sdr", "octaves"))
    return ("stems" if whole >= least_db and octaves >= 0 else "mix"), (
        f"the stems' sum comes {whole:+.2f} dB nearer to the music than the mix, {octaves:+.2f} dB with octaves alike"
    )


def _crowd(work: Work) -> tuple[np.ndarray, str]:
    """(2, samples of a tried stretch) of crowd at its own level, and where it is from."""
    count = round(work.config.choose.seconds * RATE)
    gaps = [g for g in work.diagnosis["songs"]["gaps"] if g[1] - g[0] >= _LEAST_GAP]
    if gaps:
        a, b = max(gaps, key=lambda gap: gap[1] - gap[0])
        seconds = min(b - a, work.config.choose.seconds)
        first = round(((a + b) - seconds) / 2 * RATE)
        x = work.track["separator_input"].read(first, min(round(seconds * RATE), work.length - first))
        # Back and forth, which leaves no step.
        return np.pad(x, ((0, 0), (0, count - x.shape[1])), mode="symmetric"), "of its own pauses"
    given = read(CROWD, duration=work.config.choose.seconds + 0.1)
    x = resample(to_stereo(given.samples)[0], given.rate, RATE)[:, :count]
    energy = sum(float(np.square(block, dtype=np.float64).sum()) for _, block in work.track["separator_input"].blocks())
    level_db = 10 * np.log10(energy / (2 * work.length)) - max(0.0, work.diagnosis["music_to_crowd_db"])
    level_db -= 10 * np.log10(float(np.square(x).mean()))
    return x * np.float32(10 ** (level_db / 20)), "of the starter bank"


def compare(work: Work, start: int, crowd: np.ndarray, folder: Path) -> dict[str, float]:
    """Try both ways on the samples from `start` on with `crowd` (2, n) added.

    Returns:
        sdr_mix, sdr_stems: signal to distortion ratio in dB, higher is better, see the module; octaves_mix,
        octaves_stems: its mean over octaves. Inside the captured band.
    """
    config, n = work.config, crowd.shape[1]
    config = replace(config, veto=replace(config.veto, enabled=False))
    stats = work.stats_at(start // HOP, n // HOP)
    part = Work(work.path, folder, folder, config, work.models, rate=RATE, samples=n, stats=stats)
    part.diagnosis = work.diagnosis
    try:
        clean = part.new_track("clean").fill([(0, work.track["separator_input"].read(start, n))])
        added = part.new_track("added").fill([(0, crowd)])
        given = part.new_track("separator_input").fill([(0, clean.read(0, n) + crowd)])
        Separate().run(part)
        there = presence(part, 0, part.frames, stats)
        music = part.new_track("music").fill((at, y[0]) for at, y in operator.apply(given, _reader(there)))
        alone = part.new_track("alone", 2 * len(STEMS)).fill([(0, work.track["separated"].read(start, n))])
        heard = ((clean, alone), (given, part.track["separated"]), (music, None))
        wanted, mix, stems = (_gains(part, *sounds) for sounds in heard)
        powers = [operator.spectrum(sound, 0, part.frames).abs().square().sum(0).numpy() for sound in (clean, added)]
        out = {}
        for way, gains in (("mix", mix * crowd_mask(part, 0, part.frames, stats)), ("stems", stems * there)):
            out[f"sdr_{way}"], out[f"octaves_{way}"] = nearness(gains, wanted, *powers, stats.in_band > 0)
        return out
    finally:
        part.close()


def nearness(
    gain: np.ndarray, wanted: np.ndarray, stretch: np.ndarray, crowd: np.ndarray, inside: np.ndarray
) -> tuple[float, float]:
    """Signal to distortion ratio in dB, over all bins `inside` and as the mean over octaves; see the module.

    Args:
        gain, wanted: G and R, (1025, frames).
        stretch, crowd: |a|^2 and |b|^2, (1025, frames).
        inside: (1025,) bool.
    """
    places = [inside & (k == _OCTAVE) for k in range(_OCTAVE.max() + 1)]
    a, b = stretch.astype(np.float64), crowd.astype(np.float64)
    all_of_it, music, found, comes = (
        np.array([values[at].sum() for at in places])
        for values in (wanted**2 * a, wanted**2 * (a - b), gain * wanted * (a - b), gain**2 * a)
    )
    counts = music > _LEAST_MUSIC * all_of_it
    if not counts.any():
        return 0.0, 0.0
    each = _sdr(found[counts], music[counts], comes[counts])
    return round(float(_sdr(found.sum(), music.sum(), comes.sum())), 3), round(float(each.mean()), 3)


def _sdr(found: np.ndarray, music: np.ndarray, comes: np.ndarray) -> np.ndarray:
    coherence = np.maximum(found, 0.0) ** 2 / (np.maximum(music, 1e-20) * np.maximum(comes, 1e-20))
    return -10 * np.log10(1 - np.minimum(coherence, _NEAR))


def _reader(gains: np.ndarray) -> Any:
    return lambda first, count: gains[None, :, first : first + count]


def _gains(work: Work, heard: Track, separated: Track | None) -> np.ndarray:
    """(1025, frames) gains that the restorer finds for `heard`, with the stems separated from it."""
    return np.concatenate([rows for rows, _ in gain_rows(work, heard, separated, extend=False)])[: work.frames].T
