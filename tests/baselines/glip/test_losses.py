"""Assigner and losses against loops that follow the official code's steps, and their gradients."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics

import pytest
import torch
from torch import Tensor

from ovd_bench.baselines.glip.anchors import anchor_boxes, decode
from ovd_bench.baselines.glip.assign import TOP, Assignment, Targets, assign
from ovd_bench.baselines.glip.losses import NO_OBJECT, WEIGHT_BOX, centerness_targets, glip_losses, token_loss
from ovd_bench.baselines.glip.model import GlipOutput
from ovd_bench.tests.baselines.glip.tiny import TINY, caption_tokens, drawn, random_pixels

SHAPES = ((12, 16), (6, 8), (3, 4), (2, 2), (1, 1))
TOKENS = 7


def _anchors() -> Tensor:
    return anchor_boxes(SHAPES, TINY.strides, TINY.anchor_sizes).double()


def _targets(seed: int, counts: tuple[int, ...] = (5, 1, 0), tokens: int = TOKENS) -> Targets:
    """Objects from a few pixels to most of an image of 96 x 128, some of them inside others."""
    generator = torch.Generator().manual_seed(seed)
    most = max(1, *counts)
    corners = torch.rand(len(counts), most, 2, generator=generator, dtype=torch.float64) * torch.tensor([100, 70])
    sizes = 4 + torch.rand(len(counts), most, 2, generator=generator, dtype=torch.float64) ** 2 * 60
    boxes = torch.cat((corners, corners + sizes), -1)
    named = torch.rand(len(counts), most, tokens, generator=generator) < 0.3
    valid = torch.arange(most) < torch.tensor(counts)[:, None]
    return Targets(boxes, named, valid)


def _output(seed: int, images: int = 3, tokens: int = TOKENS) -> GlipOutput:
    generator = torch.Generator().manual_seed(seed)
    count = len(_anchors())
    logits, deltas, centerness = (
        torch.randn(images, count, *last, generator=generator, dtype=torch.float64) for last in ((tokens,), (4,), ())
    )
    return GlipOutput(logits, deltas, centerness, SHAPES)


def _iou(a: list[float], b: list[float]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def _assigned(targets: Targets) -> dict[tuple[int, int], int]:
    """Image and location to object: level by level, object by object."""
    anchors = _anchors().tolist()
    middles = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in anchors]
    found: dict[tuple[int, int], tuple[float, int]] = {}
    for image, valid in enumerate(targets.valid.tolist()):
        for number, box in enumerate(targets.boxes_xyxy[image].tolist()):
            if not valid[number]:
                continue
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            candidates: list[int] = []
            begin = 0
            for height, width in SHAPES:
                level = range(begin, begin + height * width)
                begin += height * width
                ranked = sorted(level, key=lambda i: (math.hypot(middles[i][0] - x, middles[i][1] - y), i))
                candidates += ranked[:TOP]
            overlaps = [_iou(anchors[i], box) for i in candidates]
            limit = statistics.mean(overlaps) + statistics.stdev(overlaps)
            for i, overlap in zip(candidates, overlaps, strict=True):
                (mx, my), (x1, y1, x2, y2) = middles[i], box
                inside = min(mx - x1, my - y1, x2 - mx, y2 - my) > 0.01
                if overlap >= limit and inside and overlap > found.get((image, i), (-1.0, 0))[0]:
                    found[image, i] = (overlap, number)
    return {place: number for place, (_, number) in found.items()}


@pytest.mark.parametrize("seed", range(8))
def test_assignment_follows_the_definition(seed: int) -> None:
    targets = _targets(seed)
    found = assign(_anchors(), SHAPES, targets)
    columns = zip(*(column.tolist() for column in found), strict=True)
    mine = {(image, location): target for image, location, target in columns}
    assert mine == _assigned(targets)
    assert len(mine) == len(found.image) > 3


def test_a_location_learns_the_object_it_overlaps_most() -> None:
    """Two objects about one middle: the anchor of 16 pixels fits the first."""
    boxes = torch.tensor([[[52.0, 44.0, 66.0, 58.0], [44.0, 36.0, 74.0, 66.0]]]).double()
    targets = Targets(boxes, torch.ones(1, 2, TOKENS, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool))
    found = assign(_anchors(), SHAPES, targets)
    owner = dict(zip(found.location.tolist(), found.target.tolist(), strict=True))
    assert owner[6 * 16 + 7] == 0
    swapped = Targets(boxes.flip(1), targets.tokens, targets.valid)
    again = assign(_anchors(), SHAPES, swapped)
    assert dict(zip(again.location.tolist(), again.target.tolist(), strict=True))[6 * 16 + 7] == 1


def test_losses_follow_the_official_steps() -> None:
    """Labels, focal loss, GIoU weighted by centerness, both divisors: one number after the other."""
    output, targets, anchors = _output(1), _targets(1), _anchors()
    mask = torch.arange(TOKENS) < torch.tensor([[7], [5], [3]])
    owners = _assigned(targets)
    found = glip_losses(output, mask, anchors, targets)

    token = 0.0
    for image, location, column in itertools.product(range(3), range(len(anchors)), range(TOKENS)):
        if mask[image, column]:
            p = 1 / (1 + math.exp(-output.logits[image, location, column].item()))
            owner = owners.get((image, location))
            if owner is not None and targets.tokens[image, owner, column]:
                token += 0.25 * (1 - p) ** 2 * -math.log(p)
            else:
                token += 0.75 * p**2 * -math.log(1 - p)
    assert found.token.item() == pytest.approx(token / len(owners), rel=1e-9)

    box = centerness = weights = 0.0
    for (image, location), owner in owners.items():
        anchor, truth = anchors[location].tolist(), targets.boxes_xyxy[image, owner].tolist()
        x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
        left, right, top, bottom = x - truth[0], truth[2] - x, y - truth[1], truth[3] - y
        weight = math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
        mine = decode(output.deltas[image, location], anchors[location]).tolist()
        box += weight * (1 - _giou(mine, truth))
        weights += weight
        p = 1 / (1 + math.exp(-output.centerness[image, location].item()))
        centerness -= weight * math.log(p) + (1 - weight) * math.log(1 - p)
    assert found.box.item() == pytest.approx(WEIGHT_BOX * box / weights, rel=1e-6)
    assert found.centerness.item() == pytest.approx(centerness / len(owners), rel=1e-9)
    assert found.total.item() == pytest.approx(sum(part.item() for part in found))


def _giou(a: list[float], b: list[float]) -> float:
    """Of boxes without the extra pixel, as the official loss has it."""
    width, height = max(min(a[2], b[2]) - max(a[0], b[0]), 0), max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - width * height
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return width * height / union - (hull - union) / hull


def test_the_last_column_means_no_object_only_in_full_captions() -> None:
    logits = torch.zeros(1, 3, NO_OBJECT + 1, dtype=torch.float64)
    logits[..., NO_OBJECT] = 2.0
    tokens = torch.zeros(1, 1, NO_OBJECT + 1, dtype=torch.bool)
    one = Assignment(*(torch.tensor([number]) for number in (0, 1, 0)))
    mask = torch.zeros(1, NO_OBJECT + 1, dtype=torch.bool)
    assert token_loss(logits, mask, one, tokens).item() == 0
    mask[0, NO_OBJECT] = True
    p = 1 / (1 + math.exp(-2.0))
    expected = 2 * 0.25 * (1 - p) ** 2 * -math.log(p) + 0.75 * p**2 * -math.log(1 - p)
    assert token_loss(logits, mask, one, tokens).item() == pytest.approx(expected)


def test_an_image_without_objects_teaches_that_nothing_is_there() -> None:
    output, targets = _output(2), _targets(2, (0, 0, 0))
    found = glip_losses(output, torch.ones(3, TOKENS, dtype=torch.bool), _anchors(), targets)
    assert found.token > 0
    assert (found.box.item(), found.centerness.item()) == (0.0, 0.0)


def test_centerness_is_one_in_the_middle_and_zero_at_the_border() -> None:
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0]] * 3)
    truth = torch.tensor([[0.0, 0.0, 8.0, 8.0], [4.0, -6.0, 90.0, 14.0], [1.0, 0.0, 13.0, 8.0]])
    torch.testing.assert_close(centerness_targets(anchors, truth), torch.tensor([1.0, 0.0, math.sqrt(3 / 9)]))


def test_gradients_are_those_of_small_differences() -> None:
    targets, anchors = _targets(3, (3, 1)), _anchors()
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    numbers = _output(3, 2)
    count = 40  # of the locations, which keeps the comparison short
    where = assign(anchors, SHAPES, targets)
    rows = torch.cat((where.location.unique(), torch.arange(count)))[:count]

    def total(logits: Tensor, deltas: Tensor, centerness: Tensor) -> Tensor:
        parts = [full.clone() for full in (numbers.logits, numbers.deltas, numbers.centerness)]
        for full, part in zip(parts, (logits, deltas, centerness), strict=True):
            full[:, rows] = part
        return glip_losses(GlipOutput(parts[0], parts[1], parts[2], SHAPES), mask, anchors, targets).total

    inputs = [full[:, rows].clone().requires_grad_() for full in (numbers.logits, numbers.deltas, numbers.centerness)]
    assert torch.autograd.gradcheck(total, inputs, fast_mode=True)


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_reaches_every_parameter_and_lessens_the_loss(fused: bool) -> None:
    """But what nothing uses, the closed-set head and BERT's pooler, and the scales of levels that learn no object."""
    torch.manual_seed(0)
    model = drawn(dataclasses.replace(TINY, fused=fused)).requires_grad_(True).train()
    ids, mask = caption_tokens(TOKENS)
    pixels = random_pixels(96, 128)
    targets = Targets(*(part.float() if part.is_floating_point() else part for part in _targets(0, (4,))))
    anchors = _anchors().float()

    def loss() -> Tensor:
        return glip_losses(
            model(model.encode_image(pixels), model.encode_text(ids, mask)), mask, anchors, targets
        ).total

    first = loss()
    first.backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name for name in still if not any(part in name for part in ("cls_logits", "pooler", "scales"))} == set()
    assert "rpn.head.scales.0.scale" not in still
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad / (parameter.grad.norm() + 1e-12) * parameter.norm()
        assert loss() < first
