"""The adapter of GLIP: the caption contract, the choice of boxes, caching, geometry, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ovd_bench.baselines.glip.anchors import encode
from ovd_bench.baselines.glip.model import Glip, GlipOutput, ImageFeatures, TextFeatures
from ovd_bench.baselines.glip.weights import write_weights
from ovd_bench.benchmarks.conformance.checks import check_detector
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.glip import GlipDetector, load, untrained
from ovd_bench.detectors.interface import Detector, DetectorSettings, GroundingDetector, RawDetector
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.detectors.registry import BUILT_IN, load_detector
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary
from ovd_bench.perf.random_models import bert_tokenizer
from ovd_bench.tests.baselines.glip.tiny import TINY, drawn, write_official
from ovd_bench.tests.detectors.tiny_models import random_image

CARD = DetectorCard(
    "tiny",
    family="glip",
    framework="torch",
    loader="ovd_bench.detectors.glip:load",
    training_data=(),
    capabilities=("open_vocabulary", "joint", "grounding"),
)
PLAIN = dataclasses.replace(TINY, fused=False)
CONFIGS = {"fused": TINY, "variant-a": PLAIN}
NAMES = ("traffic_light", "bow_(weapon)", "remote control", "dog", "hair dryer")
VOCABULARY = Vocabulary((10, 20, 30, 40, 50), NAMES)
IN_TWOS = PromptPlan(chunk_classes=2, token_budget=48)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("glip")
    for name, config in CONFIGS.items():
        # captions of the plans have up to 256 tokens
        bert = dataclasses.replace(config.bert, positions=256)
        write_weights(
            drawn(dataclasses.replace(config, bert=bert, max_tokens=256)), folder / f"{name}.safetensors", "canonical"
        )
    return {name: folder / f"{name}.safetensors" for name in CONFIGS}


@pytest.fixture(params=CONFIGS)
def file(request: pytest.FixtureRequest, files: dict[str, Path]) -> Path:
    return files[request.param]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _load(file: Path, plan: PromptPlan | None = IN_TWOS, **settings: Any) -> GlipDetector:
    detector = load(CARD, DetectorSettings(weights=str(file), **settings))
    if plan is not None:
        detector.set_vocabulary(VOCABULARY, plan)
    return detector


def _same(found: Detections, expected: Detections) -> None:
    """Up to rounding, which swaps neighbours in the order and what is last among the best."""
    assert len(found) == len(expected)
    for some, others in ((found, expected), (expected, found)):
        alike = some.category_ids[:, None] == others.category_ids
        alike &= np.abs(some.scores[:, None] - others.scores) < 1e-5
        alike &= np.abs(some.boxes_xyxy[:, None] - others.boxes_xyxy).max(2) < 1e-3
        last = some.scores < others.scores[-1] + 1e-5
        assert (alike.any(1) | last).all()


def test_it_keeps_the_contract(file: Path) -> None:
    def make(top_k: int) -> Detector:
        return load(CARD, DetectorSettings(weights=str(file), top_k=top_k))

    made = list(check_detector("tiny", make))
    made = [o for o in made if o.check != "names-apart"]  # a text encoder of random numbers need not tell names apart
    assert [(o.check, o.detail) for o in made if o.status == "failed"] == []
    assert {o.check for o in made if o.status == "skipped"} <= {"place", "finds", "templates", "company"}


def test_a_caption_is_what_the_official_code_makes_of_the_names(files: dict[str, Path]) -> None:
    """Names cleaned, joined by ". ", nothing after the last one."""
    chunks = _load(files["fused"], chunk_batch=1)._chunks
    texts = ("traffic light. bow", "remote control. dog", "hair dryer")
    for chunk, text in zip(chunks, texts, strict=True):
        (caption,) = chunk.captions
        assert list(caption.ids) == bert_tokenizer()(text).input_ids
        for phrase, name in zip(caption.phrases, text.split(". "), strict=True):
            own = bert_tokenizer()(name, add_special_tokens=False).input_ids
            assert list(caption.ids[phrase.start : phrase.stop]) == own


def test_a_score_is_the_root_of_mean_probability_times_centerness(files: dict[str, Path]) -> None:
    """Every answer is found again among the network's own numbers; no other way of scoring has them."""
    detector = _load(files["fused"], top_k=100, chunk_batch=1)
    image = random_image(64, 96, 1)
    found = detector.detect([image])[0]
    output = detector._predict(detector.image_features(image), detector._chunks[0].text)
    tokens, centerness = output.logits[0].sigmoid(), output.centerness[0].sigmoid()
    # [CLS] traffic light . bow [SEP]
    expected = {10: (tokens[:, 1] + tokens[:, 2]) / 2, 20: tokens[:, 4]}
    for category, probability in expected.items():
        mine = torch.from_numpy(found.scores[found.category_ids == category])
        assert len(mine) > 5
        scores = (probability * centerness).sqrt()
        assert (mine[:, None] - scores).abs().min(dim=1).values.max() < 1e-6


