"""Weights file to model: ``model = load("checkpoint0011_4scale.pth")``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.dino.config import DinoConfig
from ovd_bench.grounding_dino_jt.dino.model import Dino
from ovd_bench.grounding_dino_jt.dino.weights import read_checkpoint
from ovd_bench.grounding_dino_jt.load import fill, normalised
from ovd_bench.grounding_dino_jt.model import Output
from ovd_bench.kernels.runtime import jittor

jt = jittor()


@dataclass(frozen=True)
class DinoPredictor:
    """A model for inference: images in, logits and boxes out.

    Attributes:
        network: the model, in evaluation mode.
        weights_sha256: hash of the file it was read from.
    """

    network: Dino
    weights_sha256: str

    @property
    def config(self) -> DinoConfig:
        """Configuration of the model."""
        return self.network.config

    def __call__(self, pixels: npt.NDArray[np.float32]) -> Output:
        """Logits and boxes of images of one size.

        Args:
            pixels: float32 (B, 3, H, W), RGB, 0 … 255, already resized.

        Returns:
            ``pred_logits`` (B, Q, num_classes) and ``pred_boxes`` (B, Q, 4) cxcywh, relative to the image; lazy
            variables of Jittor, ``.numpy()`` computes them.
        """
        with jt.no_grad():
            output: Output = self.network(self.network.encode_image(normalised(pixels)))
        return output


def load(source: str | Path, key: str | None = None) -> DinoPredictor:
    """Read a model: an official ``.pth`` or the suite's safetensors.

    Args:
        source: of the model.
        key: entry of a ``.pth`` that holds the weights, such as ``ema_model``; None = the usual one.

    Raises:
        ValueError: the weights do not load; one line.
    """
    checkpoint = read_checkpoint(Path(source), key)
    return DinoPredictor(build(checkpoint.config, checkpoint.tensors), checkpoint.sha256)


def build(config: DinoConfig, tensors: dict[str, npt.NDArray[Any]]) -> Dino:
    """A model in evaluation mode with the given parameters; see ``grounding_dino_jt.load.fill``."""
    network = Dino(config)
    fill(network, tensors)
    return network
