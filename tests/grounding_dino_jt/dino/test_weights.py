"""Weights of DINO: the official layout, the suite's own, what is read of them and what is refused."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import resnet50
from torchvision.ops import FrozenBatchNorm2d

from ovd_bench.grounding_dino_jt.dino.config import (
    RESNET50_4SCALE,
    RESNET50_5SCALE,
    SWIN_L_4SCALE,
    SWIN_L_5SCALE,
    DinoConfig,
    ResNetConfig,
)
from ovd_bench.grounding_dino_jt.dino.weights import (
    expected_shapes,
    infer_config,
    is_frozen,
    parameter_count,
    read_checkpoint,
    write_canonical,
)
from ovd_bench.grounding_dino_jt.weights import WeightsError
from ovd_bench.tests.grounding_dino_jt.dino.small import CONFIGS, SMALL, Tensors, drawn, official_state

SIZES = {"r50-4": RESNET50_4SCALE, "r50-5": RESNET50_5SCALE, "swin-l-4": SWIN_L_4SCALE, "swin-l-5": SWIN_L_5SCALE}


def _written(path: Path, tensors: Tensors, config: DinoConfig = SMALL, prefix: str = "", **more: Any) -> Path:
    torch.save({"model": official_state(tensors, config, prefix), **more}, path)
    return path


def _equal(first: Tensors, second: Tensors) -> bool:
    return list(first) == list(second) and all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_values_of_the_official_configurations() -> None:
    """``config/DINO/DINO_4scale.py``, ``DINO_5scale.py``, ``DINO_4scale_swin.py``."""
    c = RESNET50_4SCALE
    assert (c.num_classes, c.hidden_dim, c.num_heads, c.dim_feedforward) == (91, 256, 8, 2048)
    assert (c.enc_layers, c.dec_layers, c.num_queries, c.enc_points, c.dec_points) == (6, 6, 900, 4, 4)
    assert (c.pe_temperature, c.box_epsilon, c.image_size, c.image_longest) == (20.0, 1e-3, 800, 1333)
    levels = {name: (config.num_feature_levels, config.backbone.out_stages) for name, config in SIZES.items()}
    four, five = (4, (1, 2, 3)), (5, (0, 1, 2, 3))
    assert levels == {"r50-4": four, "r50-5": five, "swin-l-4": four, "swin-l-5": five}


def test_totals_are_those_of_the_published_models() -> None:
    """The paper says 47 M with ResNet-50 and 4 scales (arXiv 2203.03605, table 1), labels of the denoising included."""
    labels = 92 * 256
    counts = {name: parameter_count(config) for name, config in SIZES.items()}
    assert counts == {"r50-4": 46_869_630, "r50-5": 47_232_254, "swin-l-4": 217_206_514, "swin-l-5": 217_553_138}
    assert round((counts["r50-4"] + labels) / 1e6) == 47


def test_the_backbone_is_torchvisions_resnet50() -> None:
    theirs = resnet50(norm_layer=FrozenBatchNorm2d)
    state = {f"backbone.0.body.{name}": tuple(value.shape) for name, value in theirs.state_dict().items()}
    ours = {name: shape for name, shape in expected_shapes(RESNET50_4SCALE).items() if "body" in name}
    assert ours == {name: shape for name, shape in state.items() if ".fc." not in name}
    buffers = {f"backbone.0.body.{name}" for name, _ in theirs.named_buffers()}
    assert {name for name in ours if is_frozen(name)} == buffers


@pytest.mark.parametrize("config", SIZES.values(), ids=SIZES)
def test_shapes_tell_the_configuration(config: DinoConfig) -> None:
    assert infer_config(expected_shapes(config)) == config


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_official_layout_is_read_to_the_bit(tmp_path: Path, config: DinoConfig, prefix: str) -> None:
    """With all that a training saves beside it; its moving average and its labels are named, not used."""
    tensors = drawn(config)
    average = official_state(drawn(config, 1), config)
    extra = {"optimizer": {"state": {}}, "epoch": 11, "args": argparse.Namespace(lr=1e-4), "ema_model": average}
    read = read_checkpoint(_written(tmp_path / "a.pth", tensors, config, prefix, **extra))
    assert (read.kind, read.config) == ("official", config)
    assert _equal(read.tensors, tensors)
    assert {f"{prefix}label_enc.weight", "ema_model"} <= set(read.dropped)
    assert len(read.dropped) == 2 + ("Swin" in str(config.backbone))


def test_the_suites_own_file_gives_the_same_model_and_the_same_bytes(tmp_path: Path) -> None:
    tensors = drawn(SMALL)
    for name in ("a", "b"):
        write_canonical(tensors, SMALL, tmp_path / f"{name}.safetensors", source="test", source_sha256="0")
    read = read_checkpoint(tmp_path / "a.safetensors")
    assert (read.kind, read.config, read.dropped) == ("jittor", SMALL, ())
    assert _equal(read.tensors, tensors)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def _refused(path: Path, reason: str) -> None:
    with pytest.raises(WeightsError, match=reason) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


HEAD = "class_embed.1.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"more.weight": torch.ones(1)}, r"1 unknown: more\.weight"),
        ({"bbox_embed.2.layers.0.weight": torch.ones(64, 64)}, r"1 unknown: bbox_embed\.2"),
        ({"transformer.decoder.layers.0.ca_text.in_proj_bias": torch.ones(192)}, "1 unknown: .*ca_text"),
        ({"backbone.0.body.fc.bias": torch.ones(9)}, r"1 unknown: .*fc\.bias"),
        ({"transformer.level_embed": torch.full((4, 64), float("nan"))}, "1 with numbers that are not finite"),
        ({"input_proj.0.0.bias": torch.ones(65)}, r"1 of a wrong shape: input_proj\.0\.0\.bias \(65,\), \(64,\)"),
        ({"input_proj.0.0.bias": None}, r"1 missing: input_proj\.0\.0\.bias"),
        ({"backbone.0.body.bn1.running_var": torch.full((64,), -1.0)}, "bn1.running_var holds a negative variance"),
        ({"backbone.0.body.bn1.running_var": torch.ones(64).int()}, "1 without floating point"),
        ({HEAD: torch.ones(9, 64)}, r"2 copies that differ: transformer\.decoder\.class_embed\.0|copies that differ"),
        ({"class_embed.0.weight": None}, r"is not a DINO: no tensor class_embed\.0\.weight"),
        ({"transformer.level_embed": None}, r"no tensor transformer\.level_embed with 2 axes"),
    ],
)
def test_almost_a_model(tmp_path: Path, change: dict[str, torch.Tensor | None], reason: str) -> None:
    state = {**official_state(drawn(SMALL), SMALL), **change}
    path = tmp_path / "a.pth"
    torch.save({"model": {name: value for name, value in state.items() if value is not None}}, path)
    _refused(path, reason)


def test_other_files(tmp_path: Path) -> None:
    from ovd_bench.grounding_dino_jt.weights import write_canonical as write_grounding_dino
    from ovd_bench.tests.grounding_dino_jt import weight_files

    _refused(tmp_path / "none.pth", "no such file")
    (tmp_path / "empty.pth").touch()
    _refused(tmp_path / "empty.pth", "damaged")
    path = tmp_path / "other.safetensors"
    tensors = weight_files.random_tensors(weight_files.SMALL)
    write_grounding_dino(tensors, weight_files.SMALL, path, source="", source_sha256="")
    _refused(path, "does not say that it is 'ovd-bench dino'")
    torch.save({"model": weight_files.official_state(tensors, weight_files.SMALL)}, tmp_path / "other.pth")
    _refused(tmp_path / "other.pth", "is not a DINO")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{", "its configuration"),
        ('{"more": 1}', "unknown key 'more'"),
        ('{"num_heads": 0}', "its configuration"),
        ('{"backbone": {"blocks": [1000000000, 1, 1, 1]}}', "its configuration has 1000000015 layers"),
        ('{"backbone": {"blocks": [1]}}', "no model has these sizes"),
        ('{"backbone": {"out_stages": [999999999]}}', "no model has these sizes"),
        ('{"backbone": {"depths": [-1]}}', "no model has these sizes"),
        (
            '{"backbone": {"depths": [1], "num_heads": [1], "out_stages": [0], "window_size": 5000}}',
            "window_size is 5000, at most 64 is possible",
        ),
        ('{"image_longest": 1000000000}', "image_longest is 1000000000, at most 8192 is possible"),
        ('{"num_classes": 1000000000000}', "of a wrong shape"),
        ("{}", "of a wrong shape|missing"),
    ],
)
def test_configurations_that_lie(tmp_path: Path, config: str, reason: str) -> None:
    path = tmp_path / "a.safetensors"
    write_canonical(drawn(SMALL), SMALL, path, source="", source_sha256="")
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["config"] = config
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    _refused(path, reason)


def test_what_is_not_the_models_is_not_written(tmp_path: Path) -> None:
    tensors = drawn(SMALL)
    tensors["class_embed.0.bias"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError, match="1 of a wrong shape"):
        write_canonical(tensors, SMALL, tmp_path / "a.safetensors", source="", source_sha256="")
    assert list(tmp_path.iterdir()) == []


def test_impossible_sizes() -> None:
    with pytest.raises(ValueError, match="num_feature_levels is 3, the backbone gives 4"):
        replace(RESNET50_5SCALE, num_feature_levels=3)
    for config in (replace(SMALL, backbone=ResNetConfig(out_stages=())), replace(SMALL, num_classes=0)):
        with pytest.raises(WeightsError, match="no model has these sizes"):
            expected_shapes(config)


def test_reading_imports_no_framework() -> None:
    code = "import sys, ovd_bench.grounding_dino_jt.dino.weights; print({'torch', 'jittor'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
