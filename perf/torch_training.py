"""Training of Grounding DINO in torch, built from the modules of transformers, as a reference for comparisons.

The forward pass of transformers lacks queries and gradients that training needs: it has no denoising queries, its
references have no gradient, and its encoder outputs are other tensors. Its modules are therefore called one by one.
The network is in evaluation mode, so dropout and drop path are off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import GroundingDinoForObjectDetection
from transformers.models.grounding_dino.modeling_grounding_dino import (
    encode_sinusoidal_position_embedding,
    generate_masks_with_special_tokens_and_transfer_map,
)

from ovd_bench.grounding_dino_jt.tokens import TokenBatch


@dataclass(frozen=True)
class Extra:
    """Denoising queries, in front of the model's own (B images, D queries, Q of the model).

    Attributes:
        labels: integers (B, D), rows of the label embedding; -1 = no content.
        boxes: (B, D, 4) cxcywh, initial boxes of the decoder.
        hidden: bool (D + Q, D + Q), true where the query of the row does not attend to that of the column.
    """

    labels: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32] | npt.NDArray[np.float64]
    hidden: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Layer:
    """Predictions of a layer: ``logits`` (B, Q, n), of padding tokens too, and ``boxes`` (B, Q, 4) cxcywh."""

    logits: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Predictions:
    """Everything that has a loss.

    Attributes:
        decoder: per layer, of the model's own queries.
        denoising: per layer, of the extra queries; empty without any.
        encoder: predictions at the selected positions.
        places: (B, Q), the selected positions.
    """

    decoder: list[Layer]
    denoising: list[Layer]
    encoder: Layer
    places: Tensor


@dataclass(frozen=True)
class _Seen:
    """Image features and geometry for encoder and decoder (L levels, N cells).

    ``real`` is bool (B, N), ``ratios`` (B, L, 2); ``shapes`` (L, 2) and ``starts`` (L,) are integers.
    """

    features: Tensor
    positions: Tensor
    real: Tensor
    ratios: Tensor
    shapes: Tensor
    starts: Tensor

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [(int(height), int(width)) for height, width in self.shapes.tolist()]


class TorchTraining(nn.Module):  # type: ignore[misc]
    """Grounding DINO with all its predictions.

    Args:
        model: transformers' model, with language-guided selection and one box head for all decoder layers.
        labels: rows of the label embedding of the denoising queries.
        epsilon: guard of the inverse sigmoid, officially 1e-3.
    """

    def __init__(self, model: GroundingDinoForObjectDetection, labels: int = 256, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.model = model.eval()  # dropout and drop path off; gradients do not depend on it
        self.label_embedding = nn.Embedding(labels, model.config.d_model)
        self._epsilon = epsilon

    def forward(
        self,
        pixels: Tensor,
        padding: npt.NDArray[np.bool_] | None,
        tokens: TokenBatch,
        extra: Extra | None = None,
        places: Tensor | None = None,
    ) -> Predictions:
        """Predict.

        Args:
            pixels: (B, 3, H, W), normalised, of the type of the parameters.
            padding: bool (B, H, W); None = none.
            tokens: tokens of B captions.
            extra: denoising queries.
            places: integers (B, Q), positions to select from the encoder; None = the best ones.
        """
        core = self.model.model
        ids, real = torch.from_numpy(tokens.ids).long(), torch.from_numpy(tokens.real)
        mask, order = generate_masks_with_special_tokens_and_transfer_map(ids, core.special_tokens)
        read = core.text_backbone(
            input_ids=ids, attention_mask=mask[:, None], position_ids=order, token_type_ids=torch.zeros_like(ids)
        )
        image = self._see(pixels, padding)
        fused = core.encoder(
            vision_features=image.features,
            vision_attention_mask=~image.real,
            vision_position_embedding=image.positions,
            spatial_shapes=image.shapes,
            spatial_shapes_list=image.sizes,
            level_start_index=image.starts,
            valid_ratios=image.ratios,
            text_features=core.text_projection(read.last_hidden_state),
            text_attention_mask=~real,
            text_self_attention_masks=~mask,
            text_position_ids=order,
            return_dict=True,
        )
        memory, words = fused.last_hidden_state_vision, fused.last_hidden_state_text
        cells, proposals = core.generate_encoder_output_proposals(memory, ~image.real, image.sizes)
        if places is None:
            with torch.no_grad():
                scores = (cells @ words.mT).masked_fill(~real[:, None], -torch.inf).amax(-1)
                places = scores.topk(core.config.num_queries).indices
        chosen = _rows(cells, places)
        boxes = torch.sigmoid(core.encoder_output_bbox_embed(chosen) + _rows(proposals, places))
        layers = self._decode(memory, words, real, image, boxes.detach(), extra)
        count = 0 if extra is None else extra.labels.shape[1]
        return Predictions(
            decoder=[Layer(layer.logits[:, count:], layer.boxes[:, count:]) for layer in layers],
            denoising=[Layer(layer.logits[:, :count], layer.boxes[:, :count]) for layer in layers if count],
            encoder=Layer(chosen @ words.mT, boxes),
            places=places,
        )

    def _see(self, pixels: Tensor, padding: npt.NDArray[np.bool_] | None) -> _Seen:
        """Backbone, projections and positions, level by level."""
        core = self.model.model
        batch, _, height, width = pixels.shape
        shown = torch.ones((batch, height, width), dtype=torch.long)
        if padding is not None:
            shown = torch.from_numpy(~padding).long()
        found, positions = core.backbone(pixels, shown)
        maps = [project(feature) for project, (feature, _) in zip(core.input_proj_vision, found, strict=False)]
        masks = [mask for _, mask in found]
        for level in range(len(found), len(core.input_proj_vision)):
            below = found[-1][0] if level == len(found) else maps[-1]
            maps.append(core.input_proj_vision[level](below))
            resized = nn.functional.interpolate(shown[None].float(), size=maps[-1].shape[-2:])
            masks.append(resized[0].bool())
            positions.append(core.backbone.position_embedding(maps[-1], masks[-1]).to(pixels.dtype))
        shapes = torch.tensor([one.shape[-2:] for one in maps])
        flat = [position.flatten(2).mT + core.level_embed[level] for level, position in enumerate(positions)]
        return _Seen(
            features=torch.cat([one.flatten(2).mT for one in maps], 1),
            positions=torch.cat(flat, 1),
            real=torch.cat([mask.flatten(1) for mask in masks], 1),
            ratios=torch.stack([core.get_valid_ratio(mask, dtype=pixels.dtype) for mask in masks], 1),
            shapes=shapes,
            starts=torch.cat([torch.zeros(1, dtype=torch.long), shapes.prod(1).cumsum(0)[:-1]]),
        )

    def _decode(
        self, memory: Tensor, words: Tensor, real: Tensor, image: _Seen, boxes: Tensor, extra: Extra | None
    ) -> list[Layer]:
        """All decoder layers; each refines the boxes of the one before, and gradients flow through them."""
        decoder = self.model.model.decoder
        queries = self.model.model.query_position_embeddings.weight.expand(len(boxes), -1, -1)
        unseen = None
        if extra is not None:
            labels = torch.from_numpy(extra.labels)
            content = self.label_embedding(labels.clamp(min=0)) * (labels >= 0)[..., None]
            queries = torch.cat([content, queries], 1)
            boxes = torch.cat([torch.from_numpy(extra.boxes).to(boxes.dtype), boxes], 1)
            unseen = _bias(torch.from_numpy(extra.hidden), queries.dtype)
        text_bias = _bias(~real, queries.dtype)[:, None, None]
        scales = torch.cat([image.ratios, image.ratios], -1)[:, None]
        carried, layers = boxes, []
        for layer in decoder.layers:
            references = boxes[:, :, None] * scales
            waves = encode_sinusoidal_position_embedding(references[:, :, 0], num_pos_feats=queries.shape[-1] // 2)
            queries = layer(
                hidden_states=queries,
                position_embeddings=decoder.reference_points_head(waves),
                reference_points=references,
                spatial_shapes=image.shapes,
                spatial_shapes_list=image.sizes,
                level_start_index=image.starts,
                vision_encoder_hidden_states=memory,
                vision_encoder_attention_mask=image.real,
                text_encoder_hidden_states=words,
                text_encoder_attention_mask=text_bias,
                self_attn_mask=unseen,
            )[0]
            normal = decoder.layer_norm(queries)
            head = self.model.bbox_embed[0]
            layers.append(Layer(normal @ words.mT, torch.sigmoid(head(normal) + self._logit(carried))))
            carried = torch.sigmoid(head(queries) + self._logit(boxes))
            boxes = carried.detach()
        return layers

    def _logit(self, shares: Tensor) -> Tensor:
        return torch.log(shares.clamp(min=self._epsilon) / (1 - shares).clamp(min=self._epsilon))


def _rows(x: Tensor, places: Tensor) -> Tensor:
    """(B, N, c) at (B, Q) to (B, Q, c)."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


def _bias(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """Bias of the attention logits: the smallest number of the type where ``hidden``, else 0."""
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)
