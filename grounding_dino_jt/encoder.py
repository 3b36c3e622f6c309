"""Feature enhancer: alternating fusion, text and image layers (official ``transformer.py``, TransformerEncoder)."""

from __future__ import annotations

from typing import Any

from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.deformable import image_attention
from ovd_bench.grounding_dino_jt.features import ImageFeatures, TextFeatures
from ovd_bench.grounding_dino_jt.fusion import BiAttentionBlock
from ovd_bench.grounding_dino_jt.layers import FeedForward, LayerNorm, Linear, MultiheadAttention
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn


class Encoder(Module):
    """Image and text features with cross-modality fusion."""

    def __init__(self, config: Config) -> None:
        self.layers = nn.ModuleList([ImageLayer(config) for _ in range(config.enc_layers)])
        if config.use_text_enhancer:
            self.text_layers = nn.ModuleList([TextLayer(config) for _ in range(config.enc_layers)])
        if config.use_fusion:
            self.fusion_layers = nn.ModuleList([BiAttentionBlock(config) for _ in range(config.enc_layers)])
        self._config = config

    def normalised(self, features: Any) -> Any:
        """Image features normalised by the first fusion layer, which does not depend on text; (B, N, d)."""
        return self.fusion_layers[0].layer_norm_v(features) if self._config.use_fusion else features

    def execute(self, image: ImageFeatures, text: TextFeatures) -> tuple[Any, Any]:
        """Image memory (B, N, d) and text memory (B, n, d); B is the number of captions.

        One image with several captions is not copied before the first layer that depends on captions.
        """
        seen, words = image.features, text.features
        for number, layer in enumerate(self.layers):
            if self._config.use_fusion:
                fuse = self.fusion_layers[number]
                normalised = seen if number == 0 else fuse.layer_norm_v(seen)
                seen, words = fuse(normalised, words, image.padding, text.padding)
            if self._config.use_text_enhancer:
                words = self.text_layers[number](words, text.positions, text.bias)
            seen = layer(seen, image)
        if seen.shape[0] != words.shape[0]:  # without fusion the image is not copied
            seen = seen.expand(words.shape[0], *seen.shape[1:])
        return seen, words


class TextLayer(Module):
    """Self-attention within phrases and two linear layers, post-norm (``transformer_vanilla.py``)."""

    def __init__(self, config: Config) -> None:
        d, wide = config.hidden_dim, config.dim_feedforward // 2
        self.self_attn = MultiheadAttention(d, config.num_heads // 2)
        self.linear1, self.linear2 = Linear(d, wide), Linear(wide, d)
        self.norm1, self.norm2 = LayerNorm(d), LayerNorm(d)
        self._both = FeedForward("relu")

    def execute(self, x: Any, pos: Any, bias: Any) -> Any:
        """(B, n, d), positions (B, n, d) and mask (B, 1, n, n), added to the logits, to (B, n, d)."""
        query = x + pos
        x = self.norm1(x + self.self_attn(query, query, x, bias))
        return self.norm2(x + self._both(x, self.linear1, self.linear2))


class ImageLayer(Module):
    """Image self-attention and two linear layers, post-norm."""

    def __init__(self, config: Config) -> None:
        d, wide = config.hidden_dim, config.dim_feedforward
        self.self_attn = image_attention(config, config.enc_points)
        self.norm1 = LayerNorm(d)
        self.linear1, self.linear2 = Linear(d, wide), Linear(wide, d)
        self.norm2 = LayerNorm(d)
        self._both = FeedForward("relu")

    def execute(self, x: Any, image: ImageFeatures) -> Any:
        """(B, N, d) to (B, N, d), with the geometry of B images or of one for all."""
        query = x + image.positions
        x = self.norm1(x + self.self_attn(query, x, image.padding, image.references, image.shapes, image.positions))
        return self.norm2(x + self._both(x, self.linear1, self.linear2))
