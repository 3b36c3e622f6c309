"""The weights file: round trips, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ovd_bench.baselines.owl_nano.model import OwlNano
from ovd_bench.baselines.owl_nano.weights import load_weights, save_weights
from ovd_bench.tests.baselines.nano import TINY


def _written(path: Path, about: dict[str, Any] | None = None, **changes: torch.Tensor | None) -> Path:
    """A weights file with changes in its header's JSON or its tensors."""
    torch.manual_seed(0)
    path.write_bytes(save_weights(OwlNano(TINY), (), {"data": "nothing"}))
    with safetensors.safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        document = json.loads(file.metadata()["owl-nano"])
    document |= about or {}
    tensors = {name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}
    safetensors.torch.save_file(tensors, path, {"owl-nano": json.dumps(document)})
    return path


def test_round_trip_is_float16(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, classifier="learned", classes=2)
    torch.manual_seed(0)
    model = OwlNano(config)
    path = tmp_path / "w.safetensors"
    path.write_bytes(save_weights(model, ("red star", "ring"), {"steps": 3}))
    loaded, about = load_weights(path)
    assert (about.config, about.classes, about.training) == (config, ("red star", "ring"), {"steps": 3})
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor.half().float(), rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_weights_that_do_not_fit_float16_are_not_stored() -> None:
    model = OwlNano(TINY)
    with torch.no_grad():
        model.box.bias[0] = 1e6
    with pytest.raises(ValueError, match=r"box\.bias.*diverged"):
        save_weights(model, (), {})


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"config": {}}, "other keys"),
        ({"config": {**dataclasses.asdict(TINY), "window": "2"}}, "window"),
        ({"config": {**dataclasses.asdict(TINY), "window": True}}, "window"),
        ({"config": {**dataclasses.asdict(TINY), "widths": 8}}, "widths"),
        ({"config": {**dataclasses.asdict(TINY), "depths": [1, 2, 10**12]}}, "sizes"),
        ({"config": {**dataclasses.asdict(TINY), "neck": 4096}}, "is needed"),
        ({"config": {**dataclasses.asdict(TINY), "assignment": "best"}}, "assignment"),
        ({"classes": ["one"]}, "1 class names"),
        ({"classes": [1]}, "malformed"),
        ({"training": []}, "malformed"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, about: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_weights(_written(tmp_path / "w.safetensors", about))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box.bias": None}, r"'box\.bias' is None"),
        ({"extra": torch.zeros(2)}, "'extra'"),
        ({"box.bias": torch.zeros(5)}, r"'box\.bias' is \[5\]"),
        ({"box.bias": torch.full((4,), float("nan"))}, "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_weights(_written(tmp_path / "w.safetensors", **changes))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a weights file of owl-nano"):
        load_weights(path)
    with pytest.raises(ValueError, match="no such file"):
        load_weights(tmp_path / "missing")
