"""DETR and Deformable DETR against the library's own post-processing, and how a vocabulary maps to their classes."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from transformers import DeformableDetrImageProcessor, DetrImageProcessor

import ovd_bench.detectors.hub as hub
from ovd_bench.detectors.cards.closed_set import CARDS
from ovd_bench.detectors.closed_set import ClosedSetDetector
from ovd_bench.detectors.coco_classes import COCO_CLASSES, COCO_NAMES
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary
from ovd_bench.tests.detectors.tiny_models import random_image, write_closed_set

NAMES = {"detr": "detr-resnet-50", "deformable-detr": "deformable-detr"}
#: Every class of COCO by its own id.
COCO = Vocabulary(
    tuple(number for number, name in enumerate(COCO_CLASSES) if name != "N/A"),
    COCO_NAMES,
)
MIXED = Vocabulary((50, 20, 40, 30, 10), ("television_set", "aerosol", "tv", "dog", "zeppelin"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("closed")
    return {family: write_closed_set(root / family, family) for family in NAMES}


@pytest.fixture(params=NAMES)
def load(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Callable[..., ClosedSetDetector]:
    def loaded(**settings: Any) -> ClosedSetDetector:
        return _load(request.param, folders[request.param], **settings)

    return loaded


def _load(family: str, folder: Path, **settings: Any) -> ClosedSetDetector:
    detector = load_detector(NAMES[family], DetectorSettings(weights=str(folder), **settings))
    assert isinstance(detector, ClosedSetDetector)
    return detector


def _same(found: Detections, expected: Detections) -> None:
    assert found.category_ids.tolist() == expected.category_ids.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)


def _library(detector: ClosedSetDetector, image: Image) -> Any:
    with torch.inference_mode():
        return detector._model(detector.prepare(image)[None])


def test_pairs_of_deformable_detr_are_those_of_the_librarys_post_processing(folders: dict[str, Path]) -> None:
    """It ranks all pairs of query and class, and so does the library; holes in the numbers are left out by both."""
    detector = _load("deformable-detr", folders["deformable-detr"], top_k=100)
    detector.set_vocabulary(COCO, PLANS["names"])
    image = random_image(40, 70, 1)
    everything = DeformableDetrImageProcessor().post_process_object_detection(
        _library(detector, image), threshold=0.0, target_sizes=[(40, 70)], top_k=12 * len(COCO_CLASSES)
    )[0]
    real = torch.isin(everything["labels"], torch.tensor(COCO.ids))
    expected = {key: values[real][:100].numpy() for key, values in everything.items()}
    found = detector.detect([image])[0]
    assert len(found) == 100
    np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-6)
    assert found.category_ids.tolist() == expected["labels"].tolist()
    np.testing.assert_allclose(found.boxes_xyxy, expected["boxes"], atol=1e-4)


def test_the_best_class_of_a_box_of_detr_is_the_librarys(folders: dict[str, Path]) -> None:
    """The library keeps one class per box; the best pair of each box is that one, and others come besides."""
    detector = _load("detr", folders["detr"], top_k=10_000)
    image = random_image(40, 70, 1)
    output = _library(detector, image)
    expected = DetrImageProcessor().post_process_object_detection(output, threshold=0.0, target_sizes=[(40, 70)])[0]
    holes = [name == "N/A" for name in COCO_CLASSES]
    assert not np.isin(expected["labels"], np.flatnonzero(holes)).any(), "the draw must not favour a hole"
    detector.set_vocabulary(COCO, PLANS["names"])
    found = detector.detect([image])[0]
    assert len(found) == 12 * 80
    best: dict[tuple[float, ...], tuple[float, int]] = {}
    for box, score, category in zip(found.boxes_xyxy, found.scores, found.category_ids, strict=True):
        best.setdefault(tuple(box.tolist()), (float(score), int(category)))
    order = torch.argsort(expected["scores"], descending=True)
    assert [category for _, category in best.values()] == expected["labels"][order].tolist()
    np.testing.assert_allclose([score for score, _ in best.values()], expected["scores"][order], atol=1e-6)
    np.testing.assert_allclose(np.array([*best]), expected["boxes"][order], atol=1e-4)


@pytest.mark.parametrize("size", [(40, 70), (70, 40), (64, 64), (30, 90), (200, 203)])
def test_the_network_sees_what_the_librarys_processor_makes(
    load: Callable[..., ClosedSetDetector], size: tuple[int, int]
) -> None:
    detector, image = load(), random_image(*size)
    processor = DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    expected = processor(Pillow.fromarray(image.pixels), return_tensors="pt").pixel_values[0]
    found = detector.prepare(image)
    # one pixel where a limit by the longer side is rounded: Grounding DINO's rule, not torchvision's
    assert max(abs(a - b) for a, b in zip(found.shape, expected.shape, strict=True)) <= 1
    if found.shape == expected.shape:
        # uint8 pixels of Pillow and of torchvision differ by one level at most
        torch.testing.assert_close(found, expected, atol=1.01 / 255 / 0.224, rtol=0)


def test_an_image_gives_the_same_boxes_in_any_company(load: Callable[..., ClosedSetDetector]) -> None:
    detector = load(top_k=50)
    assert isinstance(detector, Detector)
    detector.set_vocabulary(COCO, PLANS["names"])
    images = [random_image(40, 70, 1), random_image(90, 50, 2), random_image(40, 70, 3)]
    alone = [detector.detect([image])[0] for image in images]
    assert detector.detect([]) == []
    for found, expected in zip(detector.detect(images), alone, strict=True):
        _same(found, expected)


def test_categories_get_the_boxes_of_their_class_and_others_none(load: Callable[..., ClosedSetDetector]) -> None:
    detector, image = load(top_k=1000), random_image(40, 70, 1)
    detector.set_vocabulary(COCO, PLANS["names"])
    whole = detector.detect([image])[0]
    detector.set_vocabulary(MIXED, PLANS["names"])
    found = detector.detect([image])[0]
    ids = {"tv": COCO_CLASSES.index("tv"), "dog": COCO_CLASSES.index("dog")}
    for category, name in ((50, "tv"), (40, "tv"), (30, "dog")):
        got, own = found.category_ids == category, whole.category_ids == ids[name]
        np.testing.assert_array_equal(found.scores[got], whole.scores[own])
        np.testing.assert_array_equal(found.boxes_xyxy[got], whole.boxes_xyxy[own])
    assert set(found.category_ids.tolist()) == {50, 40, 30}
    assert "categories without a class, which get no box: 2 of 5, as 'zeppelin'" in detector.card.notes
    detector.set_vocabulary(COCO, PLANS["names"])
    assert not any("without a class" in note for note in detector.card.notes)


def test_a_vocabulary_without_any_class_gets_no_box(load: Callable[..., ClosedSetDetector]) -> None:
    for settings in ({}, {"chunk_top_k": 2}):
        detector = load(**settings)
        detector.set_vocabulary(Vocabulary((1, 2), ("aerosol", "zeppelin")), PLANS["names"])
        assert len(detector.detect([random_image(40, 70)])[0]) == 0


def test_what_a_plan_makes_of_names_does_not_matter_but_its_chunks_do(load: Callable[..., ClosedSetDetector]) -> None:
    image = random_image(40, 70, 1)
    answers = []
    for plan in (PLANS["names"], PLANS["photo"], PLANS["raw"]):
        detector = load(top_k=30)
        detector.set_vocabulary(MIXED, plan)
        answers.append(detector.detect([image])[0])
    _same(answers[1], answers[0])
    _same(answers[2], answers[0])
    limited = load(top_k=30, chunk_top_k=4)
    limited.set_vocabulary(MIXED, PromptPlan(chunk_classes=2))  # by id: 10 and 20, 30 and 40, 50
    found = limited.detect([image])[0]
    assert [int(np.isin(found.category_ids, chunk).sum()) for chunk in ([10, 20], [30, 40], [50])] == [0, 4, 4]


@pytest.mark.parametrize("family", NAMES)
def test_a_box_lands_where_its_object_is(family: str, folders: dict[str, Path]) -> None:
    detector = _load(family, folders[family], top_k=1)
    detector.set_vocabulary(COCO, PLANS["names"])
    pixels = np.zeros((90, 200, 3), np.uint8)
    pixels[30:60, 50:150] = 255
    image = Image(1, pixels)
    seen = detector.prepare(image)[0]
    rows, columns = torch.nonzero(seen > (seen.max() + seen.min()) / 2, as_tuple=True)
    height, width = seen.shape
    corners = torch.stack(
        (columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height)
    )
    planted = torch.cat(((corners[:2] + corners[2:]) / 2, corners[2:] - corners[:2]))
    detector._model.register_forward_hook(lambda _, __, output: _planted(output, planted))
    found = detector.detect([image])[0]
    np.testing.assert_allclose(found.boxes_xyxy[0], [50, 30, 150, 60], atol=200 / 96 + 1e-3)


def _planted(output: Any, box: torch.Tensor) -> Any:
    output.pred_boxes = box.expand_as(output.pred_boxes)
    return output


def test_what_it_cannot_do_is_refused(load: Callable[..., ClosedSetDetector]) -> None:
    detector = load()
    with pytest.raises(DetectorError, match="no vocabulary was set"):
        detector.detect([random_image(8, 8)])
    with pytest.raises(DetectorError, match="'owl7' has 7 templates; it has classes and reads no text"):
        detector.set_vocabulary(COCO, PLANS["owl7"])


def test_half_precision_is_close(load: Callable[..., ClosedSetDetector]) -> None:
    outputs = []
    for dtype in ("float32", "bfloat16"):
        detector = load(dtype=dtype)
        outputs.append(detector.predict(detector.prepare(random_image(40, 70, 1))[None]))
    assert outputs[1].scores.dtype == outputs[1].boxes_cxcywh.dtype == torch.float32
    exact, half = (output.scores for output in outputs)
    assert 0 < (exact - half).abs().median() < 0.2 * exact.std()


def _edit(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def test_the_published_layout_loads_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone of timm in the older way, its pretraining asked for; counters in the weights; ``size`` a number."""

    def no_network(*_: Any) -> None:
        raise AssertionError("loading reached for the network")

    folder = write_closed_set(tmp_path / "timm", "detr", backbone="resnet10t")
    expected = _load("detr", folder).predict(torch.ones(1, 3, 64, 96))
    older = {"backbone": "resnet10t", "use_timm_backbone": True, "use_pretrained_backbone": True}
    _edit(folder, "config.json", lambda config: (config.pop("backbone_config"), config.update(older)))
    _edit(folder, "preprocessor_config.json", lambda config: config.update(size=64, max_size=96))
    tensors = load_file(folder / "model.safetensors")
    norm = next(name for name in tensors if name.endswith("downsample.2.running_mean"))
    tensors[norm.replace("running_mean", "num_batches_tracked")] = torch.tensor(7)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    detector = _load("detr", folder)
    assert detector.network_size(random_image(40, 70)) == (55, 96)
    torch.testing.assert_close(detector.predict(torch.ones(1, 3, 64, 96)).scores, expected.scores, atol=0, rtol=0)
    del tensors[norm]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DetectorError, match=r"missing: .*running_mean"):
        _load("detr", folder)


def test_gaps_in_the_numbers_of_the_classes_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["detr"], tmp_path / "copy"))
    _edit(folder, "config.json", lambda config: config["id2label"].update({"95": config["id2label"].pop("17")}))
    with pytest.raises(DetectorError, match="id2label must number all classes from 0 on"):
        _load("detr", folder)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_card_asks_for_its_weights(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def unreachable(repository: str, **_: object) -> str:
        asked.append(repository)
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(DetectorError, match=card.name):
        load_detector(card.name, DetectorSettings())
    assert set(asked) == {card.weights}
    assert card.capabilities == ()


@pytest.mark.full
@pytest.mark.parametrize(("family", "layers"), [("detr", 50), ("detr", 101), ("deformable-detr", 50)])
def test_the_real_size_has_the_cards_parameters(family: str, layers: int, tmp_path: Path) -> None:
    folder = write_closed_set(tmp_path / "real", family, layers=layers)
    card = next(card for card in CARDS if card.family == family and f"ResNet-{layers} " in card.backbone)
    detector = _load(family, folder, top_k=5)
    assert detector.card.parameters == card.parameters
    detector.set_vocabulary(COCO, PLANS["names"])
    assert len(detector.detect([random_image(427, 640, 1)])[0]) == 5
