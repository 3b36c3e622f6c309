"""File names of images, from the annotation file to the disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.data.files.annotations import parse_ground_truth
from ovd_bench.benchmarks.data.images import image_paths
from ovd_bench.metrics.errors import DataError


def _read(tmp_path: Path, images: list[dict[str, Any]], **category: str) -> list[str]:
    path = tmp_path / "gt.json"
    categories = [{"id": 1, "name": "x"} | category]
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


def test_names_of_coco_2014_in_lvis_and_in_coco(tmp_path: Path) -> None:
    lists: dict[str, list[int]] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    image = {"id": 1, "file_name": "COCO_val2014_000000266409.jpg"}
    assert _read(tmp_path, [image | lists], synset="x.n.01") == ["000000266409.jpg"]
    assert _read(tmp_path, [image | lists]) == ["COCO_val2014_000000266409.jpg"], "RefCOCO, as queries"
    assert _read(tmp_path, [image]) == ["COCO_val2014_000000266409.jpg"]
    other = {"id": 1, "file_name": "val2017/COCO_val2014_000000266409.jpg"}
    assert _read(tmp_path, [other | lists], synset="x.n.01") == ["val2017/COCO_val2014_000000266409.jpg"]


def test_names_in_real_files(real_data: Path) -> None:
    lvis = image_paths(parse_ground_truth(real_data / "lvis-api/lvis_val_100.json"))
    assert len(lvis) == 100
    assert all(re.fullmatch(r"\d{12}\.jpg", name) for name in lvis)
    coco = image_paths(parse_ground_truth(real_data / "faster_coco_eval/instances_val2014_100.json"))
    assert coco[0] == "COCO_val2014_000000000042.jpg"
