"""The assigners against loops that follow the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from ovd_bench.baselines.owl_nano.assign import TOP, Assignment, Targets, assign_hungarian, assign_one_to_many
from ovd_bench.baselines.owl_nano.boxes import generalized_iou, iou
from ovd_bench.baselines.owl_nano.losses import focal_negative, focal_positive, relative_l1
from ovd_bench.baselines.owl_nano.model import Output
from ovd_bench.tests.baselines.nano import centres, random_output, random_targets


def _pairs(assignment: Assignment) -> dict[tuple[int, int], int]:
    columns = (column.tolist() for column in assignment)
    return {(image, cell): target for image, cell, target in zip(*columns, strict=True)}


def _one_to_many(output: Output, targets: Targets) -> dict[tuple[int, int], int]:
    found = {}
    where = centres().numpy()
    for image in range(len(output.logits)):
        wanted: dict[int, list[tuple[float, int]]] = {}
        for target in range(int(targets.valid[image].sum())):
            box, row = targets.boxes_xyxy[image, target], int(targets.rows[image, target])
            x0, y0, x1, y1 = box.tolist()
            distances = [((x0 + x1) / 2 - x) ** 2 + ((y0 + y1) / 2 - y) ** 2 for x, y in where]
            candidates = {i for i, (x, y) in enumerate(where) if x0 < x < x1 and y0 < y < y1}
            candidates |= {int(np.argmin(distances))}
            overlaps = [float(iou(box, other)) for other in output.boxes_xyxy[image]]
            probability = output.logits[image, :, row].sigmoid()
            ranked = sorted(candidates, key=lambda i: (-float(probability[i]) * overlaps[i] ** 6, i))
            for cell in ranked[:TOP]:
                wanted.setdefault(cell, []).append((overlaps[cell], -target))
        for cell, rivals in wanted.items():
            found[image, cell] = -max(rivals)[1]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_one_to_many_follows_the_definition(seed: int) -> None:
    output, targets = random_output(seed), random_targets(seed)
    assert _pairs(assign_one_to_many(output, targets, centres())) == _one_to_many(output, targets)


def test_an_object_smaller_than_a_cell_is_learned_by_the_nearest() -> None:
    output, targets = random_output(0, images=1), random_targets(0, (1,))
    targets.boxes_xyxy[0, 0] = torch.tensor([17.0, 9.0, 19.0, 11.0])
    assert _pairs(assign_one_to_many(output, targets, centres())) == {(0, 1 * 8 + 2): 0}


@pytest.mark.parametrize("seed", range(4))
def test_hungarian_has_the_least_cost_of_all_choices(seed: int) -> None:
    output, targets = random_output(seed, images=2, side=16, quality=False), random_targets(seed, (3, 2), side=16)
    found = _pairs(assign_hungarian(output, targets, (16, 16)))
    for image, count in enumerate((3, 2)):
        boxes, rows = targets.boxes_xyxy[image, :count], targets.rows[image, :count]
        logits = output.logits[image][:, rows]
        cost = 2 * (focal_positive(logits) - focal_negative(logits))
        cost = cost + 5 * relative_l1(output.boxes_xyxy[image][:, None], boxes, (16, 16))
        cost = cost - 2 * generalized_iou(output.boxes_xyxy[image][:, None], boxes)
        choices = itertools.permutations(range(len(cost)), count)
        best = min(choices, key=lambda cells: sum(float(cost[cell, i]) for i, cell in enumerate(cells)))
        assert {cell: target for (owner, cell), target in found.items() if owner == image} == {
            cell: i for i, cell in enumerate(best)
        }
