"""The Swin backbone against transformers' and against the one in Jittor, with the same weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from transformers import SwinBackbone
from transformers import SwinConfig as TheirConfig

import ovd_bench.grounding_dino_jt.config as jt_config
from ovd_bench.baselines.swin import Swin, SwinConfig
from ovd_bench.grounding_dino_jt.swin import Swin as JittorSwin
from ovd_bench.grounding_dino_jt.weights import draw_backbone
from ovd_bench.kernels.runtime import jittor

SMALL = SwinConfig(8, (2, 2, 2), (1, 2, 4), window_size=4, out_stages=(0, 1, 2))
SIZES = ((64, 64), (50, 75), (9, 120))


def _drawn(config: SwinConfig) -> Swin:
    """With numbers in every parameter, norms and biases included."""
    swin = Swin(config)
    swin.eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in swin.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return swin


def _theirs(swin: Swin) -> SwinBackbone:
    config = TheirConfig(
        embed_dim=swin.config.embed_dim,
        depths=list(swin.config.depths),
        num_heads=list(swin.config.num_heads),
        window_size=swin.config.window_size,
        out_indices=[stage + 1 for stage in swin.config.out_stages],
        drop_path_rate=0.0,
    )
    model = SwinBackbone(config).eval()
    ours = dict(swin.state_dict())
    unused = ("swin.layernorm.weight", "swin.layernorm.bias")
    state = {name: _counterpart(name, ours) for name in model.state_dict() if name not in unused}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (set(missing), unexpected) == (set(unused), [])
    return model


def _counterpart(name: str, ours: dict[str, torch.Tensor]) -> torch.Tensor:
    """Our tensor for one of theirs; theirs has query, key and value apart."""
    for old, new in (
        ("swin.encoder.", ""),
        ("swin.embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("swin.embeddings.norm", "patch_embed.norm"),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("attention.relative_position_bias.", "attn."),
        ("attention.o_proj", "attn.proj"),
    ):
        name = name.replace(old, new)
    if name.startswith("hidden_states_norms.stage"):
        stage, rest = name.removeprefix("hidden_states_norms.stage").split(".")
        return ours[f"norm{int(stage) - 1}.{rest}"]
    for number, part in enumerate(("attention.q_proj", "attention.k_proj", "attention.v_proj")):
        if part in name:
            return ours[name.replace(part, "attn.qkv")].chunk(3)[number]
    return ours[name]


@pytest.mark.parametrize("size", SIZES)
def test_maps_equal_those_of_transformers(size: tuple[int, int]) -> None:
    swin = _drawn(SMALL)
    theirs = _theirs(swin)
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps, wanted = swin(pixels), theirs(pixels).feature_maps
    assert len(maps) == len(wanted) == 3
    for ours, other in zip(maps, wanted, strict=True):
        torch.testing.assert_close(ours.permute(0, 3, 1, 2), other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_maps_equal_those_in_jittor_from_one_file(size: tuple[int, int]) -> None:
    """Names included: what a controlled study loads into both is the same backbone."""
    config = jt_config.SwinConfig(**dataclasses.asdict(SMALL))
    drawn = draw_backbone(config, 5)
    swin = Swin(SMALL).eval()
    swin.load_state_dict({name.removeprefix("backbone.0."): torch.from_numpy(v) for name, v in drawn.items()})
    jt = jittor()
    other = JittorSwin(config)
    other.eval()
    named = other.state_dict()
    for name, values in drawn.items():
        named[name.removeprefix("backbone.0.")].assign(jt.array(values))
    pixels = np.random.default_rng(2).normal(size=(2, 3, *size)).astype(np.float32)
    with torch.no_grad(), jt.no_grad():
        for ours, theirs in zip(swin(torch.from_numpy(pixels)), other(jt.array(pixels)), strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-5, rtol=1e-4)


def test_swin_t_has_its_parameters() -> None:
    """models.md 2.2: 27,520,506 with the norms of three stages."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Swin(SwinConfig()).parameters())
    assert count == 27_520_506


def test_paths_are_dropped_whole_and_only_in_training() -> None:
    swin = _drawn(dataclasses.replace(SMALL, drop_path_rate=0.9))
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    with torch.no_grad():
        calm = [swin(pixels)[2] for _ in range(2)]
        swin.train()
        wild = [swin(pixels)[2] for _ in range(2)]
    torch.testing.assert_close(calm[0], calm[1], atol=0, rtol=0)
    assert not torch.allclose(wild[0], wild[1])
    block = swin.layers[2].blocks[1]
    ones = torch.ones(2000, 1, 1, 1)
    kept = block._drop_path(ones)
    torch.testing.assert_close(kept.unique(), torch.tensor([0.0, 1 / (1 - 0.9)]), atol=1e-4, rtol=0)
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.25)
