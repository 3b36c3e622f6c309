"""Suites of one's own beside the results: the board must know which benchmarks belong together.

``ROOT/suites/NAME.json`` has the names of the benchmarks; where their files lie is of no interest there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ovd_bench.benchmarks.data.catalog.suites import SUITES, Member, Suite
from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.files.documents import first_problem, read_document
from ovd_bench.benchmarks.data.strict_model import Name, StrictModel
from ovd_bench.metrics.errors import DataError

FOLDER = "suites"
_MAX_BYTES = 4 << 20


class _SuiteList(StrictModel):
    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    sets: Annotated[list[Name], Field(min_length=2)]


def check_suite(root: Path, suite: Suite) -> None:
    """Refuse a suite of one's own whose name another one has.

    Raises:
        DataError: there is another suite of this name.
    """
    path = root / FOLDER / f"{suite.name}.json"
    if path.exists() and _read(path).sets != list(suite.names):
        raise DataError(f"{path}: a suite of this name with other sets is there: choose another name or --out")


def remember_suite(root: Path, suite: Suite) -> None:
    """Write the list of a suite of one's own; nothing to do for those of the catalogue.

    Raises:
        DataError: there is another suite of this name.
        OSError: it cannot be written.
    """
    check_suite(root, suite)
    path = root / FOLDER / f"{suite.name}.json"
    if suite.name in SUITES or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"schema": 1, "name": suite.name, "sets": list(suite.names)}
    with atomic_write(path) as file:
        file.write((json.dumps(document, indent=1) + "\n").encode())


def known_suites(root: Path) -> tuple[list[Suite], list[str]]:
    """Suites of the catalogue and those listed beside results; the second list has a line per unreadable list."""
    suites, problems = list(SUITES.values()), []
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            found = _read(path)
        except DataError as error:
            problems.append(str(error))
        else:
            members = tuple(Member(name, name) for name in found.sets)
            suites.append(Suite(name=found.name, title=found.name, members=members))
    return suites, problems


def _read(path: Path) -> _SuiteList:
    try:
        found = _SuiteList.model_validate_json(read_document(path, _MAX_BYTES, "list of data sets"))
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}") from None
    if found.name != path.stem or found.name in SUITES:
        raise DataError(f"{path}: name: '{found.name}' is not that of the file, or one of the catalogue")
    return found
