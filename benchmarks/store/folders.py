"""Folders of runs under the results folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ovd_bench.metrics.errors import DataError

if TYPE_CHECKING:
    from ovd_bench.benchmarks.store.schema import Result  # needs pydantic, which takes time to import

RESULT = "result.json"
PER_CLASS = "per_class.csv"
PREDICTIONS = "predictions"
MANIFEST = "manifest.json"

#: Legal names of folders: no separator, no leading dot.
_LEGAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


def run_folder(
    root: Path,
    benchmark_name: str,
    protocol_slug: str,
    detector_name: str,
    weights_sha256: str,
    *,
    partial: str = "",
) -> Path:
    """``ROOT/<benchmark>/<protocol>/<detector>@<weights8>``, for a part of the images plus ``-partial-<partial>``.

    Raises:
        DataError: a name that is not a legal folder name.
    """
    for what, name in (("benchmark", benchmark_name), ("protocol", protocol_slug), ("detector", detector_name)):
        if not _LEGAL.fullmatch(name):
            raise DataError(f"{what} name {name[:150]!r}: letters, digits and . _ + - are allowed, 128 at most")
    suffix = f"-partial-{partial}" if partial else ""
    return root / benchmark_name / protocol_slug / f"{detector_name}@{weights_sha256[:8]}{suffix}"


def manifest_path(folder: Path) -> Path:
    """Path of the manifest of a run."""
    return folder / PREDICTIONS / MANIFEST


def find_results(root: Path) -> tuple[list[tuple[Path, Result]], list[str]]:
    """All result files under a results folder, sorted by path; the second list has one line per unreadable one."""
    from ovd_bench.benchmarks.store.schema import read_result

    results: list[tuple[Path, Result]] = []
    unreadable: list[str] = []
    for path in sorted(root.glob(f"*/*/*/{RESULT}")):
        try:
            results.append((path, read_result(path)))
        except DataError as error:
            unreadable.append(str(error))
    return results, unreadable
