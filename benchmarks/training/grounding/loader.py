"""Batches of a training: which records, with which randomness, in which process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.training.grounding.making import SampleMaker
from benchmarks.training.grounding.samples import collate
from benchmarks.training.grounding.sampling import Sampler, repeat_factors
from benchmarks.training.grounding.settings import GroundingSettings
from benchmarks.training.grounding.sources import Source
from grounding_dino_jt.tokenizer import Tokenizer
from grounding_dino_jt.training.batch import TrainingBatch
from metrics.types import DataError


class GroundingData:
    """Endless batches of several sources.

    Batch number n depends on sources, settings, seed and n alone: not on where a training was resumed, how many worker
    processes prepare it, or how it is shared out among the processes of a parallel training.

    Attributes:
        batches_per_epoch: full batches.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        settings: GroundingSettings,
        tokenizer: Callable[[], Tokenizer],
        *,
        seed: int,
    ) -> None:
        """Plan the epochs.

        Args:
            sources: opened.
            settings: all of them.
            tokenizer: makes the model's tokeniser, here and in worker processes.
            seed: of order and augmentation.

        Raises:
            DataError: fewer records than a batch has, or a class name without a word.
        """
        repeats = [
            source.weight * repeat_factors(source.labels, len(source.names), settings.repeat_threshold)
            for source in sources
        ]
        wide = np.concatenate([source.wide for source in sources]) if settings.aspect_buckets else None
        self._sampler = Sampler(np.concatenate(repeats), wide, batch=settings.batch, seed=seed)
        self._settings = settings
        self._seed = seed
        self._make = SampleMaker(sources, settings, tokenizer())
        self.batches_per_epoch = self._sampler.batches

    def batches(self, first: int = 0, *, rank: int = 0, world: int = 1) -> Iterator[TrainingBatch]:
        """Batches without an end.

        Args:
            first: number of the first one.
            rank: which part of each batch is given.
            world: into how many equal parts it is cut; together they are what one process alone would get.

        Raises:
            DataError: a batch that cannot be cut into so many parts, or a bad record or image.
        """
        size = self._settings.batch
        if size % world:
            raise DataError(f"batch is {size}, which {world} processes cannot share equally")
        part = range(rank * size // world, (rank + 1) * size // world)
        number = first
        while True:
            records = self._sampler.records_of(number)
            yield collate([self._make(int(records[i]), self._random(number * size + i)) for i in part])
            number += 1

    def _random(self, sample: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self._seed, 1, sample]))
