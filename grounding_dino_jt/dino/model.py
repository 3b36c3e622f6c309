"""DINO: from images to boxes with a logit per class (official ``models/dino/dino.py``).

Encoder layers, query selection, decoder layers, box heads and the pyramid of features are those of Grounding DINO
without its text; only the class heads are DINO's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.decoder import Decoded, Memory
from ovd_bench.grounding_dino_jt.dino.config import DinoConfig, ResNetConfig
from ovd_bench.grounding_dino_jt.dino.resnet import ResNet
from ovd_bench.grounding_dino_jt.features import ImageFeatures
from ovd_bench.grounding_dino_jt.layers import Linear
from ovd_bench.grounding_dino_jt.model import Output, Transformer, box_head
from ovd_bench.grounding_dino_jt.pyramid import image_features, project, projections
from ovd_bench.grounding_dino_jt.query_selection import SelectedQueries
from ovd_bench.grounding_dino_jt.swin import Swin
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn


class Dino(Module):
    """The network; parameters are named as in the official checkpoint, shared heads once."""

    def __init__(self, config: DinoConfig) -> None:
        self.config = config
        d, backbone = config.hidden_dim, config.backbone
        self.backbone = nn.ModuleList([ResNet(backbone) if isinstance(backbone, ResNetConfig) else Swin(backbone)])
        channels = [backbone.channels(stage) for stage in backbone.out_stages]
        self.input_proj = projections(channels, d, config.num_feature_levels)
        self.transformer = Transformer(config.transformer())
        self.transformer.enc_out_class_embed = class_head(d, config.num_classes)
        self.bbox_embed = nn.ModuleList([box_head(d)])
        self.class_embed = nn.ModuleList([class_head(d, config.num_classes)])

    def encode_image(
        self, pixels: npt.NDArray[np.float32], padding: npt.NDArray[np.bool_] | None = None
    ) -> ImageFeatures:
        """Backbone and projections, and the geometry of the maps.

        Args:
            pixels: float32 (B, 3, H, W), RGB, normalised.
            padding: bool (B, H, W), true where a smaller image was padded; None = all images fill the batch.
        """
        levels = project(self.input_proj, self.backbone[0](jt.array(pixels)))
        height, width = pixels.shape[2:]
        return image_features(
            levels, (height, width), padding, self.transformer.level_embed, self.config.pe_temperature
        )

    def execute(self, image: ImageFeatures) -> Output:
        """Boxes and logits of B images; ``pred_logits`` is (B, Q, num_classes)."""
        seen = self.encode(image)
        decoded = self.decode(seen, self.select(seen, image), image)
        return self.output(decoded, len(decoded.hidden) - 1)

    def encode(self, image: ImageFeatures) -> Any:
        """Memory of the encoder, (B, N, d)."""
        seen = image.features
        for layer in self.transformer.encoder.layers:
            seen = layer(seen, image)
        return seen

    def select(self, seen: Any, image: ImageFeatures) -> SelectedQueries:
        """Initial boxes: around the positions with the highest class logits."""
        selection: SelectedQueries = self.transformer.select_by(self.transformer.enc_out_class_embed, seen, image)
        return selection

    def decode(self, seen: Any, selection: SelectedQueries, image: ImageFeatures) -> Decoded:
        """Run the decoder from the selected boxes."""
        queries = self.transformer.tgt_embed.weight[: selection.boxes.shape[1]]
        queries = queries.unsqueeze(0).expand(seen.shape[0], *queries.shape)
        memory = Memory(seen, None, None, image)
        heads = [self.bbox_embed[0]] * self.config.dec_layers
        decoded: Decoded = self.transformer.decoder(queries, selection.boxes.detach(), memory, heads)
        return decoded

    def output(self, decoded: Decoded, layer: int) -> Output:
        """Logits and boxes of a decoder layer."""
        logits = self.class_embed[0](decoded.hidden[layer])
        return Output(logits, decoded.boxes(layer, self.bbox_embed[0], self.config.box_epsilon))


def class_head(width: int, classes: int) -> Any:
    """One linear layer; the initial probability of every class is 0.01 (Lin et al. 2017, section 4.1)."""
    head = Linear(width, classes)
    head.bias = jt.array(np.full(classes, -np.log(99.0), np.float32))
    return head