def test_chunks_together_alone_and_in_any_order(file: Path) -> None:
    """Padding to the longest caption of a group, other chunks and earlier images change nothing."""
    image, other = random_image(40, 70, 1), random_image(90, 50, 2)
    one_by_one = _load(file, chunk_batch=1)
    expected = one_by_one.detect([image])[0]
    assert len(expected) > 100
    _same(_load(file, chunk_batch=8).detect([image])[0], expected)
    for found in one_by_one.detect([other, image])[1:]:
        _same(found, expected)
    one_by_one.set_vocabulary(VOCABULARY.take([2, 3]), IN_TWOS)
    alone = one_by_one.detect([image])[0]
    everything = _load(file, top_k=5000).detect([image])[0]
    mine = np.isin(everything.category_ids, [30, 40])
    best = np.argsort(-everything.scores[mine], kind="stable")[:300]
    np.testing.assert_allclose(everything.scores[mine][best], alone.scores, atol=1e-6)


def test_chunks_keep_their_own_best(files: dict[str, Path]) -> None:
    detector = _load(files["fused"], top_k=12, chunk_top_k=4)
    found = detector.detect([random_image(40, 70, 1)])[0]
    counts = [int(np.isin(found.category_ids, chunk).sum()) for chunk in ([10, 20], [30, 40], [50])]
    assert counts == [4, 4, 4]
    assert (np.diff(found.scores) <= 0).all()


def test_text_and_image_are_encoded_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three chunks, two images: BERT three times and never again, the backbone twice, the head as the variant needs."""
    calls: list[str] = []

    def counted(name: str) -> None:
        method = getattr(Glip, name)

        def call(self: Glip, *args: Any) -> Any:
            calls.append(name)
            return method(self, *args)

        monkeypatch.setattr(Glip, name, call)

    for name in ("encode_text", "encode_image", "forward"):
        counted(name)
    blocks: list[int] = []
    detector = _load(file, chunk_batch=1)
    tower = detector._model.rpn["head"].dyhead_tower
    tower[-1].register_forward_hook(lambda *_: blocks.append(1))
    detector.detect([random_image(40, 70, 1), random_image(90, 50, 2)])
    assert {name: calls.count(name) for name in calls} == {"encode_text": 3, "encode_image": 2, "forward": 6}
    assert len(blocks) == (6 if detector._model.config.fused else 2)


def _planted(box: torch.Tensor) -> Any:
    """A head that finds one box, at the first location, and nothing else."""

    def forward(self: Glip, image: ImageFeatures, text: TextFeatures) -> GlipOutput:
        count = sum(height * width for height, width in image.shapes)
        anchor = torch.tensor([[3.5 - 7.5, 3.5 - 7.5, 3.5 + 7.5, 3.5 + 7.5]])
        logits = torch.full((len(text.hidden), count, text.hidden.shape[1]), -20.0)
        logits[:, 0] = 20.0
        deltas = torch.zeros(len(text.hidden), count, 4)
        deltas[:, 0] = encode(box[None], anchor)[0]
        return GlipOutput(logits, deltas, torch.zeros(len(text.hidden), count), image.shapes)

    return forward


@pytest.mark.parametrize(("height", "width"), [(40, 70), (90, 50), (30, 90)])
def test_a_box_lands_where_its_object_is(
    files: dict[str, Path], height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The white rectangle is sought in the network's own input, padding and all; the head answers with its corners."""
    detector = _load(files["fused"], top_k=1)
    box = np.array([width * 0.25, height * 0.5, width * 0.5, height * 0.75]).astype(int)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    image = Image(1, pixels)
    seen = detector.prepare(image)[0]
    assert all(edge % 32 == 0 for edge in seen.shape)
    rows, columns = torch.nonzero(seen > (255 / 2 - 103.53) / 57.375, as_tuple=True)
    corners = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
    monkeypatch.setattr(Glip, "forward", _planted(corners))
    found = detector.detect([image])[0]
    size = detector.network_size(image)
    pixel = max(height / size[0], width / size[1])
    np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=pixel + 1e-3)


