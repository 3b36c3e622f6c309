"""OWL-ViT and OWLv2 against the library's own forward pass, and against the rules of the published evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.owl import OwlDetector, load
from ovd_bench.detectors.owl_prompts import canonical
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary
from ovd_bench.tests.detectors.tiny_models import random_image, write_owl

FAMILIES = ("owlvit", "owlv2")
VOCABULARY = Vocabulary((30, 10, 20), ("cat", "Traffic_light", "bow_(weapon)"))
IN_ORDER = ("Traffic light", "bow", "cat")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("owl")
    return {family: write_owl(root / family, version) for version, family in enumerate(FAMILIES, start=1)}


def _load(folder: Path, family: str, **settings: Any) -> OwlDetector:
    card = DetectorCard("tiny", family, "torch", loader="ovd_bench.detectors.owl:load")
    return load(card, DetectorSettings(weights=str(folder), **settings))


def _same(found: Detections, expected: Detections) -> None:
    assert found.category_ids.tolist() == expected.category_ids.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)


def _library(detector: OwlDetector, pixels: torch.Tensor, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, n, K) and boxes of the library's own forward pass, text padded and masked as its processor does."""
    model, tokenizer = detector._loaded.module, detector._tokenizer
    text = tokenizer(list(prompts) * len(pixels), padding="max_length", max_length=16, return_tensors="pt")
    with torch.inference_mode():
        output = model(input_ids=text.input_ids, pixel_values=pixels, attention_mask=text.attention_mask)
    return output.logits, output.pred_boxes


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_boxes_equal_the_librarys_forward(folders: dict[str, Path], family: str) -> None:
    detector = _load(folders[family], family)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    pixels = torch.stack([detector.prepare(random_image(40, 70, 1)), detector.prepare(random_image(90, 50, 2))])
    output = detector.predict(pixels)
    logits, boxes = _library(detector, pixels, [canonical(name) for name in IN_ORDER])
    assert logits.std() > 0.1
    torch.testing.assert_close(output.logits.transpose(1, 2), logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.boxes_cxcywh, boxes, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logit_ensemble_is_the_mean_of_each_templates_logits(folders: dict[str, Path], family: str) -> None:
    detector, plan = _load(folders[family], family), PLANS["owl7"]
    detector.set_vocabulary(VOCABULARY, plan)
    pixels = detector.prepare(random_image(40, 70, 1))[None]
    logits = [
        _library(detector, pixels, [canonical(template.replace("{}", name)) for name in IN_ORDER])[0]
        for template in plan.templates
    ]
    straightforward = torch.stack(logits).mean(dim=0)
    torch.testing.assert_close(detector.predict(pixels).logits.transpose(1, 2), straightforward, atol=1e-5, rtol=1e-5)


def test_the_embedding_ensemble_is_the_logit_of_the_normalised_mean(folders: dict[str, Path]) -> None:
    detector = _load(folders["owlv2"], "owlv2")
    plan = PromptPlan(templates=("a photo of a {}.", "art of the {}."), ensemble="embeddings")
    detector.set_vocabulary(VOCABULARY, plan)
    pixels = detector.prepare(random_image(40, 70, 1))[None]
    model, tokenizer = detector._loaded.module, detector._tokenizer
    with torch.inference_mode():
        units = []
        for template in plan.templates:
            prompts = [canonical(template.replace("{}", name)) for name in IN_ORDER]
            text = tokenizer(prompts, padding="max_length", max_length=16, return_tensors="pt")
            vectors = model.owlv2.get_text_features(**text).pooler_output
            units.append(torch.nn.functional.normalize(vectors, dim=-1))
        features = model.image_embedder(pixels)[0].flatten(1, 2)
        logits, _ = model.class_predictor(features, torch.stack(units).mean(dim=0)[None])  # normalises
    torch.testing.assert_close(detector.predict(pixels).logits.transpose(1, 2), logits, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_gives_the_same_boxes_in_any_company_and_order(folders: dict[str, Path], family: str) -> None:
    detector = _load(folders[family], family, top_k=20)
    assert isinstance(detector, Detector)
    detector.set_vocabulary(VOCABULARY, PLANS["photo"])
    images = [random_image(40, 70, 1), random_image(90, 50, 2), random_image(64, 64, 3)]
    alone = [detector.detect([image])[0] for image in images]
    for found, expected in zip(detector.detect(images), alone, strict=True):
        _same(found, expected)
    _same(detector.detect([images[0]])[0], alone[0])
    assert [found.image_id for found in alone] == [1, 2, 3]
    assert len(alone[0]) == 20


def test_a_vocabulary_set_again_gives_the_same(folders: dict[str, Path]) -> None:
    detector = _load(folders["owlvit"], "owlvit", top_k=20)
    image = random_image(40, 70, 1)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    before = detector.detect([image])[0]
    detector.set_vocabulary(Vocabulary((5,), ("日本 lamp",)), PLANS["names"])
    assert set(detector.detect([image])[0].category_ids.tolist()) == {5}
    assert any("日本" in note for note in detector.card.notes)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    _same(detector.detect([image])[0], before)
    assert detector.card.notes == ()


@pytest.mark.parametrize(("height", "width"), [(40, 160), (150, 50), (300, 200), (64, 64)])
def test_a_box_lands_where_its_object_is(folders: dict[str, Path], height: int, width: int) -> None:
    detector = _load(folders["owlvit"], "owlvit", top_k=1)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    box = np.array([width * 0.25, height * 0.5, width * 0.5, height * 0.75]).astype(int)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    image = Image(1, pixels)
    seen = detector.prepare(image)[0]
    rows, columns = torch.nonzero(seen > (seen.max() + seen.min()) / 2, as_tuple=True)
    side = seen.shape[0]
    corners = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)) / side
    planted = torch.cat(((corners[:2] + corners[2:]) / 2, corners[2:] - corners[:2]))
    detector._model.box_predictor = lambda features, *_: planted.expand(*features.shape[:2], 4)
    found = detector.detect([image])[0]
    pixel = max(height, width) / side  # what one cell of the network's input stands for
    np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=pixel + 1e-3)


