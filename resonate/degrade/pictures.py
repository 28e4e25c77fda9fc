"""Pictures of every stage of the capture chain, for docs/capture_chain.md.

    python -m resonate.degrade.pictures --out docs/pictures/chain

Everything is drawn from fixed seeds, the music is synthesised and the bank is the starter bank's training part.
"""

import argparse
import io
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.signal import spectrogram

from resonate import RATE, STEMS
from resonate.degrade import (
    agc,
    capsule,
    codec,
    converter,
    crowd,
    filters,
    gaps,
    handling,
    programme,
    scene,
    simulated,
    stage,
    venue,
)
from resonate.degrade.acoustics import air_db_per_m
from resonate.degrade.bank import Bank
from resonate.degrade.chain import MUSIC_RMS, CaptureChain, ChainConfig
from resonate.degrade.fidelity import BANK, noise_music

log = logging.getLogger(__name__)

LEAD = filters.LEAD
TICKS = [31, 63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000]


def _frequency(axis: Axes, low_db: float, high_db: float, title: str) -> None:
    axis.set_xscale("log")
    axis.set_xticks(TICKS, [f"{t // 1000}k" if t >= 1000 else str(t) for t in TICKS])
    axis.minorticks_off()
    axis.set(xlim=(20, 20000), ylim=(low_db, high_db), xlabel="Hz", ylabel="dB", title=title)
    axis.grid(alpha=0.3)


def _magnitude(axis: Axes, kernel: np.ndarray, **style) -> None:
    freqs = np.fft.rfftfreq(1 << 14, 1 / RATE)[1:]
    axis.plot(freqs, 20 * np.log10(np.abs(np.fft.rfft(kernel, 1 << 14))[1:] + 1e-9), **style)


def _spectrogram(axis: Axes, x: np.ndarray, title: str, top_hz: float = 20000.0) -> None:
    freqs, times, power = spectrogram(x, RATE, nperseg=2048, noverlap=1024, mode="psd")
    # As many cells as can be seen, in steps of 4 dB: the picture stays small.
    power = _pooled(_pooled(power[freqs <= top_hz], 90).T, 110).T
    level = 4 * np.round(2.5 * np.log10(power + 1e-14))
    axis.imshow(level, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
                extent=(0, times[-1], 0, top_hz / 1000), vmin=level.max() - 72, vmax=level.max())  # fmt: skip
    axis.set(title=title, xlabel="s", ylabel="kHz")


