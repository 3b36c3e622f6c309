"""A template for a detector in PyTorch: weights, device, precision, batches, text once per vocabulary, the best pairs.

The network here is tiny and stands for yours; all around it is what an adapter has to do. Without ``--weights`` it is
random, which is enough for the check of the contract:

    bench check examples/torch_detector.py:TorchDetector
    bench run -d examples/torch_detector.py:TorchDetector --weights my.safetensors -b shapes --limit 20 --batch 4
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.hub import weights_sha256
from ovd_bench.detectors.image_tensors import from_unit_square, resized
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.selection import best_pairs_of_chunks, detections
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary

#: Side of the square that the network sees, and of a cell of its map, pixels.
SIDE, CELL = 128, 8


class Network(nn.Module):  # type: ignore[misc]
    """Yours goes here: images (B, 3, SIDE, SIDE) to a unit vector and a box for each cell; texts to unit vectors."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(3, width, CELL, stride=CELL), nn.ReLU(), nn.Conv2d(width, width + 4, 1))
        self.read = nn.EmbeddingBag(4096, width)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, cells, width), and boxes (B, cells, 4): centre and size relative to the image."""
        found = self.look(pixels)
        rows, columns = found.shape[2:]
        vectors, shifts = found.flatten(2).transpose(1, 2).split((found.shape[1] - 4, 4), dim=2)
        grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(1).to(shifts)
        centres = (grid + shifts[..., :2].sigmoid()) / shifts.new_tensor([columns, rows])
        return functional.normalize(vectors, dim=2), torch.cat((centres, shifts[..., 2:].sigmoid()), dim=2)

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors (prompts, width); this toy adds a vector per three letters."""
        parts = [[hash_of(part) for part in trigrams(prompt)] for prompt in prompts]
        starts = np.cumsum([0, *map(len, parts[:-1])])
        ids = torch.tensor([one for part in parts for one in part], device=self.read.weight.device)
        return functional.normalize(self.read(ids, torch.as_tensor(starts, device=ids.device)), dim=1)


def trigrams(prompt: str) -> list[str]:
    """All three letters in a row, with a blank at either end."""
    text = f" {prompt} "
    return [text[at : at + 3] for at in range(len(text) - 2)] or [text]


def hash_of(part: str) -> int:
    """A row of the table; ``hash`` of Python differs from process to process."""
    return int.from_bytes(part.encode(), "little") % 4093


class TorchDetector:
    """A score for each cell and class: one product of image and text."""

    card = DetectorCard(
        name="torch-template",
        family="torch-template",
        framework="torch",
        loader="",
        backbone="one convolution",
        text_encoder="three letters in a row, summed",
        image_size=f"{SIDE} x {SIDE}",
        training_data=(),  # all that your weights have seen; None = not known
        licence="Apache-2.0",
        capabilities=("open_vocabulary", "templates"),
    )

    def __init__(self, card: DetectorCard, settings: DetectorSettings) -> None:
        self._settings = settings
        self._device, self._dtype = torch.device(settings.device), getattr(torch, settings.dtype)
        torch.manual_seed(0)
        network = Network()
        sha256 = ""  # the hash of this file stands for it
        if settings.weights is not None:
            sha256 = _load(network, Path(settings.weights), card.name)
        self._network = network.to(self._device, self._dtype).eval()
        parameters = sum(tensor.numel() for tensor in network.parameters())
        self.card = dataclasses.replace(
            card, weights=settings.weights or "", weights_sha256=sha256, parameters=parameters
        )
        self._ids: tuple[int, ...] = ()
        self._chunks: list[range] = []
        self._text: Tensor | None = None

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Encode all names once. The plan says how they become text, in which order, and which are asked together."""
        rows = plan.rows(vocabulary)
        prompts = [plan.fill(vocabulary.names[row]) for row in rows]
        with torch.inference_mode():
            vectors = self._network.text([prompt for filled in prompts for prompt in filled])
        # A score is a product with the text vector, so the mean of the logits of several templates is the logit of the
        # mean vector; "embeddings" makes that a unit vector again.
        means = vectors.view(len(rows), len(plan.templates), -1).mean(1)
        self._text = functional.normalize(means, dim=1) if plan.ensemble == "embeddings" else means
        self._ids = tuple(vocabulary.ids[row] for row in rows)
        self._chunks = plan.chunks(len(rows))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """One pass for the batch; per image the best pairs, without a threshold."""
        if self._text is None:
            raise DetectorError(f"detector '{self.card.name}': no vocabulary was set")
        if not images:
            return []
        pixels = torch.from_numpy(np.stack([resized(image, SIDE, SIDE) for image in images]))
        with torch.inference_mode():
            vectors, boxes = self._network((pixels / 255).to(self._device, self._dtype))
            scores = torch.einsum("btw,kw->bkt", vectors, self._text).float().cpu().numpy()
        found = []
        for image, of_classes, relative in zip(images, scores, boxes.float().cpu().numpy(), strict=True):
            pairs = best_pairs_of_chunks(of_classes, self._chunks, self._settings.top_k, self._settings.chunk_top_k)
            found.append(detections(image, pairs, from_unit_square(relative, image), self._ids))
        return found


def _load(network: Network, path: Path, name: str) -> str:
    """Read weights into the network; returns their hash, which identifies the run.

    Raises:
        DetectorError: a file that is missing, damaged or of another network; one line.
    """
    try:
        network.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DetectorError(f"detector '{name}': {path}: {' '.join(str(error).split())[:200]}") from error
    return weights_sha256([path])
