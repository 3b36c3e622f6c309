"""Grounding DINO and MM-Grounding-DINO against the library's own forward pass, and the caption contract."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ovd_bench.detectors.captions import caption_of_names, caption_of_text, joined_spans, tokenize_names
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.grounding_dino_hf import GroundingDinoDetector, TextFeatures, load, tokenize_with
from ovd_bench.detectors.interface import DetectorSettings, GroundingDetector
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary
from ovd_bench.perf.random_models import bert_tokenizer
from ovd_bench.tests.detectors.tiny_models import random_image, write_grounding_dino

FloatArray = npt.NDArray[np.float32]

FAMILIES = ("grounding-dino", "mm-grounding-dino")
NAMES = ("traffic_light", "bow_(weapon)", "remote control", "dog", "hair dryer")
VOCABULARY = Vocabulary((10, 20, 30, 40, 50), NAMES)
IN_TWOS = PromptPlan(chunk_classes=2)
#: What the library's processor would make of the chunks of ``IN_TWOS``.
CAPTIONS = ("traffic light. bow.", "remote control. dog.", "hair dryer.")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("grounding-dino")
    return {family: write_grounding_dino(root / family, family) for family in FAMILIES}


def _load(folder: Path, family: str, **settings: Any) -> GroundingDinoDetector:
    card = DetectorCard("tiny", family, "torch", loader="ovd_bench.detectors.grounding_dino_hf:load")
    return load(card, DetectorSettings(weights=str(folder), **settings))


def _texts(detector: GroundingDinoDetector) -> list[TextFeatures]:
    assert detector._queries is not None
    return detector._queries.texts


def _same(found: Detections, expected: Detections) -> None:
    assert found.category_ids.tolist() == expected.category_ids.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_chunk_equals_the_librarys_forward(folders: dict[str, Path], family: str) -> None:
    detector = _load(folders[family], family)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    assert len(_texts(detector)) == len(CAPTIONS)
    for image in (random_image(40, 70, 1), random_image(90, 50, 2)):
        pixels = detector.prepare(image)[None]
        features = detector.image_features(pixels)
        for text, caption in zip(_texts(detector), CAPTIONS, strict=True):
            output = detector.predict(features, text)
            with torch.inference_mode():
                expected = detector._model(pixel_values=pixels, **bert_tokenizer()(caption, return_tensors="pt"))
            logits = expected.logits[..., : output.logits.shape[-1]]
            assert logits.std() > 0.1
            assert expected.logits[..., output.logits.shape[-1] :].isneginf().all()
            torch.testing.assert_close(output.logits, logits, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(output.boxes_cxcywh, expected.pred_boxes, atol=1e-5, rtol=0)


def test_five_levels_equal_the_librarys_forward(tmp_path: Path) -> None:
    detector = _load(write_grounding_dino(tmp_path / "five", "mm-grounding-dino", levels=5), "llmdet")
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    pixels = detector.prepare(random_image(40, 70, 1))[None]
    features = detector.image_features(pixels)
    assert len(features.shapes) == 5
    output = detector.predict(features, _texts(detector)[1])
    with torch.inference_mode():
        expected = detector._model(pixel_values=pixels, **bert_tokenizer()(CAPTIONS[1], return_tensors="pt"))
    torch.testing.assert_close(output.logits, expected.logits[..., : output.logits.shape[-1]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.boxes_cxcywh, expected.pred_boxes, atol=1e-5, rtol=0)


def test_a_batch_of_equal_sizes_equals_the_librarys_forward(folders: dict[str, Path]) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino")
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    pixels = torch.stack([detector.prepare(random_image(40, 70, n)) for n in (1, 2)])
    output = detector.predict(detector.image_features(pixels), _texts(detector)[0])
    with torch.inference_mode():
        text = bert_tokenizer()([CAPTIONS[0]] * 2, return_tensors="pt")
        expected = detector._model(pixel_values=pixels, **text)
    torch.testing.assert_close(output.logits, expected.logits[..., : output.logits.shape[-1]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.boxes_cxcywh, expected.pred_boxes, atol=1e-5, rtol=0)


def test_a_class_scores_the_mean_of_its_own_tokens(folders: dict[str, Path]) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino", top_k=1000)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    image = random_image(40, 70, 1)
    output = detector.predict(detector.image_features(detector.prepare(image)[None]), _texts(detector)[0])
    # [CLS] traffic light . bow . [SEP]
    tokens = output.logits[0].sigmoid()
    expected = {10: (tokens[:, 1] + tokens[:, 2]) / 2, 20: tokens[:, 4]}
    found = detector.detect([image])[0]
    assert len(found) == 5 * output.logits.shape[1]
    for category, scores in expected.items():
        mine = np.sort(found.scores[found.category_ids == category])
        np.testing.assert_allclose(mine, np.sort(scores.numpy()), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_gives_the_same_boxes_in_any_company_and_order(folders: dict[str, Path], family: str) -> None:
    detector = _load(folders[family], family, top_k=20)
    assert isinstance(detector, GroundingDetector)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    images = [random_image(40, 70, 1), random_image(90, 50, 2), random_image(40, 70, 3)]
    alone = [detector.detect([image])[0] for image in images]
    for found, expected in zip(detector.detect(images), alone, strict=True):
        _same(found, expected)
    detector.detect([images[1]])
    _same(detector.detect([images[0]])[0], alone[0])


def test_text_features_stay_as_they_are(folders: dict[str, Path]) -> None:
    """The official code overwrites its text with the image-dependent memory; a reused one then leaks images."""
    detector = _load(folders["grounding-dino"], "grounding-dino")
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    before = [text.features.clone() for text in _texts(detector)]
    detector.detect([random_image(40, 70, 1), random_image(90, 50, 2)])
    for text, features in zip(_texts(detector), before, strict=True):
        assert torch.equal(text.features, features)


def test_a_chunk_gives_the_same_alone_and_among_others(folders: dict[str, Path]) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino", top_k=1000)
    image = random_image(40, 70, 1)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    together = detector.detect([image])[0]
    detector.set_vocabulary(VOCABULARY.take([2, 3]), IN_TWOS)
    alone = detector.detect([image])[0]
    mine = np.isin(together.category_ids, [30, 40])
    assert together.category_ids[mine].tolist() == alone.category_ids.tolist()
    np.testing.assert_array_equal(together.scores[mine], alone.scores)
    np.testing.assert_array_equal(together.boxes_xyxy[mine], alone.boxes_xyxy)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    _same(detector.detect([image])[0], together)


def test_chunks_keep_their_own_best(folders: dict[str, Path]) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino", top_k=12, chunk_top_k=4)
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    found = detector.detect([random_image(40, 70, 1)])[0]
    counts = [int(np.isin(found.category_ids, chunk).sum()) for chunk in ([10, 20], [30, 40], [50])]
    assert counts == [4, 4, 4]
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize(("height", "width"), [(40, 70), (90, 50), (30, 90)])
def test_a_box_lands_where_its_object_is(folders: dict[str, Path], height: int, width: int) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino", top_k=1)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    box = np.array([width * 0.25, height * 0.5, width * 0.5, height * 0.75]).astype(int)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    image = Image(1, pixels)
    seen = detector.prepare(image)[0]
    assert seen.shape == detector.network_size(image)
    rows, columns = torch.nonzero(seen > (seen.max() + seen.min()) / 2, as_tuple=True)
    corners = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
    corners /= torch.tensor([seen.shape[1], seen.shape[0]] * 2)
    planted = torch.cat(((corners[:2] + corners[2:]) / 2, corners[2:] - corners[:2]))
    detector._core.decoder.register_forward_hook(lambda _, __, output: _at_half(output))
    detector._model.bbox_embed[-1].forward = lambda hidden: torch.logit(planted).expand(*hidden.shape[:2], 4)
    found = detector.detect([image])[0]
    pixel = max(height / seen.shape[0], width / seen.shape[1])
    np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=pixel + 1e-3)


def _at_half(output: Any) -> Any:
    """Reference points whose inverse sigmoid is zero, so that the last head says the box."""
    output.intermediate_reference_points = torch.full_like(output.intermediate_reference_points, 0.5)
    return output


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (800, 1066)), ((640, 480), (1066, 800)), ((300, 640), (625, 1333)), ((800, 800), (800, 800))],
)
def test_network_size_is_that_of_the_official_code(
    folders: dict[str, Path], tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    folder = Path(shutil.copytree(folders["grounding-dino"], tmp_path / "large"))
    config = folder / "preprocessor_config.json"
    config.write_text(config.read_text().replace("64", "800").replace("96", "1333"))
    detector = _load(folder, "grounding-dino")
    assert detector.network_size(Image(1, np.zeros((*size, 3), np.uint8))) == expected


def test_another_image_size_keeps_the_shape_of_the_limits(folders: dict[str, Path]) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino", image_size=32)
    assert detector.network_size(random_image(50, 60)) == (32, 38)
    assert detector.network_size(random_image(20, 200)) == (5, 50)


@pytest.mark.parametrize("names", [("a cat", "Dr. Pepper?", "café au lait", "T-shirt"), ("[SEP] dog", "x[CLS]")])
def test_captions_of_names_are_what_the_tokenizer_makes_of_the_text(names: tuple[str, ...]) -> None:
    tokenizer = bert_tokenizer()
    caption = caption_of_names(tokenize_names(tokenize_with(tokenizer), names).ids)
    plain = [name.replace(".", " ").replace("?", " ").replace("[SEP]", "").replace("[CLS]", "") for name in names]
    text = ". ".join(plain).lower() + "."
    assert list(caption.ids) == tokenizer(text).input_ids
    for phrase, name in zip(caption.phrases, plain, strict=True):
        own = tokenizer(name, add_special_tokens=False).input_ids
        assert list(caption.ids[phrase.start : phrase.stop]) == own
        assert caption.ids[phrase.stop] == 1012


def test_every_phrase_is_an_island_with_its_own_positions(folders: dict[str, Path]) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino")
    detector.set_vocabulary(VOCABULARY.take([0, 1]), IN_TWOS)
    (text,) = _texts(detector)  # [CLS] traffic light . bow . [SEP]
    assert text.position_ids[0].tolist() == [0, 0, 1, 2, 0, 1, 0]
    islands = torch.block_diag(torch.ones(1, 1), torch.ones(3, 3), torch.ones(2, 2), torch.ones(1, 1)).bool()
    assert torch.equal(text.phrase_mask[0], islands)


def test_a_name_without_words_is_refused_and_unknown_words_are_noted(folders: dict[str, Path]) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino")
    with pytest.raises(DetectorError, match=r"class name '\.\?': has no word"):
        detector.set_vocabulary(Vocabulary((1,), (".?",)), PLANS["names"])
    detector.set_vocabulary(Vocabulary((1, 2), ("cat", "🦊")), PLANS["names"])
    assert any("1 class names have words unknown to BERT, such as '🦊'" in note for note in detector.card.notes)


def test_chunks_are_cut_by_real_tokens_and_never_inside_a_class(folders: dict[str, Path]) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino")
    vocabulary = Vocabulary((1, 2, 3), ("cat", "electroencephalograph machine", "dog"))
    detector.set_vocabulary(vocabulary, PromptPlan(chunk_classes=None, token_budget=10))
    lengths = [(len(text.caption.phrases), len(text.caption.ids)) for text in _texts(detector)]
    assert lengths == [(1, 4), (1, 9), (1, 4)]
    detector.set_vocabulary(vocabulary, PromptPlan(chunk_classes=None, token_budget=11))
    lengths = [(len(text.caption.phrases), len(text.caption.ids)) for text in _texts(detector)]
    assert lengths == [(2, 11), (1, 4)]
    with pytest.raises(DetectorError, match="shorten its name or raise token_budget"):
        detector.set_vocabulary(vocabulary, PromptPlan(token_budget=6))
    with pytest.raises(DetectorError, match="token_budget is 512, the model reads 256"):
        detector.set_vocabulary(vocabulary, PromptPlan(token_budget=512))


def test_several_templates_are_refused(folders: dict[str, Path]) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino")
    with pytest.raises(DetectorError, match="'owl7' has 7 templates"):
        detector.set_vocabulary(VOCABULARY, PLANS["owl7"])
    with pytest.raises(DetectorError, match="no vocabulary was set"):
        detector.detect([random_image(8, 8)])


def test_grounding_tells_phrases_with_their_characters(folders: dict[str, Path]) -> None:
    detector = _load(folders["grounding-dino"], "grounding-dino", top_k=24)
    image, caption = random_image(40, 70, 1), "A GIRL. a red kite"
    (found,) = detector.ground([image], [caption])
    text = bert_tokenizer()("a girl. a red kite.", return_tensors="pt")
    with torch.inference_mode():
        expected = detector._model(pixel_values=detector.prepare(image)[None], **text)
    tokens = expected.logits[0].sigmoid().numpy()  # [CLS] a girl . a red kite . [SEP]
    best = np.sort(np.concatenate([tokens[:, 1:3].max(axis=1), tokens[:, 4:7].max(axis=1)]))[::-1]
    assert found.caption == caption
    np.testing.assert_allclose(found.scores, best, atol=1e-5)
    words = {(0, 1): 1, (2, 6): 2, (8, 9): 4, (10, 13): 5, (14, 18): 6}
    corners = _corners(expected.pred_boxes[0].numpy(), image)
    for box, ranges in zip(found.boxes_xyxy, found.spans, strict=True):
        query = int(np.abs(corners - box).sum(axis=1).argmin())
        first = ranges[0][0] < 7
        own = [place for place in words if (place[0] < 7) == first]
        sure = [place for place in own if tokens[query, words[place]] > 0.25] or own
        assert ranges == joined_spans(sure, caption)


def _corners(boxes: FloatArray, image: Image) -> FloatArray:
    half = boxes[:, 2:] / 2
    frame = np.array([image.width, image.height, image.width, image.height], np.float32)
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1, dtype=np.float32) * frame


def test_spans_join_over_white_space_only() -> None:
    text = "red  kite, big"
    assert joined_spans([(0, 3), (5, 9), (11, 14)], text) == ((0, 9), (11, 14))


def test_a_free_caption_gets_its_final_dot() -> None:
    caption = caption_of_text(tokenize_with(bert_tokenizer()), "Two dogs? no")
    assert list(caption.ids) == bert_tokenizer()("two dogs? no.").input_ids
    assert caption.phrases == (range(1, 3), range(4, 5))
    assert caption.spans == (((0, 3), (4, 8)), ((10, 12),))


@pytest.mark.parametrize(
    ("captions", "message"),
    [(["..."], "has no words"), (["dog " * 300], "tokens of 256"), ([], "1 images, 0 captions")],
)
def test_captions_that_cannot_be_read(folders: dict[str, Path], captions: list[str], message: str) -> None:
    with pytest.raises(DetectorError, match=message):
        _load(folders["grounding-dino"], "grounding-dino").ground([random_image(40, 70)], captions)


def test_half_precision_is_close(folders: dict[str, Path]) -> None:
    outputs = []
    for dtype in ("float32", "bfloat16"):
        detector = _load(folders["mm-grounding-dino"], "mm-grounding-dino", dtype=dtype)
        detector.set_vocabulary(VOCABULARY, IN_TWOS)
        features = detector.image_features(detector.prepare(random_image(40, 70, 1))[None])
        outputs.append(detector.predict(features, _texts(detector)[0]))
    assert outputs[1].logits.dtype == outputs[1].boxes_cxcywh.dtype == torch.float32
    # other positions may win the query selection, so queries are compared as sets
    exact, half = (output.logits.amax(dim=-1).sort().values for output in outputs)
    assert 0 < (exact - half).abs().median() < 0.2 * exact.std()


def test_the_older_layout_with_a_bare_vocabulary_loads(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["grounding-dino"], tmp_path / "old"))
    (folder / "tokenizer.json").unlink()
    words = sorted(bert_tokenizer().get_vocab().items(), key=lambda entry: entry[1])
    (folder / "vocab.txt").write_text("\n".join(word for word, _ in words) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "tokenizer_class": "BertTokenizer"}')
    assert _load(folder, "grounding-dino").card.parameters is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"size": {"height": 5, "width": 5}, "image_mean": [0,0,0], "image_std": [1,1,1]}', "shortest_edge"),
        (
            '{"size": {"shortest_edge": 64, "longest_edge": 96}, "image_mean": [0,0], "image_std": [1,1,1]}',
            "image_mean",
        ),
        ("{", "cannot be read as JSON"),
    ],
)
def test_preprocessing_is_checked(folders: dict[str, Path], tmp_path: Path, content: str, message: str) -> None:
    folder = Path(shutil.copytree(folders["grounding-dino"], tmp_path / "broken"))
    (folder / "preprocessor_config.json").write_text(content)
    with pytest.raises(DetectorError, match=message):
        _load(folder, "grounding-dino")


@pytest.mark.full
def test_the_real_size_equals_the_librarys_forward(tmp_path: Path) -> None:
    folder = write_grounding_dino(tmp_path / "tiny", full_size=True)
    detector = _load(folder, "grounding-dino", image_size=320)
    assert detector.card.parameters == 172_250_626
    detector.set_vocabulary(VOCABULARY, IN_TWOS)
    pixels = detector.prepare(random_image(427, 640, 1))[None]
    output = detector.predict(detector.image_features(pixels), _texts(detector)[0])
    with torch.inference_mode():
        expected = detector._model(pixel_values=pixels, **bert_tokenizer()(CAPTIONS[0], return_tensors="pt"))
    logits = expected.logits[..., : output.logits.shape[-1]]
    torch.testing.assert_close(output.logits, logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.boxes_cxcywh, expected.pred_boxes, atol=1e-5, rtol=0)
