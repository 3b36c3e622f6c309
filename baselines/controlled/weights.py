"""Weights files of contestants; see ``baselines.weights_file``. ``config`` is a ``ContestantConfig``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from ovd_bench.baselines.controlled.config import ContestantConfig
from ovd_bench.baselines.controlled.models import Model, build
from ovd_bench.baselines.weights_file import ModelKind


@dataclass(frozen=True)
class About:
    """Header of a weights file.

    Attributes:
        config: configuration of the model.
        training: description of the training.
    """

    config: ContestantConfig
    training: dict[str, Any]


def save_weights(model: Model, config: ContestantConfig, training: dict[str, Any], *, half: bool) -> bytes:
    """Content of a weights file.

    Args:
        model: a contestant.
        config: configuration of the model.
        training: description of the training.
        half: in float16.

    Raises:
        ValueError: a number that is not finite, or that float16 cannot hold.
    """
    header = {"config": asdict(config), "training": training}
    return _CONTESTANT.encode(model, header, torch.float16 if half else torch.float32)


def holds_contestant(path: Path) -> bool:
    """Whether the header of a file is that of a contestant; False for unreadable files."""
    return _CONTESTANT.is_in(path)


def load_weights(path: Path) -> tuple[Model, About]:
    """The contestant in a weights file, float32, ready to detect; every parameter is set exactly once.

    Raises:
        ValueError: no such file, or not a weights file of a contestant.
    """
    return _CONTESTANT.load(path)


def _about(document: Any) -> About:
    if not isinstance(document["training"], dict):
        raise ValueError("training is malformed")
    try:
        config = TypeAdapter(ContestantConfig).validate_json(
            json.dumps(document["config"]), strict=True, extra="forbid"
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"config: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return About(config, document["training"])


_CONTESTANT = ModelKind("contestant", "a contestant", _about, lambda about: build(about.config))