def test_boxes_end_at_the_last_pixel_of_the_image_not_of_the_padding(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = _load(files["fused"], top_k=1)
    image = random_image(96, 100)
    assert detector.network_size(image) == (96, 100)
    assert detector.prepare(image).shape == (3, 96, 128)
    monkeypatch.setattr(Glip, "forward", _planted(torch.tensor([-50.0, -40.0, 500.0, 400.0])))
    np.testing.assert_allclose(detector.detect([image])[0].boxes_xyxy, [[0, 0, 99, 95]])
    monkeypatch.setattr(Glip, "forward", _planted(torch.tensor([20.0, 30.0, 19.5, 40.0])))
    np.testing.assert_allclose(detector.detect([image])[0].boxes_xyxy, [[20, 30, 20, 40]], atol=1e-4)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (800, 1066)), ((640, 480), (1066, 800)), ((300, 640), (625, 1333)), ((800, 800), (800, 800))],
)
def test_network_size_is_that_of_the_official_code(size: tuple[int, int], expected: tuple[int, int]) -> None:
    model = drawn(dataclasses.replace(TINY, image_size=800, image_longest=1333))
    detector = GlipDetector(CARD, model, DetectorSettings())
    assert detector.network_size(Image(1, np.zeros((*size, 3), np.uint8))) == expected


def test_phrases_are_treated_as_classes(files: dict[str, Path]) -> None:
    """The phrases of a caption find what the same names as a vocabulary find."""
    detector = _load(files["fused"], PLANS["names"], top_k=50)
    assert isinstance(detector, GroundingDetector)
    image = random_image(64, 96, 1)
    (expected,) = detector.detect([image])
    caption = "Traffic light. bow. remote control. dog. hair dryer"
    (found,) = detector.ground([image], [caption])
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-4)
    names = dict(zip(VOCABULARY.ids, caption.split(". "), strict=True))
    assert list(found.phrases) == [names[category] for category in expected.category_ids]
    (dotted,) = detector.ground([image], [f"{caption}."])
    assert not np.array_equal(dotted.scores, found.scores)  # a dot is a token, and none is added


