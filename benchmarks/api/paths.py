"""What callers may give where a file or folder is meant."""

from __future__ import annotations

import os
from pathlib import Path

from ovd_bench.benchmarks.data.catalog.data_root import default_data_root

#: A path as text or object; relative ones count from the working directory.
StrPath = str | os.PathLike[str]


def data_folder(data_root: StrPath | None) -> Path:
    """Folder of the data sets: the given one, else that of ``default_data_root``."""
    return default_data_root() if data_root is None else Path(data_root)


def optional_path(path: StrPath | None) -> Path | None:
    """The same as a path; None stays None."""
    return None if path is None else Path(path)
