"""Fusion of image and text: attention in both directions from one matrix of similarities.

Source: ``utils/fuse_helper.py`` of microsoft/GLIP, ``BiMultiHeadAttention`` and ``BiAttentionBlockForCheckpoint``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Similarities are clamped to ± this, against overflow in half precision; the released weights were trained with it.
CLAMP = 50_000.0


class BiAttention(nn.Module):  # type: ignore[misc]
    """The attention; image positions are never masked, padding of the text is masked for the image.

    Similarities and outputs are those of the official code, computed in another order. There are hundreds of times as
    many image positions as tokens, so their projections to ``width`` are moved to the text side (for logits and output,
    exact because they are linear) or after the sum over positions (for values). This avoids three of the four largest
    matrix products.

    Args:
        image_width, text_width: channels of both sides.
        width: width of all heads together.
        heads: number of heads of the attention.
        dropout: dropout rate of the attention weights, in training.
    """

    def __init__(self, image_width: int, text_width: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.v_proj = nn.Linear(image_width, width)
        self.l_proj = nn.Linear(text_width, width)
        self.values_v_proj = nn.Linear(image_width, width)
        self.values_l_proj = nn.Linear(text_width, width)
        self.out_v_proj = nn.Linear(width, image_width)
        self.out_l_proj = nn.Linear(width, text_width)
        self._heads, self._dropout = heads, dropout
        for layer in self.children():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals of both sides.

        Args:
            image: (B, N, C).
            text: (B, n, D).
            mask: bool (B, n), False for padding.

        Returns:
            (B, N, C) and (B, n, D).
        """
        batch, positions, channels = image.shape
        heads, tokens = self._heads, text.shape[1]
        keys = self._by_head(self.l_proj(text)) * (self.v_proj.out_features // heads) ** -0.5  # (B, h, n, d)
        folded = keys @ self.v_proj.weight.view(heads, -1, channels)  # (B, h, n, C)
        offset = keys @ self.v_proj.bias.view(heads, -1, 1)  # (B, h, n, 1)
        logits = torch.baddbmm(offset.view(batch, 1, -1), image, folded.flatten(1, 2).transpose(1, 2))
        logits = logits.clamp(-CLAMP, CLAMP).view(batch, positions, heads, tokens)

        # Text: attention weights of the image positions. The official code also clamps the difference from the best
        # one, which has no effect in any precision: e to the power of -50,000 is 0.
        shares = functional.dropout(logits.softmax(1), self._dropout, self.training)
        seen = shares.flatten(2).transpose(1, 2) @ image  # (B, h · n, C)
        values = self.values_v_proj.weight.view(heads, -1, channels).transpose(1, 2)
        told = seen.view(batch, heads, tokens, channels) @ values  # (B, h, n, d)
        told = told + shares.sum(1)[..., None] * self.values_v_proj.bias.view(heads, 1, -1)
        to_text = self.out_l_proj(told.transpose(1, 2).flatten(2))

        # Image: attention weights of the tokens.
        hidden = logits.masked_fill(~mask[:, None, None], torch.finfo(logits.dtype).min)
        shares = functional.dropout(hidden.softmax(-1), self._dropout, self.training)
        values = self._by_head(self.values_l_proj(text))
        values = values @ self.out_v_proj.weight.view(channels, heads, -1).permute(1, 2, 0)  # (B, h, n, C)
        to_image = torch.baddbmm(self.out_v_proj.bias.view(1, 1, -1), shares.flatten(2), values.flatten(1, 2))
        return to_image, to_text

    def _by_head(self, tokens: Tensor) -> Tensor:
        """(B, n, width) to (B, h, n, d)."""
        return tokens.unflatten(2, (self._heads, -1)).transpose(1, 2)


class Fusion(nn.Module):  # type: ignore[misc]
    """Both sides, normalised, plus the residual from the other one: the sum starts from the output of the norm.

    Args:
        image_width, text_width, width, heads, dropout: see ``BiAttention``.
        scale: initial value of the learned factors of the residuals.
    """

    def __init__(self, image_width: int, text_width: int, width: int, heads: int, dropout: float, scale: float) -> None:
        super().__init__()
        self.layer_norm_v = nn.LayerNorm(image_width)
        self.layer_norm_l = nn.LayerNorm(text_width)
        self.attn = BiAttention(image_width, text_width, width, heads, dropout)
        self.gamma_v = nn.Parameter(torch.full((image_width,), scale))
        self.gamma_l = nn.Parameter(torch.full((text_width,), scale))

    def forward(self, image: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C), (B, n, D) and bool (B, n) to the first two."""
        image, text = self.layer_norm_v(image), self.layer_norm_l(text)
        to_image, to_text = self.attn(image, text, mask)
        return image + self.gamma_v * to_image, text + self.gamma_l * to_text
