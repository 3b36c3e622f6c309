"""Training of a contestant, one step at a time, on plain numpy batches. Reads and writes no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovd_bench.baselines.controlled.captions import mean_of_phrases
from ovd_bench.baselines.controlled.config import ContestantConfig
from ovd_bench.baselines.controlled.models import build, caption_encoder, normalised
from ovd_bench.baselines.optimisation import Optimisation, Recipe
from ovd_bench.baselines.owl_nano.assign import Targets
from ovd_bench.baselines.text import PhraseEncoder

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class CaptionedBatch:
    """B images with a caption each; the same content as the batches of Grounding DINO.

    Attributes:
        images: uint8 (B, H, W, 3) RGB; smaller images are in the upper left corner.
        sizes: int64 (B, 2), height and width of each.
        ids: int32 (B, T), tokens of the captions, a dot after every class name and every sentence.
        real: bool (B, T), false at padding.
        words: per image bool (k, T), tokens of each phrase of its caption; at least one image has a phrase.
        boxes_xyxy: per image float32 (n, 4), pixels.
        phrases: per image int64 (n,), row of the box's phrase in ``words``.
    """

    images: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int32]
    real: npt.NDArray[np.bool_]
    words: Sequence[npt.NDArray[np.bool_]]
    boxes_xyxy: Sequence[npt.NDArray[np.float32]]
    phrases: Sequence[npt.NDArray[np.int64]]


class ContestantOptimisation:
    """A contestant in training.

    Args:
        config: configuration of the contestant.
        recipe: settings of the optimisation.
        encoder: the packaged sentence encoder.
        phrases: vocabulary for centring: tokens of the training names, without separators.
        backbone: initial weights of the backbone, official names.
        device: device of the training; initial weights are drawn on the CPU, so they do not depend on it.

    Attributes:
        model: with the trained weights.
        average: the model with averaged weights.
    """

    def __init__(
        self,
        config: ContestantConfig,
        recipe: Recipe,
        encoder: PhraseEncoder,
        phrases: Sequence[Sequence[int]],
        backbone: Mapping[str, npt.NDArray[np.float32]],
        device: torch.device = _CPU,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.config, self._device = config, device
        self.model, self.average = build(config), build(config)
        if config.centred:
            mean = mean_of_phrases(encoder, config.phrase_frame, phrases)
            self.model.get_buffer("text_mean").copy_(torch.from_numpy(mean))
        self._encoder = caption_encoder(self.model, config, encoder)
        self.model.backbone.load_state_dict({name: torch.from_numpy(values) for name, values in backbone.items()})
        self.model.to(device)
        self.average.to(device)
        self._optimisation = Optimisation(self.model, self.average, recipe, {"config": asdict(config)})
        self.checkpoint, self.restore = self._optimisation.checkpoint, self._optimisation.restore

    @property
    def step(self) -> int:
        """Steps done."""
        return self._optimisation.step

    def train_step(self, *pieces: CaptionedBatch) -> dict[str, float]:
        """One step of optimisation on the pieces of a batch; see ``baselines.optimisation.Optimisation.descend``."""
        return self._optimisation.descend((self.losses(piece) for piece in pieces), len(pieces))

    def losses(self, batch: CaptionedBatch) -> dict[str, Tensor]:
        """Weighted parts of the loss of a batch."""
        captions = self._encoder(batch.ids, batch.real, batch.words).to(self._device)
        images = torch.from_numpy(batch.images).to(self._device)
        pixels = normalised(images.permute(0, 3, 1, 2)).contiguous()
        for image, (height, width) in enumerate(batch.sizes.tolist()):  # padding is zero, as in Grounding DINO
            pixels[image, :, height:] = 0
            pixels[image, :, :, width:] = 0
        return self.model.losses(pixels, captions, padded_targets(batch, captions.known()))


def padded_targets(batch: CaptionedBatch, known: Tensor) -> Targets:
    """Objects of B images as tensors on the device of ``known``; room for at least one object per image.

    Args:
        batch: with the objects.
        known: bool (B, K), phrases that each caption has.
    """
    images, most = len(batch.phrases), max(1, *(len(rows) for rows in batch.phrases))
    boxes = np.zeros((images, most, 4), np.float32)
    rows = np.zeros((images, most), np.int64)
    valid = np.zeros((images, most), np.bool_)
    for image, (box, names) in enumerate(zip(batch.boxes_xyxy, batch.phrases, strict=True)):
        boxes[image, : len(names)], rows[image, : len(names)], valid[image, : len(names)] = box, names, True
    placed = [torch.from_numpy(array).to(known.device) for array in (boxes, rows, valid)]
    return Targets(placed[0], placed[1], placed[2], known)
