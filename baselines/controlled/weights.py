"""The weights file of a contestant: safetensors whose header describes the model and its training.

The header's only entry ``contestant`` is JSON: ``format`` (1), ``config`` (``ContestantConfig``) and ``training``
(free form, for readers and for the manifest of a study).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError

from ovd_bench.baselines.controlled.config import ContestantConfig
from ovd_bench.baselines.controlled.models import Model, build

FORMAT = 1
_KEY = "contestant"


def save_weights(model: Model, config: ContestantConfig, training: dict[str, Any], *, half: bool) -> bytes:
    """Content of a weights file.

    Args:
        model: a contestant.
        config: of the model.
        training: description of the training.
        half: whether to store float16.

    Raises:
        ValueError: a number that is not finite, or that float16 cannot hold.
    """
    kind = torch.float16 if half else torch.float32
    tensors = {name: tensor.detach().to(kind).contiguous() for name, tensor in model.state_dict().items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"'{name}' holds a number that {kind} cannot hold: the training has diverged")
    about = {"format": FORMAT, "config": asdict(config), "training": training}
    data: bytes = safetensors.torch.save(tensors, {_KEY: json.dumps(about, ensure_ascii=False)})
    return data


@dataclass(frozen=True)
class About:
    """Header of a weights file.

    Attributes:
        config: of the model.
        training: description of the training.
    """

    config: ContestantConfig
    training: dict[str, Any]


def holds_contestant(path: Path) -> bool:
    """Whether the header of a file is that of a contestant; False for unreadable files."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return _KEY in (file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return False


def load_weights(path: Path) -> tuple[Model, About]:
    """The contestant in a weights file, float32, ready to detect; every parameter is set exactly once.

    Raises:
        ValueError: no such file, or not a weights file of a contestant.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = _about((file.metadata() or {}).get(_KEY))
            with torch.device("meta"):  # a header may state any size: nothing is allocated before the shapes agree
                expected = {name: list(tensor.shape) for name, tensor in build(about.config).state_dict().items()}
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
            if wrong := [name for name in {**expected, **found} if expected.get(name) != found.get(name)]:
                raise ValueError(f"'{wrong[0]}' is {found.get(wrong[0])}, {expected.get(wrong[0])} is needed")
            tensors = {name: file.get_tensor(name).float() for name in found}
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: is no weights file of a contestant ({reason})") from error
    if bad := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise ValueError(f"{path}: '{bad[0]}' holds a number that is not finite")
    model = build(about.config)
    model.load_state_dict(tensors)
    model.requires_grad_(False).eval()
    return model, about


def _about(text: str | None) -> About:
    if text is None:
        raise ValueError(f"its header has no entry '{_KEY}'")
    document = json.loads(text)
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}, this version reads {FORMAT}")
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
