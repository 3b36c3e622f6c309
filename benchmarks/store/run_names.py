"""Runs by name: how every verb finds the run that is meant."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ovd_bench.benchmarks.data.text import unknown_name
from ovd_bench.benchmarks.store.folders import RESULT, manifest_path
from ovd_bench.metrics.errors import DataError


def split_specs(specs: Sequence[str]) -> list[str]:
    """Runs from repeated, comma-separated arguments.

    Raises:
        DataError: none, or one twice.
    """
    names = [name.strip() for spec in specs for name in spec.split(",") if name.strip()]
    if not names:
        raise DataError("no run given: name a detector, the folder of a run or a prediction file")
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"'{twice[0]}' is given twice")
    return names


def find_run(spec: str, root: Path, benchmark: str | None = None) -> Path:
    """Folder of a run.

    Args:
        spec: the folder, its ``result.json``, or under ``root`` the name of the detector or ``detector@weights8``.
        root: folder of the results.
        benchmark: name of the benchmark of the run; None = any.

    Raises:
        DataError: no run, or several, which it lists. It names another folder of results that has the run.
    """
    path = Path(spec)
    if path.exists():
        folder = path.parent if path.name == RESULT else path
        if _is_run(folder):
            return folder
        raise DataError(f"{spec}: is not a run: it has neither {RESULT} nor predictions")
    found = _named(spec, root, benchmark)
    if len(found) > 1:
        raise DataError(f"'{spec}' is {len(found)} runs: name the folder of one: {', '.join(map(str, found[:6]))}")
    if found:
        return found[0]
    if os.sep in spec or path.suffix[1:].isalpha():
        raise DataError(f"{spec}: no such file or folder")
    said = f"no run '{spec}' under {root}/{benchmark}" if benchmark else f"no run '{spec}' under {root}"
    others = [other for other in _other_roots(root) if _named(spec, other, benchmark)]
    if others:
        raise DataError(f"{said}: {others[0]} has one: give --out {others[0]}")
    names = [folder.name.split("@")[0] for folder in _runs(root, benchmark)]
    raise DataError(unknown_name(said, spec, names, "name a detector that has one, or the path of its folder"))


def find_result(spec: str, root: Path, benchmark: str | None = None) -> Path:
    """Path of the ``result.json`` of a run.

    Raises:
        DataError: see ``find_run``; or the run is not scored.
    """
    folder = find_run(spec, root, benchmark)
    if not (folder / RESULT).is_file():
        raise DataError(f"{folder}: is not scored yet: 'bench score {folder} --save' does it")
    return folder / RESULT


def find_predictions(spec: str, root: Path, benchmark: str | None = None) -> Path:
    """Folder of a run that has its predictions, or path of a prediction file.

    Raises:
        DataError: see ``find_run``; or the run is here without its predictions. It names the folder that has them.
    """
    if Path(spec).is_file() and Path(spec).name != RESULT:
        return Path(spec)
    folder = find_run(spec, root, benchmark)
    if manifest_path(folder).is_file():
        return folder
    same = [other.joinpath(*folder.resolve().parts[-3:]) for other in _other_roots(root)]
    having = [other for other in same if manifest_path(other).is_file()]
    if having:
        raise DataError(f"{folder}: the predictions of this run are not in this folder: {having[0]} has them")
    raise DataError(f"{folder}: the predictions of this run are not on this machine: run it again")


def _named(spec: str, root: Path, benchmark: str | None) -> list[Path]:
    return [folder for folder in _runs(root, benchmark) if spec in (folder.name, folder.name.split("@")[0])]


def _runs(root: Path, benchmark: str | None) -> list[Path]:
    part = "*" if benchmark is None or os.sep in benchmark else benchmark  # a path has another name as a folder
    return sorted(folder for folder in root.glob(f"{part}/*/*") if _is_run(folder))


def _is_run(folder: Path) -> bool:
    return (folder / RESULT).is_file() or manifest_path(folder).is_file()


def _other_roots(root: Path) -> Iterator[Path]:
    """The usual folders of results below the current one: ``results``, and those that 'make bench' and others make."""
    for other in (Path("results"), *sorted(Path("runs").glob("*"))):
        if other.is_dir() and other.resolve() != root.resolve():
            yield other
