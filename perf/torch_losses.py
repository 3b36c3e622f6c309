"""Fast matching and losses of Grounding DINO in torch, with mmdetection's divisors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from ovd_bench.grounding_dino_jt.training.batch import Targets
from ovd_bench.grounding_dino_jt.training.denoising import DenoisingQueries
from ovd_bench.perf.torch_training import Layer, Predictions

#: Rows and boxes of one image.
Pair = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def total_loss(
    predictions: Predictions,
    queries: DenoisingQueries | None,
    targets: Sequence[Targets],
    real: npt.NDArray[np.bool_],
) -> Tensor:
    """Loss of a batch in one process.

    Args:
        predictions: predictions of B images.
        queries: the denoising queries; None = none.
        targets: targets of B images.
        real: bool (B, T), false at padding of the captions.
    """
    columns = torch.from_numpy(real)
    boxes = [torch.from_numpy(target.boxes).to(predictions.encoder.boxes.dtype) for target in targets]
    maps = [torch.from_numpy(target.token_map) for target in targets]
    total = torch.zeros((), dtype=predictions.encoder.boxes.dtype)
    for layer in [*predictions.decoder, predictions.encoder]:
        total = total + _layer_loss(layer, _match(layer, boxes, maps, columns), boxes, maps, columns)
    if queries is not None:
        given = list(zip(queries.positives, queries.found, strict=True))
        for layer in predictions.denoising:
            total = total + _layer_loss(layer, given, boxes, maps, columns)
    return total


@torch.no_grad()  # type: ignore[untyped-decorator]
def _match(layer: Layer, boxes: Sequence[Tensor], maps: Sequence[Tensor], real: Tensor) -> list[Pair]:
    found = []
    for image, (wanted, tokens) in enumerate(zip(boxes, maps, strict=True)):
        p = layer.logits[image][:, real[image]].sigmoid()
        on, off = -(p + 1e-12).log() * 0.25 * (1 - p) ** 2, -(1 - p + 1e-12).log() * 0.75 * p**2
        cost = 2 * ((on - off) @ tokens[:, real[image]].to(p.dtype).T + off.sum(1, keepdim=True))
        cost += 5 * torch.cdist(layer.boxes[image], wanted, p=1)
        corners = [box_convert(some, "cxcywh", "xyxy") for some in (layer.boxes[image], wanted)]
        cost -= 2 * generalized_box_iou(*corners)
        found.append(linear_sum_assignment(cost.numpy()))
    return found


def _layer_loss(
    layer: Layer, pairs: Sequence[Pair], boxes: Sequence[Tensor], maps: Sequence[Tensor], real: Tensor
) -> Tensor:
    images = torch.from_numpy(np.repeat(np.arange(len(pairs)), [len(rows) for rows, _ in pairs]))
    rows = torch.from_numpy(np.concatenate([rows for rows, _ in pairs]))
    wanted = torch.zeros_like(layer.logits)
    wanted[images, rows] = torch.cat(
        [m[torch.from_numpy(found)] for m, (_, found) in zip(maps, pairs, strict=True)]
    ).to(wanted.dtype)
    seen = real[:, None].expand(layer.logits.shape)
    classes = sigmoid_focal_loss(layer.logits[seen], wanted[seen], alpha=0.25, gamma=2, reduction="sum")
    chosen = layer.boxes[images, rows]
    truth = torch.cat([b[torch.from_numpy(found)] for b, (_, found) in zip(boxes, pairs, strict=True)])
    l1 = (chosen - truth).abs().sum()
    corners = [box_convert(some, "cxcywh", "xyxy") for some in (chosen, truth)]
    giou = generalized_box_iou_loss(*corners, reduction="sum")
    return (classes + 5 * l1 + 2 * giou) / max(len(rows), 1)
