"""COCO instances JSON from images and boxes in the order in which they are found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovd_bench.benchmarks.data.catalog.convert import Facts, facts_of
from ovd_bench.benchmarks.data.files.annotations import parse_ground_truth
from ovd_bench.benchmarks.data.files.atomic import atomic_write

Box = tuple[float, float, float, float]


@dataclass
class Instances:
    """A document in the making; images and boxes are numbered from 1.

    Attributes:
        categories: name by id.
        dropped: boxes left out, by reason.
    """

    categories: Mapping[int, str]
    dropped: Counter[str] = field(default_factory=Counter)
    _images: list[dict[str, Any]] = field(default_factory=list)
    _boxes: list[dict[str, Any]] = field(default_factory=list)

    def add_image(self, name: str, width: int, height: int) -> None:
        """Add an image; boxes that follow are of it."""
        self._images.append({"id": len(self._images) + 1, "file_name": name, "width": width, "height": height})

    def add_box(self, category: int, box: Box, *, ignored: bool = False) -> None:
        """Add a box of the last image.

        Args:
            category: id.
            box: x, y, width, height in pixels, counted from 0.
            ignored: whatever is found there counts neither as right nor as wrong; COCO's rules know only crowds.
        """
        document = {
            "id": len(self._boxes) + 1,
            "image_id": len(self._images),
            "category_id": category,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": int(ignored),
        }
        self._boxes.append(document | ({"ignore": 1} if ignored else {}))

    def write(self, path: Path) -> Facts:
        """Write the document atomically.

        Raises:
            DataError: no such folder.
        """
        categories = [{"id": number, "name": name} for number, name in self.categories.items()]
        document = {"images": self._images, "annotations": self._boxes, "categories": categories}
        with atomic_write(path) as file:
            file.write(json.dumps(document, ensure_ascii=False, allow_nan=False).encode())
        return facts_of(path, parse_ground_truth(path))
