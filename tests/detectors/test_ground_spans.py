"""Given phrases of a caption: scores from the raw output of the network, and how often image and text are encoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ovd_bench.baselines.glip.anchors import anchor_boxes
from ovd_bench.baselines.glip.postprocess import select_boxes
from ovd_bench.baselines.glip.weights import write_weights
from ovd_bench.detectors.captions import caption_of_text, span_tokens
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.glip import load as load_glip
from ovd_bench.detectors.interface import DetectorSettings, RawDetector, SpanDetector
from ovd_bench.detectors.last_image import LastImage
from ovd_bench.detectors.prompts import PLANS
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import DetectorError, Image, Vocabulary
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.tests.baselines.glip.tiny import TINY, drawn
from ovd_bench.tests.detectors.tiny_models import random_image, write_grounding_dino

#: A dot inside: the phrases of a data set cross it, those between separators do not.
CAPTION = "Two men in red shirts. A dog, and no. 3 bus"
PHRASES: tuple[list[tuple[int, int]], ...] = ([(0, 7)], [(11, 21)], [(22, 27), (40, 43)], [(33, 43)], [])


@pytest.fixture(scope="module")
def grounding_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grounding_dino(tmp_path_factory.mktemp("grounding-dino"))


def _grounding_dino(folder: Path, name: str) -> SpanDetector:
    detector = load_detector(name, DetectorSettings(weights=str(folder), top_k=7))
    assert isinstance(detector, SpanDetector)
    return detector


def _tokens(caption: str, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Tokens by their characters, one after the other, without the suite's captions."""
    ids, offsets = packaged_tokenizer().words(caption)
    dots = {place for place, token in enumerate(ids) if token in (1012, 1029)}
    chosen = [
        place + 1  # [CLS] comes first
        for place, (begin, end) in enumerate(offsets)
        if place not in dots and (not spans or any(begin < last and first < end for first, last in spans))
    ]
    assert chosen
    return chosen


def _sigmoid(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-values.astype(np.float64)))


def test_phrases_score_the_mean_of_their_tokens_and_a_caption_its_best(grounding_dino: Path) -> None:
    detector, image = _grounding_dino(grounding_dino, "grounding-dino-tiny"), random_image(100, 70)
    assert isinstance(detector, RawDetector)
    raw = detector.raw(image, CAPTION)
    probabilities = _sigmoid(raw["pred_logits"])
    found = detector.ground_spans(image, CAPTION, PHRASES)
    for number, spans in enumerate(PHRASES):
        own = probabilities[:, _tokens(CAPTION, spans)]
        expected = np.sort(own.mean(axis=1) if spans else own.max(axis=1))[::-1][:7]
        np.testing.assert_allclose(found.scores[found.category_ids == number], expected, atol=1e-6)
    best = found.boxes_xyxy[np.flatnonzero(found.category_ids == 1)[0]]
    query = int(np.argmax(probabilities[:, _tokens(CAPTION, PHRASES[1])].mean(axis=1)))
    x, y, width, height = raw["pred_boxes"][query]
    corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    np.testing.assert_allclose(best, corners * np.tile([image.width, image.height], 2), atol=1e-3)


def test_both_frameworks_agree(grounding_dino: Path) -> None:
    image = random_image(100, 70)
    ours, theirs = (
        _grounding_dino(grounding_dino, name).ground_spans(image, CAPTION, PHRASES)
        for name in ("grounding-dino-tiny", "grounding-dino-tiny-hf")
    )
    assert ours.category_ids.tolist() == theirs.category_ids.tolist()
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, rtol=0, atol=0.1)


