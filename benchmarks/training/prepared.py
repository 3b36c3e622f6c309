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
        evaluation: evaluates now and then, and at the end; None = never.
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
    """Where a training runs; nothing of it changes the result, but for the order of sums.

    Attributes:
        data_root: folder of the data sets.
        threads: of the network.
        device: ``cpu``, ``cuda``, or ``auto``: CUDA where it is there and the trainer can use it.
    """

    data_root: Path
    threads: int = 1
    device: str = "auto"
