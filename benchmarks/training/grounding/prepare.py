"""Model and data of a training of Grounding DINO, from its YAML file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.console import Console

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.runner.loading import choose_device
from ovd_bench.benchmarks.training.grounding.class_captions import seen_names
from ovd_bench.benchmarks.training.grounding.config import GroundingDinoTraining, ModelSettings
from ovd_bench.benchmarks.training.grounding.open_data import open_data
from ovd_bench.benchmarks.training.grounding.reading import (
    check_given,
    reading,
    reading_facts,
    text_is_frozen,
    vocabulary_phrases,
)
from ovd_bench.benchmarks.training.grounding.sources import Source
from ovd_bench.benchmarks.training.prepared import Batches, Machine, Prepared
from ovd_bench.benchmarks.training.processes import group
from ovd_bench.grounding_dino_jt.closed_set import class_encoder, tokenizer_of
from ovd_bench.grounding_dino_jt.config import Config, TextConfig
from ovd_bench.grounding_dino_jt.device import use_device
from ovd_bench.grounding_dino_jt.tokenizer import Tokenizer, packaged_folder, packaged_tokenizer, read_tokenizer
from ovd_bench.grounding_dino_jt.training.recipe import ENCODER_RATES
from ovd_bench.grounding_dino_jt.weights import (
    draw_backbone,
    expected_shapes,
    read_backbone,
    read_checkpoint,
    read_text_encoder,
    tensors_sha256,
)
from ovd_bench.metrics.errors import DataError

_Tensors = dict[str, npt.NDArray[np.float32]]
#: Names of text encoders that are no folders, and of a backbone that is no file.
PACKAGED: Final = "packaged"
CLASSES: Final = "classes"
DRAWN: Final = "drawn"


def prepare(config: GroundingDinoTraining, machine: Machine, console: Console | None) -> Prepared:
    """Open the data and make the model; missing data is rendered first if possible.

    Raises:
        DataError: data or weights that are missing or bad.
    """
    processes = group()
    if config.batch % (processes.count * config.parts):
        raise DataError(
            f"batch is {config.batch}, not divisible by {processes.count} processes with {config.parts} parts each"
        )
    opened = open_data(config, machine.data_root, None if processes.rank else console)
    tokenizer, tensors, model, packaged = _start(config, opened.sources)
    _check(config, model)
    data = opened.batches(config, tokenizer)
    phrases = vocabulary_phrases(opened.sources, tokenizer.words, config.data.max_tokens) if model.text.centred else []

    os.environ["OMP_NUM_THREADS"] = str(
        machine.threads
    )  # Jittor and torch read it when they are imported, which is now
    try:
        device = choose_device(machine.device, "jittor")
        if config.precision != "float32" and device == "cpu":
            raise ValueError(f"precision is {config.precision}, which needs a CUDA device; the CPU computes in float32")
        use_device(device)
    except (ValueError, RuntimeError) as error:
        raise DataError(str(error)) from error
    from ovd_bench.benchmarks.training.grounding.trainer import GroundingDinoTrainer
    from ovd_bench.grounding_dino_jt.training.centring import TEXT_MEAN, centre_text
    from ovd_bench.grounding_dino_jt.training.losses import STYLES
    from ovd_bench.grounding_dino_jt.training.optimisation import GroundingDinoOptimisation, Settings
    from ovd_bench.grounding_dino_jt.training.recompute import recompute_layers
    from ovd_bench.grounding_dino_jt.training.start import new_network

    try:
        network = new_network(model, tensors, config.seed)
    except ValueError as error:  # options that do not fit the weights
        raise DataError(printable(f"trainer 'grounding-dino': model: {error}")) from error
    if model.text.centred and TEXT_MEAN not in tensors:
        centre_text(network, phrases)
    first = network.state_dict()
    if config.recompute:
        recompute_layers(network)
    recipe = config.recipe(data.batches_per_epoch)
    losses, denoising = STYLES[config.losses], config.denoising.config()
    optimisation = GroundingDinoOptimisation(network, Settings(recipe, losses, denoising, config.precision), processes)
    start = tensors if config.interpolate else {}
    kept = packaged if text_is_frozen(recipe, tensors) else ""
    trainer = GroundingDinoTrainer(config, optimisation, tokenizer, start, kept)
    facts = {
        **opened.facts(),
        "batches_per_epoch": data.batches_per_epoch,
        "start": config.model.weights or "random",
        **{
            key: tensors_sha256({name: value.numpy() for name, value in first.items() if name.startswith(beginning)})
            for key, beginning in (("backbone_sha256", "backbone."), ("text_sha256", "bert."))
        },
        **reading_facts(model.text.phrase_frame, phrases),
        "threads": machine.threads,
        "processes": processes.count,
    }

    def batches(first: int) -> Batches:
        return data.batches(first, rank=processes.rank, world=processes.count)

    return Prepared(trainer, recipe.steps, batches, None if processes.rank else opened.evaluation, facts, processes)


def _check(config: GroundingDinoTraining, model: Config) -> None:
    """Raise ``DataError`` for settings that do not fit the model, which would otherwise fail late or never."""
    try:
        names = [*expected_shapes(model), "label_enc.weight"]
    except ValueError as error:
        raise DataError(printable(f"trainer 'grounding-dino': model: {error}")) from error
    if config.data.max_tokens > model.max_text_len:
        raise DataError(f"data.max_tokens is {config.data.max_tokens}, but the model reads {model.max_text_len} tokens")
    for beginning in config.optimizer.rates.keys() - ENCODER_RATES.keys():
        if not any(name.startswith(beginning) for name in names):
            raise DataError(printable(f"optimizer.rates: no parameter's name begins with '{beginning}'"))


def _start(config: GroundingDinoTraining, sources: Sequence[Source]) -> tuple[Tokenizer, _Tensors, Config, str]:
    """Tokeniser, given initial weights, configuration of the model, sha256 of the packaged text encoder."""
    settings = config.model
    try:
        if settings.weights:
            path = Path(settings.weights)
            given = read_checkpoint(path)
            tokenizer = tokenizer_of(path, given.config.text)
            model = settings.config(given.config)
            unlearned = bool(given.packaged_text_sha256) and text_is_frozen(config.recipe(1), given.tensors)
            check_given(settings, given.config.text, unlearned=unlearned)
            return tokenizer, given.tensors, model, given.packaged_text_sha256
        tokenizer, text, tensors, packaged = _text(settings, sources)
        frozen = bool(tensors) and text_is_frozen(config.recipe(1), tensors)
        text = reading(settings, text, frozen=frozen)
        model = dataclasses.replace(settings.config(), text=text)
        if settings.backbone == DRAWN:
            tensors |= draw_backbone(model.backbone, config.seed)
        elif settings.backbone:
            tensors |= read_backbone(Path(settings.backbone), model)
        return tokenizer, tensors, model, packaged
    except ValueError as error:
        raise DataError(printable(f"trainer 'grounding-dino': model: {error}")) from error


def _text(settings: ModelSettings, sources: Sequence[Source]) -> tuple[Tokenizer, TextConfig, _Tensors, str]:
    """Tokeniser, sizes and initial weights of the text encoder, and its sha256 if it is the packaged one."""
    if settings.text_encoder == CLASSES:
        names = [name for source in sources for name in seen_names(source.names, source.records.labels.values)]
        return *class_encoder(packaged_tokenizer(), names, settings.config().hidden_dim), {}, ""
    packaged = settings.text_encoder == PACKAGED
    folder = packaged_folder() if packaged else Path(settings.text_encoder)
    tensors, text, sha256 = read_text_encoder(folder)
    return read_tokenizer(folder), text, tensors, sha256 if packaged else ""
