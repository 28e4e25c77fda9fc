"""Where a training starts: a new model, weights of the repo, of an earlier run, or of demucs."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from demucs.htdemucs import HTDemucs

from resonate import RATE, STEMS
from resonate.data.module import CaptureData
from resonate.errors import UserError
from resonate.models.demucs_files import find_weights
from resonate.models.released import RELEASED, fetch_released
from resonate.models.restorer import RestorerConfig, with_music
from resonate.models.separator import SEGMENT, add_crowd_source, apply_separator, build_separator
from resonate.models.weights import RESTORER, SEPARATOR, load_restorer, load_separator, read_header
from resonate.training.adapt import add_lora, freeze
from resonate.training.config import ModelConfig, TrainConfig
from resonate.training.restorer import AIMS, RestorerTask, target_spectrum
from resonate.training.separator import SeparatorTask

log = logging.getLogger(__name__)
_CHOICES = {"kind": ("separator", "restorer"), "input": ("capture", "dry"), "target": ("wet", "dry")}
#: Settings of a restorer that are not chosen when training starts, and what decides them.
_NOT_OPTIONS = {"faithful_share": "python -m resonate.training.calibrate measures it",
                "hears_music": "data.separated=true lets the restorer hear what the separator takes for music"}
#: What experiment=restorer brings unasked (configs/model/restorer_small.yaml).
PLAIN_RESTORER = RestorerConfig(context=128).to_dict()


def check_model(model: ModelConfig) -> None:
    """Refuse settings that do not go together, before anything is read. Raises UserError."""
    for name, choices in _CHOICES.items():
        if getattr(model, name) not in choices:
            raise UserError(f"model.{name} is {getattr(model, name)}; the choices are {' and '.join(choices)}.")
    if model.loss.aim not in AIMS:
        raise UserError(f"model.loss.aim is {model.loss.aim}; the choices are {', '.join(AIMS)}.")
    if model.lora_rank < 0:
        raise UserError(f"model.lora_rank must be 0 or more, got {model.lora_rank}.")
    if model.kind == "restorer":
        changed = [name for name in ("input", "target", "remix", "crowd_source", "freeze", "lora_rank")
                   if getattr(model, name) != getattr(ModelConfig(), name)]
        if changed:
            raise UserError(f"model.{changed[0]} is a setting of the separator; leave it out for the restorer.")
        for name, instead in _NOT_OPTIONS.items():
            if name in model.options:
                raise UserError(f"model.options.{name} is not set by hand; {instead}.")
    if model.remix and model.input != "dry":
        raise UserError("model.remix mixes stems of different songs, which share no capture; it needs model.input=dry "
                        "(captures made from data.music are remixed before the capture in any case).")
    if model.crowd_source and (model.input == "dry" or model.target == "dry"):
        raise UserError("model.crowd_source needs model.input=capture and model.target=wet; clean stems have no crowd.")


def _check_options(options: Mapping[str, Any], own: Mapping[str, Any], model: ModelConfig) -> None:
    """UserError for an option that the weights contradict: they bring ``own``, and it would do nothing."""
    instead = " (model=htdemucs_repo brings none)" if model.kind == "separator" else ""
    for name, value in options.items():
        if name not in own or _plain(value) != _plain(own[name]):
            there = f"which have {own[name]}" if name in own else "which have no such setting"
            raise UserError(f"model.options.{name}={value} contradicts the weights model.pretrained="
                            f"{model.pretrained}, {there} and bring their own options; leave it out{instead}, or train "
                            "from scratch with model.pretrained=null.")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def build_task(config: TrainConfig, data: CaptureData, fresh: bool = True) -> L.LightningModule:
    """The LightningModule for ``config.model``, with pretrained weights where they are asked for.

    ``fresh`` is False where a checkpoint will bring all weights.
    """
    model, steps = config.model, config.trainer.max_steps
    if model.kind == "restorer":
        return _restorer(config, data, fresh)
    network, settings = start_separator(model)
    if model.crowd_source:
        network, settings = add_crowd_source(network, settings)
    # In eval mode HTDemucs pads shorter crops to its segment with silence, refuses longer ones and drops nothing out.
    network.train().requires_grad_(True)
    if model.freeze:
        log.info("%d weights stay as they are.", freeze(network, model.freeze))
    if model.lora_rank:
        log.info("Low-rank updates of %d numbers are trained.", add_lora(network, model.lora_rank, model.lora_targets))
    if not any(p.requires_grad for p in network.parameters()):
        raise UserError("model.freeze leaves nothing to train; name fewer modules or set model.lora_rank.")
    return SeparatorTask(network, settings, config.optimiser, steps, model, config.seed)


def _restorer(config: TrainConfig, data: CaptureData, fresh: bool) -> RestorerTask:
    model, steps = config.model, config.trainer.max_steps
    if model.pretrained:
        loaded = load_restorer(RESTORER if model.pretrained == "repo" else Path(model.pretrained).expanduser())
        if loaded.config.hears_music and not config.data.separated:
            raise UserError(f"The restorer in {model.pretrained} hears what the separator takes for music; add it to "
                            "the cache with python -m data_recipes.separate, and data.separated=true.")
        # Of an experiment's own options nobody can tell whether they were asked for.
        _check_options({name: value for name, value in model.options.items()
                        if name not in PLAIN_RESTORER or _plain(value) != _plain(PLAIN_RESTORER[name])},
                       loaded.config.to_dict(), model)
        # The share was measured for these weights, not for those that training makes of them.
        loaded.config = replace(loaded.config, faithful_share=1.0)
        network = with_music(loaded) if config.data.separated else loaded
        return RestorerTask(network.train().requires_grad_(True), config.optimiser, steps, weights=model.loss)
    target = target_spectrum([example["dry"].sum(0) for example in data.look(64)]) if fresh else None
    options = {**model.options, "hears_music": config.data.separated}
    return RestorerTask(_restorer_config(options), config.optimiser, steps, target, model.loss)


def _restorer_config(options: dict[str, Any]) -> RestorerConfig:
    try:
        return RestorerConfig(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"model.options build no restorer ({error}); see configs/model for settings that "
                        "do.") from error


def start_separator(model: ModelConfig) -> tuple[HTDemucs, dict[str, Any]]:
    """The separator to begin with and the settings that build it again. Raises UserError where it cannot be had."""
    if not model.pretrained:
        settings = dict(model.options)
        try:
            network = build_separator(**settings)
            # Some sizes do not fit together, which only shows where sound goes through.
            with torch.no_grad():
                apply_separator(network, torch.zeros(1, 2, RATE))
            return network, settings
        except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
            raise UserError(f"model.options build no HTDemucs ({error}); see configs/model for settings that "
                            "do.") from error
    if model.pretrained == "repo":
        path = SEPARATOR
    elif model.pretrained == RELEASED:
        path = fetch_released("model.pretrained=FILE (model.pretrained=repo is the small model of this repo)")
    else:
        path = find_weights(Path(model.pretrained).expanduser())
    settings = read_header(path, "separator")["settings"]
    defaults = {name: p.default for name, p in inspect.signature(HTDemucs).parameters.items()}
    _check_options(model.options, {**defaults, "segment": SEGMENT, "sources": STEMS, **settings}, model)
    return load_separator(path), settings
