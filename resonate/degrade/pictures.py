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

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy.signal import spectrogram

from resonate import RATE, STEMS
from resonate.degrade import (
    crowd,
    filters,
    gaps,
    pictures_phone,
    plots,
    programme,
    scene,
    simulated,
    stage,
    venue,
)
from resonate.degrade.acoustics import air_db_per_m
from resonate.degrade.bank import Bank
from resonate.degrade.chain import CaptureChain, ChainConfig
from resonate.degrade.fidelity import BANK, noise_music

log = logging.getLogger(__name__)

LEAD = filters.LEAD


def _venue(**changes) -> venue.VenueParams:
    drawn = venue.sample(np.random.default_rng(1), 0.5, moving_share=0.0)
    return replace(drawn, **({"kind": "synthetic", "c80_db": None, "tower_ms": 0.0} | changes))


def pa(bank: Bank) -> Figure:
    """Responses of four systems; what the limiter does to a beat."""
    figure, (left, right) = plots.columns(2)
    for seed in range(4):
        plots.magnitude(left, stage.response(stage.sample(np.random.default_rng(seed), 0.5)), lw=1)
    plots.frequency(left, -30, 18, "four PA systems")
    params = replace(stage.sample(np.random.default_rng(0), 0.5), threshold_db=8.0, release_ms=150.0, width=1.0)
    music = noise_music(0, 3 * RATE)
    limited = stage.apply(music, params)
    right.plot(*plots.level(music.sum(0).numpy(), 0.005), lw=0.8, label="desk")
    right.plot(*plots.level(limited.sum(0).numpy(), 0.005), lw=0.8, label="behind the limiter")
    right.set(xlabel="s", ylabel="dBFS", title="limiter", ylim=(-40, 0))
    right.legend(loc="lower right", fontsize=8)
    return figure


def directivity(bank: Bank) -> Figure:
    """What the room gets less than the crowd; what air takes on the way."""
    figure, (left, right) = plots.columns(2)
    params = stage.sample(np.random.default_rng(0), 0.5)
    for index in (5.0, 7.5, 10.0):
        shelf = stage.room_shelf(replace(params, directivity_db=index))
        plots.magnitude(left, shelf, lw=1, label=f"index {index:g} dB")
    plots.frequency(left, -14, 2, "sound into the room, against straight ahead")
    left.legend(fontsize=8)
    freqs = np.geomspace(20, 20000, 200)
    for metres in (5, 20, 60):
        right.plot(freqs, -metres * air_db_per_m(freqs), lw=1, label=f"{metres} m")
    plots.frequency(right, -24, 2, "air, 20 °C, 50 %")
    right.legend(fontsize=8)
    return figure


def decay(bank: Bank) -> Figure:
    """Decay curves of the venues, and their RT60 per octave."""
    figure, (left, right) = plots.columns(2)
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
    figure, (left, right) = plots.columns(2)
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
    times, level = plots.level(response, 0.003)
    return 1000 * (times - LEAD / RATE), level - level.max()


def moving(bank: Bank) -> Figure:
    """A phone that walks through three places: the comb of the reflections changes with the place."""
    figure, (left, right) = plots.columns(2)
    params = _venue(venue="club", rt60_s=0.5, distance_m=8.0, seed=4, drr_db=4.0, places=3, walk_m=3.0)
    params = replace(params, moves=True, move_start=0.25, move_end=0.75)
    system = stage.sample(np.random.default_rng(0), 0.5)
    found = [venue.response(place, system, bank) for place in venue.route(params)]
    noise = torch.randn(1, 2, 6 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    noise[:, 1] = noise[:, 0]
    heard = venue.through(noise, [(one.kernel, one.late) for one in found], params)[0, 0].numpy()
    freqs, times, power = spectrogram(heard, RATE, nperseg=1 << 12, noverlap=1 << 11)
    power = plots.pooled(power[freqs < 1500].T, 24).T
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
    figure, (left, right) = plots.columns(2)
    plots.spectrogram(left, (near + field)[0], "crowd: field and neighbours", 10000)
    right.plot(*plots.level(music.sum(0).numpy(), 0.1), lw=1, label="music")
    right.plot(*plots.level(0.05 * field, 0.1), lw=1, label="field")
    right.plot(*plots.level(0.05 * near, 0.1), lw=1, label="neighbours")
    right.set(xlabel="s", ylabel="dB", ylim=(-70, 0), title="levels around a gap from 5 to 8.5 s")
    right.legend(fontsize=7)
    return figure


def whole(bank: Bank) -> Figure:
    """The same music dry, near the stage and under a screaming crowd."""
    n = 6 * RATE
    stems = noise_music(7, n)[None]
    figure, axes = plots.columns(3, 10.0)
    for axis, severity, name in zip(axes, (None, 0.15, 0.95), ("dry", "near", "brutal"), strict=True):
        if severity is None:
            plots.spectrogram(axis, stems[0].sum(0)[0].numpy(), name)
            continue
        chain = CaptureChain(bank, ChainConfig(gap_share=0.0, simulated_share=0.0))
        params = chain.sample(np.random.default_rng(12), n, severity=severity)
        made = chain.apply(stems, [params])
        known = made.measures[0]
        title = f"{name}: SNR {known['snr_db']:.0f}, DRR {known['drr_db']:.0f} dB"
        plots.spectrogram(axis, made.capture[0, 0].numpy(), title)
    return figure


PICTURES: dict[str, Callable[[Bank], Figure]] = {
    "pa": pa, "directivity": directivity, "decay": decay, "ratios": ratios, "moving": moving, "crowd": people,
    "handling": pictures_phone.hand, "capsule": pictures_phone.phone, "agc": pictures_phone.gain_control,
    "converter": pictures_phone.conversion, "codec": pictures_phone.coding, "chain": whole,
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
