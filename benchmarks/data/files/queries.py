"""The suite's file of queries: JSON Lines, one text that is asked of one image per line.

::

    {"query_id": 7, "image_id": 36979, "file_name": "36979.jpg", "width": 500, "height": 375,
     "text": "A man in a red hat rides a horse.", "spans": [[0, 18]], "kinds": ["people"],
     "boxes": [[12, 30.5, 80, 200]]}

``boxes`` are ``[x, y, width, height]`` in absolute pixels. ``spans`` are the characters ``[begin, end)`` of the text
that are meant; without them the whole text is. ``"present": false`` says that nothing in the image is meant; a query
without boxes that does not say so is not scored. ``"exhaustive": false`` says that there may be more boxes than these.
``kinds`` name the rows in which the query is counted as well. ``width``, ``height``, ``spans``, ``kinds``, ``present``
and ``exhaustive`` may be left out; other keys are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, FailFast, Field, TypeAdapter
from pydantic.dataclasses import dataclass as validated

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.files.grounding import Id, TrueBox, json_lines
from ovd_bench.detectors.types import DetectorError, Question
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.queries import Queries, Query

SUFFIX = ".jsonl"
#: Characters of a text; a paragraph has about 1,000.
MAX_TEXT = 10_000

Side = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(min_length=1, max_length=4096)]
Kind = Annotated[str, Field(min_length=1, max_length=200)]


@validated(config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False), slots=True, kw_only=True)
class QueryLine:
    """One line; see the module's docstring."""

    query_id: Id
    image_id: Id
    file_name: Name
    width: Side = 0
    height: Side = 0
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    spans: Annotated[list[tuple[Side, Side]], FailFast()] = Field(default_factory=list)
    kinds: Annotated[list[Kind], FailFast()] = Field(default_factory=list)
    present: bool | None = None
    exhaustive: bool = True
    boxes: Annotated[list[TrueBox], FailFast()] = Field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The line without what is left at its default."""
        document: dict[str, Any] = {"query_id": self.query_id, "image_id": self.image_id, "file_name": self.file_name}
        if self.width or self.height:
            document |= {"width": self.width, "height": self.height}
        document["text"] = self.text
        if self.spans:
            document["spans"] = [list(span) for span in self.spans]
        if self.kinds:
            document["kinds"] = self.kinds
        if self.present is not None:
            document["present"] = self.present
        if not self.exhaustive:
            document["exhaustive"] = False
        return document | {"boxes": [list(box) for box in self.boxes]}


@dataclass(frozen=True)
class QueryFile:
    """Content of a file of queries.

    Attributes:
        queries: all of them; ``queries.truth`` has a class per question.
        questions: in the order of the classes, in order of their first appearance in the file.
    """

    queries: Queries
    questions: tuple[Question, ...]


def is_query_file(path: Path) -> bool:
    """Whether a path names a file of queries: they end in ``.jsonl``."""
    return path.suffix.casefold() == SUFFIX


def holds_queries(path: Path) -> bool:
    """Whether a JSON Lines file is one of queries and not of training records, by its first characters."""
    if not path.is_file():  # reading a pipe or a device may never end
        return False
    try:
        with path.open("rb") as file:
            return b'"query_id"' in file.read(1024).partition(b"\n")[0]
    except OSError:
        return False


def read_queries(path: Path) -> QueryFile:
    """Read a file of queries.

    Raises:
        DataError: anything wrong with it; one line with file, line number and field.
    """
    numbers: dict[int, int] = {}
    images: dict[int, tuple[str, int, int]] = {}
    questions: dict[Question, int] = {}
    queries = []
    for number, line in json_lines(path, TypeAdapter(QueryLine)):
        where = f"{path}: line {number}"
        if (first := numbers.setdefault(line.query_id, number)) != number:
            raise DataError(f"{where}: query_id: {line.query_id} is on line {first} already")
        image = (line.file_name, line.width, line.height)
        if images.setdefault(line.image_id, image) != image:
            raise DataError(f"{where}: image {line.image_id} has another file_name, width or height on a line before")
        if line.present is not None and line.present != bool(line.boxes):
            raise DataError(f"{where}: present is {str(line.present).lower()}, boxes has {len(line.boxes)}")
        try:
            question = Question(line.text, tuple(sorted(line.spans)))
        except DetectorError as error:
            raise DataError(f"{where}: {error}") from None
        queries.append(
            Query(
                query_id=line.query_id,
                image_id=line.image_id,
                question=questions.setdefault(question, len(questions)),
                boxes_xywh=line.boxes,
                absent=line.present is False,
                exhaustive=line.exhaustive,
                kinds=tuple(line.kinds),
            )
        )
    if not queries:
        raise DataError(f"{path}: has no queries, one JSON object per line is needed")
    try:
        columns = Queries.of(
            queries,
            [question.phrase for question in questions],
            list(images),
            [(width, height) for _, width, height in images.values()],
            [name for name, _, _ in images.values()],
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return QueryFile(columns, tuple(questions))


def write_queries(path: Path, lines: Iterable[QueryLine]) -> int:
    """Write a file of queries at once; returns the number of lines.

    Raises:
        OSError: the file cannot be written.
    """
    count = 0
    with atomic_write(path) as file:
        for line in lines:
            file.write(json.dumps(line.as_json(), ensure_ascii=False, allow_nan=False).encode() + b"\n")
            count += 1
    return count
