"""GLIP once more, from the official state dict: plain functions, loops where the model has tricks, any float type.

Written from the descriptions of the operators and from microsoft/GLIP's control flow, not from the model under test.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ovd_bench.baselines.glip.config import GlipConfig

State = dict[str, Tensor]


def sub(state: State, prefix: str) -> State:
    """What lies below a name."""
    return {name.removeprefix(f"{prefix}."): t for name, t in state.items() if name.startswith(f"{prefix}.")}


def linear(state: State, name: str, values: Tensor) -> Tensor:
    result = values @ state[f"{name}.weight"].T
    return result + state[f"{name}.bias"] if f"{name}.bias" in state else result


def norm(state: State, name: str, values: Tensor, epsilon: float = 1e-5) -> Tensor:
    mean, variance = values.mean(-1, keepdim=True), values.var(-1, unbiased=False, keepdim=True)
    return (values - mean) / (variance + epsilon).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def bert_layer(state: State, hidden: Tensor, mask: Tensor, heads: int, clamp: float | None) -> Tensor:
    """(B, n, D) and int (B, n): head by head, mask added as -10000, as transformers 4 did."""
    size = hidden.shape[-1] // heads
    query, key, value = (linear(state, f"attention.self.{name}", hidden) for name in ("query", "key", "value"))
    found = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        scores = query[..., own] @ key[..., own].transpose(1, 2) / math.sqrt(size)
        if clamp is not None:
            scores = torch.clamp(torch.clamp(scores, min=-clamp), max=clamp)
        scores = scores + (1 - mask[:, None].to(hidden)) * -10000
        found.append(scores.softmax(-1) @ value[..., own])
    attended = linear(state, "attention.output.dense", torch.cat(found, -1))
    hidden = norm(state, "attention.output.LayerNorm", attended + hidden, 1e-12)
    wide = linear(state, "intermediate.dense", hidden)
    wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
    return norm(state, "output.LayerNorm", linear(state, "output.dense", wide) + hidden, 1e-12)


def bert(state: State, ids: Tensor, mask: Tensor, heads: int) -> Tensor:
    words = state["embeddings.word_embeddings.weight"][ids]
    positions = state["embeddings.position_embeddings.weight"][torch.arange(ids.shape[1])]
    types = state["embeddings.token_type_embeddings.weight"][torch.zeros_like(ids)]
    hidden = norm(state, "embeddings.LayerNorm", words + positions + types, 1e-12)
    for number in itertools.count():
        layer = sub(state, f"encoder.layer.{number}")
        if not layer:
            return hidden
        hidden = bert_layer(layer, hidden, mask, heads, None)
    raise AssertionError


def window_attention(state: State, tokens: Tensor, heads: int, window: int, shift: int) -> Tensor:
    """(H, W, C) of one image: every token with those of its window, one query and key at a time in the bias."""
    height, width, channels = tokens.shape
    rows, columns = math.ceil(height / window) * window, math.ceil(width / window) * window
    padded = tokens.new_zeros(rows, columns, channels)
    padded[:height, :width] = tokens
    moved = torch.roll(padded, (-shift, -shift), (0, 1))
    size, result = channels // heads, torch.zeros_like(moved)
    places = [(y, x) for y in range(window) for x in range(window)]
    table = state["relative_position_bias_table"]
    bias = torch.stack(
        [
            torch.stack([table[(ay - by + window - 1) * (2 * window - 1) + ax - bx + window - 1] for by, bx in places])
            for ay, ax in places
        ]
    )  # (queries, keys, heads)
    region = _regions(rows, window, shift)[:, None] * 10 + _regions(columns, window, shift)
    for top in range(0, rows, window):
        for left in range(0, columns, window):
            inside = moved[top : top + window, left : left + window].reshape(-1, channels)
            parts = linear(state, "qkv", inside).chunk(3, -1)
            area = region[top : top + window, left : left + window].reshape(-1)
            apart = (area[:, None] != area).to(tokens) * -100.0
            found = []
            for head in range(heads):
                query, key, value = (part[:, head * size : (head + 1) * size] for part in parts)
                scores = query * size**-0.5 @ key.T + bias[..., head] + (apart if shift else 0)
                found.append(scores.softmax(-1) @ value)
            mixed = linear(state, "proj", torch.cat(found, -1))
            result[top : top + window, left : left + window] = mixed.view(window, window, channels)
    return torch.roll(result, (shift, shift), (0, 1))[:height, :width]


def _regions(length: int, window: int, shift: int) -> Tensor:
    """0 before the last window, then 1, and 2 for what came round the border."""
    regions = torch.zeros(length)
    regions[length - window :] = 1
    if shift:
        regions[length - shift :] = 2
    return regions


def swin(state: State, image: Tensor, config: GlipConfig) -> list[Tensor]:
    """(3, H, W) to maps (C, H', W')."""
    sizes = config.swin
    patch = sizes.patch_size
    image = functional.pad(image, (0, -image.shape[2] % patch, 0, -image.shape[1] % patch))
    tokens = functional.conv2d(image[None], state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], patch)[
        0
    ].permute(1, 2, 0)
    tokens = norm(state, "patch_embed.norm", tokens)
    maps = []
    for stage, depth in enumerate(sizes.depths):
        for number in range(depth):
            block = sub(state, f"layers.{stage}.blocks.{number}")
            shift = sizes.window_size // 2 if number % 2 else 0
            inner = norm(block, "norm1", tokens)
            inner = window_attention(sub(block, "attn"), inner, sizes.num_heads[stage], sizes.window_size, shift)
            tokens = tokens + inner
            wide = linear(block, "mlp.fc1", norm(block, "norm2", tokens))
            tokens = tokens + linear(block, "mlp.fc2", wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2))))
        if stage in sizes.out_stages:
            maps.append(norm(state, f"norm{stage}", tokens).permute(2, 0, 1))
        if stage < len(sizes.depths) - 1:
            height, width, channels = tokens.shape
            even = tokens.new_zeros(height + height % 2, width + width % 2, channels)
            even[:height, :width] = tokens
            quads = [even[0::2, 0::2], even[1::2, 0::2], even[0::2, 1::2], even[1::2, 1::2]]
            down = sub(state, f"layers.{stage}.downsample")
            tokens = linear(down, "reduction", norm(down, "norm", torch.cat(quads, -1)))
    return maps


def conv(state: State, name: str, image: Tensor, stride: int = 1) -> Tensor:
    """(C, H, W), padded to keep the size, as sums of products of shifted maps."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    side = weight.shape[-1]
    reach = side // 2
    height, width = image.shape[1:]
    padded = image.new_zeros(image.shape[0], height + 2 * reach, width + 2 * reach)
    padded[:, reach : reach + height, reach : reach + width] = image
    total = None
    for y, x in itertools.product(range(side), range(side)):
        part = torch.einsum("oc,chw->ohw", weight[:, :, y, x], padded[:, y : y + height, x : x + width])
        total = part if total is None else total + part
    assert total is not None
    return (total + bias[:, None, None])[:, ::stride, ::stride]


