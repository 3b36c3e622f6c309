"""Images and their boxes change together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ovd_bench.benchmarks.training.grounding.settings import CropSettings, TransformSettings
from ovd_bench.benchmarks.training.grounding.transforms import Transformed, resized_size, transform
from ovd_bench.tests.benchmarks.training.grounding.toy import extent

BOXES = np.array([[10, 20, 70, 90], [90, 10, 150, 60], [100, 70, 140, 110]], np.float64)
COLOURS = ("red", "green", "blue")


def _image() -> npt.NDArray[np.uint8]:
    """Three rectangles, (120, 160, 3)."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    for channel, (x0, y0, x1, y1) in enumerate(BOXES.astype(int)):
        pixels[y0:y1, x0:x1, channel] = 255
    return pixels


def _vary(seed: int, boxes: npt.NDArray[np.float64] = BOXES, **changes: Any) -> Transformed:
    plain: dict[str, Any] = {"sizes": [], "crop": None}
    settings = TransformSettings.model_validate(plain | changes)
    return transform(_image(), boxes, np.random.default_rng(seed), settings)


CROP = CropSettings(probability=1, sizes=(100, 140), smallest=40, largest=110)


@pytest.mark.parametrize("changes", [{}, {"sizes": [60, 200]}, {"crop": CROP}, {"crop": CROP, "sizes": [90, 150]}])
def test_boxes_hold_the_same_pixels_as_before(changes: dict[str, Any]) -> None:
    lost = mirrored = 0
    for seed in range(60):
        one = _vary(seed, **changes)
        height, width = one.image.shape[:2]
        assert (one.boxes_xyxy >= 0).all()
        assert (one.boxes_xyxy <= [width, height, width, height]).all()
        assert ((one.boxes_xyxy[:, 2:] - one.boxes_xyxy[:, :2]) >= 1).all()
        for box, row in zip(one.boxes_xyxy, one.kept.tolist(), strict=True):
            # a resized edge may lie one pixel off on either side, of each resize
            np.testing.assert_allclose(box, extent(one.image, COLOURS[row]), atol=2.5)
        for row in set(range(3)) - set(one.kept.tolist()):
            x0, y0, x1, y1 = extent(one.image, COLOURS[row])
            assert min(x1 - x0, y1 - y0) <= 3
            lost += 1
        mirrored += one.mirrored
    assert 15 < mirrored < 45
    assert bool(lost) == ("crop" in changes)


def test_mirroring_is_exact() -> None:
    one = _vary(0, flip=1)
    assert one.mirrored
    np.testing.assert_array_equal(one.image, _image()[:, ::-1])
    np.testing.assert_array_equal(one.boxes_xyxy, [[90, 20, 150, 90], [10, 10, 70, 60], [20, 70, 60, 110]])
    same = _vary(0, flip=0)
    assert not same.mirrored
    np.testing.assert_array_equal(same.image, _image())
    np.testing.assert_array_equal(same.boxes_xyxy, BOXES)


def test_the_same_randomness_gives_the_same_result() -> None:
    first, again, other = (_vary(seed, crop=CROP, sizes=[90, 150]) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.boxes_xyxy, again.boxes_xyxy)
    assert first.image.shape != other.image.shape


def test_boxes_over_the_border_are_clipped_and_outside_ones_dropped() -> None:
    boxes = np.array([[-5, -5, 30, 40], [150, 110, 999, 999], [170, 0, 180, 9], [5, 5, 5, 90], [3, 3, 3.5, 90]], float)
    one = _vary(0, boxes, flip=0)
    assert one.kept.tolist() == [0, 1]
    np.testing.assert_array_equal(one.boxes_xyxy, [[0, 0, 30, 40], [150, 110, 160, 120]])
    assert _vary(0, np.zeros((0, 4))).boxes_xyxy.shape == (0, 4)


def test_the_arguments_are_left_as_they_were() -> None:
    boxes = BOXES.copy()
    _vary(0, boxes, flip=1, sizes=[60])
    np.testing.assert_array_equal(boxes, BOXES)


@pytest.mark.parametrize(
    ("size", "shorter", "longest", "expected"),
    [
        ((640, 480), 800, 1333, (1066, 800)),
        ((480, 640), 800, 1333, (800, 1066)),
        ((1000, 300), 800, 1333, (1333, 400)),
        ((500, 333), 800, 1333, (1201, 800)),
        ((640, 640), 512, 1333, (512, 512)),
        ((3000, 1000), 600, None, (1800, 600)),
        ((2000, 2), 480, 1333, (1000, 1)),
    ],
)
def test_sizes_are_those_of_detr(
    size: tuple[int, int], shorter: int, longest: int | None, expected: tuple[int, int]
) -> None:
    assert resized_size(*size, shorter, longest) == expected


def test_resizing_is_pillows_antialiased_one() -> None:
    one = _vary(0, flip=0, sizes=[60])
    expected = np.asarray(Image.fromarray(_image()).resize((80, 60), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(one.image, expected)


def test_crops_have_the_sides_that_are_asked_for() -> None:
    shapes = [_vary(seed, crop=CROP).image.shape[:2] for seed in range(200)]
    sides = np.array(shapes)
    assert sides.min() >= 40
    assert sides.max() <= 110
    assert len(set(shapes)) > 150
    assert sides[:, 1].max() == 110
    assert sides.max(axis=0).tolist() != sides.min(axis=0).tolist()
    half = CROP.model_copy(update={"probability": 0.5})
    whole = Counter(_vary(seed, crop=half, flip=0).image.shape == (120, 160, 3) for seed in range(200))
    assert 70 < whole[True] < 130
    # an image that is smaller than the smallest crop is taken whole
    large = CropSettings(probability=1, sizes=(100,), smallest=500, largest=600)
    assert _vary(0, crop=large).image.shape == (100, 133, 3)


def test_all_sizes_are_drawn_alike() -> None:
    sizes = Counter(_vary(seed, sizes=[60, 70, 80]).image.shape[0] for seed in range(300))
    assert set(sizes) == {60, 70, 80}
    assert min(sizes.values()) > 70
