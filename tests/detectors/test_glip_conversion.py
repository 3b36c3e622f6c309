"""``convert-weights`` takes GLIP too: the detector answers the same from every file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ovd_bench.baselines.glip.config import VARIANTS
from ovd_bench.baselines.glip.weights import read_weights, write_weights
from ovd_bench.benchmarks.cli.app import app
from ovd_bench.detectors.types import DetectorError
from ovd_bench.detectors.weight_conversion import convert_weights
from ovd_bench.tests.baselines.glip.tiny import TINY, drawn, mmdet_state, official_state, write_official


@pytest.fixture(autouse=True)
def _known_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Official files say their size by their shapes; make the tiny one known."""
    monkeypatch.setitem(VARIANTS, "test", TINY)


def test_from_every_layout_to_both_that_are_written(tmp_path: Path) -> None:
    model = drawn(TINY)
    write_official(model, tmp_path / "official.pth")
    torch.save({"state_dict": mmdet_state(official_state(model))}, tmp_path / "mmdet.pth")
    write_weights(model, tmp_path / "own.safetensors", "canonical")
    for name, kind in (("official.pth", "official"), ("mmdet.pth", "mmdet"), ("own.safetensors", "jittor")):
        for target, layout in (("new.safetensors", "jittor"), ("new.pth", "official")):
            done = convert_weights(tmp_path / name, tmp_path / target, overwrite=True)
            assert (done.source_kind, done.layout) == (kind, layout)
            found = read_weights(tmp_path / target)[0].state_dict()
            assert len(found) == done.tensors
            for key, tensor in model.state_dict().items():
                if kind != "mmdet" or not ("cls_logits" in key or "pooler" in key):
                    assert torch.equal(found[key], tensor)


def test_the_command_line_says_what_it_is(tmp_path: Path) -> None:
    source, target = write_official(drawn(TINY), tmp_path / "w.pth"), tmp_path / "new.safetensors"
    result = CliRunner().invoke(app, ["convert-weights", str(source), str(target)])
    assert result.exit_code == 0
    assert "GLIP, Swin 16 wide with 2-2-2-1 blocks, head of 2 blocks fused with the text" in result.stdout
    assert "left out: module.backbone.body.layers.0.blocks.0.attn.relative_position_index" in result.stdout


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    source = write_official(drawn(TINY), tmp_path / "w.pth")
    with pytest.raises(DetectorError, match="transformers has no GLIP"):
        convert_weights(source, tmp_path / "folder")
    with pytest.raises(DetectorError, match="already exists: --overwrite replaces it"):
        convert_weights(source, source)
    del VARIANTS["test"]
    with pytest.raises(DetectorError, match="is a GLIP of no known size"):
        convert_weights(source, tmp_path / "new.safetensors")
