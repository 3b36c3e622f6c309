"""The adapter of ``owl-nano``: geometry, vocabulary, limits, weights; and the weights that are shipped."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ovd_bench.baselines.owl_nano.config import OwlNanoConfig
from ovd_bench.baselines.owl_nano.model import OwlNano
from ovd_bench.baselines.owl_nano.weights import save_weights
from ovd_bench.detectors import owl_nano
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.owl_nano import OwlNanoDetector, fit, load
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.suppression import NMS_IOU, without_duplicates
from ovd_bench.detectors.types import DetectorError, Image, Vocabulary
from ovd_bench.tests.baselines.nano import TINY

CARD = DetectorCard("tiny", family="owl-nano", framework="torch", loader="ovd_bench.detectors.owl_nano:load")
NAMES = ("red star", "blue_ring", "green heart (solid)", "cross", "moon")
VOCABULARY = Vocabulary((4, 9, 2, 7, 30), NAMES)
SETTINGS = DetectorSettings(image_size=64)


class _Words:
    """Phrase vectors of width 12 without a network."""

    def encode(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = [np.random.default_rng(zlib.crc32(phrase.encode())).normal(size=12) for phrase in phrases]
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.fixture(autouse=True)
def _setting(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """One thread; words without a network, except for the shipped weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if "shipped" not in request.node.name:
        monkeypatch.setattr(owl_nano, "packaged_encoder", _Words)
    yield
    torch.set_num_threads(threads)


def _model(config: OwlNanoConfig = TINY) -> OwlNano:
    """A network with lively outputs."""
    torch.manual_seed(3)
    model: OwlNano = OwlNano(config).eval().requires_grad_(False)
    for layer in (model.box, model.scale, model.shift):
        torch.nn.init.normal_(layer.weight, std=0.2)
    return model


def _detector(
    config: OwlNanoConfig = TINY, settings: DetectorSettings = SETTINGS, classes: Sequence[str] = ()
) -> OwlNanoDetector:
    detector = OwlNanoDetector(CARD, _model(config), classes, settings)
    detector.set_vocabulary(VOCABULARY, PromptPlan())
    return detector


def _image(height: int = 64, width: int = 64, seed: int = 0) -> Image:
    return Image(seed + 1, np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def _columns(detector: Detector, *images: Image) -> list[tuple[list[object], ...]]:
    return [
        (found.boxes_xyxy.tolist(), found.scores.tolist(), found.category_ids.tolist())
        for found in detector.detect(images)
    ]


def test_it_is_a_detector_and_says_what_it_found() -> None:
    detector = _detector()
    assert isinstance(detector, Detector)
    (found,) = detector.detect([_image()])
    assert len(found) > 100
    assert (np.diff(found.scores) <= 0).all()
    found.check_vocabulary(VOCABULARY)


def test_an_image_gives_the_same_bits_in_any_company() -> None:
    detector = _detector()
    images = [_image(64, 64, 0), _image(40, 64, 1), _image(64, 20, 2)]
    assert _columns(detector, *images) == [_columns(detector, image)[0] for image in images]


def test_images_of_other_sizes_keep_their_aspect_and_get_their_boxes_back() -> None:
    pixels, scale = fit(_image(300, 150).pixels, 64, 32)
    assert pixels.shape == (64, 64, 3)
    assert scale == (32 / 150, 64 / 300)
    assert (pixels[:, 32:] == 127).all()
    detector = _detector()
    small, large = _image(48, 64), np.repeat(np.repeat(_image(48, 64).pixels, 2, 0), 2, 1)
    shrunk = detector.detect([Image(1, large)])[0]  # its quarter is nearly the small image
    assert shrunk.boxes_xyxy[:, 0::2].max() <= 128
    assert shrunk.boxes_xyxy[:, 1::2].max() <= 96
    assert shrunk.boxes_xyxy[:, 2].max() > 64
    assert detector.detect([small])[0].boxes_xyxy[:, 1::2].max() <= 48


def test_the_square_is_a_multiple_that_the_network_takes() -> None:
    assert fit(_image(10, 10).pixels, 40, 32)[0].shape == (64, 64, 3)
    assert fit(_image(1, 500).pixels, 64, 32)[1] == (64 / 500, 1.0)


def test_order_and_chunks_of_the_vocabulary_change_nothing() -> None:
    detector, image = _detector(), _image()
    (before,) = detector.detect([image])
    for plan in (PromptPlan(order="vocabulary"), PromptPlan(chunk_classes=2), PromptPlan(chunk_classes=None)):
        detector.set_vocabulary(VOCABULARY, plan)
        np.testing.assert_allclose(detector.detect([image])[0].scores, before.scores, rtol=1e-5)


def test_limits_per_image_and_per_chunk() -> None:
    image = _image()
    whole = _detector().detect([image])[0]
    few = _detector(settings=dataclasses.replace(SETTINGS, top_k=7)).detect([image])[0]
    np.testing.assert_array_equal(few.scores, whole.scores[:7])
    chunked = _detector(settings=dataclasses.replace(SETTINGS, top_k=300, chunk_top_k=3))
    chunked.set_vocabulary(VOCABULARY, PromptPlan(chunk_classes=2))
    ids = chunked.detect([image])[0].category_ids
    assert [int(np.isin(ids, chunk).sum()) for chunk in ((2, 4), (7, 9), (30,))] == [3, 3, 3]


def test_duplicates_within_a_class_are_removed_and_others_stay() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]], np.float32)
    scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.3, 0.4]], np.float32)
    assert NMS_IOU < 9 / 11
    kept = np.array([[0.9, -1, 0.1], [-1, 0.3, 0.4]], np.float32)
    np.testing.assert_array_equal(without_duplicates(scores, boxes), kept)


