"""The CLIP region classifier against loops over regions, and the facts of its card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image as Pillow
from torch.nn.functional import normalize
from torchvision.ops import nms

import ovd_bench.detectors.hub as hub
from ovd_bench.baselines.clip_region.proposals import GridProposer
from ovd_bench.detectors.cards.clip_region import CARDS, CLIP_DATA
from ovd_bench.detectors.clip_region import ClipRegionDetector
from ovd_bench.detectors.clip_region_options import ClipRegionOptions, read_options
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.detectors.registry import find_card, load_detector
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary
from ovd_bench.tests.baselines.clip_region.tiny import open_clip_model
from ovd_bench.tests.detectors.tiny_models import random_image, write_clip_region

NAMES = ("cat", "traffic_light", "bow_(weapon)", "zebra")
VOCABULARY = Vocabulary((40, 10, 30, 20), NAMES)
CLEAN = {40: "cat", 10: "traffic light", 30: "bow", 20: "zebra"}
IMAGE = random_image(40, 70, 1)
TOKENIZER = open_clip.SimpleTokenizer(context_length=16)
TWO = ("a photo of a {}.", "art of the {}.")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip_region(tmp_path_factory.mktemp("grid"), detector="grid", objectness=0.0, temperature=0.5)


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip_region(tmp_path_factory.mktemp("owl"))


def _load(variant: str, options: Path | str, **settings: Any) -> ClipRegionDetector:
    detector = load_detector(f"clip-region-{variant}", DetectorSettings(weights=str(options), **settings))
    assert isinstance(detector, ClipRegionDetector)
    return detector


def _changed(options: Path, name: str, **changes: Any) -> Path:
    """The options with some changed, in another file of the same folder."""
    file = options.parent / f"{name}.yaml"
    content = yaml.safe_load(options.read_text())
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    file.write_text(yaml.safe_dump(content))
    return file


def _same(found: Detections, expected: Detections) -> None:
    assert found.category_ids.tolist() == expected.category_ids.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)


def _text(model: Any, prompt: str) -> torch.Tensor:
    vector: torch.Tensor = model.encode_text(TOKENIZER([prompt]), normalize=True)[0]
    return vector


def _crop(model: Any, box: Sequence[float], context: float) -> torch.Tensor:
    """One region shown to CLIP on its own: the square by Pillow, whose paste fills what is outside."""
    x1, y1, x2, y2 = box
    side = max(int(np.floor(context * max(x2 - x1, y2 - y1) + 0.5)), 1)
    left, top = (int(np.floor(low + 0.5)) for low in ((x1 + x2 - side) / 2, (y1 + y2 - side) / 2))
    square = Pillow.new("RGB", (side, side), (102, 128, 153))
    square.paste(Pillow.fromarray(IMAGE.pixels), (-left, -top))
    pixels = torch.from_numpy(np.array(square.resize((32, 32), Pillow.Resampling.BICUBIC))).permute(2, 0, 1) / 255
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.3, 0.2, 0.1]).view(3, 1, 1)
    vector: torch.Tensor = model.encode_image(((pixels - mean) / std)[None], normalize=True)[0]
    return vector


@pytest.mark.parametrize("ensemble", ["logits", "embeddings"])
def test_scores_are_those_of_loops_over_crops_classes_and_templates(grid: Path, ensemble: Any) -> None:
    detector = _load("crop", grid, top_k=2000)
    detector.set_vocabulary(VOCABULARY, PromptPlan(templates=TWO, ensemble=ensemble))
    found = detector.detect([IMAGE])[0]
    boxes = GridProposer().propose([IMAGE.pixels])[0][0]
    assert len(found) == len(boxes) * 4
    scores = {
        (*box, category): score
        for box, score, category in zip(
            found.boxes_xyxy.tolist(), found.scores.tolist(), found.category_ids.tolist(), strict=True
        )
        for box in [tuple(box)]
    }
    model = open_clip_model().eval()
    with torch.inference_mode():
        for box in boxes[::30].tolist():
            region, logits = _crop(model, box, context=1.5), {}
            for category, words in CLEAN.items():
                vectors = [_text(model, template.replace("{}", words)) for template in TWO]
                if ensemble == "logits":
                    logits[category] = sum(float(vector @ region) / 0.5 for vector in vectors) / 2
                else:
                    logits[category] = float(normalize(vectors[0] + vectors[1], dim=0) @ region) / 0.5
            total = sum(np.exp(logit) for logit in logits.values())
            for category, logit in logits.items():
                assert scores[*box, category] == pytest.approx(np.exp(logit) / total, abs=1e-5)
    assert np.ptp(found.scores) > 0.1


def test_pooled_scores_are_those_of_loops_over_patches(grid: Path) -> None:
    detector = _load("pooled", grid, top_k=2000, image_size=64)
    boxes = GridProposer().propose([IMAGE.pixels])[0][0]
    found = detector.region_vectors(IMAGE.pixels, boxes)
    shown = Pillow.fromarray(IMAGE.pixels).resize((64, 40), Pillow.Resampling.BICUBIC)  # 5 x 8 patches of 8
    patches = detector._network.encode_patches(np.array(shown))
    assert patches.shape == (5, 8, 16)
    for box, vector in list(zip(boxes.tolist(), found, strict=True))[::20]:
        total = torch.zeros(16)
        for row in range(5):
            for column in range(8):
                over = min(box[2], (column + 1) * 70 / 8) - max(box[0], column * 70 / 8)
                down = min(box[3], (row + 1) * 40 / 5) - max(box[1], row * 40 / 5)
                total += max(over, 0) * max(down, 0) * patches[row, column]
        torch.testing.assert_close(vector, normalize(total, dim=0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ["crop", "pooled"])
def test_objectness_is_fused_as_a_geometric_mean(variant: str, owl: Path) -> None:
    """Scores for several exponents, of the same regions; the class probabilities come from an exponent of 0."""
    answers = []
    for exponent in (0.0, 0.4, 1.0):
        detector = _load(variant, _changed(owl, f"exponent-{exponent}", objectness=exponent), top_k=10_000)
        detector.set_vocabulary(VOCABULARY, PLANS["names"])
        found = detector.detect([IMAGE])[0]
        order = np.lexsort((found.category_ids, *found.boxes_xyxy.T))
        answers.append((found.boxes_xyxy[order], found.category_ids[order], found.scores[order]))
    (boxes, ids, classes), (_, _, fused), (_, _, objectness) = answers
    for other_boxes, other_ids, _ in answers[1:]:
        np.testing.assert_array_equal(other_boxes, boxes)
        np.testing.assert_array_equal(other_ids, ids)
    np.testing.assert_allclose(fused, objectness**0.4 * classes**0.6, rtol=1e-5)
    np.testing.assert_allclose(classes.reshape(-1, 4).sum(axis=1), 1, rtol=1e-5)
    assert np.ptp(objectness) > 0.01


def test_regions_are_the_pooled_boxes_of_the_proposing_detector(owl: Path) -> None:
    words = ("object", "thing")
    options = _changed(owl, "words", proposals={"words": list(words), "iou": 0.5, "most": 12}, objectness=1.0)
    detector = _load("pooled", options, top_k=1000)
    detector.set_vocabulary(VOCABULARY.take([0]), PLANS["names"])
    images = [IMAGE, random_image(90, 50, 2)]
    settings = DetectorSettings(weights=str(owl.parent / "proposing"), top_k=1000)
    proposing = load_detector("owlv2-base-patch16-ensemble", settings)
    proposing.set_vocabulary(Vocabulary((1, 2), words), PLANS["names"])
    for image, found, raw in zip(images, detector.detect(images), proposing.detect(images), strict=True):
        boxes = np.clip(raw.boxes_xyxy, 0, np.array((image.width, image.height) * 2, np.float32))
        real = ((boxes[:, 2:] - boxes[:, :2]) >= 0.5).all(axis=1)
        boxes, objectness = boxes[real], raw.scores[real]
        kept = nms(torch.from_numpy(boxes), torch.from_numpy(objectness), 0.5)[:12].numpy()
        assert 1 < len(found) == len(kept)
        np.testing.assert_allclose(found.boxes_xyxy, boxes[kept], atol=1e-4)
        np.testing.assert_allclose(found.scores, objectness[kept], atol=1e-6)


@pytest.mark.parametrize("variant", ["crop", "pooled"])
def test_an_image_gives_the_same_boxes_in_any_company(variant: str, owl: Path) -> None:
    detector = _load(variant, owl, top_k=40)
    assert isinstance(detector, Detector)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    images = [IMAGE, random_image(90, 50, 2), random_image(40, 70, 3)]
    alone = [detector.detect([image])[0] for image in images]
    for found, expected in zip(detector.detect(images), alone, strict=True):
        _same(found, expected)
    detector.set_vocabulary(VOCABULARY.take([1]), PLANS["names"])
    detector.detect(images)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    _same(detector.detect(images[:1])[0], alone[0])


def test_chunks_limit_pairs_and_nothing_else(grid: Path) -> None:
    whole = _load("crop", grid, top_k=2000)
    whole.set_vocabulary(VOCABULARY, PLANS["names"])
    chunked = _load("crop", grid, top_k=2000)
    chunked.set_vocabulary(VOCABULARY, PromptPlan(chunk_classes=2))
    _same(chunked.detect([IMAGE])[0], whole.detect([IMAGE])[0])
    limited = _load("crop", grid, top_k=12, chunk_top_k=6)
    limited.set_vocabulary(VOCABULARY, PromptPlan(chunk_classes=2))
    ids = limited.detect([IMAGE])[0].category_ids
    assert [int(np.isin(ids, chunk).sum()) for chunk in ([10, 20], [30, 40])] == [6, 6]


def test_the_card_tells_of_both_networks(owl: Path, grid: Path) -> None:
    proposing, loaded = find_card("owlv2-base-patch16-ensemble"), _load("crop", owl).card
    assert loaded.training_data == tuple(dict.fromkeys((*CLIP_DATA, *(proposing.training_data or ()))))
    assert any("regions: owlv2-base-patch16-ensemble, asked for object" in note for note in loaded.notes)
    by_grid = _load("crop", grid).card
    assert by_grid.training_data == CLIP_DATA
    assert by_grid.parameters is not None
    assert loaded.parameters is not None
    own = load_detector(proposing.name, DetectorSettings(weights=str(owl.parent / "proposing"))).card.parameters
    assert loaded.parameters == by_grid.parameters + (own or 0)
    assert any("regions: a grid of windows; temperature 0.5" in note for note in by_grid.notes)


def test_whatever_changes_the_numbers_changes_the_hash(owl: Path) -> None:
    """The place of the files does not; a copy of a folder is the same detector."""
    base = _load("crop", owl).card.weights_sha256
    options = [
        _changed(owl, "a", temperature=0.02),
        _changed(owl, "b", context=1.0),
        _changed(owl, "c", objectness=0.2),
        _changed(owl, "d", proposals={"words": ["thing"]}),
        _changed(owl, "e", proposals={"detector": "grid", "weights": None}),
    ]
    hashes = {_load("crop", one).card.weights_sha256 for one in options}
    assert len({base, *hashes}) == len(options) + 1
    assert _load("crop", _changed(owl, "f", clip=str(owl.parent / "clip"))).card.weights_sha256 == base


def test_prompts_that_lose_their_end_are_noted(grid: Path) -> None:
    detector = _load("crop", grid)
    long = "word " * 30
    detector.set_vocabulary(Vocabulary((1, 2), ("cat", long)), PLANS["names"])
    assert any(note.startswith("1 prompts are too long for the text encoder") for note in detector.card.notes)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    assert not any("too long" in note for note in detector.card.notes)


def test_an_image_without_regions_gets_no_boxes(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = _load("crop", grid)
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    nothing = (np.empty((0, 4), np.float32), np.empty(0, np.float32))
    monkeypatch.setattr(GridProposer, "propose", lambda _, images: [nothing for _ in images])
    assert len(detector.detect([IMAGE])[0]) == 0


def test_options_are_read_and_faults_told_in_one_line(tmp_path: Path) -> None:
    assert read_options(None) == ClipRegionOptions()
    assert read_options("owner/model").clip == "owner/model"
    file = tmp_path / "o.yaml"
    (tmp_path / "here").mkdir()
    file.write_text("clip: here\nproposals: {detector: grid, weights: owner/model, words: [thing]}\n")
    options = read_options(str(file))
    assert options.clip == str(tmp_path / "here")
    assert options.proposals.weights == "owner/model"
    assert options.proposals.words == ("thing",)
    for content, message in (
        ("temprature: 1", "temprature: Extra inputs"),
        ("proposals: {words: []}", "proposals.words: "),
        ("objectness: 2", "objectness: "),
        ("temperature: 0", "temperature: "),
        ("- 1", "the file: "),
        ("a: [", "cannot be read as YAML"),
        ("!!python/object/apply:os.system [ls]", "cannot be read as YAML"),
    ):
        file.write_text(content)
        with pytest.raises(DetectorError, match=message) as caught:
            read_options(str(file))
        assert "\n" not in str(caught.value)
    with pytest.raises(DetectorError, match="cannot be read as YAML"):
        read_options(str(tmp_path / "none.yaml"))


def test_what_it_cannot_do_is_refused(grid: Path, owl: Path, tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="no vocabulary was set"):
        _load("crop", grid).detect([IMAGE])
    with pytest.raises(DetectorError, match="image_size is 64, crops are of 32 pixels"):
        _load("crop", grid, image_size=64)
    with pytest.raises(DetectorError, match="dtype is bfloat16, it computes in float32"):
        _load("crop", grid, dtype="bfloat16")
    with pytest.raises(DetectorError, match="'clip-region-crop' needs proposals itself"):
        _load("crop", _changed(owl, "circle", proposals={"detector": "clip-region-crop"}))
    with pytest.raises(DetectorError, match="no detector 'nothing'"):
        _load("crop", _changed(owl, "nothing", proposals={"detector": "nothing"}))
    with pytest.raises(DetectorError, match=r"model\.safetensors is needed"):
        _load("crop", tmp_path)


RAW = """
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.types import Detections