def test_glip_scores_annotated_spans_across_dots(tmp_path: Path) -> None:
    """A positive map of the spans over the caption's tokens, averaged per phrase, then GLIP's own choice of boxes."""
    bert = dataclasses.replace(TINY.bert, positions=256)
    model = drawn(dataclasses.replace(TINY, bert=bert, max_tokens=256))
    write_weights(model, tmp_path / "glip.safetensors", "canonical")
    card = DetectorCard("tiny", family="glip", framework="torch", loader="")
    settings = DetectorSettings(weights=str(tmp_path / "glip.safetensors"), top_k=9)
    detector, image = load_glip(card, settings), random_image(64, 96, 1)
    raw = detector.raw(image, CAPTION)
    probabilities = _sigmoid(raw["pred_logits"])
    shapes = [(int(height), int(width)) for height, width in raw["level_shapes"]]
    anchors = anchor_boxes(shapes, TINY.strides, TINY.anchor_sizes, torch.device("cpu"))
    found = detector.ground_spans(image, CAPTION, PHRASES)
    size = detector.network_size(image)
    for number, spans in enumerate(PHRASES):
        scores = probabilities[:, _tokens(CAPTION, spans)].mean(axis=1).astype(np.float32)
        expected = select_boxes(
            torch.from_numpy(scores)[:, None],
            torch.from_numpy(raw["deltas"]),
            torch.from_numpy(raw["centerness"]),
            anchors,
            shapes,
            size,
            9,
        )
        mine = found.category_ids == number
        assert mine.any()
        np.testing.assert_allclose(found.scores[mine], expected.scores.numpy(), atol=2e-6)


def test_image_and_text_are_encoded_once(grounding_dino: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ovd_bench.detectors.grounding_dino_hf import GroundingDinoDetector

    seen: dict[str, int] = {"image": 0, "text": 0}
    encode_image, encode_text = GroundingDinoDetector.image_features, GroundingDinoDetector.text_features

    def image_features(self: GroundingDinoDetector, pixels: torch.Tensor) -> object:
        seen["image"] += 1
        return encode_image(self, pixels)

    def text_features(self: GroundingDinoDetector, caption: object) -> object:
        seen["text"] += 1
        return encode_text(self, caption)  # type: ignore[arg-type]

    monkeypatch.setattr(GroundingDinoDetector, "image_features", image_features)
    monkeypatch.setattr(GroundingDinoDetector, "text_features", text_features)
    detector = _grounding_dino(grounding_dino, "grounding-dino-tiny-hf")
    for image in (random_image(100, 70), random_image(60, 90)):
        for text in ("a dog", "a cat", "a dog"):
            detector.ground_spans(image, text, [[]])
    assert seen == {"image": 2, "text": 2}


@pytest.mark.parametrize("name", ["owl-nano", "owl-controlled", "clip-region-controlled", "glip-controlled"])
def test_an_image_that_was_seen_gives_the_same_boxes(name: str) -> None:
    image, red, blue = random_image(60, 90), Vocabulary((1,), ("red star",)), Vocabulary((2,), ("blue ring",))
    kept, fresh = (load_detector(name, DetectorSettings(top_k=9)) for _ in range(2))
    for vocabulary in (red, blue):
        kept.set_vocabulary(vocabulary, PLANS["raw"])
        (found,) = kept.detect([image])
    fresh.set_vocabulary(blue, PLANS["raw"])
    (expected,) = fresh.detect([random_image(60, 90)])
    assert vars(kept)["_seen"].encoded == 1
    assert len(expected)
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_only_the_same_object_is_the_same_image() -> None:
    """Equal ids do not make two images one: whoever asks may count from 0 again."""
    last = LastImage(lambda image: image.pixels.sum())
    first, second = Image(0, np.ones((2, 2, 3), np.uint8)), Image(0, np.zeros((2, 2, 3), np.uint8))
    assert [last(first), last(first), last(second), last(first)] == [12, 12, 0, 12]
    assert last.encoded == 3


def test_a_phrase_without_a_word_is_refused() -> None:
    caption = caption_of_text(packaged_tokenizer().words, CAPTION)
    with pytest.raises(DetectorError, match="no word"):
        span_tokens(caption, [(21, 22)])  # the dot
    with pytest.raises(DetectorError, match="a caption: no word"):
        span_tokens(caption_of_text(packaged_tokenizer().words, "..."), [])
