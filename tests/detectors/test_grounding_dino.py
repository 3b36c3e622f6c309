"""The adapter of Grounding DINO in Jittor: chunks, captions, raw output, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ovd_bench.detectors.interface import CountsFlops, DetectorSettings, GroundingDetector, RawDetector
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import Detections, DetectorError, Vocabulary
from ovd_bench.tests.detectors.tiny_models import random_image, write_grounding_dino

NAMES = ("a cat", "dog", "traffic light", "bow_(weapon)", "Dr. Pepper", "x?y", "zebra", "very old wooden bench")
VOCABULARY = Vocabulary(tuple(range(1, 9)), NAMES)
IN_TWOS = PromptPlan(name="twos", chunk_classes=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grounding_dino(tmp_path_factory.mktemp("weights"))


def _load(folder: Path, name: str = "grounding-dino-tiny", **settings: int) -> GroundingDetector:
    detector = load_detector(name, DetectorSettings(weights=str(folder), **settings))  # type: ignore[arg-type]
    assert isinstance(detector, GroundingDetector)
    return detector


def _found(detector: GroundingDetector, plan: PromptPlan = IN_TWOS) -> list[Detections]:
    detector.set_vocabulary(VOCABULARY, plan)
    return detector.detect([random_image(100, 70), random_image(60, 140, 3)])


@pytest.mark.parametrize("at_once", [2, 3, 4])
def test_chunks_read_at_once_give_the_scores_of_the_plain_loop(folder: Path, at_once: int) -> None:
    for one, several in zip(_found(_load(folder)), _found(_load(folder, chunk_batch=at_once)), strict=True):
        assert (several.category_ids == one.category_ids).all()
        np.testing.assert_allclose(several.scores, one.scores, rtol=0, atol=1e-5)
        np.testing.assert_allclose(several.boxes_xyxy, one.boxes_xyxy, rtol=0, atol=1e-3)


def test_detections_are_those_of_the_library(folder: Path) -> None:
    """Boxes of the library differ at the border only, where its guard of the inverse sigmoid is another."""
    for ours, theirs in zip(_found(_load(folder)), _found(_load(folder, "grounding-dino-tiny-hf")), strict=True):
        assert (ours.category_ids == theirs.category_ids).all()
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=1e-5)
        np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, rtol=0, atol=0.1)


def test_phrases_are_those_of_the_library(folder: Path) -> None:
    image, text = random_image(100, 70), "A striped dog? two cats. bench"
    (ours,) = _load(folder).ground([image], [text])
    (theirs,) = _load(folder, "grounding-dino-tiny-hf").ground([image], [text])
    assert ours.spans == theirs.spans
    assert all(any(found in whole for whole in ("A striped dog", "two cats", "bench")) for found in ours.phrases)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=1e-5)


def test_raw_output_is_what_the_network_says(folder: Path) -> None:
    detector = _load(folder)
    assert isinstance(detector, RawDetector)
    raw = detector.raw(random_image(100, 70), " A cat. two dogs ")
    assert raw["input_ids"].tolist() == [101, 1037, 4937, 1012, 2048, 6077, 1012, 102]
    assert raw["pred_logits"].shape == (12, 256)
    assert raw["pred_boxes"].shape == (12, 4)
    assert np.isfinite(raw["pred_logits"][:, :8]).all()
    assert np.isneginf(raw["pred_logits"][:, 8:]).all()
    assert (raw["pred_boxes"] >= 0).all()
    assert (raw["pred_boxes"] <= 1).all()


def test_raw_output_of_a_long_caption_is_cut_as_officially(folder: Path) -> None:
    detector = _load(folder)
    assert isinstance(detector, RawDetector)
    raw = detector.raw(random_image(40, 40), "dog. " * 200)
    assert raw["input_ids"].shape == (256,)
    assert np.isfinite(raw["pred_logits"]).all()


def test_operations_grow_with_the_vocabulary(folder: Path) -> None:
    detector = _load(folder)
    assert isinstance(detector, CountsFlops)
    detector.set_vocabulary(VOCABULARY.take([0, 1]), IN_TWOS)
    few = detector.flops(random_image(100, 70))
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    many = detector.flops(random_image(100, 70))
    assert few is not None
    assert many is not None
    assert 0 < few < many


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float16"}, "float16 needs a CUDA device"),
        ({"device": "cuda:1"}, "CUDA_VISIBLE_DEVICES"),
        ({"weights": "/no/such/folder"}, "is neither a directory nor a hub id"),
        ({"weights": __file__}, "neither a safetensors file nor a checkpoint"),
    ],
)
def test_what_cannot_be_is_one_line(folder: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(DetectorError, match=message) as caught:
        load_detector("grounding-dino-tiny", DetectorSettings(**({"weights": str(folder)} | settings)))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_captions_that_cannot_be_read(folder: Path) -> None:
    detector = _load(folder)
    with pytest.raises(DetectorError, match="no vocabulary was set"):
        detector.detect([random_image(40, 40)])
    with pytest.raises(DetectorError, match="602 tokens, the model reads 256"):
        detector.ground([random_image(40, 40)], ["dog " * 599])
    with pytest.raises(DetectorError, match="has no words"):
        detector.ground([random_image(40, 40)], ["..."])
