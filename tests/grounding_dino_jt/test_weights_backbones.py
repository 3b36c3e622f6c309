"""Swin transformers of ImageNet as a start: official files and folders of transformers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import SwinConfig, SwinForImageClassification

from ovd_bench.grounding_dino_jt.config import NANO, TINY, Config
from ovd_bench.grounding_dino_jt.weights import (
    WeightsError,
    draw_backbone,
    expected_shapes,
    read_backbone,
    tensors_sha256,
)

SMALL = dataclasses.replace(
    NANO,
    backbone=dataclasses.replace(NANO.backbone, embed_dim=8, depths=(1, 1, 2), num_heads=(1, 2, 4), window_size=4),
)


def _official(
    path: Path, config: Config, drop: str = ""
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    rng = np.random.default_rng(0)
    named = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in expected_shapes(config).items()
        if name.startswith("backbone.0.") and ".norm" not in name.removeprefix("backbone.0")[:5]
    }
    state = {name.removeprefix("backbone.0."): torch.from_numpy(values) for name, values in named.items()}
    width = config.backbone.channels(len(config.backbone.depths) - 1)
    state |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width), "head.weight": torch.ones(3, width)}
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    state["layers.0.blocks.0.attn_mask"] = torch.zeros(4, 16, 16)
    state.pop(drop, None)
    torch.save({"model": state}, path)
    return named


def test_an_official_file(tmp_path: Path) -> None:
    named = _official(tmp_path / "swin.pth", SMALL)
    read = read_backbone(tmp_path / "swin.pth", SMALL)
    assert read.keys() == named.keys()
    for name, values in named.items():
        np.testing.assert_array_equal(read[name], values)


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    swin = SMALL.backbone
    config = SwinConfig(
        embed_dim=swin.embed_dim,
        depths=list(swin.depths),
        num_heads=list(swin.num_heads),
        window_size=swin.window_size,
        image_size=64,
    )
    torch.manual_seed(0)
    model = SwinForImageClassification(config)
    model.save_pretrained(tmp_path)
    read = read_backbone(tmp_path, SMALL)
    block = model.swin.encoder.layers[1].blocks[0]
    attention = block.attention
    projections = getattr(attention, "self", attention)
    parts = [
        getattr(projections, names[0], None) or getattr(projections, names[1])
        for names in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
    ]
    expected = torch.cat([part.weight for part in parts]).detach().numpy()
    np.testing.assert_array_equal(read["backbone.0.layers.1.blocks.0.attn.qkv.weight"], expected)


@pytest.mark.parametrize(
    ("config", "drop", "message"),
    [
        (SMALL, "patch_embed.proj.bias", "missing"),
        (TINY, "", "wrong shape|missing"),
    ],
)
def test_another_model_is_refused(tmp_path: Path, config: Config, drop: str, message: str) -> None:
    _official(tmp_path / "swin.pth", SMALL, drop)
    with pytest.raises(WeightsError, match=message):
        read_backbone(tmp_path / "swin.pth", config)
    with pytest.raises(WeightsError, match="no such file"):
        read_backbone(tmp_path / "nothing.pth", config)


def test_drawn_numbers_are_those_of_the_seed() -> None:
    drawn = draw_backbone(SMALL.backbone, 3)
    expected = {name: shape for name, shape in expected_shapes(SMALL).items() if name.startswith("backbone.")}
    assert {name: values.shape for name, values in drawn.items()} == expected
    assert {values.dtype for values in drawn.values()} == {np.dtype(np.float32)}
    assert tensors_sha256(draw_backbone(SMALL.backbone, 3)) == tensors_sha256(drawn)
    assert tensors_sha256(draw_backbone(SMALL.backbone, 4)) != tensors_sha256(drawn)
    matrix = drawn["backbone.0.layers.2.blocks.0.mlp.fc1.weight"]  # (128, 32)
    assert matrix.var() == pytest.approx(2 / (128 + 32), rel=0.1)
    np.testing.assert_array_equal(drawn["backbone.0.norm1.weight"], 1)
    np.testing.assert_array_equal(drawn["backbone.0.layers.1.blocks.0.attn.qkv.bias"], 0)
    # no two tensors of one shape are the same numbers
    pair = [drawn[f"backbone.0.layers.2.blocks.{block}.mlp.fc1.weight"] for block in (0, 1)]
    assert abs(np.corrcoef(pair[0].ravel(), pair[1].ravel())[0, 1]) < 0.1


def test_a_sum_covers_names_shapes_and_numbers() -> None:
    tensors = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)}
    sums = {
        tensors_sha256(changed)
        for changed in (
            tensors,
            {"a": tensors["a"], "c": tensors["b"]},
            {"a": tensors["a"].reshape(3, 2), "b": tensors["b"]},
            {"a": tensors["a"] + 1, "b": tensors["b"]},
        )
    }
    assert len(sums) == 4
    assert tensors_sha256(dict(reversed(tensors.items()))) in sums
