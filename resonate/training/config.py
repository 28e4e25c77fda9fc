"""Every setting of a training run; ``configs/`` fills them and the command line overrides them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resonate.data.module import DataConfig
from resonate.degrade.chain import ChainConfig
from resonate.training.restorer import RestorerLoss
from resonate.training.schedule import OptimiserConfig


@dataclass
class ModelConfig:
    """Which model is trained, from where, towards what. All but the first three are the separator's, except ``loss``.

    Attributes:
        kind: ``separator`` or ``restorer``.
        pretrained: ``null`` (from scratch), ``repo`` (the weights in the repo), ``htdemucs`` (the released model,
            downloaded on first use), or a path: weights that train.py wrote, or a file (.safetensors, .th) or folder in
            demucs's own formats.
        options: settings of a new model; weights bring their own, and what contradicts them is refused.
        input: what is heard: ``capture``, or ``dry`` for the plain sum of the clean stems.
        target: what is aimed at: ``wet``, the stems as captured, or ``dry``, the clean stems at the level of these.
        remix: in training, mix stems of different examples of a batch; with ``input: dry`` only.
        crowd_source: a fifth source for all that the capture holds beside the music.
        stft_weight: weight of the separator's STFT loss.
        freeze: modules or parameters to leave as they are, such as ``encoder.*``.
        lora_rank: rank of low-rank updates that are trained in place of whole matrices; 0 trains the matrices.
        lora_targets: in which modules.
        loss: what the restorer aims at and pays for.
    """

    kind: str = "restorer"
    pretrained: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    input: str = "capture"
    target: str = "wet"
    remix: bool = False
    crowd_source: bool = False
    stft_weight: float = 0.5
    freeze: list[str] = field(default_factory=list)
    lora_rank: int = 0
    lora_targets: list[str] = field(default_factory=lambda: ["crosstransformer", "channel_*"])
    loss: RestorerLoss = field(default_factory=RestorerLoss)


@dataclass
class TrainerConfig:
    """How long and on what.

    Attributes:
        max_steps: optimiser steps.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        devices: Lightning's: how many per machine.
        num_nodes: machines.
        strategy: Lightning's; ``ddp`` for more than one device.
        precision: ``auto`` picks bf16-mixed where CUDA or the CPU has instructions for it, else 16-mixed on CUDA and
            32-true on CPU and MPS.
        threads: CPU threads; 0 leaves torch's choice.
        valid_every: steps between validations and exports.
        valid_seconds: length of the captures made for the separator's validation; rendered ones are taken whole.
        checkpoint_every: steps between checkpoints.
        accumulate: batches per optimiser step.
        clip: gradient norm.
        ema: decay of the moving average of the weights, which rises to it over the first steps; 0 keeps none.
    """

    max_steps: int = 20000
    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    threads: int = 0
    valid_every: int = 500
    valid_seconds: float = 20.0
    checkpoint_every: int = 100
    accumulate: int = 1
    clip: float = 5.0
    ema: float = 0.999


@dataclass
class LoggerConfig:
    """Where figures go: ``kind`` is ``wandb`` (offline unless logged in) or ``csv``."""

    kind: str = "wandb"
    project: str = "resonate"


@dataclass
class CallbacksConfig:
    """What else happens during a run.

    Attributes:
        listen: validation examples logged as audio and spectrograms.
        patience: validations without a better ``valid/loss`` after which the run stops; 0 never stops early.
        progress: show a progress bar.
    """

    listen: int = 2
    patience: int = 0
    progress: bool = True


@dataclass
class TrainConfig:
    """A whole run."""

    name: str = "run"
    output: str = "runs/${name}"
    seed: int = 1
    resume: str = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    degrade: ChainConfig = field(default_factory=ChainConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
