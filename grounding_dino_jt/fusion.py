"""Fusion of image and text in both directions (``groundingdino/models/GroundingDINO/fuse_modules.py``)."""

from __future__ import annotations

from typing import Any

from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.layers import LayerNorm, Linear, drop_path
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.bi_attention import bi_attention
from ovd_bench.kernels.matmul import bmm
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn


class BiAttentionBlock(Module):
    """Image and text attend to each other; each result is added to the *normalised* input, not to the input."""

    def __init__(self, config: Config) -> None:
        d = config.hidden_dim
        self.layer_norm_v = LayerNorm(d)
        self.layer_norm_l = LayerNorm(d)
        self.attn = BiMultiHeadAttention(d, config.dim_feedforward // 2, config.num_heads // 2)
        self.gamma_v = jt.ones((d,)) * config.fusion_gate
        self.gamma_l = jt.ones((d,)) * config.fusion_gate
        self._rate = config.fusion_drop_path

    def execute(self, image: Any, text: Any, image_padding: Any, text_padding: Any) -> tuple[Any, Any]:
        """Fuse.

        Args:
            image: (B or 1, N, d), already through ``layer_norm_v``; 1 = the same image for every caption.
            text: (B, n, d).
            image_padding: bool (B or 1, N), true at padding; None = no padding.
            text_padding: bool (B, n), or None.

        Returns:
            Image (B, N, d) and text (B, n, d).
        """
        text = self.layer_norm_l(text)
        to_image, to_text = self.attn(image, text, image_padding, text_padding)
        training = self.is_training()
        image = image + drop_path(self.gamma_v * to_image, self._rate, training)
        return image, text + drop_path(self.gamma_l * to_text, self._rate, training)


class BiMultiHeadAttention(Module):
    """Attention of image to text and of text to image on the same logits.

    The image has hundreds of times more positions than the text, and all its projections are linear. So each is moved
    to the text side, where it costs almost nothing: with x a position, t a token, h a head and e^-0.5 the scale,

        logit = (Wq_h x + bq_h) . k_ht e^-0.5       = x . (Wq_h^T k_ht e^-0.5) + bq_h . k_ht e^-0.5
        to the image: Wo sum_h sum_t p_ht v_ht       = sum_h sum_t p_ht (Wo_h v_ht)
        to the text:  sum_x p_hx (Wv_h x + bv_h)     = Wv_h (sum_x p_hx x) + bv_h

    The sums are the same in another order, without a projected copy of the image.
    """

    def __init__(self, width: int, embed: int, heads: int) -> None:
        self.v_proj = Linear(width, embed)
        self.l_proj = Linear(width, embed)
        self.values_v_proj = Linear(width, embed)
        self.values_l_proj = Linear(width, embed)
        self.out_v_proj = Linear(embed, width)
        self.out_l_proj = Linear(embed, width)
        self._heads, self._width, self._embed = heads, width, embed

    def execute(self, image: Any, text: Any, image_padding: Any, text_padding: Any) -> tuple[Any, Any]:
        """Normalised image (B or 1, N, d) and text (B, n, d) to the residuals of both, (B, N, d) and (B, n, d)."""
        batch, tokens = text.shape[:2]
        each = self._embed // self._heads
        keys = self._by_head(self.l_proj(text) * each**-0.5)
        values = self._by_head(self.values_l_proj(text))
        w_query = self.v_proj.weight.reshape(self._heads, each, self._width)
        w_out = self.out_v_proj.weight.reshape(self._width, self._heads, each).permute(1, 2, 0)
        b_query = self.v_proj.bias.reshape(self._heads, each, 1)
        to_image, context = bi_attention(
            image,
            self._from_heads(bmm(keys, w_query), batch),
            self._from_heads(bmm(keys, b_query), batch).reshape(batch, self._heads, tokens),
            self._from_heads(bmm(values, w_out), batch),
            image_padding,
            text_padding,
        )
        w_value = self.values_v_proj.weight.reshape(self._heads, each, self._width)
        seen = bmm(self._heads_first(context), w_value, transpose_b=True)  # (h, B * n, e)
        seen = self._from_heads(seen, batch).permute(0, 2, 1, 3).reshape(batch, tokens, self._embed)
        return to_image + self.out_v_proj.bias, self.out_l_proj(seen + self.values_v_proj.bias)

    def _by_head(self, x: Any) -> Any:
        """(B, n, h * e) to (h, B * n, e)."""
        return x.reshape(-1, self._heads, self._embed // self._heads).permute(1, 0, 2)

    def _from_heads(self, x: Any, batch: int) -> Any:
        """(h, B * n, c) to (B, h, n, c)."""
        return x.reshape(self._heads, batch, -1, x.shape[-1]).permute(1, 0, 2, 3)

    def _heads_first(self, x: Any) -> Any:
        """(B, h, n, c) to (h, B * n, c)."""
        return x.permute(1, 0, 2, 3).reshape(self._heads, -1, x.shape[-1])
