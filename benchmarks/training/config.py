"""The YAML file that describes a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from ovd_bench.benchmarks.data.files.documents import read_yaml
from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.benchmarks.data.text import printable, unknown_name
from ovd_bench.metrics.errors import DataError

Config = TypeVar("Config", bound=BaseModel)

CONFIGS = Path(__file__).with_name("configs")
_MAX_BYTES = 1 << 20
#: A count of steps or images.
Positive = Annotated[int, Field(ge=1, le=10_000_000)]


class TrainingConfig(StrictModel):
    """Keys of every training; each trainer adds its own.

    Attributes:
        trainer: name in ``benchmarks.training.registry.TRAINERS``.
        seed: of weights, order and all other randomness.
        batch: images per step.
        log_every, evaluate_every, checkpoint_every: steps between these; 0 for ``evaluate_every`` = only at the end.
    """

    trainer: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    batch: Annotated[int, Field(ge=1, le=4096)] = 4
    log_every: Positive = 100
    evaluate_every: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: Positive = 1000

    def as_yaml(self) -> bytes:
        """The YAML text with all keys."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False).encode()

    def resolved(self) -> dict[str, Any]:
        """All values, with the defaults of free parts of the file, to compare two trainings.

        Raises:
            DataError: that part does not fit.
        """
        return self.model_dump(mode="json")


def find_config(name: str) -> Path:
    """Path of a configuration: a file, or the name of one in ``benchmarks/training/configs``.

    Raises:
        DataError: neither.
    """
    if Path(name).suffix in (".yaml", ".yml") or Path(name).is_file():
        return Path(name)
    shipped = {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}
    if name not in shipped:
        others = f"name a YAML file, or one of {', '.join(shipped)}"
        raise DataError(unknown_name(f"no configuration '{printable(name)}'", printable(name), shipped, others))
    return shipped[name]


def read_document(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        DataError: no such file, no YAML, or not a mapping.
    """
    document = read_yaml(path, _MAX_BYTES, "configuration")
    if not isinstance(document, dict):
        raise DataError(f"{path}: a training is a mapping of keys to values, such as 'trainer: owl-nano'")
    return document


def validated(kind: type[Config], document: dict[str, Any], path: Path) -> Config:
    """A document as a configuration.

    Raises:
        DataError: an unknown key, or a value of another kind than is needed.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the training"
        hint = {
            "extra_forbidden": f": the keys are {', '.join(_keys(kind, first['loc'][:-1]))}",
            "float_type": ": YAML reads 2e-3 as text, write 0.002 or 2.0e-3",
        }.get(first["type"], "")
        raise DataError(printable(f"{path}: {where}: {first['msg']}{hint}")) from None


def _keys(kind: type[BaseModel], place: Sequence[Any]) -> list[str]:
    """Keys of a part of a configuration, by its location."""
    for step in place:
        field = kind.model_fields.get(step) if isinstance(step, str) else None
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        kind = next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), kind)
    return list(kind.model_fields)
