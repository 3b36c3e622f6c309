"""The records of an epoch and their order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Ragged

#: Repeats are multiples of 1 / this number, so that the length of an epoch is exact.
_PARTS = 2**32


def repeat_factors(labels: Ragged, classes: int, threshold: float) -> npt.NDArray[np.float64]:
    """Repeats of an image because of its rarest class (Gupta et al. 2019, LVIS, section 5.1).

    A class in a share f of all images has the factor ``max(1, sqrt(threshold / f))``. An image has the largest factor
    of its classes.

    Args:
        labels: of each image, each label once.
        classes: number of classes.
        threshold: share of images below which a class is rare.

    Returns:
        (images,), at least 1.
    """
    images = len(labels.offsets) - 1
    share = np.bincount(labels.values, minlength=classes) / max(images, 1)
    factors = np.ones(images)
    image = np.repeat(np.arange(images), np.diff(labels.offsets))
    np.maximum.at(factors, image, np.sqrt(threshold / share[labels.values]))
    return factors


class Sampler:
    """Endless batches of record numbers.

    Batch n depends only on the arguments and n, so a training can continue from any batch.
    """

    def __init__(
        self, repeats: npt.NDArray[np.float64], wide: npt.NDArray[np.bool_] | None, *, batch: int, seed: int
    ) -> None:
        """Count the batches of an epoch.

        Args:
            repeats: (N,), how often each record is seen per epoch, on average over many epochs. All epochs have
                the same length.
            wide: bool (N,), images wider than high, which get separate batches; None = no separation.
            batch: records per batch.
            seed: of the order.

        Raises:
            DataError: less than one batch per epoch.
        """
        whole = np.floor(repeats)
        self._whole = whole.astype(np.int64)
        self._part = np.round((repeats - whole) * _PARTS).astype(np.int64)
        self._wide = wide
        self._batch = batch
        self._seed = seed
        self.records = int(self._whole.sum() + self._part.sum() // _PARTS)
        self.batches = self.records // batch
        if not self.batches:
            raise DataError(f"a batch of {batch} images needs at least {batch} records, an epoch has {self.records}")
        self._planned: tuple[int, npt.NDArray[np.int64]] | None = None

    def plan(self, epoch: int) -> npt.NDArray[np.int64]:
        """Record numbers (batches, batch) of an epoch.

        The remainder of less than one batch is not used; it has other records each time. If wide and other images are
        separate, the remainders of both may share a batch.
        """
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self._drawn(np.random.Generator(np.random.PCG64([self._seed, 0, epoch])))
        return self._planned[1]

    def records_of(self, batch: int) -> npt.NDArray[np.int64]:
        """Record numbers of one batch, numbered from the start of the training."""
        records: npt.NDArray[np.int64] = self.plan(batch // self.batches)[batch % self.batches]
        return records

    def _drawn(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        order = rng.permutation(len(self._whole))
        # Systematic sampling along a random order: a record is taken once more with the probability of its fraction,
        # and the sum is off by less than one.
        marks = (np.cumsum(self._part[order]) + int(rng.integers(_PARTS))) // _PARTS
        counts = self._whole[order] + np.diff(marks, prepend=0)
        records = rng.permutation(np.repeat(order, counts))
        if self._wide is None:
            return records[: self.batches * self._batch].reshape(self.batches, self._batch)
        wide = self._wide[records]
        groups = [records[wide], records[~wide]]
        full = [group[: len(group) // self._batch * self._batch] for group in groups]
        rest = [group[len(group) // self._batch * self._batch :] for group in groups]
        records = np.concatenate([*full, rng.permutation(np.concatenate(rest))])
        batches = records[: self.batches * self._batch].reshape(self.batches, self._batch)
        return rng.permutation(batches)
