"""Mean fusion gates: of any layout, with layers in their order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from ovd_bench.baselines.controlled.models import build
from ovd_bench.baselines.controlled.weights import save_weights
from ovd_bench.baselines.glip.config import VARIANTS
from ovd_bench.baselines.glip.weights import write_weights as write_glip
from ovd_bench.detectors.fusion_gates import mean_gates, read_mean_gates
from ovd_bench.detectors.types import DetectorError
from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.weights import write_canonical, write_hf, write_official
from ovd_bench.tests.baselines.controlled.toy import SMALL
from ovd_bench.tests.baselines.glip.tiny import TINY, drawn
from ovd_bench.tests.grounding_dino_jt.weight_files import SMALL as SMALL_DINO
from ovd_bench.tests.grounding_dino_jt.weight_files import Tensors, random_tensors

DINO = replace(SMALL_DINO, enc_layers=3)


def _tensors(config: Config) -> Tensors:
    tensors = random_tensors(config)
    for layer in range(config.enc_layers if config.use_fusion else 0):
        for gate, sign in (("gamma_v", -1), ("gamma_l", 10)):
            name = f"transformer.encoder.fusion_layers.{layer}.{gate}"
            tensors[name] = np.full_like(tensors[name], sign * (layer + 1) / 128)
    return tensors


WANTED = {
    f"{gate}.{layer}": factor * (layer + 1) / 128
    for layer in range(3)
    for gate, factor in (("gamma_v", 1), ("gamma_l", 10))
}


@pytest.mark.parametrize("layout", ["own", "official", "hf"])
def test_grounding_dino_of_every_layout(layout: str, tmp_path: Path) -> None:
    path = tmp_path / {"own": "w.safetensors", "official": "w.pth", "hf": "w"}[layout]
    if layout == "own":
        write_canonical(_tensors(DINO), DINO, path, source="test", source_sha256="")
    elif layout == "official":
        write_official(_tensors(DINO), DINO, path)
    else:
        write_hf(_tensors(DINO), DINO, path)
    assert read_mean_gates(path) == WANTED


def test_a_grounding_dino_without_fusion_has_none(tmp_path: Path) -> None:
    config = replace(DINO, use_fusion=False)
    write_canonical(_tensors(config), config, tmp_path / "w.safetensors", source="test", source_sha256="")
    assert read_mean_gates(tmp_path / "w.safetensors") == {}


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_glip(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "test", TINY)  # official files say their size by their shapes
    model = drawn(TINY)
    path = tmp_path / f"w.{suffix}"
    write_glip(model, path, "canonical" if suffix == "safetensors" else "official")
    found = read_mean_gates(path)
    assert len(found) == 2 * TINY.blocks
    for block in range(TINY.blocks):
        fusion = model.rpn["head"].dyhead_tower[3 * block]["b_attn"]
        assert found[f"gamma_v.{block}"] == pytest.approx(fusion.gamma_v.detach().abs().mean().item(), rel=1e-6)
        assert found[f"gamma_l.{block}"] == pytest.approx(fusion.gamma_l.detach().abs().mean().item(), rel=1e-6)


@pytest.mark.parametrize(("gate", "wanted"), [(None, 1 / 3), (0.125, 0.125), (1e-4, 1e-4)])
def test_a_contestant_starts_where_its_configuration_says(gate: float | None, wanted: float, tmp_path: Path) -> None:
    config = replace(SMALL, kind="glip", blocks=3, fusion_gate=gate)
    path = tmp_path / "w.safetensors"
    path.write_bytes(save_weights(build(config), config, {}, half=False))
    found = read_mean_gates(path)
    assert list(found) == [f"{name}.{layer}" for layer in range(3) for name in ("gamma_v", "gamma_l")]
    assert list(found.values()) == pytest.approx([wanted] * 6, rel=1e-6)


def test_layers_are_counted_in_their_order() -> None:
    """Ten and more, among numbers that are no layers, whatever the order in the file."""
    names = [f"head.tower.{3 * layer}.b_attn.gamma_{side}" for side in "lv" for layer in reversed(range(12))]
    arrays = {name: np.array([-int(name.split(".")[2]), 1], np.float32) for name in names}
    found = mean_gates({**arrays, "head.tower.0.weight": np.ones(3, np.float32)})
    assert found == {f"gamma_{side}.{layer}": (3 * layer + 1) / 2 for layer in range(12) for side in "vl"}


def test_other_files_are_refused_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors.torch.save({"a": torch.ones(1)}))
    for file, reason in ((path, "does not say that it is"), (tmp_path / "none", "no such file")):
        with pytest.raises(DetectorError, match=reason) as caught:
            read_mean_gates(file)
        assert "\n" not in str(caught.value)
