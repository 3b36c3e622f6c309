"""Base of all documents and YAML files of the suite: strict types, unknown keys refused, values frozen."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticSerializationError

from ovd_bench.metrics.errors import DataError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: A name that becomes a folder: no separator, no leading dot.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class StrictModel(BaseModel):
    """Base of all models that are read from files."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def to_text(self) -> str:
        """As JSON.

        Raises:
            DataError: a path that is no text, as a folder with accents is where the locale is not UTF-8.
        """
        try:
            return self.model_dump_json()
        except PydanticSerializationError as error:
            raise DataError(
                f"a path is no text in the encoding of this system: set the locale to UTF-8 ({error})"
            ) from None
