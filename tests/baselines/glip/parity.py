"""Prints how far every block of GLIP is from its reference: ``python -m ovd_bench.tests.baselines.glip.parity``.

The largest absolute difference, in float32 and in float64, of blocks of GLIP-T's widths on small maps, and of the whole
network at the tests' size. Then the processor seconds of the two operators that are computed in another way than usual.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from torch import Tensor, nn
from torchvision.ops import deform_conv2d
from transformers import BertConfig as TheirConfig
from transformers import BertModel

from ovd_bench.baselines.bert import Bert, BertLayer
from ovd_bench.baselines.glip.anchors import anchor_boxes, decode, encode
from ovd_bench.baselines.glip.config import GlipConfig
from ovd_bench.baselines.glip.deform import DeformConv, deform_conv
from ovd_bench.baselines.glip.dyhead import DyConv, DyReLU, first_numbers
from ovd_bench.baselines.glip.fpn import Fpn
from ovd_bench.baselines.glip.fusion import CLAMP, Fusion
from ovd_bench.baselines.swin import Swin, SwinConfig
from ovd_bench.perf.tables import MarkdownTable
from ovd_bench.tests.baselines.glip import reference
from ovd_bench.tests.baselines.glip.tiny import TINY, caption_tokens, drawn, official_state, random_pixels

FULL = GlipConfig()
MAPS = ((10, 14), (5, 7), (3, 4), (2, 2), (1, 1))

#: Gives pairs of what is and what should be, in the given float type.
Block = Callable[[torch.dtype], Sequence[tuple[Tensor, Tensor]]]


def _noisy(module: nn.Module, kind: torch.dtype) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        spread = 0.02 if parameter.ndim > 1 else 0.2
        parameter.data += (0.5 if "offset" in name else 1) * spread * torch.randn(parameter.shape, generator=generator)
    return module.to(kind).eval().requires_grad_(False)


def _random(kind: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(kind)


def _deform(kind: torch.dtype, stride: int) -> list[tuple[Tensor, Tensor]]:
    block = _noisy(DeformConv(256, stride), kind)
    image, size = _random(kind, 1, 256, 10, 14), ((10 - 1) // stride + 1, (14 - 1) // stride + 1)
    offsets, mask = 2 * _random(kind, 1, 18, *size), _random(kind, 1, 9, *size).sigmoid()
    expected = deform_conv2d(image, offsets, block.weight, block.bias, stride, 1, mask=mask)
    return [(block(image, offsets, mask), expected)]


def _quirk(kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    block = _noisy(DeformConv(256, 1), kind)
    image, offsets, mask = _random(kind, 1, 256, 5, 7), 2 * _random(kind, 1, 18, 10, 14), _random(kind, 1, 9, 10, 14)
    found = block(image, first_numbers(offsets, (5, 7)), first_numbers(mask, (5, 7)))
    return [(found[0], reference.deform_conv(image[0], offsets[0], mask[0], block.weight, block.bias, 1))]


def _fusion(kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    block = _noisy(Fusion(256, 768, 2048, 8, 0.0, 1 / 6), kind)
    image, text, mask = _random(kind, 1, 190, 256), _random(kind, 1, 40, 768), torch.arange(40)[None] < 33
    found = block(image, text, mask)
    return [(a[0], b) for a, b in zip(found, _official_fusion(block, image, text, mask), strict=True)]


def _official_fusion(block: nn.Module, image: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return reference.fusion(block.state_dict(), image[0], text[0], mask[0].long(), 8)


def _bert(kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    config = dataclasses.replace(FULL.bert, layers=2)
    bert = _noisy(Bert(config, 0.0, pooler=True), kind)
    theirs = BertModel(TheirConfig(num_hidden_layers=2)).to(kind).eval()
    theirs.load_state_dict(bert.state_dict())
    ids, mask = caption_tokens(30, padded=40)
    expected = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    return [(bert(ids, mask)[mask], expected[mask])]


def _language(kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    layer = _noisy(BertLayer(FULL.bert, 0.0, CLAMP), kind)
    hidden, mask = _random(kind, 1, 40, 768), torch.arange(40)[None] < 33
    return [(layer(hidden, mask), reference.bert_layer(layer.state_dict(), hidden, mask.long(), 12, CLAMP))]


def _swin(kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    config = dataclasses.replace(TINY, swin=SwinConfig(depths=(2, 2, 2, 2)))
    backbone = _noisy(Swin(config.swin), kind)
    pixels = random_pixels(70, 100).to(kind)
    expected = reference.swin(backbone.state_dict(), pixels[0], config)
    return [(a[0].permute(2, 0, 1), b) for a, b in zip(backbone(pixels), expected, strict=True)]


def _levels(kind: torch.dtype) -> list[Tensor]:
    return [_random(kind, 1, 256, *size) for size in MAPS]


def _fpn(kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    pyramid = _noisy(Fpn((192, 384, 768), 256), kind)
    maps = [_random(kind, 1, width, *size) for width, size in zip((192, 384, 768), MAPS, strict=False)]
    expected = reference.fpn(pyramid.state_dict(), [one[0] for one in maps])
    return [(a[0], b) for a, b in zip(pyramid(maps), expected, strict=True)]


def _dyconv(kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    block, levels = _noisy(DyConv(256, 16, "prefix"), kind), _levels(kind)
    expected = reference.dy_conv(block.state_dict(), [level[0] for level in levels], 16)
    return [(a[0], b) for a, b in zip(block(levels), expected, strict=True)]


def _dyrelu(kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    block, image = _noisy(DyReLU(256), kind), _random(kind, 1, 256, 10, 14)
    return [(block(image)[0], reference.dy_relu(block.state_dict(), image[0]))]


def _coder(kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    anchors = anchor_boxes(MAPS, FULL.strides, FULL.anchor_sizes).to(kind)
    deltas = _random(kind, len(anchors), 4)
    return [(encode(decode(deltas, anchors), anchors), deltas)]


def _whole(fused: bool) -> Block:
    def run(kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        config = dataclasses.replace(TINY, fused=fused)
        model = drawn(config).to(kind)
        state = {n: t.double() if t.is_floating_point() else t for n, t in official_state(model).items()}
        ids, mask = caption_tokens(9, padded=14)
        pixels = random_pixels(96, 128)
        found = model(model.encode_image(pixels.to(kind)), model.encode_text(ids, mask))
        expected = reference.glip(state, pixels[0].double(), ids[0], mask[0].long(), config)
        return [(getattr(found, n)[0], getattr(expected, n)) for n in ("logits", "deltas", "centerness")]

    return run


BLOCKS: dict[str, tuple[str, Block]] = {
    "Swin, three maps": ("loops over windows", _swin),
    "FPN, P3 … P7": ("shifted sums", _fpn),
    "BERT, 2 layers": ("transformers", _bert),
    "language layer, clamped": ("head by head", _language),
    "fusion, both sides": ("official order of products", _fusion),
    "deformable convolution, stride 1": ("torchvision", lambda kind: _deform(kind, 1)),
    "deformable convolution, stride 2": ("torchvision", lambda kind: _deform(kind, 2)),
    "… on the coarser level (prefix)": ("addresses of the CUDA kernel", _quirk),
    "DyReLU": ("loops over channels", _dyrelu),
    "DyConv, five levels": ("loops over locations", _dyconv),
    "box coder, there and back": ("itself", _coder),
    "GLIP, fused, official state dict": ("reference in float64", _whole(True)),
    "GLIP, variant A, official state dict": ("reference in float64", _whole(False)),
}


def differences() -> MarkdownTable:
    """Largest absolute difference of every block, and the largest number it is a difference of."""
    rows = []
    for name, (other, block) in BLOCKS.items():
        cells = []
        for kind in (torch.float32, torch.float64):
            pairs = block(kind)
            cells.append(f"{max(float((a.double() - b.double()).abs().max()) for a, b in pairs):.1e}")
        size = max(float(b.abs().max()) for _, b in pairs)
        rows.append((name, other, *cells, f"{size:.1f}"))
    return MarkdownTable("Largest differences", ("block", "reference", "float32", "float64", "largest value"), rows)


def speed(repeats: int = 3) -> MarkdownTable:
    """Operators on a level of 50 x 84 with GLIP-T's widths, 130 tokens, in turns."""
    kind = torch.float32
    conv, fusion = _noisy(DeformConv(256, 1), kind), _noisy(Fusion(256, 768, 2048, 8, 0.0, 1 / 6), kind)
    image, offsets = _random(kind, 1, 256, 50, 84), 2 * _random(kind, 1, 18, 50, 84)
    last = image.contiguous(memory_format=torch.channels_last)  # as the head has it
    mask = _random(kind, 1, 9, 50, 84).sigmoid()
    flat, text, real = image.flatten(2).transpose(1, 2), _random(kind, 1, 130, 768), torch.ones(1, 130).bool()
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "deformable convolution, torchvision": (
            lambda: deform_conv(last, offsets, mask, conv.weight, conv.bias, 1),
            lambda: deform_conv2d(image, offsets, conv.weight, conv.bias, 1, 1, mask=mask),
        ),
        "fusion, official order of products": (
            lambda: fusion(flat, text, real),
            lambda: _official_fusion(fusion, flat, text, real),
        ),
    }
    rows = []
    for name, calls in pairs.items():
        runs: list[list[float]] = [[], []]
        for repeat in range(repeats + 1):
            for number, call in enumerate(calls):
                start = time.process_time()
                call()
                if repeat:
                    runs[number].append(time.process_time() - start)
        ours, theirs = (min(seconds) for seconds in runs)
        rows.append((name, f"{1000 * ours:.0f}", f"{1000 * theirs:.0f}", f"{theirs / ours:.1f}"))
    return MarkdownTable(
        "Operators, least processor milliseconds", ("operator, other side", "here", "other", "ratio"), rows
    )


def main() -> None:
    """Print both tables."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with torch.inference_mode():
        tables = [differences(), speed()]
    console = Console(width=120)
    for table in tables:
        table.show(console)
        console.print(table.markdown(), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
