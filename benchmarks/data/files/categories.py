"""The ``categories`` section of an annotation file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ovd_bench.benchmarks.data.files.ids import sorted_unique
from ovd_bench.metrics.errors import DataError, LimitError
from ovd_bench.metrics.types import Categories

#: No real vocabulary is larger; the limits keep a malicious file from taking many times its size in memory.
MAX_CATEGORIES = 100_000
MAX_RECORD_BYTES = 1 << 20


def _integral(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Integer = Annotated[int, BeforeValidator(_integral), Field(ge=-(2**63), lt=2**63)]


class _Category(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    id: _Integer
    name: str
    frequency: Literal["r", "c", "f", ""] = ""
    image_count: _Integer = -1
    synset: str = ""
    synonyms: Annotated[tuple[str, ...], Field(strict=False)] = ()  # a JSON list is not a tuple in Python
    supercategory: str = ""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, record: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in record.items() if value is not None}


def read_categories(path: Path, ranges: npt.NDArray[np.int64]) -> Categories:
    """Read the category records that lie in the given byte ranges of a file.

    Args:
        path: the annotation file.
        ranges: (K, 2), begin and end of every record, which is known to be a JSON object.

    Raises:
        DataError: no categories, too many, one with a missing or wrong field, or a repeated id.
    """
    if len(ranges) > MAX_CATEGORIES:
        raise LimitError(f"section 'categories' has {len(ranges)} records, at most {MAX_CATEGORIES} are read")
    rows = []
    with path.open("rb") as file:
        for number, (begin, end) in enumerate(ranges.tolist()):
            if end - begin > MAX_RECORD_BYTES:
                raise LimitError(f"categories record {number}: is longer than {MAX_RECORD_BYTES} bytes")
            file.seek(begin)
            category = _category(number, file.read(end - begin))
            rows.append(tuple(getattr(category, field) for field in _Category.model_fields))
    order = sorted_unique("categories", np.array([row[0] for row in rows], np.int64))
    ids, names, frequency, image_count, synset, synonyms, supercategory = zip(*(rows[i] for i in order), strict=True)
    return Categories(
        ids=np.array(ids, np.int64),
        names=names,
        frequency=frequency,
        image_count=np.array(image_count, np.int64),
        synset=synset,
        synonyms=synonyms,
        supercategory=supercategory,
    )


def _category(number: int, text: bytes) -> _Category:
    try:
        return _Category.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        where = (
            f"categories record {number}: field '{problem['loc'][0]}'"
            if problem["loc"]
            else f"categories record {number}:"
        )
        if problem["type"] == "missing":
            raise DataError(f"{where} is missing") from None
        value = " ".join(repr(problem["input"]).split())[:60]
        raise DataError(f"{where} is {value}: {problem['msg'][:1].lower()}{problem['msg'][1:]}") from None
