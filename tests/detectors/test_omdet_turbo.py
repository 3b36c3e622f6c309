"""OmDet-Turbo against the library's own forward pass, and what its scores depend on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.omdet_turbo import ChunkTexts, OmDetTurboDetector, load, task_text
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary
from ovd_bench.tests.detectors.tiny_models import random_image, write_omdet_turbo

NAMES = ("traffic_light", "bow_(weapon)", "remote control", "dog", "hair dryer")
VOCABULARY = Vocabulary((10, 20, 30, 40, 50), NAMES)
IN_TWOS = PromptPlan(chunk_classes=2)
CHUNKS = (("traffic light", "bow"), ("remote control", "dog"), ("hair dryer",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_omdet_turbo(tmp_path_factory.mktemp("omdet") / "tiny")


def _load(folder: Path, **settings: Any) -> OmDetTurboDetector:
    card = DetectorCard("tiny", "omdet-turbo", "torch", loader="ovd_bench.detectors.omdet_turbo:load")
    return load(card, DetectorSettings(weights=str(folder), **settings))


def _texts(detector: OmDetTurboDetector) -> list[ChunkTexts]:
    assert detector._queries is not None
    return detector._queries.chunks


def _library(detector: OmDetTurboDetector, pixels: torch.Tensor, names: Sequence[str], task: str) -> Any:
    """The library's own forward pass, text padded and cut as its processor does."""
    count = len(pixels)
    padded = {"padding": "max_length", "max_length": 77, "truncation": True, "return_tensors": "pt"}
    classes = detector._tokenizer(list(names) * count, **padded)
    tasks = detector._tokenizer([task] * count, **padded)
    with torch.inference_mode():
        return detector._model(
            pixels,
            classes.input_ids,
            classes.attention_mask,
            tasks.input_ids,
            tasks.attention_mask,
            torch.tensor([len(names)] * count),
        )


def _same(found: Detections, expected: Detections) -> None:
    assert found.category_ids.tolist() == expected.category_ids.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)


def test_every_chunk_equals_the_librarys_forward(folder: Path) -> None:
    detector = _load(folder)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    pixels = torch.stack([detector.prepare(random_image(40, 70, 1)), detector.prepare(random_image(90, 50, 2))])
    levels = detector.image_features(pixels)
    for texts, names in zip(_texts(detector), CHUNKS, strict=True):
        output = detector.predict(levels, texts)
        expected = _library(detector, pixels, names, task_text(names))
        assert expected.decoder_class_logits.std() > 0.1
        torch.testing.assert_close(output.logits, expected.decoder_class_logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(output.boxes_cxcywh, expected.decoder_coord_logits, atol=1e-5, rtol=0)


def test_an_image_gives_the_same_boxes_in_any_company_and_order(folder: Path) -> None:
    detector = _load(folder, top_k=20)
    assert isinstance(detector, Detector)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    images = [random_image(40, 70, 1), random_image(90, 50, 2), random_image(64, 64, 3)]
    alone = [detector.detect([image])[0] for image in images]
    for found, expected in zip(detector.detect(images), alone, strict=True):
        _same(found, expected)
    detector.set_vocabulary(VOCABULARY.take([0]), IN_TWOS)
    detector.detect(images)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    _same(detector.detect([images[0]])[0], alone[0])


def test_a_class_scores_otherwise_in_other_company(folder: Path) -> None:
    """The task text and the choice of queries depend on all classes of a chunk: chunks are part of the protocol."""
    detector = _load(folder)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    levels = detector.image_features(detector.prepare(random_image(40, 70, 1))[None])
    first, second = _texts(detector)[:2]
    alone = detector.predict(levels, first)
    other_task = detector.predict(levels, ChunkTexts(first.classes, second.task))
    assert (alone.logits - other_task.logits).abs().max() > 1e-3
    more = ChunkTexts(torch.cat((first.classes, second.classes)), first.task)
    assert (alone.logits - detector.predict(levels, more).logits[..., :2]).abs().max() > 1e-3


def test_a_task_is_never_cut(folder: Path) -> None:
    detector = _load(folder)
    names = tuple(f"long name number {n}" for n in range(60))
    detector.set_vocabulary(Vocabulary(tuple(range(60)), names), PLANS["names-one-pass"])
    assert sum(len(texts.classes) for texts in _texts(detector)) == 60
    assert all(60 < len(texts.task) <= 77 for texts in _texts(detector)[:-1])
    with pytest.raises(DetectorError, match="shorten its name or raise token_budget"):
        detector.set_vocabulary(Vocabulary((1,), ("word " * 80,)), PLANS["names"])


def test_all_pairs_are_kept_and_chunks_keep_their_own_best(folder: Path) -> None:
    image = random_image(40, 70, 1)
    everything = _load(folder, top_k=1000)
    everything.set_vocabulary(VOCABULARY, IN_TWOS)
    assert len(everything.detect([image])[0]) == 5 * 12
    limited = _load(folder, top_k=12, chunk_top_k=4)
    limited.set_vocabulary(VOCABULARY, IN_TWOS)
    found = limited.detect([image])[0]
    assert [int(np.isin(found.category_ids, chunk).sum()) for chunk in ([10, 20], [30, 40], [50])] == [4, 4, 4]


def test_a_box_lands_where_its_object_is(folder: Path) -> None:
    detector = _load(folder, top_k=1)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    pixels = np.zeros((90, 200, 3), np.uint8)
    pixels[30:60, 50:150] = 255
    image = Image(1, pixels)
    seen = detector.prepare(image)[0]
    rows, columns = torch.nonzero(seen > (seen.max() + seen.min()) / 2, as_tuple=True)
    corners = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)) / 64
    planted = torch.cat(((corners[:2] + corners[2:]) / 2, corners[2:] - corners[:2]))
    detector._model.decoder.register_forward_hook(lambda _, __, output: _planted(output, planted))
    found = detector.detect([image])[0]
    np.testing.assert_allclose(found.boxes_xyxy[0], [50, 30, 150, 60], atol=200 / 64 + 1e-3)