def test_boxes_in_the_padding_are_limited_to_the_image(folders: dict[str, Path]) -> None:
    detector = _load(folders["owlvit"], "owlvit", top_k=1)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    planted = torch.tensor([0.5, 0.9, 0.2, 1.0])
    detector._model.box_predictor = lambda features, *_: planted.expand(*features.shape[:2], 4)
    found = detector.detect([random_image(50, 100, 1)])[0]
    # centre (50, 90) and size (20, 100) become centre (50, 50) and size (20, 50), as unpad_box in scenic
    np.testing.assert_allclose(found.boxes_xyxy[0], [40, 25, 60, 75], atol=1e-3)


def test_the_image_is_padded_with_black_to_a_square_then_normalised(folders: dict[str, Path]) -> None:
    detector = _load(folders["owlvit"], "owlvit")
    tensor = detector.prepare(Image(1, np.full((32, 128, 3), 255, np.uint8)))
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    torch.testing.assert_close(tensor[:, :16], ((1 - mean) / std).expand(3, 16, 64))
    torch.testing.assert_close(tensor[:, 16:], (-mean / std).expand(3, 48, 64))


def test_enlarging_a_square_equals_the_librarys_owlv2_processor(folders: dict[str, Path]) -> None:
    from transformers import Owlv2ImageProcessor

    detector, image = _load(folders["owlv2"], "owlv2"), random_image(40, 40, 1)
    processor = Owlv2ImageProcessor(size={"height": 64, "width": 64})
    expected = processor(image.pixels, return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(detector.prepare(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("itap of a Stop_Sign.", "itap of a stop sign"),
        ("a origami flip--flop  (sandal).", "a origami flip-flop sandal"),
        ("  T-shirt/top, 3/4 ", "t-shirt top 3 4"),
        ("crème brûlée", "cr me br l e"),
        ("\u212a", ""),  # the Kelvin sign is not a letter k
    ],
)
def test_canonical_prompts(prompt: str, expected: str) -> None:
    assert canonical(prompt) == expected


def test_a_long_prompt_keeps_its_end_token_and_is_noted(folders: dict[str, Path]) -> None:
    detector = _load(folders["owlvit"], "owlvit")
    long = "a very very long name of a thing that nobody would ever call by all of these words"
    detector.set_vocabulary(Vocabulary((1, 2), (long, "cat")), PLANS["names"])
    assert any("1 prompts are longer than 16 tokens" in note for note in detector.card.notes)
    tokens = detector._tokenizer([long]).input_ids[0]
    model = detector._loaded.module
    with torch.inference_mode():
        cut = torch.tensor([[*tokens[:15], tokens[-1]]])
        vector = torch.nn.functional.normalize(model.owlvit.get_text_features(cut).pooler_output, dim=-1)
    assert detector._queries is not None
    torch.testing.assert_close(detector._queries.vectors[:1], vector, atol=1e-5, rtol=0)


def test_another_image_size_moves_boxes_with_the_grid(folders: dict[str, Path]) -> None:
    detector = _load(folders["owlv2"], "owlv2", image_size=96)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    pixels = detector.prepare(random_image(40, 70, 1))[None]
    assert pixels.shape == (1, 3, 96, 96)
    with torch.inference_mode():
        text = detector._tokenizer(["cat"], padding="max_length", max_length=16, return_tensors="pt")
        expected = detector._loaded.module(**text, pixel_values=pixels, interpolate_pos_encoding=True).pred_boxes
    torch.testing.assert_close(detector.predict(pixels).boxes_cxcywh, expected, atol=1e-5, rtol=0)
    with pytest.raises(DetectorError, match="image_size is 100, not a multiple of 8"):
        _load(folders["owlv2"], "owlv2", image_size=100)


def test_a_chunk_limit_counts_per_chunk(folders: dict[str, Path]) -> None:
    detector = _load(folders["owlvit"], "owlvit", top_k=12, chunk_top_k=4)
    detector.set_vocabulary(VOCABULARY, PromptPlan(chunk_classes=1))
    found = detector.detect([random_image(40, 70, 1)])[0]
    assert np.unique(found.category_ids, return_counts=True)[1].tolist() == [4, 4, 4]
    assert (np.diff(found.scores) <= 0).all()


def test_half_precision_is_close(folders: dict[str, Path]) -> None:
    exact, half = (_load(folders["owlvit"], "owlvit", dtype=dtype) for dtype in ("float32", "bfloat16"))
    pixels = exact.prepare(random_image(40, 70, 1))[None]
    outputs = []
    for detector in (exact, half):
        detector.set_vocabulary(VOCABULARY, PLANS["names"])
        outputs.append(detector.predict(pixels))
    assert outputs[1].logits.dtype == outputs[1].boxes_cxcywh.dtype == torch.float32
    difference = (outputs[0].logits - outputs[1].logits).abs().median()
    assert 0 < difference < 0.1 * outputs[0].logits.std()
    with pytest.raises(DetectorError, match="float16 is not supported on the CPU"):
        _load(folders["owlvit"], "owlvit", dtype="float16")


def test_detecting_without_a_vocabulary_is_an_error(folders: dict[str, Path]) -> None:
    with pytest.raises(DetectorError, match="no vocabulary was set"):
        _load(folders["owlvit"], "owlvit").detect([random_image(8, 8)])


@pytest.mark.full
def test_the_real_size_equals_the_librarys_forward(tmp_path: Path) -> None:
    detector = _load(write_owl(tmp_path / "b32", 1, full_size=True), "owlvit")
    assert detector.card.parameters == 153_231_879
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    pixels = detector.prepare(random_image(427, 640, 1))[None]
    output = detector.predict(pixels)
    logits, boxes = _library(detector, pixels, [canonical(name) for name in IN_ORDER])
    torch.testing.assert_close(output.logits.transpose(1, 2), logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.boxes_cxcywh, boxes, atol=1e-5, rtol=0)
