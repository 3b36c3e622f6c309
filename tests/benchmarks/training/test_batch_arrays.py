"""Hashes of batches: equal for equal content in equal order, different for any difference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt
import pytest

from ovd_bench.benchmarks.training.batch_arrays import chained_sha256


@dataclass(frozen=True)
class _Batch:
    images: npt.NDArray[np.uint8]
    boxes: list[npt.NDArray[np.float32]]
    dropped: int = 0


def _batch(seed: int) -> _Batch:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (2, 4, 4, 3), np.uint8)
    return _Batch(images, [rng.random((count, 4), np.float32) for count in (2, 0)])


def _sum(*batches: _Batch) -> str:
    return reduce(chained_sha256, batches, "")


def test_equal_rows_of_batches_have_equal_sums() -> None:
    assert _sum(_batch(0), _batch(1)) == _sum(_batch(0), _batch(1))
    across = replace(_batch(0), images=np.asfortranarray(_batch(0).images))
    assert _sum(across) == _sum(_batch(0))


@pytest.mark.parametrize(
    "other",
    [
        (_batch(1), _batch(0)),
        (_batch(0),),
        (_batch(0), replace(_batch(1), dropped=1)),
        (_batch(0), replace(_batch(1), images=_batch(1).images[:, ::-1])),
        (_batch(0), replace(_batch(1), images=_batch(1).images.reshape(1, 8, 4, 3))),
        (_batch(0), replace(_batch(1), boxes=_batch(1).boxes[::-1])),
        (_batch(0), replace(_batch(1), boxes=[box.astype(np.float64) for box in _batch(1).boxes])),
    ],
    ids=["order", "length", "a number", "a mirrored image", "a shape", "whose boxes", "a type"],
)
def test_every_difference_shows(other: tuple[_Batch, ...]) -> None:
    assert _sum(*other) != _sum(_batch(0), _batch(1))
