"""Weights files of owl-nano, in float16; see ``baselines.weights_file``.

The header's JSON also has ``classes`` (names of the learned class vectors, empty with text); ``config`` is an
``OwlNanoConfig``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import torch

from ovd_bench.baselines.owl_nano.config import OwlNanoConfig
from ovd_bench.baselines.owl_nano.model import OwlNano
from ovd_bench.baselines.weights_file import ModelKind


@dataclass(frozen=True)
class About:
    """Header of a weights file.

    Attributes:
        config: configuration of the model.
        classes: names of the learned class vectors, in their order; empty with text.
        training: description of the training.
    """

    config: OwlNanoConfig
    classes: tuple[str, ...]
    training: dict[str, Any]


def save_weights(model: OwlNano, classes: tuple[str, ...], training: dict[str, Any]) -> bytes:
    """Content of a weights file.

    Raises:
        ValueError: a number that float16 cannot hold.
    """
    header = {"config": asdict(model.config), "classes": classes, "training": training}
    return _OWL_NANO.encode(model, header, torch.float16)


def load_weights(path: Path) -> tuple[OwlNano, About]:
    """The model in a weights file, float32, ready to detect; every parameter is set exactly once.

    Raises:
        ValueError: no such file, or not a weights file of owl-nano.
    """
    return _OWL_NANO.load(path)


def _about(document: Any) -> About:
    config = document["config"]
    hints = get_type_hints(OwlNanoConfig)
    if set(config) != {field.name for field in fields(OwlNanoConfig)}:
        raise ValueError("config has other keys than this version's")
    for name, value in config.items():
        if isinstance(value, list):
            config[name] = value = tuple(value)
        kinds = {type(part) for part in (value if isinstance(value, tuple) else (value,))}
        wanted = str if hints[name] not in (int, tuple[int, int, int]) else int
        if kinds != {wanted} or isinstance(value, tuple) != (hints[name] == tuple[int, int, int]):
            raise ValueError(f"config: {name} is {value!r}")
    classes = tuple(document["classes"])
    if not all(isinstance(name, str) for name in classes) or not isinstance(document["training"], dict):
        raise ValueError("classes or training is malformed")
    parsed = OwlNanoConfig(**config)
    if len(classes) != parsed.classes:
        raise ValueError(f"{len(classes)} class names for {parsed.classes} learned classes")
    return About(parsed, classes, document["training"])


_OWL_NANO = ModelKind("owl-nano", "owl-nano", _about, lambda about: OwlNano(about.config))
