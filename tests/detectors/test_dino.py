"""The adapter of DINO: classes, pairs, boxes of the original image, the contract, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.ops import box_convert
from torchvision.transforms.functional import normalize, to_tensor

from ovd_bench.benchmarks.conformance.checks import check_detector
from ovd_bench.benchmarks.conformance.pictures import FIGURES, OTHERS
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_columns import class_columns
from ovd_bench.detectors.coco_classes import COCO_CLASSES
from ovd_bench.detectors.dino import DinoDetector, load
from ovd_bench.detectors.interface import CountsFlops, Detector, DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.registry import BUILT_IN, load_detector
from ovd_bench.detectors.types import DetectorError, Image, Vocabulary
from ovd_bench.grounding_dino_jt.dino.config import RESNET50_4SCALE, RESNET50_5SCALE, SWIN_L_4SCALE, SWIN_L_5SCALE
from ovd_bench.grounding_dino_jt.dino.weights import parameter_count, write_canonical
from ovd_bench.tests.detectors.tiny_models import random_image
from ovd_bench.tests.grounding_dino_jt.dino.reference import ReferenceDino
from ovd_bench.tests.grounding_dino_jt.dino.small import SMALL, drawn, official_state

CARD = DetectorCard(
    "tiny", family="dino", framework="jittor", loader="ovd_bench.detectors.dino:load", training_data=(), capabilities=()
)
TINY = dataclasses.replace(SMALL, num_classes=91, image_size=64, image_longest=96)
#: Ids that are no positions; "television set" is COCO's tv by another name, twice; a unicorn it has not.
VOCABULARY = Vocabulary((5, 40, 30, 20, 10), ("unicorn", "Person", "tv", "television set", "traffic_light"))
COLUMNS = {40: 1, 30: 72, 20: 72, 10: 10}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dino") / "tiny.safetensors"
    write_canonical(drawn(TINY), TINY, path, source="drawn", source_sha256="")
    return path


def _load(file: Path, **settings: int) -> DinoDetector:
    return load(CARD, DetectorSettings(weights=str(file), **settings))  # type: ignore[arg-type]


def test_coco_has_its_80_classes_at_their_ids() -> None:
    """Spot checks from the annotations' list of categories; every hole behind number 0 shifts all that follow."""
    assert len(COCO_CLASSES) == 91
    assert sum(name != "N/A" for name in COCO_CLASSES) == 80
    known = {1: "person", 11: "fire hydrant", 13: "stop sign", 25: "giraffe", 27: "backpack", 31: "handbag"}
    known |= {44: "bottle", 46: "wine glass", 65: "bed", 67: "dining table", 70: "toilet", 72: "tv", 82: "refrigerator"}
    known |= {84: "book", 90: "toothbrush"}
    assert {number: COCO_CLASSES[number] for number in known} == known


def _expected(detector: DinoDetector, image: Image) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (Q, 91) and corners (Q, 4), pixels of the image, of the reference in torch.

    The input is scaled and normalised by Pillow and torch themselves.
    """
    height, width = detector.network_size(image)
    picture = PIL.Image.fromarray(image.pixels).resize((width, height), PIL.Image.Resampling.BILINEAR)
    pixels = normalize(to_tensor(picture), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    output = ReferenceDino(official_state(drawn(TINY), TINY), TINY)(pixels[None], torch.zeros(1, height, width).bool())
    scale = torch.tensor([image.width, image.height] * 2)
    return output.logits[-1][0].sigmoid(), box_convert(output.boxes[-1][0], "cxcywh", "xyxy") * scale


@pytest.mark.parametrize("size", [(100, 70), (60, 140)])
def test_pairs_are_those_of_the_official_post_processing(file: Path, size: tuple[int, int]) -> None:
    """The best sigmoids of all pairs of query and class, whatever box they share."""
    image = random_image(*size)
    detector = _load(file, top_k=20)
    detector.set_vocabulary(VOCABULARY, PromptPlan())
    (found,) = detector.detect([image])
    scores, boxes = _expected(detector, image)
    expected = {
        (category, query): float(scores[query, column]) for category, column in COLUMNS.items() for query in range(12)
    }
    best = sorted(expected.values(), reverse=True)[:20]
    np.testing.assert_allclose(found.scores, best, rtol=0, atol=1e-5)
    for box, category, score in zip(found.boxes_xyxy, found.category_ids, found.scores, strict=True):
        query = min(range(12), key=lambda query: abs(expected[int(category), query] - float(score)))
        assert abs(expected[int(category), query] - float(score)) < 1e-5
        np.testing.assert_allclose(box, boxes[query].numpy(), rtol=0, atol=1e-2)
    assert {30, 20} <= set(found.category_ids.tolist())  # both names of the television


def test_the_network_sees_the_shorter_side_scaled(file: Path) -> None:
    assert _load(file).network_size(random_image(100, 80)) == (80, 64)
    assert _load(file).network_size(random_image(300, 100)) == (96, 32)
    assert _load(file, image_size=128).network_size(random_image(100, 80)) == (160, 128)


def test_operations_grow_with_the_image_only(file: Path) -> None:
    detector = _load(file)
    assert isinstance(detector, CountsFlops)
    assert detector.flops(random_image(90, 60)) == detector.flops(random_image(900, 600))
    assert detector.flops(random_image(60, 60)) < detector.flops(random_image(90, 60))


def test_chunks_limit_the_pairs_of_their_classes(file: Path) -> None:
    detector = _load(file, chunk_top_k=3)
    detector.set_vocabulary(VOCABULARY, PromptPlan(name="twos", chunk_classes=2))
    (found,) = detector.detect([random_image(80, 80)])
    counts = [int(np.isin(found.category_ids, ids).sum()) for ids in ((5, 10), (20, 30), (40,))]
    assert counts == [3, 3, 3]


def test_chunks_are_counted_among_the_categories_that_have_a_class() -> None:
    asked = class_columns("tiny", VOCABULARY, PromptPlan(name="twos", chunk_classes=2), COCO_CLASSES)
    assert dict(zip(asked.category_ids, asked.columns, strict=True)) == COLUMNS
    assert asked.chunks == (range(0, 1), range(1, 3), range(3, 4))


def test_the_card_tells_what_was_loaded_and_what_has_no_class(file: Path) -> None:
    detector = _load(file)
    detector.set_vocabulary(VOCABULARY, PromptPlan())
    assert len(detector.card.weights_sha256) == 64
    assert detector.card.parameters == parameter_count(TINY)
    assert any("1 of 5, as 'unicorn'" in note for note in detector.card.notes)
    detector.set_vocabulary(VOCABULARY.take([1]), PromptPlan())
    assert not any("unicorn" in note for note in detector.card.notes)


def test_a_vocabulary_without_any_class_gives_no_box(file: Path) -> None:
    detector = _load(file)
    detector.set_vocabulary(VOCABULARY.take([0]), PromptPlan())
    (found,) = detector.detect([random_image(80, 80)])
    assert len(found) == 0


def test_it_keeps_the_contract(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check asks for figures, which COCO has not; with columns of their names it gets boxes to judge."""
    names = (*FIGURES.names, *OTHERS.names)
    monkeypatch.setattr("ovd_bench.detectors.dino.COCO_CLASSES", (*names, *["N/A"] * (91 - len(names))))

    def make(top_k: int) -> Detector:
        return _load(file, top_k=top_k)

    made = list(check_detector("tiny", make))
    assert [(o.check, o.detail) for o in made if o.status == "failed"] == []
    passed = {o.check for o in made if o.status == "passed"}
    assert {"answers", "top-k", "state", "batch", "frame", "thin-and-huge", "order-of-classes", "company"} <= passed


