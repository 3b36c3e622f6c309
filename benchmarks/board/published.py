"""Numbers from papers and model cards: shown with the board, but never in one table with measured rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ovd_bench.benchmarks.data.files.documents import first_problem, read_document
from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.metrics.errors import DataError

#: Shipped with the suite.
PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published.json"

_MAX_BYTES = 8 * 2**20

#: Kinds of AP in the file -> names shown to readers.
KINDS = {"standard": "AP", "fixed": "fixed AP", "unknown": "kind of AP not stated"}

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=300)]


class PublishedValues(StrictModel):
    """AP in percent, as printed in the source; None if it is not given."""

    AP: Percent
    APr: Percent | None
    APc: Percent | None
    APf: Percent | None


class PublishedRow(StrictModel):
    """One published result.

    Attributes:
        ap_kind: ``standard`` (300 per image on LVIS, 100 on COCO), ``fixed`` (10,000 per class), or not stated.
        setting: ``zero-shot``; ``fine-tuned`` on the benchmark; ``supervised``: trained on it from the start.
        source: paper and table, or repository and file.
        checked: the document that the values were compared with, which may differ from the source; None = none.
        certain: False if the source gives a range or a part of the entry is doubtful; see the note.
    """

    detector: Text
    benchmark: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    ap_kind: Literal["standard", "fixed", "unknown"]
    setting: Literal["zero-shot", "fine-tuned", "supervised"]
    training_data: Annotated[list[Text], Field(min_length=1)]
    values: PublishedValues
    source: Text
    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{5}$")] | None
    certain: bool
    note: str
    checked: Text | None = None

    @property
    def numbers(self) -> tuple[str, str, str, str]:
        """AP, APr, APc, APf for display; AP with a question mark if it is not certain."""
        values = (self.values.AP, self.values.APr, self.values.APc, self.values.APf)
        ap, r, c, f = ("–" if value is None else f"{value:.1f}" for value in values)
        return ap if self.certain else f"{ap} ?", r, c, f

    @property
    def origin(self) -> str:
        """Sources of the numbers, with notes."""
        return self.source + (f", arXiv {self.arxiv}" if self.arxiv else "") + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class PublishedTable:
    """Rows of one benchmark and one kind of AP, zero-shot ones first, best first."""

    benchmark: str
    ap_kind: str
    rows: list[PublishedRow]

    @property
    def title(self) -> str:
        """Benchmark and kind of AP, as shown to readers."""
        return f"{self.benchmark}, {KINDS[self.ap_kind]}"


class Published(StrictModel):
    """The file ``published.json``."""

    schema_version: Literal[1] = Field(alias="schema")
    about: str
    rows: list[PublishedRow]

    def tables(self) -> list[PublishedTable]:
        """A table per benchmark and kind of AP, in that order: numbers of two kinds are different quantities."""
        kinds, settings = list(KINDS), ("zero-shot", "fine-tuned", "supervised")
        rows = sorted(self.rows, key=lambda row: (row.benchmark, kinds.index(row.ap_kind)))
        return [
            PublishedTable(*key, sorted(members, key=lambda row: (settings.index(row.setting), -row.values.AP)))
            for key, members in groupby(rows, key=lambda row: (row.benchmark, row.ap_kind))
        ]


def read_published(path: Path = PUBLISHED) -> Published:
    """Read the file.

    Raises:
        DataError: not readable or not of the schema; one line.
    """
    text = read_document(path, _MAX_BYTES, "file of published numbers")
    try:
        return Published.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}") from None
