"""Readers and writers of prediction and annotation files as columns."""

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.atomic import atomic_write, file_sha256
from ovd_bench.benchmarks.data.files.predictions import read_predictions, write_predictions

__all__ = ["atomic_write", "file_sha256", "read_ground_truth", "read_predictions", "write_predictions"]
