"""Small data sets in the layouts of the real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Json = dict[str, Any]
URL = "http://images.cocodataset.org"
SIZE = (40, 30)


def write_image(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> None:
    """A picture of noise in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_json(path: Path, document: Json) -> Path:
    """Write a document, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False))
    return path


def lvis_document(folders: Sequence[str]) -> Json:
    """LVIS v1: image ``i`` lies in ``folders[i]``, shows class ``i % 3 + 1`` and has both lists; no ``file_name``."""
    images = [
        {
            "id": 100 + i,
            "width": SIZE[0],
            "height": SIZE[1],
            "license": 3,
            "coco_url": f"{URL}/{folder}/{i:012}.jpg",
            "date_captured": "2013-11-19 20:30:17",
            "neg_category_ids": [(i + 1) % 3 + 1],
            "not_exhaustive_category_ids": [i % 3 + 1],
        }
        for i, folder in enumerate(folders)
    ]
    annotations = [
        {
            "id": 1 + i,
            "image_id": 100 + i,
            "category_id": i % 3 + 1,
            "bbox": [1.25, 2.0, 10.5, 12],
            "area": 119.06250000000001,
            "segmentation": [[1.25, 2.0, 11.75, 2, 11.75, 14]],
        }
        for i in range(len(folders))
    ]
    categories = [
        {"id": k, "name": name, "frequency": letter, "synset": f"{name}.n.01", "synonyms": [name], "image_count": 5}
        for k, name, letter in ((1, "zebra", "f"), (2, "bow_(weapon)", "r"), (3, "größe", "r"))
    ]
    return {
        "categories": categories,
        "annotations": annotations,
        "info": {"version": "1.0"},
        "licenses": [],
        "images": images,
    }


def coco_document(names: Sequence[str]) -> Json:
    """COCO: one box per image, two classes."""
    images = [{"id": i + 1, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)]
    annotations = [
        {"id": i + 1, "image_id": i + 1, "category_id": i % 2 + 1, "bbox": [0, 0, 5, 6], "area": 30, "iscrowd": 0}
        for i in range(len(names))
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def lvis_root(root: Path, folders: Sequence[str]) -> Path:
    """A data root with LVIS v1 val and its images; returns the annotation file."""
    for number, folder in enumerate(folders):
        write_image(root / f"coco/{folder}/{number:012}.jpg", seed=number)
    return write_json(root / "lvis/lvis_v1_val.json", lvis_document(folders))
