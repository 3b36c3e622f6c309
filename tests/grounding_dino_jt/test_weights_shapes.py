"""Names and shapes of the parameters against the published figures."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pytest

from ovd_bench.grounding_dino_jt.config import BASE, NANO, TINY, Config, SwinConfig, TextConfig
from ovd_bench.grounding_dino_jt.weights import WeightsError, expected_shapes, parameter_count


def _sum(prefix: str, config: Config = TINY) -> int:
    return sum(math.prod(shape) for name, shape in expected_shapes(config).items() if name.startswith(prefix))


def test_totals_are_those_of_the_published_models() -> None:
    assert parameter_count(TINY) == 172_249_090
    assert parameter_count(BASE) == 232_313_216


@pytest.mark.parametrize(
    ("prefix", "count"),
    [
        ("backbone.0.", 27_520_506),
        ("input_proj.", 2_116_608),
        ("bert.", 108_891_648),
        ("feat_map.", 196_864),
        ("transformer.encoder.layers.", 7_693_056),
        ("transformer.encoder.text_layers.", 4_738_560),
        ("transformer.encoder.fusion_layers.", 9_474_048),
        ("transformer.decoder.ref_point_head.", 197_120),
        ("bbox_embed.", 132_612),
        ("transformer.enc_out_bbox_embed.", 132_612),
    ],
)
def test_parts_of_the_tiny_model(prefix: str, count: int) -> None:
    assert _sum(prefix) == count


def test_some_shapes_of_the_published_checkpoint() -> None:
    shapes = expected_shapes(TINY)
    assert shapes["backbone.0.layers.2.blocks.5.attn.qkv.weight"] == (1152, 384)
    assert shapes["backbone.0.layers.0.blocks.1.attn.relative_position_bias_table"] == (169, 3)
    assert shapes["input_proj.3.0.weight"] == (256, 768, 3, 3)
    assert shapes["transformer.decoder.layers.5.ca_text.in_proj_weight"] == (768, 256)
    assert shapes["transformer.encoder.fusion_layers.0.attn.out_l_proj.weight"] == (256, 1024)
    assert shapes["transformer.encoder.layers.0.self_attn.sampling_offsets.weight"] == (256, 256)
    assert "bbox_embed.1.layers.0.weight" not in shapes


def test_switches_change_the_set() -> None:
    full = set(expected_shapes(TINY))
    gone = {
        "use_fusion": "fusion_layers.",
        "use_text_enhancer": "text_layers.",
        "use_text_cross_attention": ("ca_text", "catext_norm"),
    }
    for switch, marks in gone.items():
        lost = full - set(expected_shapes(replace(TINY, **{switch: False})))  # type: ignore[arg-type]
        named = {name for name in full if any(mark in name for mark in ([marks] if isinstance(marks, str) else marks))}
        assert lost == named
    static = set(expected_shapes(replace(TINY, query_selection="static")))
    assert static - full == {"transformer.refpoint_embed.weight"}
    assert all("enc_out" in name for name in full - static)
    dense = set(expected_shapes(replace(TINY, attention="dense")))
    assert "transformer.encoder.layers.0.self_attn.attn.in_proj_weight" in dense
    assert not any("sampling" in name for name in dense)
    mm = set(expected_shapes(replace(TINY, class_scale="sqrt", class_bias=True, shared_box_head=False)))
    assert mm - full == {
        *(f"class_embed.{layer}.bias" for layer in range(6)),
        "transformer.enc_out_class_embed.bias",
        *(name.replace(".0.", f".{n}.", 1) for name in full if name.startswith("bbox_embed.0.") for n in range(1, 6)),
    }


def test_nano_has_two_levels_and_a_small_bert() -> None:
    shapes = expected_shapes(NANO)
    assert shapes["bert.embeddings.word_embeddings.weight"] == (30522, 384)
    assert "backbone.0.layers.2.downsample.reduction.weight" not in shapes
    assert "backbone.0.norm0.weight" not in shapes


@pytest.mark.parametrize(
    "config",
    [
        replace(TINY, backbone=SwinConfig(num_heads=(3, 6, 12))),
        replace(TINY, backbone=SwinConfig(out_stages=(1, 2, 4))),
        replace(TINY, backbone=SwinConfig(out_stages=(2, 1))),
        replace(TINY, backbone=SwinConfig(embed_dim=-96)),
        replace(TINY, text=TextConfig(hidden_size=100, num_heads=12)),
        replace(TINY, enc_layers=0),
        replace(TINY, dim_feedforward=2047),
    ],
)
def test_impossible_sizes_are_refused(config: Config) -> None:
    with pytest.raises(WeightsError, match="no model has these sizes"):
        expected_shapes(config)


def test_importing_imports_no_framework() -> None:
    seen = "sorted({'torch', 'jittor', 'transformers'} & set(sys.modules))"
    code = f"import sys, ovd_bench.grounding_dino_jt.weights; print({seen})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
