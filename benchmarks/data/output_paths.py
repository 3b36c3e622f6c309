"""Places to write to, looked at before the work that fills them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from ovd_bench.metrics.errors import DataError


def check_file(path: Path, suffixes: Collection[str] = ()) -> None:
    """Refuse a file that could not be written, before the work whose result it gets.

    Args:
        path: of the file; an existing one is to be replaced.
        suffixes: that the name may have, in lower case; none = any.

    Raises:
        DataError: another suffix, no such folder or one that cannot be written to, or something that is not a file.
    """
    check_name(path, suffixes)
    _try(path.parent, path)


def check_name(path: Path, suffixes: Collection[str] = ()) -> None:
    """As ``check_file``, without an attempt to write.

    Raises:
        DataError: another suffix, no such folder, or something that is not a file: a device would be replaced.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise DataError(f"{path}: the file name must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise DataError(f"{path}: the folder {path.parent} does not exist: create it first")
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is {'a folder' if path.is_dir() else 'not a regular file'}: name a file")


def check_folder(path: Path) -> None:
    """Refuse a folder that could not be made or written to. It is not made here.

    Raises:
        DataError: part of the path is no folder, or cannot be written to.
    """
    there = path
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise DataError(f"{path}: cannot be made: {there} is not a folder")
    _try(there, path)


def _try(folder: Path, path: Path) -> None:
    """Write into a folder, because permissions do not tell of read-only and special file systems."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(f"{path}: the folder {folder} cannot be written to: {error.strerror}") from error
