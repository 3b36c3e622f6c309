"""A training that is ready to start: the trainer, its batches, and the machine that it runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ovd_bench.benchmarks.training.evaluation import SplitEvaluation
from ovd_bench.benchmarks.training.processes import Group
from ovd_bench.detectors.interface import Detector


class Trainer(Protocol):
    """A model in training."""

    @property
    def step(self) -> int:
        """Steps done."""
        ...

    def train_step(self, batch: Any) -> dict[str, float]:
        """One step of optimisation; returns numbers for the log, with ``loss``.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        ...

    def save(self, file: BinaryIO) -> None:
        """Write a checkpoint, from which the training continues as if it had never stopped."""
        ...

    def restore(self, data: bytes) -> None:
        """Continue from a checkpoint of ``save``.

        Raises:
            ValueError: no checkpoint, or one of another model or recipe.
        """
        ...

    def detector(self) -> Detector:
        """A detector with the current weights."""
        ...

    def gates(self) -> dict[str, float]:
        """Mean absolute fusion gates of ``detector``; see ``detectors.fusion_gates``. Empty without fusion."""
        ...

    def write_weights(self, path: Path, training: dict[str, Any]) -> None:
        """Write the weights file (safetensors) atomically.

        Args:
            path: of the file.
            training: description of the training for the file.

        Raises:
            ValueError: the weights cannot be stored.
        """
        ...


class Batches(Iterator[Any], Protocol):
    """Batches, and the processes that prepare them."""

    def close(self) -> None:
        """End the preparation."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A training that is ready to start.

    Attributes:
        trainer: the model.
        steps: optimisation steps.
        batches: endless batches from a number on; must be closed.
        evaluation: used periodically and at the end; None = never.
        facts: about data and machine, for the weights file.
        processes: that train together; the first of them writes the files.
    """

    trainer: Trainer
    steps: int
    batches: Callable[[int], Batches]
    evaluation: SplitEvaluation | None
    facts: dict[str, Any]
    processes: Group = field(default_factory=Group)

    @property
    def leader(self) -> bool:
        """Whether this process writes files."""
        return self.processes.rank == 0


@dataclass(frozen=True)
class Machine:
    """Where a training runs; this changes the result only by the order of sums.

    Attributes:
        data_root: folder of the data sets.
        threads: of the network.
        device: ``cpu``, ``cuda``, or ``auto``: CUDA if available and supported by the trainer.
    """

    data_root: Path
    threads: int = 1
    device: str = "auto"
