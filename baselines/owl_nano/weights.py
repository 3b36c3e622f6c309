"""The weights file: safetensors in float16 whose header describes the model and its training.

The header's only entry ``owl-nano`` is JSON: ``format`` (1), ``config`` (``OwlNanoConfig``), ``classes`` (names of the
learned class vectors, empty with text) and ``training`` (free form, for readers: data, recipe, budget).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import safetensors
import safetensors.torch
import torch

from ovd_bench.baselines.owl_nano.config import OwlNanoConfig
from ovd_bench.baselines.owl_nano.model import OwlNano

FORMAT = 1
_KEY = "owl-nano"


@dataclass(frozen=True)
class About:
    """Header of a weights file.

    Attributes:
        config: of the model.
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
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"owl-nano: '{name}' holds a number that float16 cannot hold: the training has diverged")
    about = {"format": FORMAT, "config": asdict(model.config), "classes": classes, "training": training}
    data: bytes = safetensors.torch.save(tensors, {_KEY: json.dumps(about, ensure_ascii=False)})
    return data


def load_weights(path: Path) -> tuple[OwlNano, About]:
    """The model in a weights file, float32, ready to detect; every parameter is set exactly once.

    Raises:
        ValueError: no such file, or not a weights file of owl-nano.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = _about((file.metadata() or {}).get(_KEY))
            with torch.device("meta"):  # a header may state any size: nothing is allocated before the shapes agree
                model = OwlNano(about.config)
            expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
            if wrong := [name for name in {**expected, **found} if expected.get(name) != found.get(name)]:
                raise ValueError(f"'{wrong[0]}' is {found.get(wrong[0])}, {expected.get(wrong[0])} is needed")
            tensors = {name: file.get_tensor(name).float() for name in found}
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: is no weights file of owl-nano ({reason})") from error
    if bad := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise ValueError(f"{path}: '{bad[0]}' holds a number that is not finite")
    model = OwlNano(about.config)
    model.load_state_dict(tensors)
    return model.requires_grad_(False).eval(), about


def _about(text: str | None) -> About:
    if text is None:
        raise ValueError(f"its header has no entry '{_KEY}'")
    document = json.loads(text)
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}, this version reads {FORMAT}")
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
