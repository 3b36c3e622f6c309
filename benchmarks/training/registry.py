"""The trainers by name, with the class of the configuration and the function that prepares a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ovd_bench.benchmarks.data.text import printable, unknown_name
from ovd_bench.benchmarks.training.config import TrainingConfig, read_document, validated
from ovd_bench.benchmarks.training.prepared import Machine, Prepared
from ovd_bench.metrics.errors import DataError


@dataclass(frozen=True)
class TrainerKind:
    """A kind of training.

    Attributes:
        detector: name of the detector that its weights are for.
        config: loads the class of its configuration.
        prepare: makes a training from a configuration, a machine and a console; raises ``DataError``.
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
        raise DataError(unknown_name(f"unknown trainer '{printable(name)}'", printable(name), TRAINERS))
    return TRAINERS[name]


def read_config(path: Path) -> TrainingConfig:
    """Read a training's YAML file.

    Raises:
        DataError: no such file, no YAML, no such trainer, an unknown key, or a value of another kind than is needed.
    """
    document = read_document(path)
    name = document.get("trainer")
    if not isinstance(name, str):
        raise DataError(f"{path}: trainer: is missing: choose from {', '.join(TRAINERS)}")
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
