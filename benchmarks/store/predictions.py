"""Predictions of a run: all its shards together."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.data.files.predictions import read_predictions
from ovd_bench.benchmarks.store.manifest import RunFiles, read_manifest, read_records
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Predictions


def read_run_predictions(folder: Path) -> Predictions:
    """Predictions of a run in order of the shards, which is the order of the image ids.

    A run of one shard is mapped, not copied. A run without any detection has no rows.

    Args:
        folder: folder of the run.

    Raises:
        DataError: no run, or a shard is missing or changed; one line.
    """
    manifest = read_manifest(folder)
    records = read_records(folder, manifest)
    files = RunFiles(folder, len(records))
    parts = [no_predictions()]
    for record in records:
        part = read_predictions(files.arrow(record.shard))
        if len(part) != record.detections or part.phrase is not None or part.score.dtype != np.float32:
            raise DataError(f"{files.arrow(record.shard)}: does not match its record: predict this run again")
        parts.append(part)
    return parts[-1] if len(parts) <= 2 else concatenate(parts)


def run_sha256(folder: Path) -> str:
    """Hash of the predictions of a run: of the hashes of its shards in order.

    Raises:
        DataError: as ``read_run_predictions``.
    """
    records = read_records(folder, read_manifest(folder))
    return hashlib.sha256("".join(record.arrow_sha256 for record in records).encode()).hexdigest()


def concatenate(parts: list[Predictions]) -> Predictions:
    """Rows of several predictions without phrases, in order."""
    columns = ("image_id", "category_id", "score", "x", "y", "w", "h")
    return Predictions(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def no_predictions() -> Predictions:
    """Predictions without rows, float32."""
    return Predictions.from_boxes((), (), np.empty(0, np.float32), np.empty((0, 4), np.float32))