def _planted(output: Any, box: torch.Tensor) -> Any:
    output.decoder_coords = box.expand_as(output.decoder_coords)
    return output


def test_pixel_hashes_are_scaled_as_the_file_says(folder: Path) -> None:
    tensor = _load(folder).prepare(Image(1, np.full((8, 9, 3), 255, np.uint8)))
    torch.testing.assert_close(tensor[0], torch.full((64, 64), (255 - 123.675) / 58.395))


def test_what_it_cannot_do_is_refused(folder: Path) -> None:
    detector = _load(folder)
    with pytest.raises(DetectorError, match="'owl7' has 7 templates"):
        detector.set_vocabulary(VOCABULARY, PLANS["owl7"])
    with pytest.raises(DetectorError, match="no vocabulary was set"):
        detector.detect([random_image(8, 8)])
    with pytest.raises(DetectorError, match="image_size is 128, its network is built for 64"):
        _load(folder, image_size=128)


def test_half_precision_is_close(folder: Path) -> None:
    outputs = []
    for dtype in ("float32", "bfloat16"):
        detector = _load(folder, dtype=dtype)
        detector.set_vocabulary(VOCABULARY, IN_TWOS)
        levels = detector.image_features(detector.prepare(random_image(40, 70, 1))[None])
        outputs.append(detector.predict(levels, _texts(detector)[0]))
    assert outputs[1].logits.dtype == outputs[1].boxes_cxcywh.dtype == torch.float32
    exact, half = (output.logits.amax(dim=-1).sort().values for output in outputs)
    assert 0 < (exact - half).abs().median() < 0.2 * exact.std()


@pytest.mark.full
def test_the_real_size_with_timms_backbone_equals_the_librarys_forward(tmp_path: Path) -> None:
    detector = _load(write_omdet_turbo(tmp_path / "tiny", full_size=True))
    assert detector.card.parameters == 115_406_806
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    pixels = detector.prepare(random_image(427, 640, 1))[None]
    output = detector.predict(detector.image_features(pixels), _texts(detector)[0])
    expected = _library(detector, pixels, CHUNKS[0], task_text(CHUNKS[0]))
    # among 900 queries rounding swaps neighbours in the ranking that orders them
    for found, other in (
        (output.logits, expected.decoder_class_logits),
        (output.boxes_cxcywh, expected.decoder_coord_logits),
    ):
        torch.testing.assert_close(found.sort(dim=1).values, other.sort(dim=1).values, atol=1e-5, rtol=1e-5)
