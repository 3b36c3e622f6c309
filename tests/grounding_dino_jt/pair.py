"""The same random weights in transformers and in Jittor, and the outputs of both for the same inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import GroundingDinoForObjectDetection

from ovd_bench.grounding_dino_jt.features import ImageFeatures, TextFeatures
from ovd_bench.grounding_dino_jt.load import build
from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.query_selection import SelectedQueries
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.grounding_dino_jt.tokens import TokenBatch
from ovd_bench.grounding_dino_jt.weights import read_weights
from ovd_bench.kernels.runtime import jittor
from ovd_bench.tests.detectors.tiny_models import write_grounding_dino

jt = jittor()

Floats = npt.NDArray[np.float32]

#: Guard of the inverse sigmoid in transformers. Ours is set to it for the comparison; officially it is 1e-3.
EPSILON = 1e-5


@dataclass(frozen=True)
class Pair:
    """Both networks with the same weights, in evaluation mode."""

    reference: Any
    ours: GroundingDino


def make_pair(folder: Path, seed: int = 0, *, full_size: bool = False) -> Pair:
    """Draw weights, write them in the hub's layout, read them twice."""
    write_grounding_dino(folder, full_size=full_size, seed=seed)
    tensors, config, _ = read_weights(folder)
    ours = build(dataclasses.replace(config, box_epsilon=EPSILON), tensors)
    return Pair(GroundingDinoForObjectDetection.from_pretrained(folder).eval(), ours)


def tokens_of(captions: Sequence[str]) -> TokenBatch:
    """Captions as BERT's tokenizer reads them, just as they are: no dot is added.

    They are cut at 256 tokens, as our network would do; transformers 5.23 fails on longer ones, because it cuts all of
    its masks but one.
    """
    return TokenBatch.of([list(packaged_tokenizer().inner.encode(text).ids)[:256] for text in captions])


@dataclass(frozen=True)
class Reference:
    """What transformers makes of a batch (B images and captions, Q queries).

    Attributes:
        logits: (B, Q, 256), -inf where there is no token.
        boxes: (B, Q, 4) cxcywh.
        start: (B, Q, 4), the boxes that the queries start from, best place first.
        image, text: memory of the encoder.
    """

    logits: Floats
    boxes: Floats
    start: Floats
    image: Floats
    text: Floats


def run_reference(pair: Pair, pixels: Floats, tokens: TokenBatch, padding: npt.NDArray[np.bool_]) -> Reference:
    """One forward pass of transformers."""
    ids = torch.from_numpy(tokens.ids.astype(np.int64))
    with torch.no_grad():
        output = pair.reference(
            pixel_values=torch.from_numpy(pixels),
            pixel_mask=torch.from_numpy((~padding).astype(np.int64)),
            input_ids=ids,
            attention_mask=torch.from_numpy(tokens.real.astype(np.int64)),
            token_type_ids=torch.zeros_like(ids),
        )
    return Reference(
        output.logits.numpy(),
        output.pred_boxes.numpy(),
        output.init_reference_points.numpy(),
        output.encoder_last_hidden_state_vision.numpy(),
        output.encoder_last_hidden_state_text.numpy(),
    )


@dataclass(frozen=True)
class Ours:
    """What our network makes of a batch, and its parts to go on from."""

    image: ImageFeatures
    text: TextFeatures
    seen: Any
    words: Any
    selection: SelectedQueries
    logits: Floats
    boxes: Floats


def run_ours(pair: Pair, pixels: Floats, tokens: TokenBatch, padding: npt.NDArray[np.bool_]) -> Ours:
    """One forward pass of ours, step by step."""
    network = pair.ours
    with jt.no_grad():
        image, text = network.encode_image(pixels, padding), network.encode_tokens(tokens)
        seen, words = network.transformer.encoder(image, text)
        selection = network.transformer.select(seen, words, image, text)
        output = network(image, text)
    return Ours(image, text, seen, words, selection, output.pred_logits.numpy(), output.pred_boxes.numpy())


def decode_from(pair: Pair, ours: Ours, start: Floats) -> tuple[Floats, Floats]:
    """Our decoder and heads on our memory, from given boxes: logits and boxes."""
    with jt.no_grad():
        decoded = pair.ours.decode(ours.seen, ours.words, SelectedQueries(jt.array(start)), ours.image, ours.text)
        output = pair.ours.output(decoded, len(decoded.hidden) - 1, ours.words, ours.text)
    return output.pred_logits.numpy(), output.pred_boxes.numpy()
