"""Prompt plans by name or from YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ovd_bench.benchmarks.data.files.documents import first_problem, read_yaml
from ovd_bench.benchmarks.data.text import unknown_name
from ovd_bench.detectors.prompts import PLANS, Cleaning, Ensemble, Order, PromptPlan
from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.errors import DataError

MAX_BYTES = 2**20
_MAX_TEMPLATES = 100
_MAX_DISTRACTORS = 20_000

Template = Annotated[str, Field(max_length=500)]


class _PlanFile(BaseModel):
    """The keys of a plan file; the defaults are those of the plan ``names``."""

    model_config = ConfigDict(strict=True, extra="forbid")

    # The name is part of the folder of a run.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
    cleaning: Cleaning = "lvis"
    templates: Annotated[list[Template], Field(max_length=_MAX_TEMPLATES)] = ["{}"]
    ensemble: Ensemble = "logits"
    chunk_classes: int | None = 40
    token_budget: int = 256
    order: Order = "id"
    paraphrase: int = 0
    distractors: Annotated[list[Template], Field(max_length=_MAX_DISTRACTORS)] = []


def read_plan(spec: str) -> PromptPlan:
    """A plan by its name in ``detectors.prompts.PLANS``, otherwise from a YAML file.

    The keys of the file are the fields of ``PromptPlan``; only ``name`` is required.

    Raises:
        DataError: neither, or not a valid plan file; one line naming file and field.
    """
    if spec in PLANS:
        return PLANS[spec]
    path = Path(spec)
    if not path.is_file():
        raise DataError(
            unknown_name(
                f"no prompt plan '{spec}' and no such file",
                spec,
                PLANS,
                f"choose from {', '.join(PLANS)}, or name a YAML file",
            )
        )
    document = read_yaml(path, MAX_BYTES, "prompt plan")
    try:
        content = _PlanFile.model_validate(document).model_dump()
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}") from None
    if content["name"] in PLANS:
        raise DataError(f"{path}: name: '{content['name']}' is a plan of the suite, take another name")
    try:
        return PromptPlan(**content | {key: tuple(content[key]) for key in ("templates", "distractors")})
    except DetectorError as error:
        raise DataError(f"{path}: {error}") from None
