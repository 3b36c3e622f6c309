"""Weights files of contestants: round trips, and other files are refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ovd_bench.baselines.controlled.models import build
from ovd_bench.baselines.controlled.weights import load_weights, save_weights
from ovd_bench.tests.baselines.controlled.toy import SMALL, write_weights


@pytest.mark.parametrize(
    "config",
    [SMALL, replace(SMALL, kind="region"), replace(SMALL, kind="glip"), replace(SMALL, assignment="hungarian")],
)
def test_what_is_written_comes_back(config: Any, tmp_path: Path) -> None:
    model = build(config)
    path = tmp_path / "w.safetensors"
    path.write_bytes(save_weights(model, config, {"a": 1}, half=False))
    found, about = load_weights(path)
    assert (about.config, about.training) == (config, {"a": 1})
    assert type(found) is type(model)
    for name, value in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_half_is_half_the_size(tmp_path: Path) -> None:
    whole, half = (write_weights(tmp_path / str(number), SMALL, half=bool(number)) for number in (0, 1))
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    for a, b in zip(load_weights(whole)[0].parameters(), load_weights(half)[0].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_number_that_is_none_is_not_written() -> None:
    model = build(SMALL)
    with torch.no_grad():
        next(model.parameters())[0] = float("nan")
    with pytest.raises(ValueError, match=r"'backbone\.patch_embed.*diverged"):
        save_weights(model, SMALL, {}, half=True)


def _altered(path: Path, change: dict[str, Any], drop: str = "") -> Path:
    tensors = {name: t.contiguous() for name, t in build(SMALL).state_dict().items() if name != drop}
    about = {"format": 1, "config": asdict(SMALL), "training": {}, **change}
    path.write_bytes(safetensors.torch.save(tensors, {"contestant": json.dumps(about)}))
    return path


@pytest.mark.parametrize(
    ("change", "drop", "reason"),
    [
        ({"format": 2}, "", "format 2, this version reads 1"),
        ({"config": {**asdict(SMALL), "width": 32}}, "", "is needed"),
        ({"config": {**asdict(SMALL), "width": "16"}}, "", "config: width"),
        ({"config": {**asdict(SMALL), "depth": 1}}, "", "config: depth"),
        ({"config": {**asdict(SMALL), "kind": "glipper"}}, "", "config: kind"),
        ({"config": {**asdict(SMALL), "width": 10**9}}, "", "out of range"),
        ({}, "scale.bias", "'scale.bias' is None"),
    ],
)
def test_other_files_are_refused_with_one_line(change: dict[str, Any], drop: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a weights file of a contestant") as caught:
        load_weights(_altered(tmp_path / "w", change, drop))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_header(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_weights(tmp_path / "none")
    (tmp_path / "w").write_bytes(safetensors.torch.save({"a": torch.ones(1)}))
    with pytest.raises(ValueError, match="no entry 'contestant'"):
        load_weights(tmp_path / "w")
    (tmp_path / "w").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not a weights file"):
        load_weights(tmp_path / "w")


def test_a_file_from_before_an_option_is_what_it_was(tmp_path: Path) -> None:
    """Offsets, levels, gates and suppression that a header does not name are those from before there was a choice."""
    config = replace(SMALL, kind="glip")
    new = ("extra_levels", "coarse_offsets", "fusion_gate", "nms_iou")
    old = {name: value for name, value in asdict(config).items() if name not in new}
    about = {"format": 1, "config": old, "training": {}}
    tensors = {name: tensor.contiguous() for name, tensor in build(config).state_dict().items()}
    path = tmp_path / "w"
    path.write_bytes(safetensors.torch.save(tensors, {"contestant": json.dumps(about)}))
    found = load_weights(path)[1].config
    assert [getattr(found, name) for name in new] == [2, "prefix", None, None]
    assert found == config
