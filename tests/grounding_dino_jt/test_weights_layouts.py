"""The suite's own file, the official checkpoint and mmdetection's, there and back."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors
import torch

from ovd_bench.grounding_dino_jt.config import Config, TextConfig
from ovd_bench.grounding_dino_jt.weights import (
    WeightsError,
    read_checkpoint,
    read_weights,
    write_canonical,
    write_hf,
    write_official,
)
from ovd_bench.grounding_dino_jt.weights.names_mmdet import official_merge_order
from ovd_bench.tests.grounding_dino_jt.weight_files import (
    SMALL,
    SMALL_MM,
    mmdet_state,
    official_state,
    random_tensors,
    same,
    unfold_order,
    write_torch_file,
)

Numbers = npt.NDArray[np.float64]


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        SMALL_MM,
        replace(SMALL, attention="dense", query_selection="static", use_fusion=False),
        replace(SMALL, text=TextConfig("clip", 32, 2, 4, 48, 60, 12, 1e-5, "quick_gelu")),
    ],
)
def test_own_file_and_official_layout_keep_every_model(tmp_path: Path, config: Config) -> None:
    tensors = random_tensors(config)
    write_canonical(tensors, config, tmp_path / "a.safetensors", source="drawn", source_sha256="")
    write_official(tensors, config, tmp_path / "a.pth")
    for name, kind in (("a.safetensors", "jittor"), ("a.pth", "official")):
        read = read_checkpoint(tmp_path / name)
        assert (read.kind, read.config, read.dropped) == (kind, config, ())
        assert same(read.tensors, tensors)


def test_own_file_says_what_it_is_and_repeats_bit_for_bit(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    for name in "ab":
        write_canonical(tensors, SMALL, tmp_path / name, source="official: x.pth", source_sha256="5e")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safetensors.safe_open(tmp_path / "a", "np") as file:
        metadata = file.metadata()
        assert all(np.array_equal(file.get_tensor(name), tensors[name]) for name in tensors)
        assert set(file.keys()) == set(tensors)
    assert metadata.pop("config") == SMALL.to_json()
    assert metadata == {
        "format": "ovd-bench grounding-dino",
        "version": "1",
        "source": "official: x.pth",
        "source_sha256": "5e",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    write_canonical(tensors, SMALL, tmp_path / "half", source="", source_sha256="", half=True)
    read, _, _ = read_weights(tmp_path / "half")
    assert same(read, {name: tensor.astype(np.float16).astype(np.float32) for name, tensor in tensors.items()})
    tensors["feat_map.bias"][0] = 1e5
    with pytest.raises(WeightsError, match=r"feat_map\.bias"):
        write_canonical(tensors, SMALL, tmp_path / "half", source="", source_sha256="", half=True)


def test_wrong_tensors_are_not_written(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    tensors["feat_map.bias"][0] = np.nan
    del tensors["feat_map.weight"]
    tensors["more"] = tensors["transformer.level_embed"]
    with pytest.raises(WeightsError, match=r"1 unknown: more; 1 missing: feat_map.weight; 1 with numbers"):
        write_official(tensors, SMALL, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


def test_official_checkpoint_with_prefix_copies_and_leftovers(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    state = official_state(tensors, SMALL)
    path = write_torch_file(tmp_path / "a.pth", {"model": state, "args": argparse.Namespace(lr=1e-4), "epoch": 3})
    read = read_checkpoint(path)
    assert read.kind == "official"
    assert read.config == SMALL
    assert same(read.tensors, tensors)
    assert set(read.dropped) == {
        "module.label_enc.weight",
        "module.bert.pooler.dense.weight",
        "module.bert.pooler.dense.bias",
        "module.bert.embeddings.position_ids",
        "module.backbone.0.layers.0.blocks.0.attn.relative_position_index",
    }


def test_official_checkpoint_without_prefix_or_wrapper(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    state = {name.removeprefix("module."): tensor for name, tensor in official_state(tensors, SMALL).items()}
    read = read_checkpoint(write_torch_file(tmp_path / "a.pth", state))
    assert read.config == SMALL
    assert same(read.tensors, tensors)


def test_copies_of_the_box_head_must_be_equal(tmp_path: Path) -> None:
    state = official_state(random_tensors(SMALL), SMALL)
    name = "module.transformer.decoder.bbox_embed.2.layers.1.weight"
    changed = state[name].clone()
    changed[0, 0] = torch.nextafter(changed[0, 0], torch.tensor(9.0))
    path = write_torch_file(tmp_path / "a.pth", {"model": {**state, name: changed}})
    with pytest.raises(WeightsError, match=f"1 copies that differ: {name} from module.bbox_embed.0"):
        read_checkpoint(path)


def test_written_official_checkpoint_has_all_copies_stored_once(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL)
    write_official(tensors, SMALL, tmp_path / "a.pth")
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    state = content["model"]
    assert Config.from_json(content["ovd_bench_config"]) == SMALL
    plain = {f"module.{name}" for name in state}
    assert plain == set(official_state(tensors, SMALL)) - set(
        read_checkpoint(write_torch_file(tmp_path / "b.pth", {"model": official_state(tensors, SMALL)})).dropped
    )
    first = state["bbox_embed.0.layers.0.weight"]
    assert state["transformer.decoder.bbox_embed.2.layers.0.weight"].data_ptr() == first.data_ptr()


@pytest.mark.parametrize("config", [SMALL, SMALL_MM], ids=["official", "mm"])
def test_mmdet_checkpoint(tmp_path: Path, config: Config) -> None:
    tensors = random_tensors(config)
    state = mmdet_state(tensors, config)
    leftovers = {
        "dn_query_generator.label_embedding.weight": torch.zeros(4, config.hidden_dim),
        "language_model.language_backbone.body.model.embeddings.position_ids": torch.arange(4)[None],
        "backbone.stages.0.blocks.0.attn.w_msa.relative_position_index": torch.zeros(9, 9, dtype=torch.int64),
        "ema_backbone_norm1_weight": torch.zeros(3),
    }
    if config is SMALL:
        leftovers["bbox_head.cls_branches.0.log_scale"] = torch.zeros(1)
    content = {"state_dict": {**state, **leftovers}, "meta": {"epoch": 1}}
    read = read_checkpoint(write_torch_file(tmp_path / "a.pth", content))
    assert read.kind == "mmdet"
    assert read.config == config
    assert same(read.tensors, tensors)
    assert set(read.dropped) == set(leftovers)


def test_names_of_mmdet() -> None:
    state = mmdet_state(random_tensors(SMALL_MM), SMALL_MM)
    for name in (
        "backbone.patch_embed.projection.weight",
        "backbone.stages.1.blocks.1.attn.w_msa.qkv.bias",
        "backbone.stages.3.blocks.0.ffn.layers.0.0.weight",
        "backbone.stages.2.downsample.reduction.weight",
        "backbone.norm3.weight",
        "neck.convs.2.gn.bias",
        "neck.extra_convs.0.conv.weight",
        "language_model.language_backbone.body.model.encoder.layer.1.output.dense.weight",
        "text_feat_map.weight",
        "encoder.text_layers.1.self_attn.attn.in_proj_weight",
        "encoder.layers.0.norms.1.weight",
        "encoder.fusion_layers.0.attn.values_l_proj.weight",
        "decoder.layers.2.cross_attn_text.attn.out_proj.bias",
        "decoder.layers.2.norms.3.weight",
        "decoder.layers.2.ffn.layers.1.bias",
        "decoder.ref_point_head.layers.1.weight",
        "query_embedding.weight",
        "level_embed",
        "memory_trans_norm.weight",
        "bbox_head.reg_branches.3.4.weight",
        "bbox_head.cls_branches.3.bias",
    ):
        assert name in state


def test_a_learned_scale_of_the_logits_is_refused(tmp_path: Path) -> None:
    state = mmdet_state(random_tensors(SMALL), SMALL)
    state["bbox_head.cls_branches.0.log_scale"] = torch.ones(1)
    with pytest.raises(WeightsError, match=r"log_scale is not 0"):
        read_checkpoint(write_torch_file(tmp_path / "a.pth", {"state_dict": state}))


def test_patch_merging_means_the_same_in_both_orders() -> None:
    rng = np.random.default_rng(1)
    height, width, channels = 4, 6, 5
    image = rng.standard_normal((height, width, channels))
    reduction, norm = rng.standard_normal((2 * channels, 4 * channels)), rng.standard_normal(4 * channels)

    def merged(blocks: Numbers, scale: Numbers, matrix: Numbers) -> Numbers:
        centred: Numbers = blocks - blocks.mean(-1, keepdims=True)
        centred /= centred.std(-1, keepdims=True)
        result: Numbers = (centred * scale) @ matrix.T
        return result

    official = np.concatenate([image[0::2, 0::2], image[1::2, 0::2], image[0::2, 1::2], image[1::2, 1::2]], axis=-1)
    # torch.nn.Unfold: channels outside, the four positions of the kernel in reading order inside.
    unfolded = (
        image.reshape(height // 2, 2, width // 2, 2, channels)
        .transpose(0, 2, 4, 1, 3)
        .reshape(height // 2, width // 2, 4 * channels)
    )
    for_unfold = merged(unfolded, norm, reduction)
    converted = merged(official, official_merge_order(norm), official_merge_order(reduction))  # type: ignore[arg-type]
    np.testing.assert_allclose(converted, for_unfold, rtol=1e-12)
    single = reduction.astype(np.float32)
    assert np.array_equal(official_merge_order(unfold_order(single)), single)


def test_models_that_transformers_has_not(tmp_path: Path) -> None:
    config = replace(SMALL, attention="dense", use_fusion=False)
    with pytest.raises(WeightsError, match="no such model: use_fusion, attention"):
        write_hf(random_tensors(config), config, tmp_path / "hf")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_shards_is_not_mixed_with_one_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({}))
    with pytest.raises(WeightsError, match="remove them first"):
        write_hf(random_tensors(SMALL), SMALL, tmp_path)
