"""Prediction files: COCO/LVIS results JSON, or columns as Arrow IPC or Parquet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.files.atomic import SUFFIXES, atomic_write, content_kind
from ovd_bench.benchmarks.data.files.native import BLOCK_BYTES, read_columns
from ovd_bench.benchmarks.data.files.odd_json import ImageIds, rewritten_results
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Predictions


def read_predictions(path: Path, *, threads: int = 0, image_ids: ImageIds | None = None) -> Predictions:
    """Read a prediction file of any format.

    Args:
        path: results JSON (``[{"image_id", "category_id", "bbox": [x, y, w, h], "score", optional "phrase"}, …]``), or
            a table with the columns ``image_id``, ``category_id``, ``score``, ``x``, ``y``, ``w``, ``h`` and optionally
            ``phrase`` as an Arrow IPC file (uncompressed ones are mapped, not copied) or as Parquet.
        threads: for JSON; 0 = all processors this process may use. The result does not depend on it.
        image_ids: makes text -> image id, for JSON with image ids that are texts; None = such a file is refused.

    Returns:
        The records in file order. Floats are exact: float32 if every number of the file is one, float64 otherwise.

    Raises:
        DataError: anything wrong with the file; one line with file, record number and field.
    """
    kind = content_kind(path)
    if kind == "JSON":
        return _read_json(path, threads, image_ids)
    from ovd_bench.benchmarks.data.files.tables import (
        read_table,  # pyarrow costs memory that the JSON path does not need
    )

    return read_table(path, kind)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions in the format of the suffix: ``.arrow``, ``.parquet`` or ``.json``.

    The same predictions give the same bytes. The file is written atomically.

    Raises:
        DataError: unknown suffix.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path}: name the file .arrow, .parquet or .json")
    if kind == "JSON":
        _write_results(path, predictions)
    else:
        from ovd_bench.benchmarks.data.files.tables import write_table

        write_table(path, predictions, kind)


def _read_json(path: Path, threads: int, image_ids: ImageIds | None) -> Predictions:
    try:
        return read_results(path, threads=threads)
    except DataError:
        with rewritten_results(path, image_ids) as regular:
            if regular is None:
                raise
            try:
                predictions = read_results(regular.path, threads=threads)
            except DataError as error:
                raise DataError(str(error).replace(str(regular.path), str(path))) from None
        return replace(predictions, notes=regular.notes)


def read_results(path: Path, *, threads: int = 0, block_bytes: int = BLOCK_BYTES) -> Predictions:
    """Read results JSON in the form of the official evaluators; see ``read_predictions`` for others.

    The result depends on neither ``threads`` nor ``block_bytes``.
    """
    columns = read_columns("read_results", 9, path, threads, block_bytes)
    image_id, category_id = columns.take(np.int64), columns.take(np.int32)
    real = np.float32 if columns.single else np.float64
    score, x, y, w, h = (columns.take(real) for _ in range(5))
    ends, text = columns.take(np.int64), columns.take(np.uint8)
    phrase = _texts(text, ends) if len(ends) else None
    try:
        return Predictions(image_id, category_id, score, x, y, w, h, phrase)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _texts(text: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
    """The texts that are concatenated in ``text``; equal ones are one object."""
    phrases = np.empty(len(ends), object)
    known: dict[bytes, str] = {}
    data = text.data
    start = 0
    for row, end in enumerate(ends.tolist()):
        key = bytes(data[start:end])
        phrases[row] = known.get(key) or known.setdefault(key, key.decode())
        start = end
    return phrases


def _write_results(path: Path, predictions: Predictions) -> None:
    with atomic_write(path) as file:
        for start in range(0, len(predictions), 1 << 16):
            rows = slice(start, start + (1 << 16))
            columns = [c[rows].tolist() for c in (predictions.image_id, predictions.category_id)]
            columns += [
                getattr(predictions, c)[rows].astype(np.float64).tolist() for c in ("x", "y", "w", "h", "score")
            ]
            records = [
                f'{{"image_id": {i}, "category_id": {c}, "bbox": [{x!r}, {y!r}, {w!r}, {h!r}], "score": {s!r}'
                for i, c, x, y, w, h, s in zip(*columns, strict=True)
            ]
            if predictions.phrase is not None:
                texts = predictions.phrase[rows].tolist()
                records = [f'{r}, "phrase": {json.dumps(t)}' for r, t in zip(records, texts, strict=True)]
            file.write(("[" if start == 0 else ",\n").encode() + "},\n".join(records).encode() + b"}")
        file.write(b"]\n" if len(predictions) else b"[]\n")
