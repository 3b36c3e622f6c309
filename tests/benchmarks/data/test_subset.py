"""A subset of the images equals a file that contains only these images."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.subset import restrict
from ovd_bench.metrics.types import Categories, Ragged, Texts
from ovd_bench.tests.metrics.small_sets import random_set


@pytest.mark.parametrize("count", [0, 1, 7, 30])
def test_restrict(tmp_path: Path, count: int) -> None:
    annotations, _ = random_set(9, 30, 6, 4, odd=True)
    for image in annotations["images"]:
        image["file_name"] = f"folder/{image['id']}.jpg"
    (tmp_path / "all.json").write_text(json.dumps(annotations))
    whole = read_ground_truth(tmp_path / "all.json")
    keep = np.random.default_rng(count).permutation(whole.image_ids)[:count]
    part = restrict(whole, keep.tolist())
    assert part.num_images == count
    if count == 0:
        assert len(part.ann_ids) == 0
        return
    annotations["images"] = [image for image in annotations["images"] if image["id"] in keep]
    annotations["annotations"] = [box for box in annotations["annotations"] if box["image_id"] in keep]
    (tmp_path / "part.json").write_text(json.dumps(annotations))
    expected = read_ground_truth(tmp_path / "part.json")
    for field in dataclasses.fields(expected):
        ours, theirs = getattr(part, field.name), getattr(expected, field.name)
        if isinstance(theirs, Ragged):
            np.testing.assert_array_equal(ours.offsets, theirs.offsets)
            np.testing.assert_array_equal(ours.values, theirs.values)
        elif isinstance(theirs, Texts):
            assert [ours[i] for i in range(len(ours))] == [theirs[i] for i in range(len(theirs))]
        elif isinstance(theirs, np.ndarray):
            np.testing.assert_array_equal(ours, theirs)
        elif not isinstance(theirs, Categories) and field.name != "notes":
            assert ours == theirs
