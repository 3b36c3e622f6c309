"""A detector with random weights in numpy: image tokens on a grid, four ways of fitting an image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_vectors import ClassVectors
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary

Floats = npt.NDArray[np.float64]
Fit = Literal["stretch", "pad", "centre", "aspect"]

CELL, WIDTH = 8, 48
CARD = DetectorCard(
    "random-grid",
    "random-grid",
    "numpy",
    loader="",
    weights_sha256=hashlib.sha256(b"random-grid").hexdigest(),
    parameters=1,
    capabilities=("open_vocabulary",),
)


def _weights(key: str, *shape: int) -> Floats:
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(0, shape[0] ** -0.5, shape)


class RandomGrid:
    """Patches, position embedding, a mean over all tokens as a stand-in for attention, boxes and cosine logits.

    Args:
        top_k: pairs per image.
        fit: ``stretch`` to a square; ``pad`` to a square at the right and bottom; ``centre`` on a square; ``aspect``:
            the shorter side becomes the network's.
        side: of the network input.
        seed: of the weights.
        card: with capabilities.
    """

    def __init__(
        self, top_k: int, fit: Fit = "stretch", side: int = 160, seed: int = 0, card: DetectorCard = CARD
    ) -> None:
        self.card = card
        self.top_k, self.fit, self.side, self.seed = top_k, fit, side, seed
        self.ids: list[int] = []
        self.vectors: Floats | None = None

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        if len(plan.templates) > 1:
            raise DetectorError("random-grid: no templates")
        rows = plan.rows(vocabulary)
        self.ids = [vocabulary.ids[row] for row in rows]
        self.vectors = np.stack([_weights(plan.fill(vocabulary.names[row])[0], WIDTH) for row in rows])

    def class_vectors(self) -> ClassVectors:
        if self.vectors is None:
            raise DetectorError("random-grid: set_vocabulary comes before class_vectors")
        return dict(zip(self.ids, self.vectors.astype(np.float32), strict=True))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [self.finish(image, *self.look(image.pixels)) for image in images]

    def look(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Boxes (n, 4) in the original image and scores (n, K)."""
        if self.vectors is None:
            raise DetectorError("random-grid: set_vocabulary comes before detect")
        canvas, scale, shift = self.network_input(pixels)
        height, width = canvas.shape[0] // CELL, canvas.shape[1] // CELL
        patches = canvas.reshape(height, CELL, width, CELL, 3).swapaxes(1, 2).reshape(height * width, -1)
        rows, columns = np.divmod(np.arange(height * width), width)
        places = np.stack([rows / height, columns / width], axis=1)
        tokens = patches @ _weights(f"patch{self.seed}", patches.shape[1], WIDTH)
        tokens += np.sin(places @ _weights(f"place{self.seed}", 2, WIDTH) * 4)
        for layer in range(2):
            mixed = tokens + 0.3 * tokens.mean(0)
            tokens = tokens + np.tanh(mixed @ _weights(f"layer{layer}-{self.seed}", WIDTH, WIDTH))
        offsets = np.tanh(tokens @ _weights(f"box{self.seed}", WIDTH, 4))
        centres = (np.stack([columns, rows], axis=1) + 0.5 + offsets[:, :2]) * CELL
        halves = CELL * np.exp(offsets[:, 2:])
        boxes = np.concatenate([centres - halves, centres + halves], axis=1)
        looks = tokens @ _weights(f"class{self.seed}", WIDTH, WIDTH)
        looks /= np.linalg.norm(looks, axis=1, keepdims=True)
        logits = 8 * looks @ self.vectors.T - 3
        return (boxes - [*shift, *shift]) / [*scale, *scale], 1 / (1 + np.exp(-logits))

    def finish(self, image: Image, boxes: Floats, scores: Floats) -> Detections:
        """The best pairs."""
        best = np.argsort(-scores, axis=None, kind="stable")[: self.top_k]
        cells, classes = np.divmod(best, scores.shape[1])
        return Detections.of(image, boxes[cells], scores.reshape(-1)[best], np.array(self.ids)[classes])

    def network_input(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, tuple[float, float], tuple[float, float]]:
        """Canvas (H, W, 3) with sides divisible by ``CELL``, growth of x and y, shift of x and y."""
        height, width = pixels.shape[:2]
        side = self.side
        if self.fit == "stretch":
            size = (side, side)
        elif self.fit == "aspect":
            factor = min(side / min(height, width), 4 * side / max(height, width))
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
        else:
            factor = side / max(height, width)
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small: Any = PilImage.fromarray(pixels).resize(size, PilImage.Resampling.BILINEAR)
        frame = (side, side) if self.fit in ("pad", "centre") else tuple(-(-length // CELL) * CELL for length in size)
        left, top = ((frame[0] - size[0]) // 2, (frame[1] - size[1]) // 2) if self.fit == "centre" else (0, 0)
        canvas = np.zeros((frame[1], frame[0], 3))
        canvas[top : top + size[1], left : left + size[0]] = np.asarray(small) / 127.5 - 1
        return canvas, (size[0] / width, size[1] / height), (left, top)
