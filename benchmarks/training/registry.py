"""The trainers there are, behind one shape: step on batches, save, resume, hand out a detector and a weights file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from rich.console import Console

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.training.config import TrainingConfig, read_document, validated
from ovd_bench.benchmarks.training.evaluation import Watch
from ovd_bench.benchmarks.training.processes import Group
from ovd_bench.detectors.interface import Detector
from ovd_bench.metrics.types import DataError


class Trainer(Protocol):
    """A model in training."""

    @property
    def step(self) -> int:
        """Steps done."""
        ...

    def train_step(self, batch: Any) -> dict[str, float]:
        """One step of optimisation; numbers for the log, among them ``loss``.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        ...

    def save(self, file: BinaryIO) -> None:
        """Write all that is needed to go on as if never stopped."""
        ...

    def restore(self, data: bytes) -> None:
        """Go on from what ``save`` wrote.

        Raises:
            ValueError: it is none, or of another model or recipe.
        """
        ...

    def detector(self) -> Detector:
        """What has been learned so far."""
        ...

    def gates(self) -> dict[str, float]:
        """Mean absolute fusion gates of what ``detector`` has; see ``detectors.fusion_gates``. Empty without fusion."""
        ...

    def write_weights(self, path: Path, training: dict[str, Any]) -> None:
        """Write the weights file (safetensors); it appears whole or not at all.

        Args:
            path: of the file.
            training: what the file says about how it came to be.

        Raises:
            ValueError: the weights cannot be stored.
        """
        ...


class Batches(Iterator[Any], Protocol):
    """Batches, and what prepares them."""

    def close(self) -> None:
        """Prepare no more."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A training that is ready to start.

    Attributes:
        trainer: the model.
        steps: optimisation steps.
        batches: endless batches from a number on; to be closed at the end.
        watch: evaluates now and then, and at the end; None = never.
        facts: about data and machine, for the weights file.
        processes: that train together; the first of them writes the files.
    """

    trainer: Trainer
    steps: int
    batches: Callable[[int], Batches]
    watch: Watch | None
    facts: dict[str, Any]
    processes: Group = field(default_factory=Group)

    @property
    def leader(self) -> bool:
        """Whether this process writes files."""
        return self.processes.rank == 0


@dataclass(frozen=True)
class Machine:
    """Where a training runs; nothing of it changes the result, but for the order of sums.

    Attributes:
        data_root: folder of the data sets.
        threads: of the network.
        device: ``cpu``, ``cuda``, or ``auto``: CUDA where it is there and the trainer can use it.
    """

    data_root: Path
    threads: int = 1
    device: str = "auto"


@dataclass(frozen=True)
class TrainerKind:
    """A kind of training.

    Attributes:
        detector: name of the detector that its weights are for.
        config: loads the class of its configuration.
        prepare: from a configuration, a machine and a console to a training; raises ``DataError``.
    """

    detector: str
    config: Callable[[], type[TrainingConfig]]
    prepare: Callable[[Any, Machine, Console | None], Prepared]


def find_trainer(name: str) -> TrainerKind:
    """A kind of training by name.

    Raises:
        DataError: no such trainer.
    """
    if name not in TRAINERS:
        raise DataError(f"unknown trainer '{printable(name)}': choose from {', '.join(TRAINERS)}")
    return TRAINERS[name]


def read_config(path: Path) -> TrainingConfig:
    """Read a training's YAML file.

    Raises:
        DataError: no such file, no YAML, no such trainer, an unknown key, or a value of another kind than is needed.
    """
    document = read_document(path)
    name = document.get("trainer")
    if not isinstance(name, str):
        raise DataError(f"{path}: trainer: is missing: one of {', '.join(TRAINERS)}")
    try:
        kind = find_trainer(name)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return validated(kind.config(), document, path)


def _owl_nano_config() -> type[TrainingConfig]:
    from ovd_bench.benchmarks.training.owl_nano import OwlNanoTraining

    return OwlNanoTraining


def _owl_nano(config: Any, machine: Machine, console: Console | None) -> Prepared:
    from ovd_bench.benchmarks.training.owl_nano import prepare

    return prepare(config, machine, console)


def _grounding_dino_config() -> type[TrainingConfig]:
    from ovd_bench.benchmarks.training.grounding.config import GroundingDinoTraining

    return GroundingDinoTraining


def _grounding_dino(config: Any, machine: Machine, console: Console | None) -> Prepared:
    from ovd_bench.benchmarks.training.grounding.prepare import prepare

    return prepare(config, machine, console)


def _contestant_config() -> type[TrainingConfig]:
    from ovd_bench.benchmarks.training.controlled import ContestantTraining

    return ContestantTraining


def _contestant(config: Any, machine: Machine, console: Console | None) -> Prepared:
    from ovd_bench.benchmarks.training.controlled import prepare

    return prepare(config, machine, console)


TRAINERS = {
    "owl-nano": TrainerKind("owl-nano", _owl_nano_config, _owl_nano),
    "contestant": TrainerKind("contestant", _contestant_config, _contestant),
    "grounding-dino": TrainerKind("grounding-dino-nano", _grounding_dino_config, _grounding_dino),
}
