"""Geometry of crops and of pooling, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ovd_bench.baselines.clip_region.regions import Pixels, patch_grid, pool_boxes, square_around, square_crop

FILL = (1, 2, 3)


def numbered(height: int, width: int) -> Pixels:
    """Every pixel says where it is: red its row, green its column."""
    rows, columns = np.mgrid[:height, :width]
    return np.array([rows, columns, np.full_like(rows, 200)], np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize(
    ("box", "context", "expected"),
    [
        ((10, 20, 30, 60), 1.0, (0, 20, 40)),
        ((10, 20, 30, 60), 1.5, (-10, 10, 60)),
        ((0, 0, 8, 4), 1.0, (0, -2, 8)),
        ((0.4, 0.4, 9.6, 3.6), 1.0, (1, -2, 9)),  # middle (5, 2), side 9.2: from 0.5 and -2.5, halves upwards
        ((5, 5, 5.1, 5.1), 1.0, (5, 5, 1)),
    ],
)
def test_the_square_lies_about_the_middle_of_the_box(
    box: tuple[float, ...], context: float, expected: tuple[int, int, int]
) -> None:
    assert square_around(box, context) == expected


def test_a_crop_of_its_own_size_is_the_pixels_themselves() -> None:
    image = numbered(90, 50)
    crop = square_crop(image, (10, 20, 30, 60), 1.0, 40, FILL)  # square from x 0 to 40, y 20 to 60
    np.testing.assert_array_equal(crop, image[20:60, 0:40])


def test_what_lies_outside_the_image_gets_the_fill() -> None:
    image = numbered(30, 50)
    crop = square_crop(image, (0, 0, 10, 20), 1.0, 20, FILL)  # from x -5 to 15
    np.testing.assert_array_equal(crop[:, 5:], image[:20, :15])
    assert (crop[:, :5] == FILL).all()
    crop = square_crop(image, (40, 10, 50, 30), 2.0, 40, FILL)  # x 25 to 65, y 0 to 40
    np.testing.assert_array_equal(crop[:30, :25], image[:, 25:])
    assert (crop[30:] == FILL).all()
    assert (crop[:, 25:] == FILL).all()


def test_a_crop_is_resized_as_pillow_does_and_views_are_read() -> None:
    image = np.ascontiguousarray(numbered(60, 80)[:, ::-1])[:, ::-1]
    crop = square_crop(image, (20, 10, 60, 50), 1.0, 16, FILL)
    expected = Image.fromarray(numbered(60, 80)).crop((20, 10, 60, 50)).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(crop, np.asarray(expected))


def test_the_grid_keeps_the_shape_of_the_image() -> None:
    assert patch_grid(100, 200, 64, 8) == (4, 8)
    assert patch_grid(200, 100, 64, 8) == (8, 4)
    assert patch_grid(40, 6000, 64, 8) == (1, 8)
    assert patch_grid(1, 1, 64, 8) == (8, 8)


def test_pooling_equals_loops_over_patches() -> None:
    rng = np.random.default_rng(0)
    rows, columns, height, width = 3, 5, 37, 61
    features = torch.from_numpy(rng.normal(size=(rows, columns, 4))).float()
    corners = rng.uniform(0, 1, (20, 2, 2)).cumsum(axis=1) / 2 * (width, height)
    boxes = np.concatenate([corners.reshape(20, 4), [[0, 0, width, height], [12.2, 24.6, 13.2, 25.2]]])
    found = pool_boxes(features, torch.from_numpy(boxes).float(), height, width)
    for box, vector in zip(boxes.tolist(), found, strict=True):
        total, area = torch.zeros(4), 0.0
        for row in range(rows):
            for column in range(columns):
                over = min(box[2], (column + 1) * width / columns) - max(box[0], column * width / columns)
                down = min(box[3], (row + 1) * height / rows) - max(box[1], row * height / rows)
                share = max(over, 0) * max(down, 0)
                total, area = total + share * features[row, column], area + share
        torch.testing.assert_close(vector, total / area, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[20], features.mean(dim=(0, 1)))
