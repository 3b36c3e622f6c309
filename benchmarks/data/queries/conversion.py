"""Common parts of all readers of queries: checked lines, counts, and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.documents import first_problem
from ovd_bench.benchmarks.data.files.queries import SUFFIX, QueryLine, is_query_file, write_queries
from ovd_bench.detectors.types import DetectorError, Question
from ovd_bench.metrics.errors import DataError

Box = tuple[float, float, float, float]

#: Reasons that all readers count by.
NO_WORDS = "queries whose text or spans have no words"
CROWD = "boxes of crowds"
CONTRADICTED = "absent queries whose text also means something in their image"
NEGATIVE = "boxes of negative width or height"
NOT_ASKED = "boxes of descriptions that are not asked of their image"


@dataclass
class QueryConversion:
    """Report of a conversion; fields with numbers count what is written.

    Attributes:
        path: the file of queries.
        sha256: its hash.
        queries, images, boxes: written.
        absent: queries known to mean nothing in their image.
        unscored: queries without a box that are not known to be absent.
        kinds: queries by kind.
        left_out: what was not written, by reason.
        notes: one line each.
    """

    path: Path
    sha256: str = ""
    queries: int = 0
    images: int = 0
    boxes: int = 0
    absent: int = 0
    unscored: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def line(
        self, where: str, *, meant: Container[tuple[int, str]] = frozenset(), **fields: Any
    ) -> Iterator[QueryLine]:
        """The line with these fields and the next number as its id, or nothing, which is counted.

        Args:
            where: place in the source, for messages.
            meant: image ids and texts that mean something in the image. Two descriptions may have the same text, and
                no file of queries may say that it is both present and absent.
            fields: those of ``QueryLine`` but ``query_id``.

        Raises:
            DataError: a field that no file of queries can have.
        """
        try:
            line = QueryLine(query_id=self.queries + 1, **fields)
        except ValidationError as error:
            raise DataError(f"{where}: {first_problem(error)}") from None
        try:
            Question(line.text, tuple(sorted(line.spans)))
        except DetectorError:
            self.left_out[NO_WORDS] += 1
            return
        if line.present is False and (line.image_id, line.text) in meant:
            self.left_out[CONTRADICTED] += 1
            return
        self.queries += 1
        self.boxes += len(line.boxes)
        self.absent += line.present is False
        self.unscored += line.present is None and not line.boxes
        self.kinds.update(line.kinds)
        yield line

    def usable(self, boxes: Iterable[Sequence[float]]) -> list[Box]:
        """Boxes x, y, w, h without those of negative size, which are counted."""
        kept: list[Box] = []
        for x, y, w, h in boxes:
            if w < 0 or h < 0:
                self.left_out[NEGATIVE] += 1
            else:
                kept.append((x, y, w, h))
        return kept

    def write(self, sources: Sequence[Path], lines: Iterable[QueryLine]) -> QueryConversion:
        """Write lines that ``line`` made, and complete the report.

        Args:
            sources: what they come from, for messages.
            lines: to write.

        Raises:
            DataError: no line, an image with two names or sizes, or a target that is a source or not called .jsonl.
        """
        if not is_query_file(self.path):
            raise DataError(f"{self.path}: a file of queries is called {SUFFIX}")
        for source in sources:
            if self.path.exists() and source.exists() and self.path.samefile(source):
                raise DataError(f"{self.path}: is the file that is read: choose another name for the output")
        write_queries(self.path, self._checked(sources[0], lines))
        self.sha256 = file_sha256(self.path)
        return self

    def _checked(self, source: Path, lines: Iterable[QueryLine]) -> Iterator[QueryLine]:
        images: dict[int, tuple[str, int, int]] = {}
        for line in lines:
            image = (line.file_name, line.width, line.height)
            if (first := images.setdefault(line.image_id, image)) != image:
                raise DataError(f"{source}: image {line.image_id} is {first} and {image}")
            yield line
        if not images:
            raise DataError(f"{source}: has no queries: nothing is written")
        self.images = len(images)


class ImageNumbers:
    """Numbers for images that have none: 1 for the first name, 2 for the second."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers) + 1)
