"""From parameters with the names of an official evaluator to the axes of the suite's arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.grid import Grid
from ovd_bench.metrics.protocol import AREA_RANGES, IOU_THRESHOLDS, RECALL_THRESHOLDS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Those of lvis-api.
_USUAL = Grid(tuple(IOU_THRESHOLDS), tuple(RECALL_THRESHOLDS), AREA_RANGES, ())


def to_grid(params: object, names: Mapping[str, str]) -> Grid:
    """Axes that parameters ask for.

    Args:
        params: object with the parameters as attributes.
        names: field of ``Grid`` -> attribute; a field that is missing stays as in lvis-api.

    Raises:
        DataError: naming the parameter that is not legal.
    """
    grid = _USUAL
    for axis, name in names.items():
        value = getattr(params, name)
        try:
            grid = replace(grid, **{axis: tuple(_entry(axis, entry) for entry in value)})
        except DataError as error:
            raise DataError(f"params.{name}: {error}") from error
        except (TypeError, ValueError) as error:
            raise DataError(f"params.{name} is {value!r}: expected {_NEEDED[axis]}") from error
    return grid


_NEEDED = {
    "iou_thresholds": "numbers",
    "recall_thresholds": "numbers",
    "areas": "pairs of numbers",
    "limits": "whole numbers",
}


def _entry(axis: str, value: Any) -> Any:
    if axis == "areas":
        low, high = value
        return float(low), float(high)
    if axis == "limits":
        if int(value) != value:
            raise ValueError(value)
        return int(value)
    return float(value)


def check_unchanged(params: DataclassInstance, before: DataclassInstance, but: Collection[str]) -> None:
    """Refuse parameters that were changed between ``evaluate()`` and ``accumulate()``.

    Args:
        params: as they are.
        before: as they were.
        but: names of those that may change.

    Raises:
        DataError: naming the parameter.
    """
    for field in fields(params):
        if field.name not in but and not np.array_equal(getattr(params, field.name), getattr(before, field.name)):
            raise DataError(f"params.{field.name} was changed after evaluate(): call evaluate() again")
