"""Suppression within a class: what it drops, which detectors support it, and no change without it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, nms

from ovd_bench.baselines.controlled.config import ContestantConfig
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.registry import find_card, load_detector
from ovd_bench.detectors.selection import best_pairs_of_chunks
from ovd_bench.detectors.shipped import shipped_file
from ovd_bench.detectors.suppression import NMS_BOXES, NMS_IOU, NOTHING, without_duplicates
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary
from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.weights import read_checkpoint, write_canonical
from ovd_bench.tests.baselines.controlled.toy import SMALL, write_weights

VOCABULARY = Vocabulary((4, 9, 2), ("red star", "blue ring", "green heart"))
IMAGE = Image(1, np.random.default_rng(1).integers(0, 256, (64, 80, 3), np.uint8))
TOY = replace(SMALL, image_size=64, image_longest=96)
CONTESTANTS = {
    "owl": TOY,
    "owl-hungarian": replace(TOY, assignment="hungarian"),
    "region": replace(TOY, kind="region", regions=40),
    "glip": replace(TOY, kind="glip", width=32, blocks=1, fusion_width=16),
}
#: Overlaps that are usual.
USUAL = {"owl": NMS_IOU, "owl-hungarian": 1.0, "region": 1.0, "glip": NMS_IOU}


def _found(detector: Detector) -> Detections:
    detector.set_vocabulary(VOCABULARY, PromptPlan(chunk_classes=2))
    return detector.detect([IMAGE])[0]


def _contestant(path: Path, config: ContestantConfig, nms_iou: float | None = None, top_k: int = 10_000) -> Detections:
    weights = write_weights(path / "w.safetensors", config)
    settings = DetectorSettings(weights=str(weights), nms_iou=nms_iou, top_k=top_k)
    return _found(load_detector("contestant", settings))


def _same(one: Detections, other: Detections) -> None:
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    np.testing.assert_array_equal(one.category_ids, other.category_ids)


def _largest_overlap(found: Detections) -> float:
    """Of two boxes of a class that the border of the image does not cut."""
    overlaps = [0.0]
    x0, y0, x1, y1 = found.boxes_xyxy.T
    whole = (x0 > 0) & (y0 > 0) & (x1 < found.width) & (y1 < found.height)
    for category in np.unique(found.category_ids[whole]):
        boxes = torch.from_numpy(found.boxes_xyxy[whole & (found.category_ids == category)])
        overlaps.append(float(box_iou(boxes, boxes).triu(1).max()))
    return max(overlaps)


def test_at_an_overlap_of_one_nothing_is_dropped() -> None:
    scores = np.random.default_rng(0).random((2, 300), np.float32)
    boxes = np.tile(np.array([0, 0, 10, 10], np.float32), (300, 1))
    assert without_duplicates(scores, boxes, 1.0) is scores
    assert (without_duplicates(scores, boxes, 0.99) >= 0).sum() == 2


@pytest.mark.parametrize("iou", [0.1, 1 / 3, 0.5, 0.6, 0.7, 0.99])
@pytest.mark.parametrize("whole", [False, True])
def test_what_is_kept_is_what_torchvision_keeps(iou: float, whole: bool) -> None:
    """Whole coordinates and scores of few values: overlaps at the limit, boxes without area, ties."""
    draw = np.random.default_rng(0)
    for classes, number in ((0, 5), (3, 0), (1, 1), (5, 40), (130, 250)):
        scores = draw.random((classes, number), np.float32)
        boxes = draw.random((number, 4), np.float32) * np.float32(40)
        boxes[:, 2:] += boxes[:, :2]
        if whole:
            scores, boxes = np.round(scores, 1), np.round(boxes / 4)
        expected = np.full_like(scores, NOTHING)
        for row, values in enumerate(torch.from_numpy(scores)):
            best = values.argsort(descending=True, stable=True)[:NMS_BOXES]
            kept = best[nms(torch.from_numpy(boxes)[best], values[best], iou)].numpy()
            expected[row, kept] = scores[row, kept]
        np.testing.assert_array_equal(without_duplicates(scores, boxes, iou), expected)


def test_scores_that_are_no_numbers_are_left_for_the_choice_to_refuse() -> None:
    scores = np.linspace(0, 1, 300, dtype=np.float32)[None]
    scores[0, 7] = np.nan
    assert np.isnan(without_duplicates(scores, np.zeros((300, 4), np.float32), 0.5)[0, 7])


@pytest.mark.parametrize("kind", CONTESTANTS)
def test_weights_that_name_no_overlap_have_the_usual_one(kind: str, tmp_path: Path) -> None:
    usual = _contestant(tmp_path, CONTESTANTS[kind])
    _same(usual, _contestant(tmp_path, CONTESTANTS[kind], USUAL[kind]))
    other = 0.3 if USUAL[kind] == 1.0 else 1.0
    assert len(_contestant(tmp_path, CONTESTANTS[kind], other)) != len(usual)


@pytest.mark.parametrize("kind", CONTESTANTS)
def test_the_settings_are_asked_before_the_weights(kind: str, tmp_path: Path) -> None:
    config = replace(CONTESTANTS[kind], nms_iou=0.4)
    own = _contestant(tmp_path, config)
    _same(own, _contestant(tmp_path, CONTESTANTS[kind], 0.4))
    assert 0 < _largest_overlap(own) <= 0.4 + 1e-4
    whole = _contestant(tmp_path, config, 1.0)
    assert len(whole) > len(own)
    assert _largest_overlap(whole) > 0.4


def test_grounding_dino_drops_only_what_it_is_asked_to(tmp_path: Path) -> None:
    shipped = shipped_file(find_card("grounding-dino-controlled").weights)
    assert shipped is not None
    model = read_checkpoint(shipped)
    assert model.config.nms_iou == 1.0
    files = {iou: tmp_path / f"{iou}.safetensors" for iou in (1.0, 0.4)}
    for iou, path in files.items():
        write_canonical(model.tensors, replace(model.config, nms_iou=iou), path, source="test", source_sha256="")

    def found(iou: float, asked: float | None) -> Detections:
        settings = DetectorSettings(weights=str(files[iou]), nms_iou=asked, top_k=10_000)
        return _found(load_detector("grounding-dino-nano", settings))

    whole, few = found(1.0, None), found(0.4, None)
    assert len(whole) == len(VOCABULARY.ids) * model.config.num_queries
    assert 0 < len(few) < len(whole)
    assert _largest_overlap(few) <= 0.4 + 1e-4 < _largest_overlap(whole)
    _same(few, found(1.0, 0.4))
    _same(whole, found(0.4, 1.0))


def test_what_takes_none_and_what_is_none_is_said() -> None:
    with pytest.raises(DetectorError, match="'owlv2-base-patch16' does not support nms_iou: these do: owl-nano"):
        load_detector("owlv2-base-patch16", DetectorSettings(nms_iou=0.5))
    for value in (0.0, 1.5, float("nan")):
        with pytest.raises(DetectorError, match="nms_iou is"):
            DetectorSettings(nms_iou=value)
        with pytest.raises(ValueError, match="nms_iou is"):
            replace(SMALL, nms_iou=value)
        with pytest.raises(ValueError, match="nms_iou is"):
            Config(nms_iou=value)


def test_memory_of_a_large_vocabulary_is_that_of_its_scores() -> None:
    """Classes are gone through 256 at a time; with 20,000 of them the scores of 576 boxes take 46 MB."""
    rng = np.random.default_rng(0)
    scores, corners = rng.random((2048, 576), dtype=np.float32), rng.random((576, 4), dtype=np.float32)
    boxes = corners + np.array([0, 0, 1, 1], np.float32)
    tracemalloc.start()
    kept = without_duplicates(scores, boxes)
    pairs = best_pairs_of_chunks(kept, [range(len(kept))], 300, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs) == 300
    assert peak < 2.5 * scores.nbytes
