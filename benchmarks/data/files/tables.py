"""Predictions as a table: Arrow IPC (the suite's own format) and Parquet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ovd_bench.benchmarks.data.files.arrow_metadata import decoded_bytes
from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Predictions

_INTEGERS = {"image_id": np.int64, "category_id": np.int32}
_FLOATS = ("score", "x", "y", "w", "h")
_REQUIRED = (*_INTEGERS, *_FLOATS)
_ROW_BYTES = 32  # of the required columns
_EXACT = 2**53  # up to here every integer is a float64

#: A table may take this many times the bytes of its file, plus a constant, in memory: more is a decompression bomb.
MAX_EXPANSION = 32
MAX_EXPANSION_CONSTANT = 64 << 20


def read_table(path: Path, kind: str) -> Predictions:
    """Read the columns ``image_id``, ``category_id``, ``score``, ``x``, ``y``, ``w``, ``h``, optionally ``phrase``.

    Columns of an uncompressed Arrow IPC file with one record batch are views of the mapped file if their types are
    those of ``Predictions``; other integer and float types are converted if the values do not change.

    Args:
        path: a file whose first bytes are those of the kind.
        kind: ``Arrow IPC`` or ``Parquet``.

    Raises:
        DataError: anything wrong with the file; one line with file, row and column.
    """
    try:
        columns: dict[str, Any] = _open_arrow(path) if kind == "Arrow IPC" else _open_parquet(path)
        return Predictions(**columns)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not a readable {kind} file: {' '.join(str(error).split())[:200]}") from error


def write_table(path: Path, predictions: Predictions, kind: str) -> None:
    """Write the columns as one Arrow IPC record batch, uncompressed, or as Parquet (zstd)."""
    columns = {name: _shared(getattr(predictions, name)) for name in _REQUIRED}
    if predictions.phrase is not None:
        columns["phrase"] = pa.array(predictions.phrase, pa.string())
    table = pa.table(columns)
    with atomic_write(path) as file:
        if kind == "Arrow IPC":
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
        else:
            import pyarrow.parquet as pq

            pq.write_table(table, file, compression="zstd")


def _shared(values: npt.NDArray[Any]) -> Any:
    """An Arrow array over the memory of a numpy array; pyarrow.array() would import pandas where it is installed."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _open_arrow(path: Path) -> dict[str, npt.NDArray[Any]]:
    buffer = pa.memory_map(str(path)).read_buffer()
    _refuse_bomb(path, decoded_bytes(memoryview(buffer)))
    # all columns: selecting some with IpcReadOptions(included_fields=...) would copy instead of map
    reader = pa.ipc.open_file(buffer)
    names = _wanted(reader.schema.names)
    table = reader.read_all()
    _refuse_bomb(path, table.num_rows * _ROW_BYTES)  # batches of a damaged file may overlap
    return _arrays(names, table.column)


def _open_parquet(path: Path) -> dict[str, npt.NDArray[Any]]:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path, memory_map=True)
    schema = metadata.schema.to_arrow_schema()
    names = _wanted(schema.names)
    # not the sizes of single columns: pyarrow aborts the process when it reads those of a damaged file
    pages = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    _refuse_bomb(path, max(pages, metadata.num_rows * _ROW_BYTES))
    # texts stay dictionary-encoded: a long text that many rows share must not be expanded for each of them
    texts = [field.name for field in schema if field.name == "phrase" and field.type == pa.string()]
    with pq.ParquetFile(path, memory_map=True, metadata=metadata, read_dictionary=texts) as file:
        # one column at a time: the memory of a decoded column is released before the next is decoded
        return _arrays(names, lambda name: file.read(columns=[name]).column(name))


def _refuse_bomb(path: Path, needed: int) -> None:
    limit = MAX_EXPANSION * path.stat().st_size + MAX_EXPANSION_CONSTANT
    if needed > limit:
        raise DataError(
            f"the columns would take {needed:,} bytes of memory, more than {MAX_EXPANSION} times the file plus "
            f"{MAX_EXPANSION_CONSTANT >> 20} MiB; if that is intended, write it without compression"
        )


def _wanted(names: list[str]) -> list[str]:
    """The columns to read; checks that all required ones exist and none exists twice."""
    for name in (*_REQUIRED, "phrase"):
        if names.count(name) > 1:
            raise DataError(f"column '{name}' occurs {names.count(name)} times")
        if name != "phrase" and name not in names:
            raise DataError(f"column '{name}' is missing, the file has {', '.join(names)[:200] or 'none'}")
    return [*_REQUIRED, *(["phrase"] if "phrase" in names else [])]


def _arrays(names: list[str], column: Callable[[str], Any]) -> dict[str, npt.NDArray[Any]]:
    arrays = {name: _texts(column(name)) if name == "phrase" else _numbers(name, column(name)) for name in names}
    if len({len(array) for array in arrays.values()}) > 1:
        raise DataError("the columns differ in length")
    for name, integer in _INTEGERS.items():
        arrays[name] = _converted(name, arrays[name], np.dtype(integer))
    single = all(arrays[name].dtype in (np.float16, np.float32) for name in _FLOATS)
    for name in _FLOATS:
        arrays[name] = _converted(name, arrays[name], np.dtype(np.float32 if single else np.float64))
    return arrays


def _numbers(name: str, column: Any) -> npt.NDArray[Any]:
    """A column of numbers as an array; without a copy if it is one chunk."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(f"column '{name}' holds {column.type}, numbers are needed")
    _check(name, column)
    chunks = [np.from_dlpack(chunk) for chunk in column.chunks]  # chunk.to_numpy() would import pandas: 45 MB, 0.3 s
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, column.type.to_pandas_dtype()), *chunks])


def _texts(column: Any) -> npt.NDArray[np.object_]:
    """A column of texts as an array of ``str``; equal ones are one object."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"column 'phrase' holds {column.type}, strings are needed")
    _check("phrase", column)
    parts = [np.empty(0, object)]
    for chunk in column.chunks:
        encoded = chunk if pa.types.is_dictionary(column.type) else chunk.dictionary_encode()
        if encoded.dictionary.null_count:
            raise DataError("column 'phrase' holds nulls")
        known = np.array(encoded.dictionary.to_pylist(), object)
        parts.append(known[encoded.indices.to_numpy()])
    return np.concatenate(parts)


def _check(name: str, column: Any) -> None:
    """Refuse nulls and inconsistent buffers."""
    column.validate(full=True)
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise DataError(f"row {row}: column '{name}' is null")


def _converted(name: str, values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The values in another type; refused where they would change."""
    if values.dtype == dtype:
        return values
    with np.errstate(invalid="ignore"):
        converted = values.astype(dtype)
    changed = np.zeros(len(values), np.bool_)
    if np.issubdtype(dtype, np.integer):
        changed = converted != values
    elif np.issubdtype(values.dtype, np.integer):
        changed = (values > _EXACT) | (values < -_EXACT)
    if changed.any():
        row = int(np.argmax(changed))
        raise DataError(f"row {row}: column '{name}' is {values[row]}, not a valid {dtype}")
    return converted
