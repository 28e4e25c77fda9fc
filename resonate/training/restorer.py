"""Training the restorer on captures against the dry, full-band mix."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from resonate.data.examples import Example
from resonate.evaluate import measures
from resonate.models.restorer import DB, Restorer, RestorerConfig, apply_gain
from resonate.models.stats import RecordingStats, bin_frequencies
from resonate.training.losses import (
    LogSpectrumLoss,
    coherent_sdr,
    crowd_attenuation,
    gap_level,
    magnitude,
    spectrum,
)
from resonate.training.schedule import OptimiserConfig, build_optimiser


def target_spectrum(references: list[Tensor]) -> Tensor:
    """Mean spectrum in dB (1025,) of finished music, smoothed over a third of an octave, at the level 20 dB per bin sum
    that :meth:`Restorer.heads` refers to.

    Args:
        references: dry mixes (2, samples), 44.1 kHz.
    """
    spectra = []
    for mix in references:
        power = magnitude(mix.mean(0)[None])[0].square().mean(1)
        spectra.append(10 * torch.log10(power / power.sum().clamp(min=1e-12) + 1e-9))
    mean = torch.stack(spectra).mean(0).numpy()
    freqs = np.maximum(bin_frequencies(), 10.0)
    octaves = np.log2(freqs)
    smooth = np.array([mean[np.abs(octaves - o) <= 1 / 6].mean() for o in octaves])
    return torch.as_tensor(smooth - 10 * np.log10(np.sum(10 ** (smooth / 10))) + 20.0, dtype=torch.float32)


class RestorerTask(L.LightningModule):
    """One restorer, its loss and its validation measures.

    Args:
        model: size and bounds.
        optimiser: see :class:`OptimiserConfig`.
        max_steps: of the whole run.
        target_db: see :func:`target_spectrum`; None keeps what weights bring.
        sdr_weight: loss per dB of :func:`coherent_sdr` that the full gain loses. The log-spectral term alone lifts
            weak, noisy bands as readily as clean ones and so costs fidelity to the waveform.
        crowd_weight: loss per dB of :func:`crowd_attenuation` that either gain loses.
        gap_weight: loss per dB of :func:`gap_level` under either gain.
        faithful_weight: of the log-spectral distance in the faithful gain's loss, whose main term is its coherent SDR
            (twice as heavy where it is worse than the input's; three times as heavy did not generalise).
    """

    kind = "restorer"

    def __init__(self, model: RestorerConfig, optimiser: OptimiserConfig, max_steps: int,
                 target_db: Tensor | None = None, sdr_weight: float = 0.5, crowd_weight: float = 0.3,
                 gap_weight: float = 0.1, faithful_weight: float = 0.2) -> None:
        super().__init__()
        self.model = Restorer(model)
        if target_db is not None:
            self.model.target_db.copy_(target_db)
        self.loss = LogSpectrumLoss()
        self.sdr_weight = sdr_weight
        self.crowd_weight = crowd_weight
        self.gap_weight = gap_weight
        self.faithful_weight = faithful_weight
        self.optimiser = optimiser
        self.max_steps = max_steps

    def settings(self) -> dict[str, Any]:
        """Plain values that build the model again."""
        return self.model.config.to_dict()

    def losses(self, batch: Example) -> dict[str, Tensor]:
        """Losses of a batch of examples."""
        heard, clean = spectrum(batch["capture"].mean(1)), spectrum(batch["dry"].sum(1).mean(1))
        music = spectrum(batch["wet"].sum(1).mean(1))
        crowd = heard - music
        captured, reference = heard.abs(), clean.abs()
        inside = batch["in_band"][..., None]
        energy = reference.square().sum(1, keepdim=True)
        played = inside * (energy > 1e-3 * energy.mean(2, keepdim=True))
        heads = self.model.heads(captured, batch["ltas_db"], batch["floor_db"], batch["in_band"])
        with torch.autocast(captured.device.type, enabled=False):
            captured_db = DB * torch.log(captured + 1e-7)
            full_db, extension_db, faithful_db = (head.float() for head in heads)

            full = torch.exp(full_db / DB) * inside
            losses = self.loss((full_db + captured_db) * inside + extension_db * (1 - inside), reference)
            losses["coherent_sdr"] = coherent_sdr(heard * full, clean).mean()
            losses["crowd"] = crowd_attenuation(full * played, music, crowd).mean()
            losses["gap"] = gap_level(full * captured, reference)

            faithful = torch.exp(faithful_db / DB) * inside
            losses["faithful_log_spectrum"] = self.loss(faithful_db * inside + captured_db, reference)["log_spectrum"]
            before, after = coherent_sdr(heard * inside, clean), coherent_sdr(heard * faithful, clean)
            losses["input_sdr"], losses["faithful_sdr"] = before.mean(), after.mean()
            losses["faithful_crowd"] = crowd_attenuation(faithful * played, music, crowd).mean()
            losses["faithful_gap"] = gap_level(faithful * captured, reference)
            harm = (before - after).clamp(min=0).mean()

            losses["loss"] = (losses["loss"] - self.sdr_weight * losses["coherent_sdr"]
                              - losses["faithful_sdr"] + harm
                              + self.faithful_weight * losses["faithful_log_spectrum"]
                              - self.crowd_weight * (losses["crowd"] + losses["faithful_crowd"])
                              + self.gap_weight * (losses["gap"] + losses["faithful_gap"]))
        return losses

    def training_step(self, batch: Example, index: int) -> Tensor:
        """Loss of one batch."""
        losses = self.losses(batch)
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, prog_bar=True,
                      batch_size=len(batch["capture"]))
        return losses["loss"]

    def validation_step(self, batch: Example, index: int) -> dict[str, Tensor]:
        """Loss and the measures of the restored mix, against the input's own."""
        losses = self.losses(batch)
        self.log("valid/loss", losses["loss"], batch_size=1)
        reference = batch["dry"][0].sum(0).float().cpu().numpy()
        with torch.autocast(self.device.type, enabled=False):
            revealed, extended = self.restore(batch)
        outputs = {"input": batch["capture"][0], "reveal": revealed, "extend": extended}
        if float(np.abs(reference).max()) > 1e-3:
            for name, audio in outputs.items():
                for key, value in score(audio.float().cpu().numpy(), reference).items():
                    self.log(f"valid/{name}/{key}", value, batch_size=1)
        return {"input": batch["capture"][0], "restored": extended, "reference": batch["dry"][0].sum(0)}

    def restore(self, batch: Example) -> tuple[Tensor, Tensor]:
        """What the modes reveal and extend give of the first example of a batch, (2, samples) each."""
        in_band = np.flatnonzero(batch["in_band"][0].cpu().numpy())
        freqs = bin_frequencies()
        stats = RecordingStats(batch["ltas_db"][0].cpu().numpy(), batch["floor_db"][0].cpu().numpy(),
                               float(freqs[in_band[0]]), float(freqs[in_band[-1]]), 0.0)
        x = batch["capture"][:1].float()
        faithful = self.model(x, stats, extension_strength=0.0, faithful=True)
        full = self.model(x, stats)
        return apply_gain(x, faithful.gain)[0], apply_gain(x, full.gain)[0] + full.extension[0]

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with warm-up and cosine decay."""
        return build_optimiser(self.model, self.optimiser, self.max_steps)


def score(output: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """The measures logged in validation, of (2, samples) against the aligned reference."""
    return {"f_sdr": measures.f_sdr(output, reference), **measures.lsd_bands(output, reference)}