def test_raw_output_is_what_the_network_says_of_a_padded_caption(file: Path) -> None:
    detector = _load(file, PLANS["names"])
    assert isinstance(detector, RawDetector)
    image = random_image(64, 90, 1)
    raw = detector.raw(image, "traffic light. bow. remote control. dog. hair dryer")
    count = int(raw["level_shapes"].prod(1).sum())
    assert {name: array.shape for name, array in raw.items()} == {
        "pred_logits": (count, 256),
        "centerness": (count,),
        "deltas": (count, 4),
        "pred_boxes": (count, 4),
        "level_shapes": (5, 2),
        "input_ids": (256,),
        "image_size": (2,),
    }
    assert raw["input_ids"][:6].tolist() == [101, 4026, 2422, 1012, 6812, 1012]
    assert raw["image_size"].tolist() == [96, 135]
    output = detector._predict(detector.image_features(image), detector._chunks[0].text)
    tokens = output.logits.shape[2]
    assert tokens < 30
    np.testing.assert_allclose(raw["pred_logits"][:, :tokens], output.logits[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(raw["centerness"], output.centerness[0].numpy(), atol=1e-4)
    assert detector.raw(image, "dog. " * 200)["input_ids"][-1] == 102


def test_cards_name_the_size_of_their_weights(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="another size than 'glip-tiny'"):
        load_detector("glip-tiny", DetectorSettings(weights=str(files["fused"])))
    with pytest.raises(DetectorError, match=r"names no weights: give --weights FILE.pth, see https://github.com"):
        load_detector("glip-tiny", DetectorSettings())
    with pytest.raises(DetectorError, match="no such file"):
        load_detector("glip-tiny", DetectorSettings(weights=str(tmp_path / "absent.pth")))
    with pytest.raises(DetectorError, match="a GLIP of no known size"):
        load_detector("glip-tiny", DetectorSettings(weights=str(write_official(drawn(TINY), tmp_path / "w.pth"))))
    card = _load(files["fused"]).card
    assert card.parameters == sum(parameter.numel() for parameter in drawn(TINY).parameters()) + (256 - 64) * 24
    assert len(card.weights_sha256) == 64


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "bfloat16"}, "dtype is bfloat16, it computes in float32"),
        ({"device": "cuda:77"}, "device 'cuda:77': "),
        ({"device": "chair"}, "device 'chair': "),
    ],
)
def test_what_cannot_be_is_one_line(files: dict[str, Path], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DetectorError, match=message) as caught:
        _load(files["fused"], **settings)
    assert "\n" not in str(caught.value)


def test_questions_that_cannot_be_answered(files: dict[str, Path]) -> None:
    detector = _load(files["fused"], None)
    with pytest.raises(DetectorError, match="no vocabulary was set"):
        detector.detect([random_image(40, 40)])
    with pytest.raises(DetectorError, match="'owl7' has 7 templates"):
        detector.set_vocabulary(VOCABULARY, PLANS["owl7"])
    with pytest.raises(DetectorError, match="1 images, 0 captions"):
        detector.ground([random_image(40, 40)], [])
    with pytest.raises(DetectorError, match="has no words"):
        detector.ground([random_image(40, 40)], ["..."])
    with pytest.raises(DetectorError, match="a caption has 602 tokens of 256"):
        detector.ground([random_image(40, 40)], ["dog " * 600])


def test_scores_that_are_not_finite_are_an_error(files: dict[str, Path]) -> None:
    detector = _load(files["fused"])
    detector._model.rpn["head"].bias0.fill_(torch.nan)
    with pytest.raises(DetectorError, match="scores that are not finite"):
        detector.detect([random_image(40, 40)])


@pytest.mark.full
@pytest.mark.parametrize("name", ["glip-tiny-a", "glip-tiny"])
def test_the_real_size_answers(name: str, tmp_path: Path) -> None:
    """From a file in the official layout, at a small image size, under the card's own name."""
    settings = DetectorSettings(image_size=160)
    expected = untrained(BUILT_IN[name], settings)
    weights = write_official(expected._model, tmp_path / "w.pth")
    detector = load_detector(name, dataclasses.replace(settings, weights=str(weights)))
    assert detector.card.parameters == expected.card.parameters == BUILT_IN[name].parameters
    answers = []
    for one in (detector, expected):
        one.set_vocabulary(VOCABULARY, PLANS["names"])
        answers.append(one.detect([random_image(100, 140)])[0])
    assert len(answers[0]) > 0
    np.testing.assert_array_equal(answers[0].scores, answers[1].scores)
