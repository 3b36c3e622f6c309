"""The annotation document of a split (LVIS v1) and the tables about its class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ovd_bench.benchmarks.data.shapes.federation import federation, instance_counts
from ovd_bench.benchmarks.data.shapes.layout import ScenePlan
from ovd_bench.benchmarks.data.shapes.world import World

_DATE = "2024-01-01"  # documents with equal content are equal files


@dataclass(frozen=True)
class Annotated:
    """Annotations of one image.

    Attributes:
        index: position of the image in its split.
        boxes_xywh: boxes of the annotated objects, integers.
        areas: their visible pixels.
        category_ids: their categories.
        negatives, not_exhaustive: category ids of the federated lists.
    """

    index: int
    boxes_xywh: tuple[tuple[int, int, int, int], ...]
    areas: tuple[int, ...]
    category_ids: tuple[int, ...]
    negatives: tuple[int, ...]
    not_exhaustive: tuple[int, ...]


def annotate(world: World, split: str, index: int, plan: ScenePlan) -> Annotated:
    """Annotations of a planned image: all objects but those that its federation leaves out."""
    lists = federation(world, split, index)
    kept = [number for number in range(len(plan.objects)) if number not in lists.left_out]
    boxes = plan.boxes_xywh.astype(int).tolist()
    return Annotated(
        index=index,
        boxes_xywh=tuple(tuple(boxes[number]) for number in kept),
        areas=tuple(int(plan.areas[number]) for number in kept),
        category_ids=tuple(plan.objects[number].index + 1 for number in kept),
        negatives=lists.negatives,
        not_exhaustive=lists.not_exhaustive,
    )


def file_name(split: str, index: int) -> str:
    """Path of an image below the folder of the data set."""
    return f"{split}/{index:06d}.png"


def category_table(world: World) -> list[dict[str, Any]]:
    """The ``categories`` section: all fields of LVIS v1, counts of the training split."""
    return [
        {
            "id": category.id,
            "name": category.name,
            "synset": category.synset,
            "synonyms": list(category.synonyms),
            "def": category.definition,
            "frequency": category.frequency,
            "image_count": category.image_count,
            "instance_count": instances,
        }
        for category, instances in zip(world.categories, instance_counts(world), strict=True)
    ]


def document(world: World, split: str, rows: Sequence[Annotated]) -> dict[str, Any]:
    """The LVIS v1 document of a split; image ids are unique over all splits of a world."""
    names = list(world.splits)
    first_id = 1 + sum(world.splits[name] for name in names[: names.index(split)])
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in rows:
        images.append(
            {
                "id": first_id + row.index,
                "width": world.image_size,
                "height": world.image_size,
                "file_name": file_name(split, row.index),
                "license": 1,
                "neg_category_ids": list(row.negatives),
                "not_exhaustive_category_ids": list(row.not_exhaustive),
            }
        )
        for box, area, category_id in zip(row.boxes_xywh, row.areas, row.category_ids, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": first_id + row.index,
                    "category_id": category_id,
                    "bbox": [float(value) for value in box],
                    "area": float(area),
                }
            )
    return {
        "info": {
            "description": f"{world.name}: procedurally rendered compositions, split {split}",
            "version": world.hash[:12],
            "year": 2024,
            "contributor": "ovd-bench",
            "date_created": _DATE,
        },
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
        "images": images,
        "annotations": annotations,
        "categories": category_table(world),
    }


def vocabulary_tables(world: World) -> dict[str, Any]:
    """Synsets, basic names (shapes), supercategories (families of shapes) and hypernyms of the class names."""
    hypernyms = {
        category.name: [f"{category.colour} {category.shape}", category.shape, category.family, "figure"]
        for category in world.categories
    }
    for category in world.categories:
        hypernyms[f"{category.colour} {category.shape}"] = [category.shape, category.family, "figure"]
        hypernyms[category.shape] = [category.family, "figure"]
        hypernyms[category.family] = ["figure"]
    return {
        "synset": {category.name: category.synset for category in world.categories},
        "basic": {category.name: category.shape for category in world.categories},
        "supercategory": {category.name: category.family for category in world.categories},
        "hypernyms": hypernyms,
    }
