"""``owl-nano`` as a trainer of the suite, on a data set that fits into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import torch
from pydantic import Field
from rich.console import Console

from ovd_bench.baselines.optimisation import Recipe
from ovd_bench.baselines.owl_nano.config import OwlNanoConfig
from ovd_bench.baselines.owl_nano.train import OwlNanoOptimisation
from ovd_bench.baselines.owl_nano.weights import save_weights
from ovd_bench.baselines.text import packaged_encoder
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.catalog.registry import open_benchmark
from ovd_bench.benchmarks.data.files.atomic import atomic_write, file_sha256
from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.training.config import Positive, TrainingConfig
from ovd_bench.benchmarks.training.data import TrainingData
from ovd_bench.benchmarks.training.evaluation import SplitEvaluation
from ovd_bench.benchmarks.training.prepared import Machine, Prepared
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.owl_nano import OwlNanoDetector
from ovd_bench.metrics.errors import DataError


class ModelOptions(StrictModel):
    """The key ``model`` of the YAML file; see ``baselines.owl_nano.config.OwlNanoConfig``."""

    widths: list[int] = Field(default=list(OwlNanoConfig.widths))
    depths: list[int] = Field(default=list(OwlNanoConfig.depths))
    window: int = OwlNanoConfig.window
    neck: int = OwlNanoConfig.neck
    embedding: int = OwlNanoConfig.embedding
    assignment: Literal["one_to_many", "hungarian"] = OwlNanoConfig.assignment
    classifier: Literal["text", "learned"] = OwlNanoConfig.classifier


class OwlNanoTraining(TrainingConfig):
    """The YAML file of a training of ``owl-nano``.

    Attributes:
        data: data set; its split ``train`` is learned, its ``minival`` is evaluated.
        steps: optimisation steps.
        lr: peak learning rate.
        precision: of the matrix products in training.
        model: options of the model.
    """

    data: str = "shapes"
    steps: Positive
    lr: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 2e-3
    precision: Literal["float32", "bfloat16"] = "float32"
    model: ModelOptions = ModelOptions()


class OwlNanoTrainer:
    """See ``benchmarks.training.prepared.Trainer``.

    Args:
        config: of the training.
        names: cleaned names of the classes to learn.

    Raises:
        ValueError: model options that do not fit.
    """

    def __init__(self, config: OwlNanoTraining, names: tuple[str, ...]) -> None:
        options = config.model.model_dump()
        self._names = names if options["classifier"] == "learned" else ()
        options |= {"widths": tuple(options["widths"]), "depths": tuple(options["depths"])}
        recipe = Recipe(config.steps, config.lr, precision=config.precision, seed=config.seed)
        model = OwlNanoConfig(**options, classes=len(self._names))
        self._optimisation = OwlNanoOptimisation(model, recipe, packaged_encoder().encode(names))
        self.train_step = self._optimisation.train_step
        self.restore = self._optimisation.restore

    @property
    def step(self) -> int:
        """Steps done."""
        return self._optimisation.step

    def detector(self) -> OwlNanoDetector:
        """A detector that shares the averaged weights."""
        card = DetectorCard("owl-nano in training", family="owl-nano", framework="torch", loader="")
        return OwlNanoDetector(card, self._optimisation.average, self._names, DetectorSettings())

    def gates(self) -> dict[str, float]:
        """None: image and text meet in one product."""
        return {}

    def save(self, file: BinaryIO) -> None:
        """Write a checkpoint."""
        file.write(self._optimisation.checkpoint())

    def write_weights(self, path: Path, training: dict[str, Any]) -> None:
        """Write the averaged weights."""
        content = save_weights(self._optimisation.average, self._names, training)
        with atomic_write(path) as file:
            file.write(content)


def prepare(config: OwlNanoTraining, machine: Machine, console: Console | None) -> Prepared:
    """Read the data and make the model; missing data is rendered first.

    Raises:
        DataError: no such data set, or a configuration that cannot be used.
    """
    names = [f"{config.data}-{split}" for split in ("train", "minival")]
    if missing := [name for name in names if name not in CARDS]:
        raise DataError(f"data '{printable(config.data)}': there is no data set '{printable(missing[0])}'")
    if machine.device not in ("auto", "cpu"):
        raise DataError(f"trainer 'owl-nano': trains only on the CPU: leave out --device {printable(machine.device)}")
    torch.set_num_threads(machine.threads)
    if console:
        console.print(f"reading {' and '.join(names)} from {machine.data_root}", highlight=False, markup=False)
    train_set, minival = (open_benchmark(name, machine.data_root) for name in names)
    data = TrainingData.read(train_set.annotations, train_set.images)
    facts = {
        "data": train_set.name,
        "annotations_sha256": file_sha256(train_set.annotations),
        "images": len(data.images),
        "boxes": len(data.rows),
        "classes": len(data.names),
        "threads": machine.threads,
        "torch": torch.__version__,
    }
    return make_training(config, data, SplitEvaluation(minival.annotations, minival.images), facts)


def make_training(
    config: OwlNanoTraining, data: TrainingData, evaluation: SplitEvaluation | None, facts: dict[str, Any]
) -> Prepared:
    """A training on data in memory.

    Raises:
        DataError: model options that do not fit.
    """
    try:
        trainer = OwlNanoTrainer(config, data.names)
    except ValueError as error:
        raise DataError(f"trainer '{config.trainer}': model: {printable(str(error))}") from error
    return Prepared(
        trainer, config.steps, lambda first: data.batches(config.batch, config.seed, first), evaluation, facts
    )
