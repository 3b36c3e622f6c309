"""Weights file to model: ``model = load("groundingdino_swint_ogc.pth")``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.closed_set import tokenizer_of
from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.features import ImageFeatures, TextFeatures
from ovd_bench.grounding_dino_jt.model import GroundingDino, Output
from ovd_bench.grounding_dino_jt.tokenizer import Tokenizer
from ovd_bench.grounding_dino_jt.tokens import TokenBatch
from ovd_bench.grounding_dino_jt.weights import read_weights
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor

jt = jittor()

#: Of RGB in 0 … 1 (``groundingdino/util/inference.py``).
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True)
class Predictor:
    """A model for inference: images and captions in, logits and boxes out.

    ``encode_image`` and ``encode_text`` are independent of each other; their results can be cached and combined freely.

    Attributes:
        network: the model, in evaluation mode.
        tokenizer: tokeniser of its text encoder.
        weights_sha256: hash of the file or folder it was read from.
    """

    network: GroundingDino
    tokenizer: Tokenizer
    weights_sha256: str

    @property
    def config(self) -> Config:
        """Configuration of the model."""
        return self.network.config

    def encode_image(self, pixels: npt.NDArray[np.float32]) -> ImageFeatures:
        """Features of images, independent of text.

        Args:
            pixels: float32 (B, 3, H, W), RGB, 0 … 255, already resized.
        """
        with jt.no_grad():
            return self.network.encode_image(normalised(pixels))

    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        """Features of captions, independent of images.

        Raises:
            ValueError: a caption has more tokens than the model reads; the official code cuts it silently.
        """
        return self.encode_tokens([self.tokenizer.caption(caption) for caption in captions])

    def encode_tokens(self, rows: Sequence[Sequence[int]], *, cut: bool = False) -> TextFeatures:
        """As ``encode_text``, from token ids with [CLS] and [SEP].

        Args:
            rows: token ids of each caption.
            cut: drop what is too long, as the official code does, instead of raising.
        """
        limit = self.config.max_text_len
        longest = max(map(len, rows))
        if longest > limit and not cut:
            raise ValueError(f"a caption has {longest} tokens, the model reads {limit}: shorten it or cut it in two")
        with jt.no_grad():
            return self.network.encode_tokens(TokenBatch.of(rows))

    def __call__(self, image: ImageFeatures, text: TextFeatures) -> Output:
        """Logits and boxes of B captions: each with its own image, or all with one image.

        Returns:
            ``pred_logits`` (B, Q, 256) and ``pred_boxes`` (B, Q, 4) cxcywh, relative to the image; lazy variables of
            Jittor, ``.numpy()`` computes them.
        """
        with jt.no_grad():
            output: Output = self.network(image, text)
        return output


def normalised(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Pixels (..., 3, H, W), RGB, 0 … 255, normalised for the backbone."""
    scaled: npt.NDArray[np.float32] = (pixels / np.float32(255) - MEAN[:, None, None]) / STD[:, None, None]
    return scaled


def load(source: str | Path, key: str | None = None) -> Predictor:
    """Read a model: a file or folder of any layout that ``grounding_dino_jt.weights`` knows.

    The tokeniser is the one in the folder, otherwise the packaged one.

    Args:
        source: of the model.
        key: entry of a ``.pth`` that holds the weights, such as ``ema_model``; None = the usual one.

    Raises:
        ValueError: the weights or the tokeniser do not load, or the text encoder is CLIP's; one line.
    """
    path = Path(source)
    tensors, config, sha256 = read_weights(path, key)
    if config.text.kind == "clip":  # BERT's tokens would give meaningless results without an error
        raise ValueError(f"{path}: reads text with CLIP, whose tokeniser is not here: use build() and encode_tokens()")
    tokenizer = tokenizer_of(path, config.text)
    network = build(config, tensors)
    network.separators = tokenizer.separators
    return Predictor(network, tokenizer, sha256)


def build(config: Config, tensors: dict[str, npt.NDArray[Any]]) -> GroundingDino:
    """A model in evaluation mode with the given parameters.

    Args:
        config: configuration of the model.
        tensors: every parameter by its official name; entries are removed one by one to save memory.

    Raises:
        ValueError: a parameter is missing, left over or of another shape.
    """
    network = GroundingDino(config)
    fill(network, tensors)
    return network


def fill(network: Module, tensors: dict[str, npt.NDArray[Any]]) -> None:
    """Set all parameters of a network, and switch it to evaluation mode.

    Args:
        network: any network.
        tensors: as for ``build``.

    Raises:
        ValueError: see ``build``.
    """
    for name, variable in network.state_dict().items():
        if name not in tensors:
            raise ValueError(f"parameter {name} is missing")
        values = tensors.pop(name)
        if tuple(values.shape) != tuple(variable.shape):
            raise ValueError(f"parameter {name} has the shape {values.shape}, {tuple(variable.shape)} is needed")
        variable.assign(jt.array(np.ascontiguousarray(values, np.float32)))
    if tensors:
        raise ValueError(f"parameter {next(iter(tensors))} belongs to no part of the model")
    network.eval()
