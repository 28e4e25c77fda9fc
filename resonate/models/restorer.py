"""The restorer: one network that dereverberates inside the captured band and fills the missing bands.

Inside the captured band it only applies a bounded, positive, time-varying gain per STFT bin to what was captured (with
its phase), so it cannot invent. The noise beyond the band follows the gains next to it down, and fades to what it was.
There are two such gains: the full one, with a corrective EQ, aims at the spectrum of the dry, full-band mix, which also
lifts what is weak and noisy; the faithful one aims at the waveform, and so mostly lowers crowd and reverberation.
Outside the band it predicts a magnitude and puts it on a carrier made of captured signal: above the band, the octave
below the edge translated upwards; below it, what little is left there.

What predicts them is one of `resonate.models.restorer_networks`. It hears the recording and, where it was trained to,
what the separator takes for music in it: a second opinion on what is crowd, of a network that errs elsewhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from resonate import RATE
from resonate.models.restorer_networks import BandSplit, UNet
from resonate.models.stats import BINS, HOP, N_FFT, RecordingStats

#: dB per unit of a natural logarithm of magnitudes.
DB = 20.0 / 2.302585093
NETWORKS = ("bands", "unet")
#: Least share of music, in dB, that :func:`music_share_db` tells apart.
LEAST_SHARE_DB = -40.0
#: Octaves beyond the captured band over which :func:`follow` fades.
FADE_OCTAVES = 0.5


@dataclass(frozen=True)
class RestorerConfig:
    """Size and bounds of a :class:`Restorer`.

    Attributes:
        network: ``bands`` or ``unet``, see `resonate.models.restorer_networks`.
        width: features per band.
        dilations: dilation over (pairs of) frames of each block; they set the receptive field.
        context: width of what hears the statistics of the whole recording; 0 has none. Of the bands alone.
        channels: of each level of the U-Net.
        correction: bound of a complex correction relative to the gain, 0..1; 0 keeps the captured phase.
        min_gain_db, max_gain_db: bounds of the predicted gain, before the corrective EQ.
        eq_range_db: bound of the corrective EQ's correction either way.
        hears_music: whether it hears what the separator takes for music, too.
        faithful_share: share of the faithful gain, in dB, that strength 1 applies. Training pays for crowd that stays;
            how much of that keeps the waveform most alike is measured afterwards (`resonate.training.calibrate`).
    """

    network: str = "bands"
    width: int = 64
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1, 2, 4)
    context: int = 0
    channels: tuple[int, ...] = (32, 48, 64, 96, 128, 160)
    correction: float = 0.0
    min_gain_db: float = -50.0
    max_gain_db: float = 12.0
    eq_range_db: float = 30.0
    hears_music: bool = False
    faithful_share: float = 1.0

    def __post_init__(self) -> None:
        # Files and configurations give a list.
        object.__setattr__(self, "dilations", tuple(self.dilations))
        object.__setattr__(self, "channels", tuple(self.channels))
        if self.network not in NETWORKS:
            raise ValueError(f"network is {self.network}; the choices are {' and '.join(NETWORKS)}")
        if not 0 <= self.correction <= 1:
            raise ValueError(f"correction must be from 0 to 1, got {self.correction}")
        if not isinstance(self.hears_music, bool):
            raise ValueError(f"hears_music must be true or false, got {self.hears_music}")

    def to_dict(self) -> dict:
        """JSON-able form."""
        return asdict(self)


class Heads(NamedTuple):
    """What the network says of every bin and frame, (batch, bins, frames) each.

    Attributes:
        full_db: gain in dB inside the band, EQ included.
        extension_db: magnitude outside the band, dB re full scale.
        faithful_db: gain in dB inside the band that aims at the waveform.
        correction: complex factor near 1 that goes with either gain; None where the captured phase stays.
    """

    full_db: Tensor
    extension_db: Tensor
    faithful_db: Tensor
    correction: Tensor | None


@dataclass
class RestorerOutput:
    """What a block becomes.

    Attributes:
        gain: (batch, bins, frames), linear, >= 0: the predicted gain, full (times the corrective EQ) or faithful;
            beyond the captured band see :func:`follow`. Complex with a correction.
        extension: (batch, channels, samples): the filled bands.
    """

    gain: Tensor
    extension: Tensor


def stft(x: Tensor) -> Tensor:
    """(..., samples) to complex (..., 1025, frames), Hann window 2048, hop 512, reflected edges."""
    shape = x.shape[:-1]
    window = torch.hann_window(N_FFT, device=x.device)
    z = torch.stft(x.reshape(-1, x.shape[-1]), N_FFT, HOP, window=window, return_complex=True)
    return z.reshape(*shape, *z.shape[-2:])


def istft(z: Tensor, samples: int) -> Tensor:
    """Inverse of :func:`stft`: (..., 1025, frames) to (..., samples)."""
    shape = z.shape[:-2]
    window = torch.hann_window(N_FFT, device=z.device)
    x = torch.istft(z.reshape(-1, *z.shape[-2:]), N_FFT, HOP, window=window, length=samples)
    return x.reshape(*shape, samples)


def apply_gain(x: Tensor, gain: Tensor) -> Tensor:
    """Apply ``gain`` (batch, 1025, frames) to all channels of ``x`` (batch, channels, samples); linear in ``x``."""
    return istft(stft(x) * gain[:, None], x.shape[-1])


def music_share(separated: Tensor, heard: Tensor) -> Tensor:
    """Share of the music in the magnitudes, over 0 to 1 (also where there is nothing at all).

    Args:
        separated, heard: complex spectra of one shape and scale (re full scale, where it matters what counts as
            nothing): what is taken for music, and what holds it.
    """
    music, rest = separated.abs(), (heard - separated).abs()
    return (music + 1e-7) / (music + rest + 1e-7)


def music_share_db(separated: Tensor, heard: Tensor) -> Tensor:
    """:func:`music_share` in dB, from `LEAST_SHARE_DB` to 0."""
    return (DB * torch.log(music_share(separated, heard))).clamp(min=LEAST_SHARE_DB)


class Restorer(nn.Module):
    """Bounded gains inside the captured band and magnitudes outside it, from log-magnitudes and recording statistics.

    Receptive field: ``network.reach`` frames of 11.6 ms either way (0.9 s for the shipped size).
    """

    FEATURES = 4
    #: Full gain, extension, faithful gain.
    HEADS = 3

    def __init__(self, config: RestorerConfig | None = None) -> None:
        super().__init__()
        self.config = config or RestorerConfig()
        # Mean spectrum of finished music, dB, relative to its level: what the corrective EQ aims at.
        self.register_buffer("target_db", torch.zeros(BINS))
        self.network = self._build()

    def _build(self) -> nn.Module:
        heads = self.HEADS + 2 * (self.config.correction > 0)
        features = self.FEATURES + self.config.hears_music
        if self.config.network == "unet":
            network: nn.Module = UNet(features, heads, self.config.channels)
        else:
            network = BandSplit(features, heads, self.config.width, self.config.dilations, self.config.context)
        if self.config.hears_music:
            # A second opinion that was never given in training must not count.
            for weight in _last_feature(network, features):
                weight.data.zero_()
        return network

    @property
    def max_gain(self) -> float:
        """Largest linear gain, corrective EQ included, that :meth:`forward` can apply to any bin."""
        return 10 ** ((self.config.max_gain_db + self.config.eq_range_db) / 20)

    def equaliser(self, ltas_db: Tensor, in_band: Tensor) -> Tensor:
        """Corrective EQ in dB (batch, bins): a long-term spectrum matched to finished music inside the band.

        It keeps the recording's level: the energy of the long-term spectrum is the same before and after (as far as
        the bound allows), so gains stay comparable with the input.
        """
        difference = (self.target_db - ltas_db) * in_band
        count = in_band.sum(-1, keepdim=True).clamp(min=1)
        centred = (difference - difference.sum(-1, keepdim=True) / count) * in_band
        eq = centred.clamp(-self.config.eq_range_db, self.config.eq_range_db)
        before = (10 ** (ltas_db / 10) * in_band).sum(-1, keepdim=True)
        after = (10 ** ((ltas_db + eq) / 10) * in_band).sum(-1, keepdim=True)
        level = 10 * torch.log10((before + 1e-15) / (after + 1e-15))
        return (eq + level).clamp(-self.config.eq_range_db, self.config.eq_range_db)

    def heads(self, mid: Tensor, ltas_db: Tensor, floor_db: Tensor, in_band: Tensor,
              share_db: Tensor | None = None) -> Heads:
        """Run the network.

        Args:
            mid: magnitudes of the mid channel (batch, bins, frames), re full scale (a full-scale sine is 1).
            ltas_db, floor_db, in_band: statistics, (batch, bins) each.
            share_db: of the separated music in the mid channel (batch, bins, frames), see :func:`music_share_db`; None:
                no opinion, as where all is music. Only a network that hears it reads it.
        """
        eq = self.equaliser(ltas_db, in_band)
        level = 10 * torch.log10((10 ** ((ltas_db + eq) / 10) * in_band).sum(-1) + 1e-15)[:, None, None] - 20.0
        captured = DB * torch.log(mid + 1e-7)
        equalised = captured + eq[..., None] - level
        features = torch.stack([
            equalised.clamp(-80, 60) / 20,
            (captured - floor_db[..., None]).clamp(-20, 60) / 20,
            in_band[..., None].expand_as(captured) * 2 - 1,
            (eq[..., None] / 20).expand_as(captured),
            *([torch.zeros_like(captured) if share_db is None else share_db / 10] * self.config.hears_music)], -1)
        statistics = torch.stack([(ltas_db + eq - level[..., 0]).clamp(-80, 60) / 20, eq / 20,
                                  (ltas_db - floor_db).clamp(0, 60) / 20, in_band * 2 - 1], 1)
        out = self.network(features, statistics)
        extension = self.target_db[None, :, None] + 12.0 * out[..., 1] + level
        return Heads(self._bounded(out[..., 0]) + eq[..., None], extension.clamp(-140, 30),
                     self._bounded(out[..., 2]), self._correction(out))

    def _correction(self, out: Tensor) -> Tensor | None:
        if not self.config.correction:
            return None
        real, imag = out[..., 3], out[..., 4]
        size = self.config.correction / torch.sqrt(1 + real.square() + imag.square())
        return torch.complex(1 + size * real, size * imag)

    def _bounded(self, x: Tensor) -> Tensor:
        """Gain in dB within the bounds; centred so that an untrained head neither raises nor lowers."""
        low, high = self.config.min_gain_db, self.config.max_gain_db
        return low + (high - low) * torch.sigmoid(x + float(np.log(-low / high)))

    def forward(self, x: Tensor, stats: RecordingStats, gain_strength: float = 1.0,
                extension_strength: float = 1.0, faithful: bool = False, music: Tensor | None = None) -> RestorerOutput:
        """Restore one block.

        Args:
            x: (batch, channels, samples), 44.1 kHz; more than 2048 samples.
            stats: of the whole recording that the block belongs to.
            gain_strength, extension_strength: 0..1; 0 leaves the band untouched, or adds nothing.
            faithful: apply the faithful gain instead of the full one.
            music: what the separator takes for music in ``x``, of its shape; None: no opinion.
        """
        ltas, floor, in_band = (torch.as_tensor(v, device=x.device).expand(x.shape[0], -1)
                                for v in (stats.ltas_db, stats.floor_db, stats.in_band))
        spectrum = stft(x)
        mid = spectrum.mean(1).abs() * (4.0 / N_FFT)
        share_db = None
        if music is not None and self.config.hears_music:
            share_db = music_share_db(stft(music.mean(1)) * (4.0 / N_FFT), spectrum.mean(1) * (4.0 / N_FFT))
        heads = self.heads(mid, ltas, floor, in_band, share_db)
        gain_db = self.config.faithful_share * heads.faithful_db if faithful else heads.full_db
        gain = 10 ** (gain_strength * follow(gain_db, stats.in_band) / 20)
        if heads.correction is not None:
            gain = gain * (1 + gain_strength * in_band[..., None] * (heads.correction - 1))
        if extension_strength == 0:
            return RestorerOutput(gain, torch.zeros_like(x))
        carrier = extension_carrier(spectrum * gain[:, None], spectrum, stats)
        magnitude = 10 ** (heads.extension_db / 20) * (N_FFT / 4.0) * (1 - in_band[..., None]) * extension_strength
        extension = istft(carrier * magnitude[:, None], x.shape[-1])
        return RestorerOutput(gain, _outside(extension, stats))


def _last_feature(network: nn.Module, features: int) -> list[Tensor]:
    """Views of the weights through which the last of the features enters a network."""
    if isinstance(network, UNet):
        return [network.enter.weight.detach()[:, features - 1 :: features]]
    assert isinstance(network, BandSplit)
    return [layer.weight.detach()[:, features - 1 :: features] for layer in network.inputs]


def with_music(model: Restorer) -> Restorer:
    """A restorer that also hears what the separator takes for music, and so far does as `model` does; `model` itself
    where it hears it already."""
    if model.config.hears_music:
        return model
    wider = Restorer(replace(model.config, hears_music=True))
    state, features = wider.state_dict(), Restorer.FEATURES + 1
    for name, weight in model.state_dict().items():
        if state[name].shape == weight.shape:
            state[name] = weight
        else:
            others = torch.arange(state[name].shape[1]) % features < Restorer.FEATURES
            state[name][:, others] = weight
    wider.load_state_dict(state)
    return wider.train(model.training)


def follow(gain_db: Tensor, in_band: np.ndarray) -> Tensor:
    """Gains in dB, (..., bins, frames), that beyond the captured band begin as those next to it, at most 0 dB, and are
    0 dB from `FADE_OCTAVES` on.

    Beyond the band there is noise alone. If it stayed as it is where the band is turned down, a rim of it would be left
    at the edge, which sings. The gains are means over the third of an octave below the upper edge and over the octave
    above the lower.

    Args:
        in_band: (bins,) 1 inside the captured band.
    """
    inside = np.flatnonzero(in_band)
    low, high = int(inside[0]), int(inside[-1])
    above = gain_db[..., int(high * 2 ** (-1 / 3)) : high + 1, :].mean(-2, keepdim=True).clamp(max=0.0)
    below = gain_db[..., low : 2 * low + 1, :].mean(-2, keepdim=True).clamp(max=0.0)
    bins = torch.arange(gain_db.shape[-2], dtype=torch.float32, device=gain_db.device)[:, None]
    beyond = torch.log2(torch.maximum(bins / high, low / bins.clamp(min=0.5)))
    share = (1 - beyond / FADE_OCTAVES).clamp(min=0.0)
    return torch.where(bins < low, below * share, torch.where(bins > high, above * share, gain_db))


def _outside(x: Tensor, stats: RecordingStats) -> Tensor:
    """Remove from (..., samples) what the STFT's window leaks into the captured band, and what lies below 20 Hz or
    above 20 kHz, which no loss sees: a linear-phase band stop whose slopes are raised cosines over the sixth of an
    octave beyond the edges."""
    samples = x.shape[-1]
    padded = samples + 2 * N_FFT
    freqs = torch.fft.rfftfreq(padded, 1 / RATE, device=x.device)
    octaves_below = torch.log2(stats.low_hz / freqs.clamp(min=1.0)) * 6
    octaves_above = torch.log2(freqs.clamp(min=1.0) / stats.high_hz) * 6
    keep = torch.maximum(octaves_below, octaves_above).clamp(0, 1)
    keep = (0.5 - 0.5 * torch.cos(np.pi * keep)) * (freqs >= 20.0) * (freqs <= 20000.0)
    return torch.fft.irfft(torch.fft.rfft(x, padded) * keep, padded)[..., :samples]


def extension_carrier(revealed: Tensor, captured: Tensor, stats: RecordingStats) -> Tensor:
    """Unit-magnitude carrier for the missing bands, (batch, channels, bins, frames), from captured signal only.

    Above the band, the half below the upper edge is copied upwards by a multiple of four bins: with a hop of a quarter
    window that is an exact frequency translation without phase jumps between frames. Below the band the captured bins
    themselves carry.
    """
    last = int(np.flatnonzero(stats.in_band)[-1])
    shift = max(4, (last // 2) // 4 * 4)
    source = torch.arange(revealed.shape[-2], device=revealed.device)
    above = source > last
    source = torch.where(above, last - (shift - 1) + (source - last - 1) % shift, source)
    carrier = torch.where(above[:, None], revealed[..., source, :], captured)
    return carrier / (carrier.abs() + 1e-7)
