"""Losses. All are finite on silence, and a missing stem costs nothing."""

from __future__ import annotations

import torch
from auraloss.freq import STFTLoss
from torch import Tensor, nn

from resonate import STEMS
from resonate.models.restorer import DB, stft
from resonate.models.stats import BINS, N_FFT, bin_frequencies

_OTHER = STEMS.index("other")


def fold_missing(estimate: Tensor, present: Tensor) -> Tensor:
    """Add the estimates of stems that a song does not have apart to its "other", where they sound in the target.

    A finished mix has no stem apart: all estimates are summed and compared with the mix. A song whose bass is part of
    its pads compares the sum of bass and other. A stem known to be silent is present, with a target of zeros.

    Args:
        estimate: (batch, sources, channels, samples); sources beyond the four stems stay as they are.
        present: (batch, 4) bool.
    """
    absent = ~present
    absent[:, _OTHER] = False
    absent = nn.functional.pad(absent, (0, estimate.shape[1] - absent.shape[1]))
    weight = absent[:, :, None, None].to(estimate.dtype)
    extra = (estimate * weight).sum(1, keepdim=True)
    is_other = torch.zeros(estimate.shape[1], device=estimate.device, dtype=estimate.dtype)
    is_other[_OTHER] = 1
    return estimate * (1 - weight) + extra * is_other[None, :, None, None]


