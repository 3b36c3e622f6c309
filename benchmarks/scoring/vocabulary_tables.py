"""Tables about class names that annotation files lack: synsets, basic-level names, supercategories, hypernyms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ovd_bench.benchmarks.data.files.documents import first_problem, read_document
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Categories

if TYPE_CHECKING:
    from ovd_bench.metrics.hierarchy import Hierarchy  # imports scipy, which scoring alone does not need

MAX_BYTES = 256 * 2**20


class _Tables(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    synset: dict[str, str] | None = None
    basic: dict[str, str] | None = None
    supercategory: dict[str, str] | None = None
    hypernyms: dict[str, list[str]] | None = None


class _CocoSynset(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")
    coco_cat_id: int
    synset: str


_COCO_TABLE = TypeAdapter(dict[str, _CocoSynset])


class VocabularyTables:
    """Tables about the names of a vocabulary. Every table is optional.

    The file is JSON, either ``{"synset": {name: synset}, "basic": {name: basic name}, "supercategory": {name: name},
    "hypernyms": {word: [hypernym, …nearest first]}}`` with any subset of the keys, or a table in the format of
    lvis-api's ``coco_to_synset.json`` (``{name: {"coco_cat_id": 15, "synset": "bench.n.01", …}}``).
    """

    def __init__(
        self, source: str = "annotations", tables: _Tables | None = None, coco: dict[str, Any] | None = None
    ) -> None:
        self._source = source
        self._tables = tables or _Tables()
        self._coco = coco

    @staticmethod
    def read(path: Path | None) -> VocabularyTables:
        """Read and validate a table file; without a path there are no tables.

        Raises:
            DataError: no such file, or an invalid one; one line with file and field.
        """
        if path is None:
            return VocabularyTables()
        text = read_document(path, MAX_BYTES, "table of class names")
        try:
            return VocabularyTables(str(path), _Tables.model_validate_json(text))
        except ValidationError as error:
            if b'"coco_cat_id"' not in text:
                raise DataError(f"{path}: {first_problem(error)}") from None
        try:
            table = _COCO_TABLE.validate_json(text)
        except ValidationError as error:
            raise DataError(f"{path}: {first_problem(error)}") from None
        return VocabularyTables(str(path), coco={name: row.model_dump() for name, row in table.items()})

    @property
    def hypernyms(self) -> dict[str, list[str]] | None:
        """Word -> its hypernyms, nearest first."""
        return self._tables.hypernyms

    def hierarchy(self, categories: Categories) -> Hierarchy:
        """Rungs of the granularity ladder, from the tables or else from the fields of the annotation file.

        Raises:
            DataError: a table lacks a class, or the rungs are not nested; the message names the file.
        """
        from ovd_bench.metrics.hierarchy import Hierarchy, coco_synsets

        tables = self._tables
        try:
            synset = tables.synset if self._coco is None else coco_synsets(categories, self._coco)
            return Hierarchy.build(categories, synset=synset, basic=tables.basic, supercategory=tables.supercategory)
        except DataError as error:
            raise DataError(f"{self._source}: {error}") from None

    def siblings(self, categories: Categories) -> npt.NDArray[np.int32] | None:
        """Group of every class for hard negatives: supercategory, else basic-level name; None without either."""
        hierarchy = self.hierarchy(categories)
        rung = hierarchy.super or hierarchy.basic
        return None if rung is None else rung.cluster
