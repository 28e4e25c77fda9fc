"""Pictures of the stages in the phone and around it: handling, capsule, gain control, converter, codec."""

from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure

from resonate import RATE
from resonate.degrade import agc, capsule, codec, converter, filters, gaps, handling, plots
from resonate.degrade.bank import Bank
from resonate.degrade.chain import MUSIC_RMS
from resonate.degrade.fidelity import noise_music


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
    figure, axes = plots.columns(3, 10.0)
    plots.spectrogram(axes[0], noise[0, : 4 * RATE] + 1e-4 * np.random.default_rng(0).standard_normal(4 * RATE),
                 "bump at 1 s, rub at 2 s", 5000)  # fmt: skip
    plots.spectrogram(axes[1], windy[0], "wind", 2000)
    plots.spectrogram(axes[2], covered[0], "music, in a pocket from 2 to 6 s", 10000)
    return figure


def phone(bank: Bank) -> Figure:
    """Responses of six phones, three of them measured; the soft clip of the capsule."""
    figure, (left, right) = plots.columns(2)
    devices = [item.name for item in bank.items("devices")]
    for seed in range(6):
        drawn = capsule.sample(np.random.default_rng(seed), 0.4)
        drawn = replace(drawn, device=devices[7 * seed % len(devices)] if seed % 2 else "")
        plots.magnitude(left, capsule.response(drawn, bank)[0], lw=1, ls="-" if seed % 2 else ":")
    plots.frequency(left, -40, 15, "capsules (dotted: parametric)")
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
    figure, (left, right) = plots.columns(2)
    left.plot(*plots.level(loud.numpy(), 0.05), lw=0.8, label="in, loud from 2.0 to 2.6 s")
    left.plot(*plots.level((loud * gain).numpy(), 0.05), lw=0.8, label="out")
    left.plot(np.arange(0, n, 441) / RATE, 20 * np.log10(gain[::441].numpy()), lw=1, label="gain")
    left.set(xlabel="s", ylabel="dB", ylim=(-45, 15), title="AGC: attack 20 ms, hold 0.4 s, release 6 dB/s")
    left.legend(fontsize=7)
    quiet = music * torch.from_numpy(gaps.mute_curve([[3.0, 5.0]], [[0.2, 0.02]], n))
    noisy = quiet + 0.01 * torch.randn(2, n, generator=torch.Generator().manual_seed(0))
    held = agc.suppress(noisy, replace(control, suppressor_db=12.0, suppressor_bias=2.0))
    right.plot(*plots.level(noisy.numpy(), 0.05), lw=0.8, label="music and noise, gap from 3 to 5 s")
    right.plot(*plots.level(held.numpy(), 0.05), lw=0.8, label="behind the suppressor, 12 dB")
    right.set(xlabel="s", ylabel="dBFS", ylim=(-60, 0), title="noise suppressor")
    right.legend(fontsize=7)
    return figure


def conversion(bank: Bank) -> Figure:
    """What a converter passes at four sample rates and with a high-pass; a recording that is driven into full scale."""
    figure, (left, right) = plots.columns(2)
    click = torch.zeros(1, 2, 1 << 14)
    click[..., 1 << 13] = 1.0
    for rate, highpass_hz in ((48000, 0.0), (16000, 0.0), (8000, 0.0), (22050, 100.0)):
        heard = converter.linear(click, converter.ConverterParams(rate, highpass_hz, 0.0))[0, 0].numpy()
        label = f"{rate / 1000:g} kHz" + (f", high-pass at {highpass_hz:g} Hz" if highpass_hz else "")
        plots.magnitude(left, heard, lw=1, label=label)
    plots.frequency(left, -60, 6, "high-pass and sample rate")
    left.legend(fontsize=7, loc="lower center")
    music = noise_music(8, RATE).sum(0)
    music = music * (10 ** (-9 / 20) / filters.active_rms(music))
    peak = int(music[0].abs().argmax())
    shown = slice(max(0, peak - 400), peak + 400)
    t = np.arange(shown.stop - shown.start) / RATE * 1000
    right.plot(t, music[0, shown], lw=0.8, label="in front of the converter")
    right.plot(t, converter.clip(music)[0, shown], lw=1, label="clipped at full scale")
    right.set(xlabel="ms", title="music at -9 dBFS, around its peak")
    right.legend(fontsize=7)
    return figure


def coding(bank: Bank) -> Figure:
    """The same music at 16 kHz, as AAC, Opus, and from a telephone codec."""
    music = noise_music(6, 3 * RATE).sum(0)
    x = (0.5 * music / music.abs().max()).numpy()
    narrow = converter.linear(torch.from_numpy(x)[None], converter.ConverterParams(16000, 0.0, 0.0))[0].numpy()
    figure, axes = plots.columns(4, 11.0, 2.8)
    plots.spectrogram(axes[0], narrow[0], "converter at 16 kHz")
    for axis, one in zip(axes[1:], (codec.Pass("aac", 44100, 48000, 2), codec.Pass("libopus", 48000, 24000, 1),
                                    codec.Pass("libopencore_amrnb", 8000, 12200, 1)), strict=True):  # fmt: skip
        title = f"{codec.NAMES[one.encoder]}, {one.bit_rate / 1000:g} kbit/s"
        plots.spectrogram(axis, codec.apply(x, codec.CodecParams([one]))[0], title)
    return figure