class MagnitudeLoss(STFTLoss):
    """auraloss's STFT loss with its term of linear magnitudes alone, on windows that overlap by half, and without the
    phase that it computes for nothing (``torch.angle`` is slow, and unsafe on MPS).

    Against an overlap of three quarters the value moves by 0.1 % and the time falls to a half.
    """

    def __init__(self, fft_size: int) -> None:
        super().__init__(fft_size, fft_size // 2, fft_size, w_sc=0.0, w_log_mag=0.0, w_lin_mag=1.0)

    def stft(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, samples) to magnitudes (batch, bins, frames), twice: the second stands for the phase."""
        z = torch.stft(x, self.fft_size, self.hop_size, self.win_length, self.window, return_complex=True)
        # Not as a sum over a last dimension of two, which takes twice as long on a CPU.
        magnitudes = (z.real.square() + z.imag.square()).clamp(min=self.eps).sqrt()
        return magnitudes, magnitudes


class StemLoss(nn.Module):
    """L1 on waveforms plus L1 on linear STFT magnitudes of the mid channel at two resolutions (auraloss).

    At more resolutions and on both channels the loss costs more than twice what a small HTDemucs does. Neither term
    divides by the target's energy, so a silent stem teaches silence.
    """

    def __init__(self, stft_weight: float = 0.5, fft_sizes: tuple[int, ...] = (2048, 512)) -> None:
        super().__init__()
        self.stft_weight = stft_weight
        self.stft = nn.ModuleList(MagnitudeLoss(n) for n in fft_sizes)

    def forward(self, estimate: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """Scalar loss of (batch, sources, channels, samples) against the same; ``present`` (batch, 4) bool.

        The sources are the four stems and at most one more, whose target is always known.
        """
        known = nn.functional.pad(present, (0, estimate.shape[1] - present.shape[1]), value=True)
        known[:, _OTHER] = True
        estimate = fold_missing(estimate, present)[known]
        target = target[known]
        loss = (estimate - target).abs().mean()
        if self.stft_weight:
            ours, theirs = estimate.mean(1, keepdim=True), target.mean(1, keepdim=True)
            loss = loss + self.stft_weight * sum(stft(ours, theirs) for stft in self.stft) / len(self.stft)
        return loss


class LogSpectrumLoss(nn.Module):
    """Distance of log magnitudes, as the log-spectral distance measures it, plus one of compressed magnitudes.

    Per frame, the root of the weighted mean over bins of the squared difference in dB, with a floor 60 dB below the
    reference's RMS magnitude (between the one of all bins and the one of the bin's band) and after matching levels;
    frames more than 30 dB under the reference's mean (pauses of the music) count ``pause_weight``. Half of the bin
    weight is even over 20 Hz to 20 kHz, half falls with the width of the auditory filters, so that the low octaves
    count.
    """

    def __init__(self, pause_weight: float = 0.3, compressed_weight: float = 8.0, level_weight: float = 0.02) -> None:
        super().__init__()
        self.pause_weight = pause_weight
        self.compressed_weight = compressed_weight
        self.level_weight = level_weight
        freqs = torch.from_numpy(bin_frequencies()).float()
        audible = ((freqs >= 20) & (freqs <= 20000)).float()
        narrow = audible / (24.7 * (4.37 * freqs / 1000 + 1))  # Glasberg and Moore (1990)
        bands = torch.bucketize(freqs, torch.tensor([120.0, 1000.0, 8000.0, 16000.0]))
        membership = nn.functional.one_hot(bands).float()
        self.register_buffer("membership", membership)
        self.register_buffer("weights", 0.5 * audible / audible.sum() + 0.5 * narrow / narrow.sum())

    def forward(self, output_db: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """Losses of ``output_db`` (batch, 1025, frames) against magnitudes ``reference`` of the same shape."""
        energy = reference.square().mean(1)
        mean = energy.mean(1, keepdim=True) + 1e-12
        active = (energy > 1e-3 * mean).float()
        frame_weight = active + self.pause_weight * (1 - active)
        rms = (reference.square() * active[:, None]).sum((1, 2)) / (active.sum(1) * BINS).clamp(min=1) + 1e-12
        per_bin = (reference.square() * active[:, None]).sum(2) / active.sum(1).clamp(min=1)[:, None]
        band_rms = (per_bin @ self.membership / self.membership.sum(0)) @ self.membership.T + 1e-12
        floor = 1e-3 * (rms.sqrt()[:, None] * band_rms.sqrt()).sqrt()[..., None]
        output = torch.exp(output_db / DB)
        output_rms = (output.square() * active[:, None]).sum((1, 2)) / (active.sum(1) * BINS).clamp(min=1) + 1e-12
        level_db = 0.5 * DB * (torch.log(rms) - torch.log(output_rms))
        output = output * torch.exp(level_db / DB)[:, None, None]
        difference = DB * (torch.log(output + floor) - torch.log(reference + floor))
        per_frame = ((difference.square() * self.weights[None, :, None]).sum(1) + 1e-3).sqrt()
        log_loss = (per_frame * frame_weight).sum() / frame_weight.sum()
        root = rms.sqrt()[:, None, None]
        compressed = ((output / root + 1e-4).sqrt() - (reference / root + 1e-4).sqrt()).square()
        compressed = (compressed * self.weights[None, :, None]).sum(1)
        compressed = (compressed * frame_weight).sum() / frame_weight.sum()
        total = log_loss + self.compressed_weight * compressed + self.level_weight * level_db.square().mean()
        return {"loss": total, "log_spectrum": log_loss, "compressed": compressed}


def coherent_sdr(output: Tensor, reference: Tensor) -> Tensor:
    """How much of the output a filtered reference explains, dB: (batch,).

    The reference is scaled per bin by the complex factor that fits the output best over time, which stands for a filter
    shorter than the window (the f_sdr of the evaluation, in the STFT domain); bounded to about +-40 dB.

    Args:
        output, reference: complex STFTs (batch, bins, frames).
    """
    total = output.abs().square().sum((1, 2))
    cross = (output * reference.conj()).sum(2).abs().square()
    explained = (cross / (reference.abs().square().sum(2) + 1e-9)).sum(1)
    floor = 1e-4 * total.detach() + 1e-9
    return 10 * (torch.log10(explained + floor) - torch.log10((total - explained).clamp(min=0) + floor))


def crowd_attenuation(gain: Tensor, music: Tensor, noise: Tensor) -> Tensor:
    """How many dB ``gain`` brings the noise further down under the music: (batch,).

    `noise_attenuation` of the evaluation in the STFT domain: per bin the output is fitted by least squares with one
    complex factor for the music and one for the noise, which stand for filters shorter than the window, and the
    energies of the two parts are compared over all bins. So it sees what the corrective EQ does to the balance, and a
    gain that follows the music alone.

    Args:
        gain: linear, real (batch, bins, frames), 0 where a bin or a frame does not count.
        music, noise: complex STFTs (batch, bins, frames) of what the input consists of.
    """
    counts = (gain.detach() > 0).to(gain.dtype)
    music, noise = music * counts, noise * counts
    of_music, of_noise = music.abs().square().sum(2) + 1e-9, noise.abs().square().sum(2) + 1e-9
    cross = (music * noise.conj()).sum(2)
    output = gain * (music + noise)
    on_music, on_noise = (output * music.conj()).sum(2), (output * noise.conj()).sum(2)
    determinant = (of_music * of_noise - cross.abs().square()).clamp(min=1e-3 * of_music * of_noise)
    # The two normal equations of output ~ a * music + b * noise, by Cramer's rule.
    a = (on_music * of_noise - on_noise * cross.conj()) / determinant
    b = (on_noise * of_music - on_music * cross) / determinant

    def ratio_db(a2: Tensor | float, b2: Tensor | float) -> Tensor:
        total_music, total_noise = (a2 * of_music).sum(1), (b2 * of_noise).sum(1)
        return 10 * torch.log10((total_noise + 1e-4 * total_music + 1e-9) / (total_music + 1e-9))

    return ratio_db(1.0, 1.0) - ratio_db(a.abs().square(), b.abs().square())


class BalanceLoss(nn.Module):
    """How far the long-term balance of bands is from the reference's, dB, whatever the overall level.

    Per example, powers in thirds of an octave from 40 Hz to 16 kHz, averaged over the frames in which there is music,
    are compared in dB, less their mean difference; mean of the magnitudes. A loss of dB per bin alone is least at the
    mean of what might be there, in dB, whose power is too low where the network is unsure: such bands come out thin.
    """

    #: A band this far under all of the reference, as power, weighs no more.
    FLOOR = 1e-6

    def __init__(self) -> None:
        super().__init__()
        centres = 40.0 * 2.0 ** (torch.arange(27) / 3)
        octaves = torch.log2(torch.from_numpy(bin_frequencies()).float().clamp(min=1.0)[None] / centres[:, None])
        # Triangles of a third of an octave either way, so that every band of the lowest has a bin, too.
        self.register_buffer("bands", (1 - 3 * octaves.abs()).clamp(min=0))

    def forward(self, output: Tensor, reference: Tensor) -> Tensor:
        """Mean over the batch, of magnitudes (batch, 1025, frames)."""
        energy = reference.square().sum(1, keepdim=True)
        played = (energy > 1e-3 * energy.mean(2, keepdim=True)).float()
        ours, theirs = ((x.square() * played).sum(2) @ self.bands.T for x in (output, reference))
        floor = self.FLOOR * theirs.sum(1, keepdim=True) + 1e-9
        scale = (theirs.sum(1, keepdim=True) + 1e-9) / (ours.sum(1, keepdim=True) + 1e-9)
        difference = 10 * (torch.log10(ours * scale + floor) - torch.log10(theirs + floor))
        return (difference - difference.mean(1, keepdim=True)).abs().mean()


def gap_level(output: Tensor, reference: Tensor) -> Tensor:
    """Level in dB of the frames without music under those with music, at least -50: mean over the examples that have
    six or more of each, 0 where none has.

    Args:
        output, reference: magnitudes (batch, bins, frames); a frame of the reference 60 dB under its mean is a gap.
    """
    energy = reference.square().sum(1)
    gap = (energy < 1e-6 * energy.mean(1, keepdim=True)).float()
    music = (energy > 1e-3 * energy.mean(1, keepdim=True)).float()
    counts = ((gap.sum(1) >= 6) & (music.sum(1) >= 6)).float()
    level = output.square().sum(1)
    in_gap = (level * gap).sum(1) / gap.sum(1).clamp(min=1)
    in_music = (level * music).sum(1) / music.sum(1).clamp(min=1) + 1e-9
    levels = 10 * torch.log10(in_gap / in_music + 1e-5)
    return (levels * counts).sum() / counts.sum().clamp(min=1)


def spectrum(x: Tensor) -> Tensor:
    """Complex STFT (batch, 1025, frames) of (batch, samples); a full-scale sine reads 1."""
    return stft(x) * (4.0 / N_FFT)


def magnitude(x: Tensor) -> Tensor:
    """STFT magnitude (batch, 1025, frames) of (batch, samples); a full-scale sine reads 1."""
    return spectrum(x).abs()
