"""File names of images, from the annotation file to the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.image_paths import image_paths
from benchmarks.io.annotations import parse_ground_truth
from metrics.types import DataError


def _read(tmp_path: Path, images: list[dict[str, Any]]) -> list[str]:
    path = tmp_path / "gt.json"
    categories = [{"id": 1, "name": "x"}]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return image_paths(parse_ground_truth(path))


def test_file_name_goes_before_coco_url(tmp_path: Path) -> None:
    url = "http://images.cocodataset.org/val2017/000000000009.jpg"
    images: list[dict[str, Any]] = [
        {"id": 9, "coco_url": url},
        {"id": 3, "coco_url": url, "file_name": "val/größe.jpg"},
        {"id": 5, "file_name": None, "coco_url": url.replace("9.jpg", "5.jpg")},
    ]
    assert _read(tmp_path, images) == ["val/größe.jpg", "val2017/000000000005.jpg", "val2017/000000000009.jpg"]


def test_image_without_a_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^image 7 has neither file_name nor coco_url in the annotations$"):
        _read(tmp_path, [{"id": 3, "file_name": "a.jpg"}, {"id": 7}])
