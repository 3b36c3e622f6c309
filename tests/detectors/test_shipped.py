"""The weights that ship with the suite are the ones their cards name, and find the objects they were trained on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from ovd_bench.benchmarks.data.shapes import WORLDS, render
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.registry import BUILT_IN, load_detector
from ovd_bench.detectors.shipped import check_sum, shipped_file
from ovd_bench.detectors.types import DetectorError, Image, Vocabulary

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "found", "unseen_found"),
    [
        ("owl-nano", 0.8, 0.1),
        ("closed-nano", 0.4, None),
        ("grounding-dino-nano", 0.6, 0.1),
        ("grounding-dino-controlled", 0.4, 0.1),
        ("glip-controlled", 0.4, 0.1),
        ("owl-controlled", 0.4, 0.1),
        ("clip-region-controlled", 0.3, 0.03),
    ],
)
def test_shipped_weights_find_what_they_were_taught(name: str, found: float, unseen_found: float | None) -> None:
    """Shares of objects whose class is among the best answers; None = of classes without training, none at all."""
    world = WORLDS["shapes"]
    detector = load_detector(name, DetectorSettings())
    assert detector.card.weights_sha256 == BUILT_IN[name].weights_sha256
    assert detector.card.parameters == BUILT_IN[name].parameters
    ids, names = zip(*((category.id, category.name) for category in world.categories), strict=True)
    detector.set_vocabulary(Vocabulary(ids, names), PromptPlan())
    unseen = {category.id for category in world.categories if category.image_count == 0}
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for index in range(40):
        scene = render(world, "test", index)
        (answer,) = detector.detect([Image(index, scene.pixels)])
        best = slice(2 * len(scene.category_ids))
        for (x, y, w, h), category in zip(scene.boxes_xywh, scene.category_ids.tolist(), strict=True):
            boxes = torch.from_numpy(answer.boxes_xyxy[best][answer.category_ids[best] == category])
            overlaps = box_iou(boxes, torch.tensor([[x, y, x + w, y + h]], dtype=boxes.dtype))
            hits[category in unseen].append(bool((overlaps > 0.5).any()))
    assert np.mean(hits[False]) > found
    assert np.mean(hits[True]) > unseen_found if unseen_found is not None else not any(hits[True])


def test_what_is_not_shipped() -> None:
    assert shipped_file("some/hub-id") is None
    with pytest.raises(DetectorError, match="no package 'nowhere'"):
        shipped_file("package:nowhere/w.safetensors")
    card = DetectorCard("x", family="x", framework="torch", loader="", weights_sha256="ab")
    check_sum(card, Path("w"), "ab")
    with pytest.raises(DetectorError, match="sha256 is cd"):
        check_sum(card, Path("w"), "cd")


def test_a_package_of_others_may_bring_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert shipped_file("package:theirs/w.safetensors") == tmp_path / "theirs" / "w.safetensors"


def test_shipped_weights_do_not_depend_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry not in ("", str(ROOT))])
    files = [path for card in BUILT_IN.values() if (path := shipped_file(card.weights))]
    assert all(path.resolve().is_relative_to(ROOT) and path.is_file() for path in files)


def test_all_that_ships_is_small() -> None:
    sizes = [path.stat().st_size for card in BUILT_IN.values() if (path := shipped_file(card.weights))]
    assert len(sizes) == 7
    assert sum(sizes) < 15e6
