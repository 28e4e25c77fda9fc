"""Training the restorer on captures against the dry, full-band mix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from resonate import faithfulness
from resonate.data.examples import Example
from resonate.evaluate import measures
from resonate.models.restorer import DB, Restorer, RestorerConfig, apply_gain, music_share_db
from resonate.models.stats import RecordingStats, bin_frequencies
from resonate.training.adversary import Adversary
from resonate.training.losses import (
    BalanceLoss,
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


@dataclass
class RestorerLoss:
    """Weights of the parts of the restorer's loss beside the log-spectral distance, and what it aims at.

    Attributes:
        aim: ``dry`` (the clean, full-band mix), ``early`` (it with the first reflections of its room), ``wet`` (the
            music as captured), or ``staged``: wet for the first tenth of the run, early for the next fifth, then dry.
        sdr: per dB of :func:`coherent_sdr` that the full gain loses. The log-spectral term alone lifts weak, noisy
            bands as readily as clean ones and so costs fidelity to the waveform.
        crowd: per dB of :func:`crowd_attenuation` that either gain loses.
        gap: per dB of :func:`gap_level` under either gain.
        balance: per dB of :class:`BalanceLoss`.
        faithful: of the log-spectral distance in the faithful gain's loss, whose main term is its coherent SDR (twice
            as heavy where it is worse than the input's; three times as heavy did not generalise).
        adversarial: of the critic of the synthesis, see `resonate.training.adversary`; 0 has none.
    """

    aim: str = "dry"
    sdr: float = 0.5
    crowd: float = 0.3
    gap: float = 0.1
    balance: float = 0.3
    faithful: float = 0.2
    adversarial: float = 0.0


#: Shares of a staged run at which the aim becomes early and dry.
STAGES = (0.1, 0.3)
AIMS = ("dry", "early", "wet", "staged")


class RestorerTask(L.LightningModule):
    """One restorer, its loss and its validation measures.

    Args:
        model: size and bounds, or a restorer to begin with.
        optimiser: see :class:`OptimiserConfig`.
        max_steps: of the whole run.
        target_db: see :func:`target_spectrum`; None keeps what weights bring.
        weights: of the loss's parts.
    """

    kind = "restorer"

    def __init__(self, model: RestorerConfig | Restorer, optimiser: OptimiserConfig, max_steps: int,
                 target_db: Tensor | None = None, weights: RestorerLoss | None = None) -> None:
        super().__init__()
        self.model = model if isinstance(model, Restorer) else Restorer(model)
        if target_db is not None:
            self.model.target_db.copy_(target_db)
        self.loss, self.balance = LogSpectrumLoss(), BalanceLoss()
        self.weights = weights or RestorerLoss()
        self.optimiser = optimiser
        self.max_steps = max_steps
        self.adversary = Adversary(torch.device("cpu")) if self.weights.adversarial else None

    def settings(self) -> dict[str, Any]:
        """Plain values that build the model again."""
        return self.model.config.to_dict()

    def aim(self) -> str:
        """What is aimed at now: ``dry``, ``early`` or ``wet``."""
        if self.weights.aim != "staged":
            return self.weights.aim
        share = self.global_step / max(1, self.max_steps)
        return "wet" if share < STAGES[0] else "early" if share < STAGES[1] else "dry"

    def losses(self, batch: Example, aim: str = "dry") -> dict[str, Tensor]:
        """Losses of a batch of examples against what is aimed at."""
        music = spectrum(batch["wet"].sum(1).mean(1))
        clean = {"dry": lambda: spectrum(batch["dry"].sum(1).mean(1)), "wet": lambda: music,
                 "early": lambda: spectrum(batch["early"].mean(1))}[aim]()
        heard = spectrum(batch["capture"].mean(1))
        crowd = heard - music
        captured, reference = heard.abs(), clean.abs()
        inside = batch["in_band"][..., None]
        energy = reference.square().sum(1, keepdim=True)
        played = inside * (energy > 1e-3 * energy.mean(2, keepdim=True))
        share_db = None
        if "separated" in batch:
            share_db = music_share_db(spectrum(batch["separated"].mean(1)), heard)
        heads = self.model.heads(captured, batch["ltas_db"], batch["floor_db"], batch["in_band"], share_db)
        with torch.autocast(captured.device.type, enabled=False):
            captured_db = DB * torch.log(captured + 1e-7)
            if heads.correction is not None:
                heard = heard * (1 + inside * (heads.correction - 1))
                captured_db = DB * torch.log(heard.abs() + 1e-7)
            full = torch.exp(heads.full_db.float() / DB) * inside
            extended_db = (heads.full_db + captured_db) * inside + heads.extension_db * (1 - inside)
            losses = self.loss(extended_db, reference)
            losses["coherent_sdr"] = coherent_sdr(heard * full, clean).mean()
            losses["crowd"] = crowd_attenuation(full * played, music, crowd).mean()
            losses["gap"] = gap_level(full * captured, reference)
            losses["balance"] = self.balance(torch.exp(extended_db / DB), reference)

            faithful_db = heads.faithful_db.float() * inside
            faithful = torch.exp(faithful_db / DB) * inside
            losses["faithful_log_spectrum"] = self.loss(faithful_db + captured_db, reference)["log_spectrum"]
            before, after = coherent_sdr(heard * inside, clean), coherent_sdr(heard * faithful, clean)
            losses["input_sdr"], losses["faithful_sdr"] = before.mean(), after.mean()
            losses["faithful_crowd"] = crowd_attenuation(faithful * played, music, crowd).mean()
            losses["faithful_gap"] = gap_level(faithful * captured, reference)
            harm = (before - after).clamp(min=0).mean()

            w = self.weights
            losses["loss"] = (losses["loss"] - w.sdr * losses["coherent_sdr"] - losses["faithful_sdr"] + harm
                              + w.faithful * losses["faithful_log_spectrum"] + w.balance * losses["balance"]
                              - w.crowd * (losses["crowd"] + losses["faithful_crowd"])
                              + w.gap * (losses["gap"] + losses["faithful_gap"]))
            if self.adversary is not None:
                real_db = DB * torch.log(reference + 1e-7)
                synthesised_db = torch.where(inside > 0, real_db, extended_db)
                if self.training:
                    losses["critic"] = self.adversary.learn(synthesised_db, real_db)
                losses["adversarial"] = self.adversary.loss(synthesised_db)
                losses["loss"] = losses["loss"] + w.adversarial * losses["adversarial"]
        return losses

    def on_fit_start(self) -> None:
        """The critic computes where the model does."""
        if self.adversary is not None:
            self.adversary.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The critic goes on where it was, too."""
        if self.adversary is not None:
            checkpoint["adversary"] = self.adversary.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See :meth:`on_save_checkpoint`."""
        if self.adversary is not None and "adversary" in checkpoint:
            self.adversary.load_state_dict(checkpoint["adversary"])

    def training_step(self, batch: Example, index: int) -> Tensor:
        """Loss of one batch."""
        losses = self.losses(batch, self.aim())
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, prog_bar=True,
                      batch_size=len(batch["capture"]))
        return losses["loss"]

    def validation_step(self, batch: Example, index: int) -> dict[str, Tensor]:
        """Loss, the measures of the restored mix against the input's own, and what restoring's checks say of either
        mode inside the captured band."""
        losses = self.losses(batch)
        self.log("valid/loss", losses["loss"], batch_size=1)
        reference = batch["dry"][0].sum(0).float().cpu().numpy()
        with torch.autocast(self.device.type, enabled=False):
            revealed, extended = self.restore(batch)
        outputs = {"input": batch["capture"][0], "reveal": revealed, "extend": extended}
        played = bool(np.abs(reference).max() > 1e-3)
        if played:
            for name, audio in outputs.items():
                for key, value in score(audio.float().cpu().numpy(), reference).items():
                    self.log(f"valid/{name}/{key}", value, batch_size=1)
        given = faithfulness.magnitudes(batch["capture"][0].float().cpu())
        floor_db, in_band = (batch[name][0].cpu().numpy() for name in ("floor_db", "in_band"))
        for name in ("reveal", "extend"):
            made = faithfulness.magnitudes(outputs[name].float().cpu())
            figures, failed = faithfulness.check(made, given, floor_db, in_band, crowd_only=not played)
            for key, value in figures.items():
                self.log(f"valid/{name}/faithfulness/{key}", value, batch_size=1)
            # Its mean is the share of the captures that restoring would take back.
            self.log(f"valid/{name}/taken_back", float(bool(failed)), batch_size=1)
        return {"input": batch["capture"][0], "restored": extended, "reference": batch["dry"][0].sum(0)}

    def restore(self, batch: Example) -> tuple[Tensor, Tensor]:
        """What the modes reveal and extend give of the first example of a batch, (2, samples) each."""
        in_band = np.flatnonzero(batch["in_band"][0].cpu().numpy())
        freqs = bin_frequencies()
        stats = RecordingStats(batch["ltas_db"][0].cpu().numpy(), batch["floor_db"][0].cpu().numpy(),
                               float(freqs[in_band[0]]), float(freqs[in_band[-1]]), 0.0)
        x = batch["capture"][:1].float()
        music = batch["separated"][:1].float() if "separated" in batch else None
        faithful = self.model(x, stats, extension_strength=0.0, faithful=True, music=music)
        full = self.model(x, stats, music=music)
        return apply_gain(x, faithful.gain)[0], apply_gain(x, full.gain)[0] + full.extension[0]

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with warm-up and cosine decay."""
        return build_optimiser(self.model, self.optimiser, self.max_steps)


def score(output: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """The measures logged in validation, of (2, samples) against the aligned reference."""
    return {"f_sdr": measures.f_sdr(output, reference), **measures.lsd_bands(output, reference)}
