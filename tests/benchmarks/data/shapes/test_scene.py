"""Boxes, visibility and pixels of scenes."""

from __future__ import annotations

import numpy as np
import pytest

from ovd_bench.benchmarks.data.shapes import WORLDS, render, scene_plan
from ovd_bench.benchmarks.data.shapes.federation import federation
from ovd_bench.benchmarks.data.shapes.patches import covered_pixels
from ovd_bench.tests.benchmarks.data.shapes.worlds import SMALL

SCENES = [(SMALL, "test", index) for index in range(60)] + [(WORLDS["shapes-lvis"], "test", i) for i in range(10)]


def test_boxes_are_tight_about_the_visible_pixels_and_inside_the_image() -> None:
    for world, split, index in SCENES:
        plan = scene_plan(world, split, index)
        assert 2 <= len(plan.objects) <= 8
        for number, (x, y, w, h) in enumerate(plan.boxes_xywh.astype(int).tolist()):
            assert 0 <= x < x + w <= world.image_size
            assert 0 <= y < y + h <= world.image_size
            rows, columns = np.nonzero(plan.owner == number)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + w, y + h)
            assert plan.areas[number] == len(rows)


def test_objects_stay_visible() -> None:
    shares = []
    for world, split, index in SCENES:
        plan = scene_plan(world, split, index)
        for placed, area in zip(plan.objects, plan.areas, strict=True):
            assert placed.full == covered_pixels(placed.samples).sum()
            shares.append(area / placed.full)
    assert min(shares) >= 0.55
    assert min(shares) < 0.9  # there is occlusion


def test_sizes_span_small_to_large() -> None:
    sides = np.concatenate([scene_plan(*scene).boxes_xywh[:, 2:].max(axis=1) for scene in SCENES])
    assert 14 <= sides.min() < 24
    assert 64 < sides.max() <= 120  # a tilted square of side 90 is wider


def test_pixel_hashes_inside_a_plain_object_have_its_colour() -> None:
    colours = {colour.word: np.array(colour.rgb) for colour in SMALL.colours}
    checked = 0
    for index in range(60):
        plan, scene = scene_plan(SMALL, "test", index), render(SMALL, "test", index)
        for number, placed in enumerate(plan.objects):
            category = SMALL.categories[placed.index]
            if category.pattern == "solid":
                mean = scene.pixels[plan.owner == number].mean(axis=0)
                # 12 of jitter, up to 24 of light, clipping at 255, blended borders
                assert np.abs(mean - colours[category.colour]).max() < 48
                checked += 1
    assert checked > 20


def test_scene_agrees_with_its_plan() -> None:
    plan, scene = scene_plan(SMALL, "minival", 3), render(SMALL, "minival", 3)
    assert scene.pixels.shape == (192, 192, 3)
    assert scene.pixels.dtype == np.uint8
    assert np.array_equal(scene.boxes_xywh, plan.boxes_xywh)
    assert scene.category_ids.tolist() == [SMALL.categories[placed.index].id for placed in plan.objects]
    assert set(SMALL.deck("minival")[3]) == {placed.index for placed in plan.objects}


def test_negatives_are_absent_and_some_are_siblings() -> None:
    siblings = 0
    for world, split, index in SCENES:
        shown = {placed.index for placed in scene_plan(world, split, index).objects}
        negatives = [category_id - 1 for category_id in federation(world, split, index).negatives]
        assert len(set(negatives)) == len(negatives) == world.negatives
        assert not shown & set(negatives)
        siblings += any(world.siblings[i, j] for i in shown for j in negatives)
    assert siblings > 0.9 * len(SCENES)


def test_not_exhaustive_classes_are_really_incomplete() -> None:
    incomplete = 0
    for world, split, index in SCENES:
        lists = federation(world, split, index)
        shown = [placed.index + 1 for placed in scene_plan(world, split, index).objects]
        left_out = [shown[number] for number in lists.left_out]
        assert set(left_out) == set(lists.not_exhaustive)
        for category_id in lists.not_exhaustive:
            assert 0 < left_out.count(category_id) < shown.count(category_id)
            incomplete += 1
    assert incomplete > 0


@pytest.mark.parametrize("index", [-1, 60])
def test_index_outside_the_split_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match=r"small/test has images 0 … 59"):
        render(SMALL, "test", index)


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(KeyError):
        render(SMALL, "val", 0)