def fpn(state: State, maps: list[Tensor]) -> list[Tensor]:
    inner = [conv(state, f"fpn_inner{number}", one) for number, one in enumerate(maps, 2)]
    for number in (1, 0):
        height, width = inner[number].shape[1:]
        above = inner[number + 1]
        rows = [y * above.shape[1] // height for y in range(height)]
        columns = [x * above.shape[2] // width for x in range(width)]
        inner[number] = inner[number] + above[:, rows][:, :, columns]
    levels = [conv(state, f"fpn_layer{number}", one) for number, one in enumerate(inner, 2)]
    levels.append(conv(state, "top_blocks.p6", levels[-1], 2))
    levels.append(conv(state, "top_blocks.p7", levels[-1].clamp(min=0), 2))
    return levels


def fusion(state: State, image: Tensor, text: Tensor, mask: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """(N, C), (n, D) and int (n,) of one pair: projections first, head by head."""
    image, text = norm(state, "layer_norm_v", image), norm(state, "layer_norm_l", text)
    inner = sub(state, "attn")
    query = linear(inner, "v_proj", image) * (inner["v_proj.weight"].shape[0] // heads) ** -0.5
    key = linear(inner, "l_proj", text)
    value_v, value_l = linear(inner, "values_v_proj", image), linear(inner, "values_l_proj", text)
    size = query.shape[1] // heads
    to_image, to_text = [], []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        scores = torch.clamp(torch.clamp(query[:, own] @ key[:, own].T, min=-50000), max=50000)
        turned = scores.T
        turned = torch.clamp(turned - turned.max(-1, keepdim=True)[0], min=-50000, max=50000)
        to_text.append(turned.softmax(-1) @ value_v[:, own])
        # where the official mask is 1, 1 is added
        added = torch.where(mask == 0, torch.tensor(-9e15, dtype=scores.dtype), torch.tensor(1.0, dtype=scores.dtype))
        to_image.append((scores + added).softmax(-1) @ value_l[:, own])
    image = image + state["gamma_v"] * linear(inner, "out_v_proj", torch.cat(to_image, -1))
    return image, text + state["gamma_l"] * linear(inner, "out_l_proj", torch.cat(to_text, -1))


def deform_conv(image: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """(C, H, W) with the addresses of the CUDA kernel: offsets and mask are memory, strided by the output's size."""
    _, height, width = image.shape
    rows, columns = (height - 1) // stride + 1, (width - 1) // stride + 1
    memory, weights = offsets.flatten().tolist(), mask.flatten()
    result = image.new_zeros(weight.shape[0], rows, columns)
    for row, column in itertools.product(range(rows), range(columns)):
        for i, j in itertools.product(range(3), range(3)):
            tap = 3 * i + j
            y = row * stride - 1 + i + memory[(2 * tap * rows + row) * columns + column]
            x = column * stride - 1 + j + memory[((2 * tap + 1) * rows + row) * columns + column]
            sample = _bilinear(image, y, x) * weights[(tap * rows + row) * columns + column]
            result[:, row, column] += weight[:, :, i, j] @ sample
    return result + bias[:, None, None]


def _bilinear(image: Tensor, y: float, x: float) -> Tensor:
    """All channels at a point; zero outside."""
    total = image.new_zeros(image.shape[0])
    top, left = math.floor(y), math.floor(x)
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            total += image[:, row, column] * ((1 - abs(y - row)) * (1 - abs(x - column)))
    return total


def group_norm(state: State, name: str, image: Tensor, groups: int) -> Tensor:
    parts = image.reshape(groups, -1)
    mean, variance = parts.mean(1, keepdim=True), parts.var(1, unbiased=False, keepdim=True)
    image = ((parts - mean) / (variance + 1e-5).sqrt()).view_as(image)
    return image * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def enlarged(image: Tensor, height: int, width: int) -> Tensor:
    """Bilinear with the corners of both grids in the same places."""
    rows = [y * (image.shape[1] - 1) / max(height - 1, 1) for y in range(height)]
    columns = [x * (image.shape[2] - 1) / max(width - 1, 1) for x in range(width)]
    return torch.stack([torch.stack([_bilinear(image, y, x) for x in columns], -1) for y in rows], -2)


def hard_sigmoid(values: Tensor) -> Tensor:
    return torch.clamp(values + 3, 0, 6) / 6


def dy_relu(state: State, image: Tensor) -> Tensor:
    """(C, H, W)."""
    channels = image.shape[0]
    pooled = image.mean((1, 2))
    raw = hard_sigmoid(linear(state, "fc.2", linear(state, "fc.0", pooled).clamp(min=0)))
    result = torch.empty_like(image)
    for channel in range(channels):
        a1, b1, a2, b2 = (float(raw[part * channels + channel]) for part in range(4))
        first = image[channel] * ((a1 - 0.5) * 2 + 1) + b1 - 0.5
        second = image[channel] * ((a2 - 0.5) * 2) + b2 - 0.5
        result[channel] = torch.where(first > second, first, second)
    return result


def dy_conv(state: State, levels: list[Tensor], groups: int) -> list[Tensor]:
    found = []
    for number, level in enumerate(levels):
        moved = conv(state, "offset", level)
        offsets, mask = moved[:18], 1 / (1 + torch.exp(-moved[18:]))
        sources = [(1, level, 1)]
        if number:
            sources.append((2, levels[number - 1], 2))
        if number < len(levels) - 1:
            sources.append((0, levels[number + 1], 1))
        branches = []
        for branch, source, stride in sources:
            weight, bias = state[f"DyConv.{branch}.conv.weight"], state[f"DyConv.{branch}.conv.bias"]
            made = deform_conv(source, offsets, mask, weight, bias, stride)
            made = group_norm(state, f"DyConv.{branch}.bn", made, groups)
            branches.append(made if branch else enlarged(made, *level.shape[1:]))
        weighed = []
        for made in branches:
            pooled = made.mean((1, 2))
            attention = (state["AttnConv.1.weight"][0, :, 0, 0] @ pooled + state["AttnConv.1.bias"]).clamp(min=0)
            weighed.append(made * hard_sigmoid(attention))
        found.append(dy_relu(sub(state, "relu"), sum(weighed) / len(weighed)))
    return found


@dataclass(frozen=True)
class Output:
    """As ``GlipOutput``, of one image, and the levels of the pyramid."""

    logits: Tensor
    deltas: Tensor
    centerness: Tensor
    pyramid: list[Tensor]


def glip(state: State, image: Tensor, ids: Tensor, mask: Tensor, config: GlipConfig) -> Output:
    """One image (3, H, W) with one caption, int64 (n,) and int (n,)."""
    state = sub(state, "module")
    hidden = bert(sub(state, "language_backbone.body.model"), ids[None], mask[None], config.bert.heads)[0]
    embedded = hidden * mask[:, None]
    pyramid = fpn(sub(state, "backbone.fpn"), swin(sub(state, "backbone.body"), image, config))
    levels = pyramid
    head = sub(state, "rpn.head")
    for number in itertools.count():
        module = sub(head, f"dyhead_tower.{number}")
        if not module:
            break
        if "b_attn.gamma_v" in module:
            flat = torch.cat([level.flatten(1).T for level in levels])
            flat, hidden = fusion(sub(module, "b_attn"), flat, hidden, mask, config.fusion_heads)
            parts = flat.split([level[0].numel() for level in levels])
            levels = [part.T.reshape(level.shape) for part, level in zip(parts, levels, strict=True)]
        elif "intermediate.dense.weight" in module:
            hidden = bert_layer(module, hidden[None], mask[None], config.bert.heads, 50000)[0]
        else:
            levels = dy_conv(module, levels, config.norm_groups)
    text = hidden if config.fused else embedded
    unit = text / text.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    tokens = linear(head, "dot_product_projection_text", unit / 2)
    bias = unit @ head["bias_lang"] + head["bias0"]
    logits, deltas, centerness = [], [], []
    for number, level in enumerate(levels):
        flat = level.flatten(1).T
        logits.append((flat @ tokens.T / head["log_scale"].exp() + bias).clamp(-50000, 50000))
        box = conv(head, "bbox_pred", level) * head[f"scales.{number}.scale"]
        deltas.append(box.flatten(1).T)
        centerness.append(conv(head, "centerness", level).flatten())
    return Output(torch.cat(logits), torch.cat(deltas), torch.cat(centerness), pyramid)
