"""Every block of GLIP against an independent one: torchvision's, transformers', or the loops of ``reference``."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d
from transformers import BertConfig as TheirConfig
from transformers import BertModel

from ovd_bench.baselines.bert import Bert, BertLayer
from ovd_bench.baselines.glip.deform import deform_conv
from ovd_bench.baselines.glip.dyhead import DyConv, DyReLU, first_numbers
from ovd_bench.baselines.glip.fpn import Fpn
from ovd_bench.baselines.glip.fusion import CLAMP, BiAttention, Fusion
from ovd_bench.baselines.swin import Swin
from ovd_bench.tests.baselines.glip import reference
from ovd_bench.tests.baselines.glip.tiny import BERT, TINY, caption_tokens, random_pixels

#: Both sides in float64, whose rounding in sums of a few thousand terms stays below this.
EXACT = {"atol": 1e-11, "rtol": 1e-11}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _drawn(module: nn.Module, spread: float = 0.3) -> nn.Module:
    """float64, with noise on every parameter."""
    for parameter in module.parameters():
        parameter.data += spread * torch.randn(parameter.shape)
    return module.double().eval().requires_grad_(False)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("stride", [1, 2])
def test_deformable_convolution_is_torchvisions(stride: int) -> None:
    """With offsets far over the border, of a batch, and on a map that is not contiguous."""
    image, weight, bias = _random(2, 6, 9, 12)[:, :, :, ::2], _random(5, 6, 3, 3), _random(5)
    height, width = (9 - 1) // stride + 1, (6 - 1) // stride + 1
    offsets, mask = 3 * _random(2, 18, height, width), _random(2, 9, height, width)
    offsets[0, :, 0, 0] = torch.tensor([1e30, -1e30] * 9)
    offsets[1, :, 0, 1] = torch.tensor([0.0, 1.0, -1.0] * 6)
    found = deform_conv(image, offsets, mask, weight, bias, stride)
    expected = deform_conv2d(image, offsets, weight, bias, stride, 1, mask=mask)
    torch.testing.assert_close(found, expected, **EXACT)


def test_gradients_of_the_deformable_convolution_are_torchvisions() -> None:
    values = [_random(2, 4, 6, 5), 2 * _random(2, 18, 3, 3), _random(2, 9, 3, 3), _random(3, 4, 3, 3), _random(3)]
    grads = []
    for theirs in (False, True):
        image, offsets, mask, weight, bias = (value.clone().requires_grad_() for value in values)
        if theirs:
            result = deform_conv2d(image, offsets, weight, bias, 2, 1, mask=mask)
        else:
            result = deform_conv(image, offsets, mask, weight, bias, 2)
        grads.append(torch.autograd.grad(result.square().sum(), (image, offsets, mask, weight, bias)))
    for found, expected in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize(("fine", "coarse"), [((9, 13), (5, 7)), ((4, 6), (2, 3)), ((1, 2), (1, 1))])
def test_offsets_of_the_coarser_level_are_read_as_the_official_operator_reads_memory(
    fine: tuple[int, int], coarse: tuple[int, int]
) -> None:
    """The reference knows no grid of the offsets, only addresses; batches begin anew at each image."""
    image, weight, bias = _random(2, 4, *coarse), _random(4, 4, 3, 3), _random(4)
    offsets, mask = 2 * _random(2, 18, *fine), _random(2, 9, *fine)
    found = deform_conv(image, first_numbers(offsets, coarse), first_numbers(mask, coarse), weight, bias, 1)
    for number in range(2):
        expected = reference.deform_conv(image[number], offsets[number], mask[number], weight, bias, 1)
        torch.testing.assert_close(found[number], expected, **EXACT)


def _levels(channels: int) -> list[Tensor]:
    return [_random(2, channels, *size) for size in ((9, 13), (5, 7), (3, 4), (2, 2), (1, 1))]


def test_convolutions_over_levels_are_the_loops() -> None:
    """Strides, the coarser level with its scrambled offsets, group norm, upsampling, attention and DyReLU."""
    block = _drawn(DyConv(8, 4, "prefix"))
    levels = _levels(8)
    found = block(levels)
    for number in range(2):
        expected = reference.dy_conv(block.state_dict(), [level[number] for level in levels], 4)
        for level, other in zip(found, expected, strict=True):
            torch.testing.assert_close(level[number], other, **EXACT)


def _prefix_and_resized() -> tuple[nn.Module, nn.Module]:
    """Two blocks with the same numbers."""
    prefix, resized = _drawn(DyConv(8, 4, "prefix")), DyConv(8, 4, "resized").double().requires_grad_(False)
    resized.load_state_dict(prefix.state_dict())
    return prefix, resized


def test_resized_offsets_differ_only_where_there_is_a_coarser_level() -> None:
    prefix, resized = _prefix_and_resized()
    levels = _levels(8)
    pairs = list(zip(prefix(levels), resized(levels), strict=True))
    assert all((a - b).abs().max() > 0.01 for a, b in pairs[:-1])
    torch.testing.assert_close(*pairs[-1], **EXACT)


def test_resized_offsets_of_a_constant_map_are_that_constant() -> None:
    """The prefix mixes channels, so all of them are given the same number; then the switch changes nothing."""
    prefix, resized = _prefix_and_resized()
    for block in (prefix, resized):
        block.offset.weight.zero_()
        block.offset.bias.fill_(0.4)
    levels = _levels(8)
    for one, other in zip(prefix(levels), resized(levels), strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def test_dyrelu_is_the_loops_and_starts_as_relu() -> None:
    image = _random(2, 8, 5, 4)
    block = _drawn(DyReLU(8))
    for number in range(2):
        expected = reference.dy_relu(block.state_dict(), image[number])
        torch.testing.assert_close(block(image)[number], expected, **EXACT)
    for parameter in block.parameters():
        parameter.zero_()
    torch.testing.assert_close(block(image), image.relu(), **EXACT)  # hard sigmoid of 0 is a half


@pytest.mark.parametrize("heads", [1, 3])
def test_fusion_is_the_official_order_of_products(heads: int) -> None:
    """Projections before similarities, head by head, in a batch of two captions of which one is padded."""
    block = _drawn(Fusion(16, 12, 24, heads, 0.0, 1 / 6))
    image, text = _random(2, 30, 16), _random(2, 7, 12)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    found = block(image, text, mask)
    for number in range(2):
        expected = reference.fusion(block.state_dict(), image[number], text[number], mask[number].long(), heads)
        for side in range(2):
            torch.testing.assert_close(found[side][number], expected[side], **EXACT)


def test_fusion_clamps_like_the_official_code() -> None:
    """Similarities of millions: both clamps act; without them the shares would be others."""
    block = _drawn(BiAttention(16, 12, 24, 3, 0.0))
    wrapped = _drawn(Fusion(16, 12, 24, 3, 0.0, 1 / 6))
    wrapped.attn = block
    block.v_proj.weight.mul_(2000)
    block.l_proj.weight.mul_(2000)
    image, text, mask = _random(1, 30, 16), _random(1, 7, 12), torch.ones(1, 7, dtype=torch.bool)
    similar = block.v_proj(wrapped.layer_norm_v(image)) @ block.l_proj(wrapped.layer_norm_l(text)).transpose(1, 2)
    assert similar.abs().max() > 10 * CLAMP
    found = wrapped(image, text, mask)
    expected = reference.fusion(wrapped.state_dict(), image[0], text[0], mask[0].long(), 3)
    for side in range(2):
        torch.testing.assert_close(found[side][0], expected[side], **EXACT)


def test_bert_is_that_of_transformers() -> None:
    """Float32 on both sides; padding of the second caption included."""
    bert = Bert(BERT, 0.1, pooler=True).eval()
    for parameter in bert.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    config = TheirConfig(
        vocab_size=BERT.vocabulary,
        hidden_size=BERT.width,
        num_hidden_layers=BERT.layers,
        num_attention_heads=BERT.heads,
        intermediate_size=BERT.intermediate,
        max_position_embeddings=BERT.positions,
    )
    theirs = BertModel(config, add_pooling_layer=True).eval()
    missing, unexpected = theirs.load_state_dict(bert.state_dict(), strict=False)
    assert (missing, unexpected) == ([], [])
    ids, mask = (torch.cat(parts) for parts in zip(caption_tokens(9), caption_tokens(5, 1, padded=9), strict=True))
    with torch.no_grad():
        found = bert(ids, mask)
        expected = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    assert expected.std() > 0.3
    torch.testing.assert_close(found[mask], expected[mask], atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize(("scale", "padding"), [(1.0, 3), (3000.0, 0)])
def test_language_layer_clamps_its_scores(scale: float, padding: int) -> None:
    """Where no score is clamped it is BERT's layer; where some are it is no longer.

    Without padding in the second case: padding was hidden with -10000 by the library of the time, which a clamped score
    of 50000 would outweigh, and is with the least finite number since.
    """
    plain, clamped = _drawn(BertLayer(BERT, 0.0)), BertLayer(BERT, 0.0, CLAMP).double().requires_grad_(False)
    for name in ("query", "key"):
        plain.attention["self"][name].weight.mul_(scale)
    clamped.load_state_dict(plain.state_dict())
    hidden, mask = _random(2, 9, BERT.width), torch.arange(9) < torch.tensor([[9], [9 - padding]])
    found = clamped(hidden, mask)
    expected = reference.bert_layer(plain.state_dict(), hidden, mask.long(), BERT.heads, CLAMP)
    torch.testing.assert_close(found, expected, **EXACT)
    assert torch.allclose(found, plain(hidden, mask), **EXACT) is (scale == 1.0)


def test_pyramid_is_the_loops_for_odd_sizes() -> None:
    pyramid = _drawn(Fpn((6, 8, 10), 4))
    maps = [_random(2, *shape) for shape in ((6, 9, 13), (8, 5, 7), (10, 3, 4))]
    found = pyramid(maps)
    assert [tuple(level.shape[2:]) for level in found] == [(9, 13), (5, 7), (3, 4), (2, 2), (1, 1)]
    for number in range(2):
        expected = reference.fpn(pyramid.state_dict(), [one[number] for one in maps])
        for level, other in zip(found, expected, strict=True):
            torch.testing.assert_close(level[number], other, **EXACT)


@pytest.mark.parametrize("size", [(64, 64), (50, 75), (9, 120)])
def test_backbone_is_the_loops(size: tuple[int, int]) -> None:
    """Beside ``tests.baselines.test_swin``, which has transformers' Swin on the other side."""
    config = dataclasses.replace(TINY)
    backbone = _drawn(Swin(config.swin), 0.1)
    pixels = random_pixels(*size, batch=2).double()
    found = backbone(pixels)
    for number in range(2):
        expected = reference.swin(backbone.state_dict(), pixels[number], config)
        for tokens, other in zip(found, expected, strict=True):
            torch.testing.assert_close(tokens[number].permute(2, 0, 1), other, **EXACT)
