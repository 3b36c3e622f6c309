"""The detector in examples/ works as its docstring and the documentation describe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from ovd_bench.benchmarks.data.shapes import WORLDS, render
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import DetectorError, Image, Vocabulary
from ovd_bench.metrics.boxes import box_iou, xywh_to_xyxy

ROOT = Path(__file__).resolve().parents[3]
SPEC = f"{ROOT / 'examples' / 'my_detector.py'}:ColourBlobs"
WORLD = WORLDS["shapes"]
CLASSES = Vocabulary(tuple(c.id for c in WORLD.categories), tuple(c.name for c in WORLD.categories))


def loaded(vocabulary: Vocabulary = CLASSES, plan: PromptPlan = PLANS["names"], **settings: int) -> Detector:
    detector = load_detector(SPEC, DetectorSettings(**settings))  # type: ignore[arg-type]
    detector.set_vocabulary(vocabulary, plan)
    return detector


def test_objects_are_found_under_the_name_of_their_colour() -> None:
    colours = {category.id: category.colour for category in WORLD.categories}
    detector, hits, objects = loaded(top_k=1000), 0, 0
    for index in range(12):
        scene = render(WORLD, "minival", index)
        found = detector.detect([Image(index, scene.pixels)])[0]
        overlap = box_iou(xywh_to_xyxy(scene.boxes_xywh), found.boxes_xyxy)
        overlap[scene.category_ids[:, None] != found.category_ids] = 0
        hits += int((overlap > 0.5).any(1).sum())
        objects += len(scene.boxes_xywh)
    assert len(set(colours.values())) == 10
    assert hits > 0.6 * objects


def test_a_known_rectangle() -> None:
    pixels = np.full((40, 90, 3), 128, np.uint8)
    pixels[5:25, 60:80] = (208, 28, 34)
    found = loaded(Vocabulary((8, 3, 5, 1), ("red star", "scarlet dot", "blue-red ring", "thing"))).detect(
        [Image(1, pixels)]
    )[0]
    assert found.category_ids.tolist() == [8]  # it does not know the word scarlet; "blue-red" is blue to it
    assert found.boxes_xyxy.tolist() == [[60, 5, 80, 25]]


def test_large_images_are_thinned_out_and_boxes_are_not() -> None:
    pixels = np.full((400, 2000, 3), 128, np.uint8)
    pixels[100:300, 1500:1900] = (30, 66, 214)
    found = loaded(Vocabulary((1,), ("blue square",))).detect([Image(1, pixels)])[0]
    assert np.abs(found.boxes_xyxy[0] - [1500, 100, 1900, 300]).max() <= 4


def test_limits_per_image_and_chunk() -> None:
    image = Image(1, render(WORLD, "minival", 0).pixels)
    plan = PromptPlan(chunk_classes=10)
    everything = loaded(plan=plan, top_k=10_000).detect([image])[0]
    assert len(everything) > 120
    assert len(loaded(plan=plan, top_k=7).detect([image])[0]) == 7
    few = loaded(plan=plan, top_k=10_000, chunk_top_k=3).detect([image])[0]
    ids = plan.rows(CLASSES)
    chunk_of = {CLASSES.ids[row]: number // 10 for number, row in enumerate(ids)}
    counts = np.bincount([chunk_of[category] for category in few.category_ids.tolist()])
    assert counts.max() == 3


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(DetectorError, match="cannot average over templates"):
        loaded(plan=PLANS["owl7"])
    with pytest.raises(DetectorError, match="set_vocabulary comes before detect"):
        load_detector(SPEC, DetectorSettings()).detect([])


def test_it_runs_on_a_benchmark_of_ones_own(tmp_path: Path) -> None:
    document: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": c.id, "name": c.name} for c in WORLD.categories]
    for index in range(3):
        scene = render(WORLD, "minival", index)
        PIL.Image.fromarray(scene.pixels).save(tmp_path / f"{index}.png")
        height, width = scene.pixels.shape[:2]
        document["images"].append({"id": index, "file_name": f"{index}.png", "width": width, "height": height})
        for box, category in zip(scene.boxes_xywh.tolist(), scene.category_ids.tolist(), strict=True):
            number = len(document["annotations"]) + 1
            area = {"id": number, "image_id": index, "category_id": category, "area": box[2] * box[3], "iscrowd": 0}
            document["annotations"].append({**area, "bbox": box})
    (tmp_path / "mine.json").write_text(json.dumps(document))
    command = [ROOT / "bench.py", "run", "-d", SPEC, "-b", tmp_path / "mine.json", "--images", tmp_path]
    command += ["-p", "coco", "--bootstrap", "0", "-m", "pool", "--out", tmp_path / "out", "--json", "-q"]
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout)["runs"][0]["result"]
    assert row["detector"]["name"] == "colour-blobs"
    assert row["detector"]["training_data"] == []
    assert row["metrics"]["AP"]["value"] > 0.02


def test_the_documentation_names_every_check() -> None:
    from ovd_bench.benchmarks.conformance.checks import CHECKS

    text = (ROOT / "docs" / "adding-a-detector.md").read_text()
    table = text.split("| Check |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:]))) == set(
        CHECKS
    )