class Raw:
    card = DetectorCard("raw", "raw", "numpy", loader="")
    def __init__(self, card, settings):
        pass
    def set_vocabulary(self, vocabulary, plan):
        pass
    def detect(self, images):
        return [Detections.of(image, [[0, 0, 2, 2]], [3.5], [1]) for image in images]
"""


def test_a_proposing_detector_of_ones_own_and_its_scores(owl: Path, tmp_path: Path) -> None:
    file = tmp_path / "raw.py"
    file.write_text(RAW)
    options = _changed(owl, "raw", proposals={"detector": f"{file}:Raw", "weights": None})
    detector = _load("crop", options)
    assert detector.card.training_data is None
    assert detector.card.parameters is None
    detector.set_vocabulary(VOCABULARY, PLANS["names"])
    with pytest.raises(DetectorError, match=r"proposals of detector 'raw': objectness from 3\.5 to 3\.5: it must lie"):
        detector.detect([Image(1, IMAGE.pixels)])


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_card_asks_for_its_weights(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def unreachable(repository: str, **_: object) -> str:
        asked.append(repository)
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(DetectorError, match=r"weights 'openai/clip-vit-base-patch16' are not in"):
        load_detector(card.name, DetectorSettings())
    assert set(asked) == {"openai/clip-vit-base-patch16"}


@pytest.mark.full
def test_the_cards_count_the_parameters_of_the_real_size() -> None:
    model = open_clip.CLIP(512, {"image_size": 224, "patch_size": 16}, {}, quick_gelu=True)
    proposing = find_card("owlv2-base-patch16-ensemble").parameters or 0
    assert {card.parameters for card in CARDS} == {sum(p.numel() for p in model.parameters()) + proposing}
