"""Mistakes that leave traces in prediction files: the number stays the official one, a remark names the cause."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.data.files.predictions import read_predictions, write_predictions
from ovd_bench.benchmarks.scoring.score import Score, ScoreRequest, score
from ovd_bench.tests import oracles
from ovd_bench.tests.metrics.small_sets import random_set

Json = dict[str, Any]
SIDE = 400
ANNOTATIONS, RESULTS = random_set(5, 20, 6, 40)
for _image in ANNOTATIONS["images"]:
    _image |= {"width": SIDE, "height": SIDE}


def _inside(results: list[Json]) -> list[Json]:
    """Boxes clipped to their image, as those of detectors are."""
    kept = []
    for result in copy.deepcopy(results):
        x, y, w, h = result["bbox"]
        left, top, right, bottom = (min(max(v, 0), SIDE) for v in (x, y, x + w, y + h))
        if right > left and bottom > top:
            kept.append({**result, "bbox": [left, top, right - left, bottom - top]})
    return kept


GOOD = _inside(RESULTS)


def _scored(folder: Path, results: list[Json]) -> Score:
    truth, found = folder / "gt.json", folder / "found.json"
    truth.write_text(json.dumps(ANNOTATIONS))
    found.write_text(json.dumps(results))
    return score(ScoreRequest(found, truth, "coco"))


def _warnings(made: Score) -> list[str]:
    return [line for line in made.notes if line.startswith("warning") and "COCO rules" not in line]


def _corners(result: Json) -> None:
    x, y, w, h = result["bbox"]
    result["bbox"] = [x, y, x + w, y + h]


def _relative(result: Json) -> None:
    result["bbox"] = [value / SIDE for value in result["bbox"]]


def _one_less(result: Json) -> None:
    result["category_id"] -= 1


def test_a_usual_file_gets_no_warning(tmp_path: Path) -> None:
    assert _warnings(_scored(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("change", "cause"),
    [(_corners, "[x1, y1, x2, y2]"), (_relative, "relative to the image"), (_one_less, "+1 is added")],
)
def test_another_form_is_named(change: Callable[[Json], None], cause: str, tmp_path: Path) -> None:
    odd = copy.deepcopy(GOOD)
    for result in odd:
        change(result)
    made = _scored(tmp_path, odd)
    (warning,) = _warnings(made)
    assert cause in warning
    assert made.metrics["AP"] == pytest.approx(oracles.run_coco(ANNOTATIONS, odd).stats[0], abs=1e-12)


def test_positions_in_place_of_ids(tmp_path: Path) -> None:
    ids = sorted(category["id"] for category in ANNOTATIONS["categories"])
    spread = {old: 3 * number + 1 for number, old in enumerate(ids)}
    annotations = copy.deepcopy(ANNOTATIONS)
    for record in annotations["categories"]:
        record["id"] = spread[record["id"]]
    for record in annotations["annotations"]:
        record["category_id"] = spread[record["category_id"]]
    for record in annotations["images"]:
        for name in ("neg_category_ids", "not_exhaustive_category_ids"):
            record[name] = [spread[one] for one in record.get(name, [])]
    odd = [
        {**result, "category_id": ids.index(result["category_id"])} for result in GOOD if result["category_id"] in ids
    ]
    truth, found = tmp_path / "gt.json", tmp_path / "found.json"
    truth.write_text(json.dumps(annotations))
    found.write_text(json.dumps(odd))
    (warning,) = _warnings(score(ScoreRequest(found, truth, "coco")))
    assert "positions instead of ids" in warning


def test_images_without_detections(tmp_path: Path) -> None:
    half = {image["id"] for image in ANNOTATIONS["images"][::2]}
    (warning,) = _warnings(_scored(tmp_path, [result for result in GOOD if result["image_id"] in half]))
    assert "10 of 20 images have no detections" in warning


@pytest.mark.parametrize("suffix", [".json", ".arrow", ".parquet"])
def test_no_detections_score_nothing(suffix: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text(" [\n] ")
    truth, found = tmp_path / "gt.json", tmp_path / f"found{suffix}"
    truth.write_text(json.dumps(ANNOTATIONS))
    write_predictions(found, read_predictions(empty))
    made = score(ScoreRequest(found, truth, "coco"))
    assert (made.metrics["AP"], made.metrics["AR@100"]) == (0, 0)
    (warning,) = _warnings(made)
    assert "20 of 20 images have no detections" in warning


def test_phrases_without_categories(tmp_path: Path) -> None:
    odd = [{**result, "phrase": "a thing"} for result in GOOD]
    for result in odd:
        del result["category_id"]
    (warning,) = _warnings(_scored(tmp_path, odd))
    assert "--map-phrases" in warning


def test_the_limit_of_a_hundred(tmp_path: Path) -> None:
    crowded = [{**GOOD[0], "score": 0.5 - number / 1000} for number in range(130)]
    (warning,) = _warnings(_scored(tmp_path, [*GOOD, *crowded]))
    assert "beyond 100 per image and class" in warning