CARDS = {
    "dino-resnet-50-4scale": RESNET50_4SCALE,
    "dino-resnet-50-5scale": RESNET50_5SCALE,
    "dino-swin-large-4scale": SWIN_L_4SCALE,
    "dino-swin-large-5scale": SWIN_L_5SCALE,
}


@pytest.mark.parametrize("name", CARDS)
def test_cards_promise_what_the_configuration_has(name: str) -> None:
    assert BUILT_IN[name].parameters == parameter_count(CARDS[name])
    assert any("coco-train2017" in data.images for data in BUILT_IN[name].training_data or ())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dino-resnet-50-4scale", {}, "is a DINO of another size"),
        ("dino-resnet-50-4scale", {"weights": None}, "names no weights: give --weights FILE"),
        ("dino-resnet-50-4scale", {"weights": "/no/such/file"}, "no such file"),
        ("dino-resnet-50-4scale", {"weights": __file__}, "neither a safetensors file nor a checkpoint"),
        ("dino-resnet-50-4scale", {"dtype": "float16"}, "float16 needs a CUDA device"),
        ("dino-resnet-50-4scale", {"device": "cuda:1"}, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_what_cannot_be_is_one_line(file: Path, name: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(DetectorError, match=message) as caught:
        load_detector(name, DetectorSettings(**({"weights": str(file)} | settings)))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_other_classes_and_several_templates_are_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "nine.safetensors"
    write_canonical(drawn(SMALL), SMALL, path, source="", source_sha256="")
    with pytest.raises(DetectorError, match="has 9 classes, expected COCO's 91"):
        _load(path)
    detector = _load(file)
    with pytest.raises(DetectorError, match="no vocabulary was set"):
        detector.detect([random_image(40, 40)])
    with pytest.raises(DetectorError, match="it has classes and reads no text"):
        detector.set_vocabulary(VOCABULARY, PromptPlan(name="two", templates=("{}", "a {}")))


@pytest.mark.full
def test_the_real_size_finds_what_the_reference_finds(tmp_path: Path) -> None:
    """ResNet-50, 4 scales, drawn weights, read from the official layout; a photograph's size is cut to 320 pixels."""
    config = RESNET50_4SCALE
    state = official_state(drawn(config), config, "module.")
    torch.save({"model": state}, tmp_path / "a.pth")
    settings = DetectorSettings(weights=str(tmp_path / "a.pth"), image_size=320)
    detector = load(BUILT_IN["dino-resnet-50-4scale"], settings)
    image = random_image(320, 480)
    detector.set_vocabulary(VOCABULARY, PromptPlan())
    (found,) = detector.detect([image])
    reference = ReferenceDino({name.removeprefix("module."): value for name, value in state.items()}, config)
    pixels = normalize(to_tensor(image.pixels), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    output = reference(pixels[None], torch.zeros(1, 320, 480).bool())
    best = output.logits[-1][0].sigmoid()[:, list(COLUMNS.values())].flatten().topk(300).values
    np.testing.assert_allclose(found.scores, best.numpy(), rtol=0, atol=1e-3)
