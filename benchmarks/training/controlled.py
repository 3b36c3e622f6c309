"""Contestants of a controlled study as a trainer of the suite: other designs on the batches of Grounding DINO."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from rich.console import Console

from ovd_bench.baselines.controlled.config import ContestantConfig, Kind
from ovd_bench.baselines.controlled.train import ContestantOptimisation
from ovd_bench.baselines.controlled.weights import save_weights
from ovd_bench.baselines.optimisation import Recipe
from ovd_bench.baselines.swin import SwinConfig
from ovd_bench.baselines.text import packaged_encoder
from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.runner.loading import choose_device
from ovd_bench.benchmarks.training.controlled_batches import captioned, class_names, with_class_names
from ovd_bench.benchmarks.training.grounding.config import CaptionedTraining
from ovd_bench.benchmarks.training.grounding.open_data import open_data
from ovd_bench.benchmarks.training.grounding.prepare import DRAWN, PACKAGED
from ovd_bench.benchmarks.training.grounding.reading import reading_facts, vocabulary_phrases
from ovd_bench.benchmarks.training.prepared import Machine, Prepared
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.contestants import ContestantDetector
from ovd_bench.detectors.fusion_gates import GATES, mean_gates
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.config import SwinConfig as JittorSwinConfig
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.grounding_dino_jt.training.batch import TrainingBatch
from ovd_bench.grounding_dino_jt.weights import draw_backbone, read_backbone, tensors_sha256
from ovd_bench.metrics.errors import DataError

#: Prefix of the canonical names of the backbone's parameters.
_BACKBONE = "backbone.0."


class ContestantModel(StrictModel):
    """What is trained.

    Attributes:
        kind: see ``baselines.controlled.config.ContestantConfig``.
        backbone: its first weights: ``drawn``, or a file or folder, as in Grounding DINO's ``ModelSettings``.
        text_encoder: ``packaged``: all-MiniLM-L6-v2, which does not learn.
        options: values of ``ContestantConfig`` other than the defaults. Phrases are framed and centred unless
            ``phrase_frame: bare`` or ``centred: false`` is given: a text encoder that does not learn needs the input of
            its pretraining.
    """

    kind: Kind
    backbone: str = DRAWN
    text_encoder: Literal["packaged"] = PACKAGED
    options: dict[str, Any] = Field(default={})

    def config(self) -> ContestantConfig:
        """The model's configuration.

        Raises:
            ValueError: an option that does not exist or does not fit.
        """
        plain = ContestantConfig(self.kind, phrase_frame="framed", centred=True)
        fields: dict[str, Any] = TypeAdapter(ContestantConfig).dump_python(plain, mode="json")
        for key, value in self.options.items():
            fields[key] = {**fields[key], **value} if isinstance(value, dict) and key in fields else value
        try:
            return TypeAdapter(ContestantConfig).validate_json(json.dumps(fields), strict=True, extra="forbid")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class ContestantOptimizer(StrictModel):
    """See ``baselines.optimisation.Recipe``."""

    lr: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Recipe.lr
    warm_up: Annotated[float, Field(ge=0, lt=1)] = Recipe.warm_up
    final: Annotated[float, Field(ge=0, le=1)] = Recipe.final
    weight_decay: Annotated[float, Field(ge=0, le=1e3)] = Recipe.weight_decay
    betas: Annotated[tuple[float, float], Field(strict=False)] = Recipe.betas
    clip: Annotated[float, Field(gt=0, le=1e6)] = Recipe.clip
    ema: Annotated[float, Field(ge=0, lt=1)] = Recipe.ema


class ContestantTraining(CaptionedTraining):
    """The YAML file of a training of a contestant.

    Attributes:
        parts: how many pieces a batch is gone through in, to save memory. Their losses are averaged, each with divisors
            of its own, as the processes of a parallel training have them.
        names: class names that an image is asked for: those of its own caption, or those of all captions of the
            ``batch``. The second needs a design that compares image and name in one product (``owl``, ``region``):
            one caption has no room for all of them. It needs sources with a label map: a sentence does not say which
            classes are absent.
        model, optimizer: see there.
        half: whether the weights file holds float16.
    """

    parts: Annotated[int, Field(ge=1, le=4096)] = 1
    names: Literal["caption", "batch"] = "caption"
    model: ContestantModel
    optimizer: ContestantOptimizer = ContestantOptimizer()
    half: bool = False

    @model_validator(mode="after")
    def _whole_parts(self) -> ContestantTraining:
        if self.batch % self.parts:
            raise ValueError(f"batch is {self.batch}, not divisible by parts, {self.parts}")
        return self

    @model_validator(mode="after")
    def _names_that_fit(self) -> ContestantTraining:
        if self.names == "batch" and self.model.kind == "glip":
            raise ValueError("names is 'batch', but glip reads one caption for each image: use 'caption'")
        if self.names == "batch" and any(source.label_map is None for source in self.data.sources):
            raise ValueError("names is 'batch', but a source has no label_map: nothing says which classes are absent")
        return self

    def resolved(self) -> dict[str, Any]:
        """All values; ``model.options`` with the defaults.

        Raises:
            DataError: an option that does not exist or does not fit.
        """
        document = self.model_dump(mode="json")
        try:
            options = TypeAdapter(ContestantConfig).dump_python(self.model.config(), mode="json")
        except ValueError as error:
            raise DataError(printable(f"model.options: {error}")) from error
        document["model"]["options"] = {key: value for key, value in options.items() if key != "kind"}
        return document


class ContestantTrainer:
    """See ``benchmarks.training.prepared.Trainer``.

    Args:
        config: of the training.
        optimisation: the contestant in training.
        device: of the model.
    """

    def __init__(self, config: ContestantTraining, optimisation: ContestantOptimisation, device: torch.device) -> None:
        self._config, self._optimisation, self._device = config, optimisation, device
        self.restore = optimisation.restore

    @property
    def step(self) -> int:
        """Steps done."""
        return self._optimisation.step

    def train_step(self, batch: TrainingBatch) -> dict[str, float]:
        """One step; ``dropped`` counts boxes without a place in the captions.

        Raises:
            DataError: the graphics processor has not enough memory.
        """
        dropped = sum(targets.dropped for targets in batch.targets)
        pieces = [captioned(piece) for piece in batch.split(self._config.parts)]
        if self._config.names == "batch":
            names = class_names(pieces)
            pieces = [with_class_names(piece, names) for piece in pieces]
        try:
            values = self._optimisation.train_step(*pieces)
        except torch.OutOfMemoryError as error:
            parts = f"parts is {self._config.parts}, batch {self._config.batch}"
            raise DataError(f"trainer 'contestant': {self._device}: out of memory: {parts}: use more parts") from error
        return {**values, "dropped": float(dropped)}

    def save(self, file: BinaryIO) -> None:
        """Write a checkpoint."""
        file.write(self._optimisation.checkpoint())

    def detector(self) -> ContestantDetector:
        """A detector that shares the averaged weights."""
        card = DetectorCard("contestant in training", family="contestant", framework="torch", loader="")
        config = self._optimisation.config
        return ContestantDetector(card, self._optimisation.average, config, DetectorSettings(device=str(self._device)))

    def gates(self) -> dict[str, float]:
        """Mean absolute fusion gates of the averaged weights."""
        state = self._optimisation.average.state_dict()
        return mean_gates({name: tensor.cpu().numpy() for name, tensor in state.items() if name.endswith(GATES)})

    def write_weights(self, path: Path, training: dict[str, Any]) -> None:
        """Write the averaged weights."""
        optimisation = self._optimisation
        content = save_weights(optimisation.average, optimisation.config, training, half=self._config.half)
        with atomic_write(path) as file:
            file.write(content)


def prepare(config: ContestantTraining, machine: Machine, console: Console | None) -> Prepared:
    """Open the data and make the model; missing data is rendered first if possible.

    Raises:
        DataError: data or weights that are missing or bad, or a device that is not there.
    """
    device = torch_device(machine.device)
    torch.set_num_threads(machine.threads)
    opened = open_data(config, machine.data_root, console)
    data = opened.batches(config, packaged_tokenizer())
    steps = config.length(data.batches_per_epoch)
    encoder = packaged_encoder()
    try:
        model = config.model.config()
        phrases: list[tuple[int, ...]] = []
        if model.centred:
            phrases = vocabulary_phrases(opened.sources, packaged_tokenizer().words, config.data.max_tokens)
        backbone = _backbone(config, model.backbone)
        recipe = Recipe(steps, seed=config.seed, **config.optimizer.model_dump())
        first = {name.removeprefix(_BACKBONE): values for name, values in backbone.items()}
        optimisation = ContestantOptimisation(model, recipe, encoder, phrases, first, device)
    except ValueError as error:
        raise DataError(printable(f"trainer 'contestant': model: {error}")) from error
    numbers = {f"bert.{name}": values for name, values in encoder.numbers().items()}
    facts = {
        **opened.facts(),
        "batches_per_epoch": data.batches_per_epoch,
        "start": "random",
        "backbone_sha256": tensors_sha256(backbone),
        "text_sha256": tensors_sha256(numbers),
        **reading_facts(model.phrase_frame, phrases),
        "threads": machine.threads,
        "device": device.type,
        "processes": 1,
        "torch": torch.__version__,
    }
    return Prepared(ContestantTrainer(config, optimisation, device), steps, data.batches, opened.evaluation, facts)


def torch_device(asked: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as PyTorch knows it.

    Raises:
        DataError: another one, or one that is not there.
    """
    place = f"trainer 'contestant': device '{asked}'"
    name = choose_device(asked, "torch")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise DataError(printable(f"{place}: choose auto, cpu, cuda or cuda:N"))
    try:
        device = torch.device(name)
        torch.empty(0, device=device)  # works only if the device exists
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise DataError(printable(f"{place} is not available: {reason}: choose another, or --device cpu")) from error
    return device


def _backbone(config: ContestantTraining, swin: SwinConfig) -> dict[str, npt.NDArray[np.float32]]:
    """Initial weights of the backbone by canonical name, with the norms of the outputs."""
    same = JittorSwinConfig(**TypeAdapter(SwinConfig).dump_python(swin))
    drawn = draw_backbone(same, config.seed)
    if config.model.backbone == DRAWN:
        return drawn
    read = read_backbone(Path(config.model.backbone), Config(backbone=same, num_feature_levels=len(swin.out_stages)))
    return {name: read.get(name, values) for name, values in drawn.items()}  # new norms are ones and zeros