def test_published_assignment_keeps_all_boxes_and_takes_the_probability() -> None:
    detector = _detector(dataclasses.replace(TINY, assignment="hungarian"))
    (found,) = detector.detect([_image()])
    assert len(found) == 300  # 64 cells x 5 classes, cut


@pytest.mark.parametrize("ensemble", ["logits", "embeddings"])
def test_templates_are_averaged(ensemble: str) -> None:
    detector, image = _detector(), _image()
    plan = PromptPlan(templates=("{}", "a {}"), ensemble=ensemble)  # type: ignore[arg-type]
    singles = []
    for template in plan.templates:
        detector.set_vocabulary(VOCABULARY, PromptPlan(templates=(template,)))
        singles.append(_columns(detector, image))
    detector.set_vocabulary(VOCABULARY, plan)
    assert _columns(detector, image) not in singles
    detector.set_vocabulary(VOCABULARY, PromptPlan())
    assert _columns(detector, image) == singles[0]


def test_learned_classes_are_found_by_their_cleaned_names() -> None:
    config = dataclasses.replace(TINY, classifier="learned", classes=3)
    detector = _detector(config, classes=("green heart", "moon", "square"))
    assert set(detector.detect([_image()])[0].category_ids.tolist()) == {2, 30}
    assert set(detector.unknown_classes) == {"red star", "blue ring", "cross"}
    detector.set_vocabulary(Vocabulary((1,), ("pentagon",)), PromptPlan())
    assert len(detector.detect([_image()])[0]) == 0
    with pytest.raises(DetectorError, match="no templates"):
        detector.set_vocabulary(VOCABULARY, PromptPlan(templates=("a photo of a {}",)))


def test_without_a_vocabulary_nothing_is_detected() -> None:
    with pytest.raises(DetectorError, match="set_vocabulary"):
        OwlNanoDetector(CARD, _model(), (), SETTINGS).detect([_image()])


def test_devices_and_sizes_that_cannot_be() -> None:
    with pytest.raises(DetectorError, match="device 'cuda:99'"):
        OwlNanoDetector(CARD, _model(), (), DetectorSettings(device="cuda:99"))
    with pytest.raises(DetectorError, match="image size 100000"):
        OwlNanoDetector(CARD, _model(), (), DetectorSettings(image_size=100_000))


def test_half_precision_gives_nearly_the_same() -> None:
    whole = _detector().detect([_image()])[0]
    half = _detector(settings=dataclasses.replace(SETTINGS, dtype="bfloat16")).detect([_image()])[0]
    np.testing.assert_allclose(half.scores[:20], whole.scores[:20], atol=0.05)


def test_loading_fills_in_the_card_and_checks_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(save_weights(_model(), (), {}))
    detector = load(CARD, DetectorSettings(weights=str(path)))
    assert detector.card.parameters == sum(p.numel() for p in _model().parameters())
    assert len(detector.card.weights_sha256) == 64
    card = dataclasses.replace(CARD, weights=str(path), weights_sha256="0" * 64)
    with pytest.raises(DetectorError, match="sha256"):
        load(card, DetectorSettings())
    assert load(card, DetectorSettings(weights=str(path)))
    with pytest.raises(DetectorError, match="no such file"):
        load(CARD, DetectorSettings(weights=str(tmp_path / "none")))
    with pytest.raises(DetectorError, match="no package 'nowhere'"):
        load(CARD, DetectorSettings(weights="package:nowhere/w.safetensors"))
