"""Every term of the loss against plain float64 numpy, one pair at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ovd_bench.baselines.owl_nano.boxes import generalized_iou, iou
from ovd_bench.baselines.owl_nano.losses import box_losses, focal_loss, quality_focal_loss, quality_loss
from ovd_bench.baselines.owl_nano.train import detection_losses
from ovd_bench.tests.baselines.nano import random_boxes, random_output, random_targets

_Array = npt.NDArray[Any]


def _area(box: _Array) -> float:
    return max(0.0, float(box[2] - box[0])) * max(0.0, float(box[3] - box[1]))


def _iou_and_giou(a: _Array, b: _Array) -> tuple[float, float]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    inner = _area(np.array([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])]))
    union = _area(a) + _area(b) - inner
    hull = _area(np.array([min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])]))
    return inner / union, inner / union - (hull - union) / hull


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def test_overlaps_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 40), random_boxes(rng, 40)
    expected = np.array([_iou_and_giou(*pair) for pair in zip(a, b, strict=True)])
    np.testing.assert_allclose(iou(torch.from_numpy(a), torch.from_numpy(b)), expected[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        generalized_iou(torch.from_numpy(a), torch.from_numpy(b)), expected[:, 1], rtol=1e-5, atol=1e-6
    )


def test_overlap_of_empty_boxes_is_zero() -> None:
    assert iou(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_box_losses_are_means_over_pairs() -> None:
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 9), random_boxes(rng, 9)
    l1, giou = box_losses(torch.from_numpy(a), torch.from_numpy(b), (64, 32))
    frame = np.array([64, 32, 64, 32], np.float64)

    def centre_size(box: _Array) -> _Array:
        box = box.astype(np.float64)
        return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])

    distances = [np.abs((centre_size(x) - centre_size(y)) / frame).sum() for x, y in zip(a, b, strict=True)]
    assert l1.item() == pytest.approx(np.mean(distances), rel=1e-5)
    assert giou.item() == pytest.approx(np.mean([1 - _iou_and_giou(x, y)[1] for x, y in zip(a, b, strict=True)]), 1e-5)


def test_losses_of_nothing_are_zero() -> None:
    none = torch.empty(0, 4)
    assert [float(part) for part in box_losses(none, none, (32, 32))] == [0, 0]
    assert float(quality_loss(torch.empty(0), torch.empty(0))) == 0


WHERE = (
    [0, 0, 1],
    [3, 3, 7],
    [1, 4, 0],
)  # image, cell, class; two classes of one cell cannot happen but must not break


def _where() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    image, cell, row = (torch.tensor(column) for column in WHERE)
    return image, cell, row


def _labels(shape: tuple[int, ...], values: list[float]) -> _Array:
    labels = np.zeros(shape)
    labels[WHERE] = values
    return labels


def test_focal_loss() -> None:
    output, sure = random_output(2, images=2, side=32), torch.tensor([[True, False, True, True, True]] * 2)
    labels = _labels(output.logits.shape, [1, 1, 1])
    total = 0.0
    for index, logit in np.ndenumerate(output.logits.numpy()):
        p = _sigmoid(logit)
        if labels[index]:
            total += 0.25 * (1 - p) ** 2 * -np.log(p)
        elif sure[index[0], index[2]]:
            total += 0.75 * p**2 * -np.log(1 - p)
    found = focal_loss(output.logits, *_where(), sure)
    assert found.item() == pytest.approx(total / 3, rel=1e-5)


def test_quality_focal_loss() -> None:
    output, sure = random_output(3, images=2, side=32), torch.tensor([[True, False, True, True, True]] * 2)
    targets = [0.9, 0.2, 0.6]
    labels = _labels(output.logits.shape, targets)
    total = 0.0
    for index, logit in np.ndenumerate(output.logits.numpy()):
        p, y = _sigmoid(logit), labels[index]
        if y or sure[index[0], index[2]]:
            total += abs(y - p) ** 2 * -(y * np.log(p) + (1 - y) * np.log(1 - p))
    found = quality_focal_loss(output.logits, *_where(), torch.tensor(targets), sure)
    assert found.item() == pytest.approx(total / sum(targets), rel=1e-5)


def test_quality_loss() -> None:
    logits, overlap = np.array([-1.5, 0.3, 2.0]), np.array([0.1, 0.8, 0.5])
    p = _sigmoid(logits)
    expected = -(overlap * np.log(p) + (1 - overlap) * np.log(1 - p)).mean()
    assert quality_loss(torch.tensor(logits), torch.tensor(overlap)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("quality", [True, False])
def test_parts_of_the_loss_and_their_gradients(quality: bool) -> None:
    output, targets = random_output(4, quality=quality), random_targets(4)
    leaves = [value.requires_grad_() for value in output if value is not None]
    parts = detection_losses(output, targets, (64, 64))
    assert set(parts) == {"class", "l1", "giou"} | ({"quality"} if quality else set())
    sum(parts.values(), torch.zeros(())).backward()
    assert all(torch.isfinite(leaf.grad).all() and leaf.grad.any() for leaf in leaves)


def test_classes_that_are_not_exhaustive_push_nothing_down() -> None:
    output, targets = random_output(5), random_targets(5)
    targets.sure[:] = True
    targets.sure[0, 2] = False
    output.logits.requires_grad_()
    detection_losses(output, targets, (64, 64))["class"].backward()
    gradient = output.logits.grad
    learned = set(targets.rows[0][targets.valid[0]].tolist())
    assert (gradient[0, :, 2] > 0).sum() == 0 or 2 in learned
    assert (gradient[1, :, 2] > 0).any()


@pytest.mark.parametrize("quality", [True, False])
def test_images_without_objects_teach_absence(quality: bool) -> None:
    output, targets = random_output(6, images=2, quality=quality), random_targets(6, (0, 0))
    parts = detection_losses(output, targets, (64, 64))
    assert parts["class"] > 0
    assert parts["l1"] == parts["giou"] == 0
