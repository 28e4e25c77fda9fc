"""What the chain produces, in figures: a table of captures per preset.

    python -m resonate.degrade.fidelity --captures 50 --seed 0 [--music FOLDER] [--out fidelity.md]

prints the table and writes it as markdown: median and the range from the 10th to the 90th percentile. Music is noise
with the long-term spectrum of finished music and beats in it, or songs of a folder (first 30 s of each).
"""

import argparse
import logging
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.progress import track
from scipy.signal import csd, welch

from resonate import RATE, audio
from resonate.degrade import codec
from resonate.degrade.bank import Bank
from resonate.degrade.chain import Capture, CaptureChain, ChainConfig
from resonate.errors import UserError, command

log = logging.getLogger(__name__)

PRESETS = ("near", "mid", "far", "brutal")
CONFIGS = Path(__file__).parents[2] / "configs" / "degrade"
BANK = Path(__file__).parents[1] / "bank"
#: Row title and format of each figure.
ROWS = {
    "snr_db": ("SNR, music over crowd and handling, dB", "{:.0f}"),
    "snr_total_db": ("SNR with the distortion, dB", "{:.0f}"),
    "drr_db": ("DRR, dB", "{:.1f}"),
    "c80_db": ("C80, dB", "{:.1f}"),
    "rt60_s": ("RT60 (T20, all bands), s", "{:.2f}"),
    "low3_hz": ("lower edge at -3 dB, Hz", "{:.0f}"),
    "high3_hz": ("upper edge at -3 dB, Hz", "{:.0f}"),
    "low30_hz": ("lower edge at -30 dB, Hz", "{:.0f}"),
    "high30_hz": ("upper edge at -30 dB, Hz", "{:.0f}"),
    "clip_percent": ("samples clipped, %", "{:.2f}"),
    "agc_range_db": ("gain control moves by, dB", "{:.1f}"),
}


def noise_music(seed: int, n_samples: int) -> torch.Tensor:
    """Stems (4, 2, n_samples) of noise: each with its own band and rhythm, together with a spectrum that falls by about
    4.5 dB per octave from 100 Hz on, as finished music does (Pestana et al., AES 135th Convention, 2013)."""
    rng = np.random.default_rng([seed, 99])
    freqs = np.fft.rfftfreq(n_samples, 1 / RATE)
    slope = (np.maximum(freqs, 100.0) / 100.0) ** (-4.5 / 6.02) * (freqs > 30.0)
    t = np.arange(n_samples) / RATE
    out = []
    for low, high, beat, decay in ((40, 16000, 2.0, 12.0), (30, 300, 1.0, 2.0), (100, 20000, 0.5, 0.5),
                                   (150, 9000, 0.7, 1.0)):  # fmt: skip
        spectrum = np.fft.rfft(rng.standard_normal((2, n_samples)))
        sound = np.fft.irfft(spectrum * slope * ((freqs > low) & (freqs < high)), n_samples)
        sound *= 0.2 + np.exp(-((t * beat + rng.uniform()) % 1.0) / beat * decay)
        out.append(0.05 * sound / np.sqrt(np.square(sound).mean()))
    return torch.from_numpy(np.stack(out).astype(np.float32))


