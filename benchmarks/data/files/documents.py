"""Small documents and requests of users: reading with a size limit, and errors of one line."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.detectors.yaml_text import parse_yaml
from ovd_bench.metrics.errors import DataError

P = ParamSpec("P")
T = TypeVar("T")


def checked(make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``make(…)`` of a pydantic model.

    Raises:
        DataError: a value is not valid; one line.
    """
    try:
        return make(*args, **kwargs)
    except ValidationError as error:
        raise DataError(first_problem(error)) from None


def read_document(path: Path, max_bytes: int, kind: str) -> bytes:
    """Content of a file of limited size.

    Args:
        path: the file.
        max_bytes: refuse a larger one before reading it.
        kind: expected kind, such as ``result file``.

    Raises:
        DataError: it cannot be read, or is too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise DataError(f"{path}: is not a regular file")
        if status.st_size > max_bytes:
            raise DataError(f"{path}: larger than {max_bytes} bytes, that is not a valid {kind}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_yaml(path: Path, max_bytes: int, kind: str) -> Any:
    """The document in a YAML file of limited size; see ``read_document``.

    Raises:
        DataError: it cannot be read, is too large, or is not YAML; one line.
    """
    content = read_document(path, max_bytes, kind)
    try:
        return parse_yaml(content.decode())
    except ValueError as error:
        raise DataError(printable(f"{path}: is not YAML: {error}")) from error


def first_problem(error: ValidationError) -> str:
    """``field: problem`` of the first problem; always one line, whatever the document's keys are."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part)[:60] for part in problem["loc"]) or "the document"
    return printable(f"{where}: {problem['msg'].removeprefix('Value error, ')[:200]}")