def _pooled(x: np.ndarray, most: int) -> np.ndarray:
    """Rows of x (rows, columns) averaged so that at most `most` remain."""
    size = -(-len(x) // most)
    return x[: len(x) // size * size].reshape(-1, size, x.shape[1]).mean(axis=1)


def _level(x: np.ndarray, seconds: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Times and level in dBFS of (T,) or (2, T) in frames."""
    size = int(seconds * RATE)
    power = np.square(np.atleast_2d(x)).mean(axis=0)
    frames = power[: len(power) // size * size].reshape(-1, size).mean(axis=1)
    return np.arange(len(frames)) * seconds, 10 * np.log10(frames + 1e-12)


def _axes(columns: int, width: float = 9.0, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(axes))


def _venue(**changes) -> venue.VenueParams:
    drawn = venue.sample(np.random.default_rng(1), 0.5, moving_share=0.0)
    return replace(drawn, **({"kind": "synthetic", "c80_db": None, "tower_ms": 0.0} | changes))


def pa(bank: Bank) -> Figure:
    """Responses of four systems; what the limiter does to a beat."""
    figure, (left, right) = _axes(2)
    for seed in range(4):
        _magnitude(left, stage.response(stage.sample(np.random.default_rng(seed), 0.5)), lw=1)
    _frequency(left, -30, 18, "four PA systems")
    params = replace(stage.sample(np.random.default_rng(0), 0.5), threshold_db=8.0, release_ms=150.0, width=1.0)
    music = noise_music(0, 3 * RATE)
    limited = stage.apply(music, params)
    right.plot(*_level(music.sum(0).numpy(), 0.005), lw=0.8, label="desk")
    right.plot(*_level(limited.sum(0).numpy(), 0.005), lw=0.8, label="behind the limiter")
    right.set(xlabel="s", ylabel="dBFS", title="limiter", ylim=(-40, 0))
    right.legend(loc="lower right", fontsize=8)
    return figure


def directivity(bank: Bank) -> Figure:
    """What the room gets less than the crowd; what air takes on the way."""
    figure, (left, right) = _axes(2)
    params = stage.sample(np.random.default_rng(0), 0.5)
    for index in (5.0, 7.5, 10.0):
        _magnitude(left, stage.room_shelf(replace(params, directivity_db=index)), lw=1, label=f"index {index:g} dB")
    _frequency(left, -14, 2, "sound into the room, against straight ahead")
    left.legend(fontsize=8)
    freqs = np.geomspace(20, 20000, 200)
    for metres in (5, 20, 60):
        right.plot(freqs, -metres * air_db_per_m(freqs), lw=1, label=f"{metres} m")
    _frequency(right, -24, 2, "air, 20 °C, 50 %")
    right.legend(fontsize=8)
    return figure


def decay(bank: Bank) -> Figure:
    """Decay curves of the venues, and their RT60 per octave."""
    figure, (left, right) = _axes(2)
    system = stage.sample(np.random.default_rng(0), 0.5)
    for name, ((low, high), (near, far), _) in venue.VENUES.items():
        params = _venue(venue=name, rt60_s=(low + high) / 2, distance_m=(near + far) / 2, drr_db=0.0, seed=3)
        kernel = venue.response(params, system, bank).kernel[0, 0, LEAD:]
        energy = np.cumsum(np.square(kernel[::-1], dtype=np.float64))[::-1]
        step = 200
        curve = 10 * np.log10(energy[::step] / energy[0] + 1e-9)
        left.plot(np.arange(len(curve)) * step / RATE, curve, lw=1, label=name)
        shape, wall, ceiling, floor, fill, _ = simulated.SHAPES[name]
        size = np.array(shape, float)
        sides = simulated.surfaces(wall, ceiling, floor, float(np.mean(fill)), size, (low + high) / 2, 1.3)
        right.plot(simulated.BANDS, simulated.eyring(sides, size), marker=".", lw=1, label=name)
    left.set(xlabel="s", ylabel="dB", ylim=(-60, 2), xlim=(0, 2.2), title="energy decay at DRR 0 dB")
    left.legend(fontsize=7)
    left.grid(alpha=0.3)
    right.set_xscale("log")
    right.set_xticks(simulated.BANDS, [str(b) for b in simulated.BANDS])
    right.minorticks_off()
    right.set(xlabel="Hz", ylabel="s", title="RT60 of simulated rooms (Eyring)")
    right.grid(alpha=0.3)
    return figure


def ratios(bank: Bank) -> Figure:
    """One room at three DRRs, and at three C80s."""
    figure, (left, right) = _axes(2)
    system = stage.sample(np.random.default_rng(0), 0.5)
    room = _venue(venue="club", rt60_s=0.9, distance_m=10.0, seed=5)
    for ratio in (12.0, 3.0, -5.0):
        found = venue.response(replace(room, drr_db=ratio), system, bank)
        left.plot(*_scaled(found.kernel[0, 0]), lw=1, label=f"DRR {found.drr_db:.1f}, C80 {found.c80_db:.1f} dB")
    own = venue.response(replace(room, drr_db=0.0), system, bank).c80_db
    for change in (-1.5, 0.0, 1.5):
        found = venue.response(replace(room, drr_db=0.0, c80_db=own + change), system, bank)
        right.plot(*_scaled(found.kernel[0, 0]), lw=1, label=f"DRR {found.drr_db:.1f}, C80 {found.c80_db:.1f} dB")
    for axis, title in ((left, "one room, three distances"), (right, "the same DRR, three clarities")):
        axis.set(xlabel="ms", ylabel="dB", ylim=(-60, 3), xlim=(-5, 300), title=title)
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    return figure


def _scaled(response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    times, level = _level(response, 0.003)
    return 1000 * (times - LEAD / RATE), level - level.max()


def moving(bank: Bank) -> Figure:
    """A phone that walks through three places: the comb of the reflections changes with the place."""
    figure, (left, right) = _axes(2)
    params = _venue(venue="club", rt60_s=0.5, distance_m=8.0, seed=4, drr_db=4.0, places=3, walk_m=3.0)
    params = replace(params, moves=True, move_start=0.25, move_end=0.75)
    system = stage.sample(np.random.default_rng(0), 0.5)
    found = [venue.response(place, system, bank) for place in venue.route(params)]
    noise = torch.randn(1, 2, 6 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    noise[:, 1] = noise[:, 0]
    heard = venue.through(noise, [(one.kernel, one.late) for one in found], params)[0, 0].numpy()
    freqs, times, power = spectrogram(heard, RATE, nperseg=1 << 12, noverlap=1 << 11)
    power = _pooled(power[freqs < 1500].T, 24).T
    level = 2 * np.round(5 * np.log10(power + 1e-14))
    right.imshow(level, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
                 extent=(0, times[-1], 0, 1500), vmin=level.max() - 24, vmax=level.max())  # fmt: skip
    right.set(xlabel="s", ylabel="Hz", title="white noise heard on the way")
    t = np.linspace(0, 1, 300)
    way = np.clip((t - 0.25) / 0.5, 0, 1) * 2
    for k in range(3):
        weight = np.clip(1 - np.abs(way - k), 0, 1)
        (line,) = left.plot(6 * t, weight, lw=1, label=f"place {k + 1}, direct")
        left.plot(6 * t, np.sqrt(weight), lw=1, ls=":", color=line.get_color())
    left.set(xlabel="s", ylabel="gain", title="cross-fade (dotted: reverberation)")
    left.legend(fontsize=7)
    return figure


def _music_with_gap(seconds: float, gap: list[float]) -> tuple[torch.Tensor, np.ndarray]:
    n = int(seconds * RATE)
    mute = gaps.mute_curve([gap], [[0.3, 0.02]], n)
    return noise_music(3, n) * torch.from_numpy(mute), mute


def people(bank: Bank) -> Figure:
    """The crowd while music plays, in a gap, and when the music comes back."""
    seconds, gap = 12.0, [5.0, 8.5]
    music, mute = _music_with_gap(seconds, gap)
    labels = {item.name: crowd.label(item.name, item.group, item.note) for item in bank.items("crowd")}
    drawn = crowd.sample(np.random.default_rng(4), 0.6, seconds, labels, 1.0, [gap])
    drawn = replace(drawn, clappers=120, applause_db=-10.0, cheerers=30, cheer_db=-12.0, gap_boost_db=16.0)
    heard = programme.analyse(music.sum(0).mean(0).numpy(), mute)
    near, field = scene.render(drawn, heard, music[STEMS.index("vocals")].mean(0).numpy(), bank)
    figure, (left, right) = _axes(2)
    _spectrogram(left, (near + field)[0], "crowd: field and neighbours", 10000)
    right.plot(*_level(music.sum(0).numpy(), 0.1), lw=1, label="music")
    right.plot(*_level(0.05 * field, 0.1), lw=1, label="field")
    right.plot(*_level(0.05 * near, 0.1), lw=1, label="neighbours")
    right.set(xlabel="s", ylabel="dB", ylim=(-70, 0), title="levels around a gap from 5 to 8.5 s")
    right.legend(fontsize=7)
    return figure


def hand(bank: Bank) -> Figure:
    """A bump, a rub, wind, and a phone that goes into a pocket."""
    n = 8 * RATE
    base = handling.sample(np.random.default_rng(0), 0.5, 8.0, True)
    touches = [handling.Touch("bump", 1.0, 3.0, ""), handling.Touch("rub", 2.0, 3.0, "")]
    noise = handling.apply(replace(base, events=touches, pockets=[], wind_db=-120.0), n, MUSIC_RMS, bank)
    windy = handling.apply(replace(base, events=[], pockets=[], wind_db=-6.0), n, MUSIC_RMS, bank)
    pocket = replace(base, events=[], wind_db=-120.0, pockets=[handling.Pocket(2.0, 6.0, 600.0, -25.0, -20.0)])
    music = noise_music(2, n).sum(0)
    covered = handling.muffle(music[None], pocket)[0].numpy() + handling.apply(pocket, n, MUSIC_RMS, bank)
    figure, axes = _axes(3, 10.0)
    _spectrogram(axes[0], noise[0, : 4 * RATE] + 1e-4 * np.random.default_rng(0).standard_normal(4 * RATE),
                 "bump at 1 s, rub at 2 s", 5000)  # fmt: skip
    _spectrogram(axes[1], windy[0], "wind", 2000)
    _spectrogram(axes[2], covered[0], "music, in a pocket from 2 to 6 s", 10000)
    return figure


def phone(bank: Bank) -> Figure:
    """Responses of six phones, three of them measured; the soft clip of the capsule."""
    figure, (left, right) = _axes(2)
    devices = [item.name for item in bank.items("devices")]
    for seed in range(6):
        drawn = capsule.sample(np.random.default_rng(seed), 0.4)
        drawn = replace(drawn, device=devices[7 * seed % len(devices)] if seed % 2 else "")
        _magnitude(left, capsule.response(drawn, bank)[0], lw=1, ls="-" if seed % 2 else ":")
    _frequency(left, -40, 15, "capsules (dotted: parametric)")
    x = torch.linspace(-3, 3, 400).repeat(2, 1)
    for asymmetry in (1.0, 0.6):
        bent = replace(capsule.sample(np.random.default_rng(0), 0.5), overload_db=20.0, asymmetry=asymmetry)
        right.plot(x[0], capsule.overload(x, bent, MUSIC_RMS)[0], lw=1, label=f"asymmetry {asymmetry:g}")
    right.plot(x[0], x[0], lw=0.5, color="grey")
    right.set(xlabel="in", ylabel="out", ylim=(-1.5, 1.5), title="overload, limit 20 dB over the music's RMS")
    right.legend(fontsize=7)
    right.grid(alpha=0.3)
    return figure


def gain_control(bank: Bank) -> Figure:
    """A scream ducks the music; it comes back slowly. What the noise suppressor takes out of a gap."""
    n = 8 * RATE
    music = noise_music(5, n).sum(0)
    music = music * (MUSIC_RMS / filters.active_rms(music))
    loud = music.clone()
    loud[:, 2 * RATE : int(2.6 * RATE)] *= 6.0
    control = agc.AgcParams(True, -20.0, 18.0, 20.0, 400.0, 6.0, 0.0, 0.0, 1.5)
    gain = agc.gain(loud, control, MUSIC_RMS)
    figure, (left, right) = _axes(2)
    left.plot(*_level(loud.numpy(), 0.05), lw=0.8, label="in, loud from 2.0 to 2.6 s")
    left.plot(*_level((loud * gain).numpy(), 0.05), lw=0.8, label="out")
    left.plot(np.arange(0, n, 441) / RATE, 20 * np.log10(gain[::441].numpy()), lw=1, label="gain")
    left.set(xlabel="s", ylabel="dB", ylim=(-45, 15), title="AGC: attack 20 ms, hold 0.4 s, release 6 dB/s")
    left.legend(fontsize=7)
    quiet = music * torch.from_numpy(gaps.mute_curve([[3.0, 5.0]], [[0.2, 0.02]], n))
    noisy = quiet + 0.01 * torch.randn(2, n, generator=torch.Generator().manual_seed(0))
    held = agc.suppress(noisy, replace(control, suppressor_db=12.0, suppressor_bias=2.0))
    right.plot(*_level(noisy.numpy(), 0.05), lw=0.8, label="music and noise, gap from 3 to 5 s")
    right.plot(*_level(held.numpy(), 0.05), lw=0.8, label="behind the suppressor, 12 dB")
    right.set(xlabel="s", ylabel="dBFS", ylim=(-60, 0), title="noise suppressor")
    right.legend(fontsize=7)
    return figure


def coding(bank: Bank) -> Figure:
    """The same music at 16 kHz, as AAC, Opus, and from a telephone codec."""
    music = noise_music(6, 3 * RATE).sum(0)
    x = (0.5 * music / music.abs().max()).numpy()
    narrow = converter.linear(torch.from_numpy(x)[None], converter.ConverterParams(16000, 0.0, 0.0))[0].numpy()
    figure, axes = _axes(4, 11.0, 2.8)
    _spectrogram(axes[0], narrow[0], "converter at 16 kHz")
    for axis, one in zip(axes[1:], (codec.Pass("aac", 44100, 48000, 2), codec.Pass("libopus", 48000, 24000, 1),
                                    codec.Pass("libopencore_amrnb", 8000, 12200, 1)), strict=True):  # fmt: skip
        title = f"{codec.NAMES[one.encoder]}, {one.bit_rate / 1000:g} kbit/s"
        _spectrogram(axis, codec.apply(x, codec.CodecParams([one]))[0], title)
    return figure


def whole(bank: Bank) -> Figure:
    """The same music dry, near the stage and under a screaming crowd."""
    n = 6 * RATE
    stems = noise_music(7, n)[None]
    figure, axes = _axes(3, 10.0)
    for axis, severity, name in zip(axes, (None, 0.15, 0.95), ("dry", "near", "brutal"), strict=True):
        if severity is None:
            _spectrogram(axis, stems[0].sum(0)[0].numpy(), name)
            continue
        chain = CaptureChain(bank, ChainConfig(gap_share=0.0, simulated_share=0.0))
        params = chain.sample(np.random.default_rng(12), n, severity=severity)
        made = chain.apply(stems, [params])
        known = made.measures[0]
        title = f"{name}: SNR {known['snr_db']:.0f}, DRR {known['drr_db']:.0f} dB"
        _spectrogram(axis, made.capture[0, 0].numpy(), title)
    return figure


PICTURES: dict[str, Callable[[Bank], Figure]] = {
    "pa": pa, "directivity": directivity, "decay": decay, "ratios": ratios, "moving": moving, "crowd": people,
    "handling": hand, "capsule": phone, "agc": gain_control, "codec": coding, "chain": whole,
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m resonate.degrade.pictures", description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--only", nargs="+", choices=sorted(PICTURES), default=sorted(PICTURES), help="which ones")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    bank = Bank.load(BANK, "train")
    plt.rcParams.update({"font.size": 8, "axes.titlesize": 9})
    for name in options.only:
        figure = PICTURES[name](bank)
        canvas = io.BytesIO()
        figure.savefig(canvas, dpi=80, format="png")
        plt.close(figure)
        Image.open(canvas).convert("RGB").quantize(160).save(options.out / f"{name}.png", optimize=True)
        log.info("%s", options.out / f"{name}.png")


if __name__ == "__main__":
    main()
