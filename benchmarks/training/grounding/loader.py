"""Batches of a training: their records, randomness and processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np

from ovd_bench.benchmarks.training.grounding.make_sample import BatchMaker, Task
from ovd_bench.benchmarks.training.grounding.sampling import Sampler, repeat_factors
from ovd_bench.benchmarks.training.grounding.settings import GroundingSettings
from ovd_bench.benchmarks.training.grounding.sources import Source
from ovd_bench.benchmarks.training.grounding.workers import Workers
from ovd_bench.grounding_dino_jt.tokenizer import Tokenizer
from ovd_bench.grounding_dino_jt.training.batch import TrainingBatch
from ovd_bench.metrics.errors import DataError


class GroundingData:
    """Batches of several sources.

    Batch n depends only on sources, settings, seed and n: not on resuming, on the number of workers, or on the split
    among the processes of a parallel training.

    Attributes:
        batches_per_epoch: full batches.
    """

    def __init__(
        self, sources: Sequence[Source], settings: GroundingSettings, tokenizer: Tokenizer, *, batch: int, seed: int
    ) -> None:
        """Plan the epochs.

        Args:
            sources: opened.
            settings: of the data.
            tokenizer: the model's.
            batch: images per step, all processes of a parallel training together.
            seed: of order and augmentation.

        Raises:
            DataError: fewer records than a batch has, or a class name without a word.
        """
        repeats = [
            source.weight * repeat_factors(source.records.labels, len(source.names), settings.repeat_threshold)
            for source in sources
        ]
        sizes = np.concatenate([source.records.sizes for source in sources])
        wide = sizes[:, 0] > sizes[:, 1]
        self._sampler = Sampler(
            np.concatenate(repeats), wide if settings.aspect_buckets else None, batch=batch, seed=seed
        )
        self._batch, self._workers = batch, settings.workers
        self._make = BatchMaker(sources, settings, tokenizer, seed)
        self.batches_per_epoch = self._sampler.batches

    def batches(self, first: int = 0, *, rank: int = 0, world: int = 1) -> Batches:
        """Endless batches; close them, or use them in a ``with`` statement, so that their workers end.

        A script that calls this with workers needs the usual ``if __name__ == "__main__"``.

        Args:
            first: number of the first one.
            rank: which part of each batch is given.
            world: into how many equal parts it is cut; together they are what one process alone would get.

        Raises:
            DataError: a batch that cannot be cut into so many parts.
        """
        if (size := self._batch) % world:
            raise DataError(f"batch is {size}, which {world} processes cannot share equally")
        part = range(rank * size // world, (rank + 1) * size // world)
        return Batches(self._make, self._tasks(first, part), self._workers)

    def _tasks(self, number: int, part: range) -> Iterator[Task]:
        size = self._batch
        while True:
            records = self._sampler.records_of(number).tolist()
            yield [(records[i], number * size + i) for i in part]
            number += 1


class Batches(Iterator[TrainingBatch]):
    """Batches without an end."""

    def __init__(self, make: BatchMaker, tasks: Iterator[Task], workers: int) -> None:
        """Start, with this many worker processes."""
        self._workers = Workers(make, tasks, workers) if workers else None
        self._made: Iterator[TrainingBatch] = self._workers or map(make, tasks)

    def __next__(self) -> TrainingBatch:
        """The next batch.

        Raises:
            DataError: a bad record or image, or a worker that died.
        """
        return next(self._made)

    def close(self) -> None:
        """End the workers, if any."""
        if self._workers:
            self._workers.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