def folder_music(folder: Path) -> list[np.ndarray]:
    """Finished mixes (2, up to 30 s). Raises UserError for a folder without any."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in audio.SUFFIXES):
        song = audio.read(path, duration=30.0)
        found.append(audio.resample(audio.to_stereo(song.samples)[0], song.rate, RATE))
    if not found:
        raise UserError(f"{folder} holds no audio; name a folder of songs as --music.")
    return found


def _as_stems(song: np.ndarray, n_samples: int) -> torch.Tensor:
    """A finished mix (2, any length) as one stem of four, repeated where it is too short: (4, 2, n_samples)."""
    stems = torch.zeros(4, 2, n_samples)
    missing = max(0, n_samples - song.shape[1])
    stems[3] = torch.from_numpy(np.pad(song, ((0, 0), (0, missing)), mode="wrap")[:, :n_samples])
    return stems


def edges(made: Capture, floor_db: float) -> tuple[float, float]:
    """Lowest and highest third octave in Hz whose level, from dry music to capture, is within floor_db of the median of
    300 Hz to 3 kHz.

    The transfer is what of the capture follows the dry music (H1 estimate: cross spectrum over the input's), so crowd
    and noise do not count, and codecs do.
    """
    dry = made.stems_dry[0].sum(0).mean(0).numpy()
    capture = made.capture[0].mean(0).numpy()
    freqs, cross = csd(dry, capture, RATE, nperseg=8192)
    own = welch(dry, RATE, nperseg=8192)[1]
    centres = 1000.0 * 2.0 ** (np.arange(-15, 14) / 3)
    level = []
    for centre in centres:
        inside = (freqs > centre * 2 ** (-1 / 6)) & (freqs < centre * 2 ** (1 / 6))
        power = np.square(np.abs(cross[inside])) / np.maximum(own[inside], 1e-16)
        level.append(10 * np.log10(power.sum() / max(own[inside].sum(), 1e-16) + 1e-12))
    level = np.array(level)
    middle = np.median(level[(centres > 300) & (centres < 3000)])
    within = centres[level > middle - floor_db]
    return float(within.min()), float(within.max())


def figures(made: Capture) -> dict[str, float]:
    """The table's figures of one capture."""
    known = made.measures[0]
    (low3, high3), (low30, high30) = edges(made, 3.0), edges(made, 30.0)
    return {
        **{name: known[name] for name in ("snr_db", "snr_total_db", "drr_db", "c80_db", "rt60_s", "agc_range_db")},
        "clip_percent": 100 * known["clip_ratio"],
        "low3_hz": low3, "high3_hz": high3, "low30_hz": low30, "high30_hz": high30,
    }  # fmt: skip


def codecs(params: dict) -> str:
    """The encodings of a capture, as in `aac + opus`."""
    return " + ".join(codec.NAMES[one["encoder"]] for one in params["codec"]["passes"]) or "none"


def survey(
    captures: int, seed: int, seconds: float, bank: Bank, songs: list[np.ndarray]
) -> dict[str, tuple[list[dict[str, float]], Counter]]:
    """Figures and codecs of `captures` captures per preset; `songs` empty: noise."""
    n = int(seconds * RATE)
    out = {}
    for number, preset in enumerate(PRESETS):
        fields = yaml.safe_load((CONFIGS / f"{preset}.yaml").read_text(encoding="utf-8"))
        chain = CaptureChain(bank, ChainConfig(**fields))
        rows, used = [], Counter()
        for i in track(range(captures), description=preset):
            params = chain.from_seed([seed, number, i], n)
            stems = _as_stems(songs[i % len(songs)], n) if songs else noise_music(seed + i, n)
            made = chain.apply(stems[None], [params])
            rows.append(figures(made))
            used[codecs(params)] += 1
        out[preset] = rows, used
    return out


def table(found: dict[str, tuple[list[dict[str, float]], Counter]]) -> str:
    """Markdown."""
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for name, (title, form) in ROWS.items():
        cells = []
        for rows, _ in found.values():
            low, middle, high = np.percentile([row[name] for row in rows], [10, 50, 90])
            cells.append(f"{form.format(middle)} ({form.format(low)} .. {form.format(high)})")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    mixes = []
    for rows, used in found.values():
        shares = [f"{name} {100 * count / len(rows):.0f} %" for name, count in used.most_common(5)]
        mixes.append(", ".join(shares))
    lines.append("| codecs, the five most frequent | " + " | ".join(mixes) + " |")
    return "\n".join(lines) + "\n"


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m resonate.degrade.fidelity", description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--captures", type=int, default=50, help="captures per preset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a capture")
    parser.add_argument("--bank", nargs="+", default=[BANK], help="bank folders, merged")
    parser.add_argument("--music", type=Path, help="folder of songs; noise without it")
    parser.add_argument("--out", type=Path, default=Path("fidelity.md"), help="markdown file")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.captures < 2 or options.seconds < 1.0:
        raise UserError("A table needs --captures of 2 or more, of 1 second or more.")
    songs = folder_music(options.music) if options.music else []
    bank = Bank.load(options.bank, "all")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = table(survey(options.captures, options.seed, options.seconds, bank, songs))
    options.out.write_text(text, encoding="utf-8")
    log.info("%s\nwritten to %s", text, options.out)


if __name__ == "__main__":
    sys.exit(main())
