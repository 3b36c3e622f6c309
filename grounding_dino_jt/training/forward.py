"""The network in training: every prediction that has a loss."""

from __future__ import annotations

import numpy as np

from ovd_bench.grounding_dino_jt.decoder import ExtraQueries
from ovd_bench.grounding_dino_jt.features import ImageFeatures, TextFeatures
from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.training.denoising import DenoisingQueries
from ovd_bench.grounding_dino_jt.training.losses import LossConfig, Predictions
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn


class LabelEmbedding(Module):
    """Content of the denoising queries; used only in training, so it is not part of the network.

    Args:
        labels: their number.
        width: d.
    """

    def __init__(self, labels: int, width: int) -> None:
        self.label_enc = nn.Embedding(labels, width)

    def execute(self, queries: DenoisingQueries) -> ExtraQueries:
        """Queries for the decoder; zeros in empty slots."""
        content = self.label_enc(jt.array(queries.phrases.clip(min=0).astype(np.int32)))
        filled = jt.array((queries.phrases >= 0)[..., None].astype(np.float32))
        bias = np.where(queries.hidden, np.float32(-np.inf), np.float32(0))[None, None]
        return ExtraQueries(content * filled, jt.array(queries.boxes), jt.array(bias))


def all_predictions(
    network: GroundingDino, image: ImageFeatures, text: TextFeatures, extra: ExtraQueries | None, losses: LossConfig
) -> tuple[list[Predictions], list[Predictions]]:
    """Run the network and return the predictions that have a loss, of matching and extra queries.

    Args:
        network: in training mode.
        image: features of B images.
        text: features of B captions.
        extra: denoising queries; None = none.
        losses: which predictions are wanted.
    """
    seen, words = network.transformer.encoder(image, text)
    selection = network.transformer.select(seen, words, image, text)
    decoded = network.decode(seen, words, selection, image, text, extra)
    count = 0 if extra is None else extra.content.shape[1]
    last = network.config.dec_layers - 1
    matching, denoising = [], []
    for layer in range(network.config.dec_layers):
        if layer < last and not losses.auxiliary:
            continue
        output = network.output(decoded, layer, words, text, pad=False)
        logits, boxes = output.pred_logits, output.pred_boxes
        matching.append(Predictions(f"decoder.{layer}", logits[:, count:], boxes[:, count:]))
        if count:
            denoising.append(Predictions(f"denoising.{layer}", logits[:, :count], boxes[:, :count]))
    own = network.transformer.encoder_predictions(selection, seen, words, image, text) if losses.encoder else None
    if own is not None:
        logits = network.transformer.selected_logits(own, words, text)
        matching.append(Predictions("encoder", logits, own.boxes))
    return matching, denoising
