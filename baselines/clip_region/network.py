"""CLIP with a vision transformer (open_clip's network): embeddings of texts, of crops, and of every patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor
from torch.nn import functional

from ovd_bench.baselines.clip_region.regions import Pixels

_TEXTS_PER_BATCH = 256

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """Per-channel statistics of pixels scaled to 0 … 1; the defaults are CLIP's (``openai/CLIP``, ``clip/clip.py``)."""

    mean: Colour = (0.48145466, 0.4578275, 0.40821073)
    std: Colour = (0.26862954, 0.26130258, 0.27577711)


class ClipNetwork:
    """A loaded CLIP in evaluation mode.

    Args:
        model: open_clip's, float32.
        normalisation: normalisation of its images.

    Raises:
        ValueError: an image tower without usable patches: not a plain vision transformer with a class token.
    """

    def __init__(self, model: open_clip.CLIP, normalisation: Normalisation) -> None:
        visual = model.visual
        plain = (
            isinstance(visual, VisionTransformer)
            and visual.attn_pool is None
            and visual.pool_type == "tok"
            and not visual.final_ln_after_pool
            and isinstance(visual.transformer.resblocks[-1], ResidualAttentionBlock)
            and len(set(visual.image_size)) == len(set(visual.patch_size)) == 1
        )
        if not plain:
            raise ValueError("the image tower is not a plain square vision transformer with a class token")
        self.model = model.eval()
        self.normalisation = normalisation
        self._device = "cpu"
        self._tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)

    def to(self, device: str) -> ClipNetwork:
        """Move the network to another device."""
        self.model.to(device)
        self._device = device
        return self

    @property
    def parameters(self) -> int:
        """Number of scalars."""
        return sum(int(parameter.numel()) for parameter in self.model.parameters())

    @property
    def image_size(self) -> int:
        """Side of the square that the image tower was trained on, pixels."""
        return int(self.model.visual.image_size[0])

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels."""
        return int(self.model.visual.patch_size[0])

    @property
    def scale(self) -> float:
        """Factor of the cosines from training, one over its temperature."""
        return float(self.model.logit_scale.detach().exp())

    @property
    def fill(self) -> tuple[int, int, int]:
        """The RGB colour that is zero after normalisation."""
        red, green, blue = (round(255 * value) for value in self.normalisation.mean)
        return red, green, blue

    def too_long(self, texts: Sequence[str]) -> list[str]:
        """Texts that are truncated to the maximum length of the text tower."""
        most = self.model.context_length - 2
        return [text for text in texts if len(self._tokenizer.encode(text)) > most]

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors, float32 (n, d)."""
        found = []
        with torch.inference_mode():
            for begin in range(0, len(texts), _TEXTS_PER_BATCH):
                ids = self._tokenizer(list(texts[begin : begin + _TEXTS_PER_BATCH])).to(self._device)
                found.append(self.model.encode_text(ids, normalize=True))
        return torch.cat(found)

    def encode_crops(self, crops: Sequence[Pixels]) -> Tensor:
        """Unit vectors of uint8 images of the tower's size, float32 (n, d)."""
        with torch.inference_mode():
            return cast(Tensor, self.model.encode_image(self._prepared(np.stack(crops)), normalize=True))

    def encode_patches(self, pixels: Pixels) -> Tensor:
        """Embeddings of all patches of one image, float32 (rows, columns, d), not normalised.

        The path of MaskCLIP (Zhou et al. 2022, arXiv:2112.01071, section 3.2): in the last block no token attends to
        others; its value replaces the result of the attention before the output projection, and everything else is
        unchanged. Patches then keep local features, whereas the trained block would mix all patches of the image.
        Position embeddings are resized to the grid of the image, bicubic with antialias, as in open_clip for another
        image size.

        Args:
            pixels: uint8 (rows * patch, columns * patch, 3).
        """
        visual, patch = self.model.visual, self.patch_size
        with torch.inference_mode():
            batch = self._prepared(pixels[None])
            rows, columns = batch.shape[2] // patch, batch.shape[3] // patch
            tokens = visual.conv1(batch).flatten(2).transpose(1, 2)
            tokens = torch.cat([visual.class_embedding.expand(1, 1, -1), tokens], dim=1)
            tokens = visual.ln_pre(tokens + self._positions(rows, columns))
            *blocks, last = visual.transformer.resblocks
            for block in blocks:
                tokens = block(tokens)
            values = last.attn.in_proj_weight.chunk(3)[2], last.attn.in_proj_bias.chunk(3)[2]
            tokens = tokens + last.ls_1(last.attn.out_proj(functional.linear(last.ln_1(tokens), *values)))
            tokens = tokens + last.ls_2(last.mlp(last.ln_2(tokens)))
            patches = visual.ln_post(tokens[0, 1:]) @ visual.proj
            return cast(Tensor, patches.view(rows, columns, -1))

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings (1 + rows * columns, width)."""
        learned = self.model.visual.positional_embedding
        side = self.image_size // self.patch_size
        if (rows, columns) == (side, side):
            return cast(Tensor, learned)
        grid = learned[1:].view(1, side, side, -1).permute(0, 3, 1, 2)
        stretched = functional.interpolate(grid, (rows, columns), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([learned[:1], stretched.flatten(2)[0].T])

    def _prepared(self, pixels: Pixels) -> Tensor:
        """Network input of uint8 images (B, H, W, 3): float32 (B, 3, H, W)."""
        scaled = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float() / 255
        mean, std = (
            torch.tensor(values, device=self._device).view(3, 1, 1)
            for values in (self.normalisation.mean, self.normalisation.std)
        )
        return (scaled - mean) / std
