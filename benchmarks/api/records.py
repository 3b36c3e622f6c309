"""Rows of plain values that pandas can take over."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from ovd_bench.metrics.errors import DataError

#: One row: column name -> text, number or None.
Record = dict[str, Any]


class Records(Sequence[Record]):
    """A table as a sequence of dictionaries, all with the same keys.

    Args:
        rows: the dictionaries.
    """

    def __init__(self, rows: Sequence[Record]) -> None:
        self._rows = list(rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> Record | Records:
        return Records(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._rows)

    def __repr__(self) -> str:
        columns = ", ".join(self._rows[0]) if self._rows else "none"
        return f"Records({len(self):,} rows; columns: {columns})"

    def to_records(self) -> list[Record]:
        """The rows as a list."""
        return list(self._rows)

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises:
            DataError: pandas is not installed.
        """
        return data_frame(self._rows)


def data_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A ``pandas.DataFrame`` of the rows.

    Raises:
        DataError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError as error:
        raise DataError("to_pandas needs pandas, which is not installed: pip install pandas") from error
    return pandas.DataFrame(list(rows))
