"""What callers may give where a file or folder is meant."""

from __future__ import annotations

import os
from pathlib import Path

#: A path as text or object; relative ones count from the working directory.
StrPath = str | os.PathLike[str]


def data_folder(data_root: StrPath | None) -> Path:
    """Folder of the data sets: the given one, else ``OVD_BENCH_DATA``, else ``data``."""
    return Path(data_root if data_root is not None else os.environ.get("OVD_BENCH_DATA") or "data")


def optional_path(path: StrPath | None) -> Path | None:
    """The same as a path; None stays None."""
    return None if path is None else Path(path)
