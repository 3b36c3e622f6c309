"""Training of ``owl-nano``: one optimisation step at a time, on plain numpy batches. Reads and writes no file."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovd_bench.baselines.batch import Batch
from ovd_bench.baselines.optimisation import Optimisation, Recipe
from ovd_bench.baselines.owl_nano.assign import Targets, assign_hungarian, assign_one_to_many
from ovd_bench.baselines.owl_nano.boxes import iou
from ovd_bench.baselines.owl_nano.config import OwlNanoConfig
from ovd_bench.baselines.owl_nano.losses import (
    WEIGHT_CLASS,
    WEIGHT_GIOU,
    WEIGHT_L1,
    WEIGHT_QUALITY,
    box_losses,
    focal_loss,
    quality_focal_loss,
    quality_loss,
)
from ovd_bench.baselines.owl_nano.model import STRIDE, Output, OwlNano, cell_centres, normalize


class OwlNanoOptimisation:
    """A model in training.

    Args:
        config: configuration of the model.
        recipe: settings of the training.
        phrases: float32 (K, text_width), vectors of the training classes; their mean is subtracted.

    Attributes:
        model: with the trained weights.
        average: the model with averaged weights.
    """

    def __init__(self, config: OwlNanoConfig, recipe: Recipe, phrases: npt.NDArray[np.float32]) -> None:
        torch.manual_seed(recipe.seed)
        self.config, self.recipe = config, recipe
        self.model, self.average = OwlNano(config), OwlNano(config)
        self.phrases = torch.from_numpy(np.ascontiguousarray(phrases, np.float32))
        self.model.text_mean.copy_(self.phrases.mean(0))
        what = {"config": asdict(config), "classes": len(phrases)}
        self._optimisation = Optimisation(self.model, self.average, recipe, what)
        self.checkpoint, self.restore = self._optimisation.checkpoint, self._optimisation.restore

    @property
    def step(self) -> int:
        """Steps done."""
        return self._optimisation.step

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step of optimisation; see ``baselines.optimisation.Optimisation.descend``."""
        return self._optimisation.descend([self.losses(batch)])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted parts of the loss of a batch."""
        images = normalize(torch.from_numpy(batch.images))
        targets = padded_targets(batch)
        height, width = images.shape[1:3]
        bfloat16 = self.recipe.precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            output = self.model(images, self.model.queries(self.phrases))
        output = Output(*(None if value is None else value.float() for value in output))
        return detection_losses(output, targets, (width, height))


def padded_targets(batch: Batch) -> Targets:
    """Objects of B images as tensors; room for at least one object per image."""
    images, most = len(batch.rows), max(1, *(len(rows) for rows in batch.rows))
    boxes = np.zeros((images, most, 4), np.float32)
    padded_rows = np.zeros((images, most), np.int64)
    valid = np.zeros((images, most), np.bool_)
    for i, (box, rows) in enumerate(zip(batch.boxes_xyxy, batch.rows, strict=True)):
        boxes[i, : len(rows)], padded_rows[i, : len(rows)], valid[i, : len(rows)] = box, rows, True
    return Targets(*(torch.from_numpy(array) for array in (boxes, padded_rows, valid, batch.sure)))


def detection_losses(output: Output, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
    """Weighted parts of the loss.

    One-to-many: the target of the class probability of a cell is the IoU of its box (quality focal loss), and so is the
    target of the IoU branch. Hungarian: focal loss, as in the published OWL-ViT, and no IoU branch.

    Args:
        output: output of the network, float32; with an IoU branch the assignment is one-to-many.
        targets: objects.
        size: width and height of the network input, pixels.
    """
    if output.quality is None:
        chosen = assign_hungarian(output, targets, size)
    else:
        centres = cell_centres(-(-size[1] // STRIDE), -(-size[0] // STRIDE), output.logits.device)
        chosen = assign_one_to_many(output, targets, centres)
    boxes = output.boxes_xyxy[chosen.image, chosen.cell]
    truth = targets.boxes_xyxy[chosen.image, chosen.target]
    where = (chosen.image, chosen.cell, targets.rows[chosen.image, chosen.target])
    l1, giou = box_losses(boxes, truth, size)
    parts = {"l1": WEIGHT_L1 * l1, "giou": WEIGHT_GIOU * giou}
    if output.quality is None:
        return {"class": WEIGHT_CLASS * focal_loss(output.logits, *where, targets.sure), **parts}
    overlap = iou(boxes.detach(), truth)
    parts["class"] = WEIGHT_CLASS * quality_focal_loss(output.logits, *where, overlap, targets.sure)
    parts["quality"] = WEIGHT_QUALITY * quality_loss(output.quality[chosen.image, chosen.cell], overlap)
    return parts
