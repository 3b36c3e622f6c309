"""Files to columns and back: predictions and annotations in their usual forms."""

from benchmarks.io.annotations import read_ground_truth
from benchmarks.io.files import atomic_write, file_sha256
from benchmarks.io.predictions import read_predictions, write_predictions

__all__ = ["atomic_write", "file_sha256", "read_ground_truth", "read_predictions", "write_predictions"]
