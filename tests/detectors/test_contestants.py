"""The adapter of a controlled study's contestants: contract, geometry, vocabulary, weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ovd_bench.baselines.controlled.captions import Captions
from ovd_bench.baselines.controlled.config import ContestantConfig, Kind
from ovd_bench.baselines.controlled.models import build
from ovd_bench.baselines.controlled.owl import Owl
from ovd_bench.baselines.controlled.parts import Found
from ovd_bench.baselines.controlled.weights import save_weights
from ovd_bench.benchmarks.conformance.checks import CHECKS, check_detector, verdict
from ovd_bench.benchmarks.conformance.outcome import TestedDetector
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import DetectorError, Image, Vocabulary
from ovd_bench.tests.baselines.controlled.toy import SMALL, write_weights

CONFIGS = {
    "owl": replace(SMALL, image_size=64, image_longest=96),
    "owl-hungarian": replace(SMALL, assignment="hungarian", image_size=64, image_longest=96),
    "region": replace(SMALL, kind="region", regions=40, image_size=64, image_longest=96),
    "glip": replace(SMALL, kind="glip", width=32, blocks=1, fusion_width=16, image_size=64, image_longest=96),
}
VOCABULARY = Vocabulary((4, 9, 2), ("red star", "blue ring", "green heart"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> ContestantConfig:
    return CONFIGS[request.param]


def _detector(path: Path, config: ContestantConfig) -> Detector:
    weights = write_weights(path / "w.safetensors", config)
    return load_detector("contestant", DetectorSettings(weights=str(weights)))


def test_it_keeps_the_contract(config: ContestantConfig, tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "w.safetensors", config)

    def load(top_k: int) -> Detector:
        return load_detector("contestant", DetectorSettings(weights=str(weights), top_k=top_k))

    made = list(check_detector("contestant", load))
    made = [o for o in made if o.check != "names-apart"]  # projections of random numbers need not tell names apart
    assert [(o.check, o.detail) for o in made if o.status == "failed"] == []
    assert {o.check for o in made if o.status == "skipped"} <= {"place", "finds", "company", "templates", "grounding"}


@pytest.mark.parametrize("kind", ["owl", "region", "glip"])
def test_the_check_of_names_catches_a_frozen_encoder_that_reads_bare(kind: Kind, tmp_path: Path) -> None:
    """As the first weights of the controlled study did; random projections keep what is alike alike."""

    def judged(config: ContestantConfig) -> tuple[str, str]:
        settings = DetectorSettings(weights=str(write_weights(tmp_path / "w.safetensors", config)))
        return verdict(
            CHECKS["names-apart"], TestedDetector("contestant", lambda _: load_detector("contestant", settings))
        )

    config = replace(SMALL, kind=kind, width=32, language_width=32)
    found = {frame: judged(replace(config, phrase_frame=frame)) for frame in ("bare", "framed")}
    assert found["bare"][0] == "failed"
    assert "words" in found["bare"][1]
    assert found["framed"][0] == "passed", found["framed"]


def test_only_owl_classes_are_alone(tmp_path: Path) -> None:
    for name, config in CONFIGS.items():
        (tmp_path / name).mkdir()
        assert ("joint" in _detector(tmp_path / name, config).card.capabilities) is (name in ("region", "glip"))


def test_boxes_are_those_of_the_original_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of 64 x 128 is seen with 48 x 96 pixels; boxes end at its border."""
    detector = _detector(tmp_path, CONFIGS["owl"])
    seen: list[torch.Tensor] = []

    def see(_: Owl, pixels: torch.Tensor) -> None:
        seen.append(pixels)

    def find(_: Owl, __: None, captions: Captions) -> Found:
        boxes = torch.tensor([[12.0, 6.0, 24.0, 12.0], [-5.0, 40.0, 10.0, 70.0]])
        return Found(boxes, torch.tensor([[0.9, 0.1]] * captions.count))

    monkeypatch.setattr(Owl, "see", see)
    monkeypatch.setattr(Owl, "find", find)
    detector.set_vocabulary(VOCABULARY, PromptPlan())
    pixels = np.full((64, 128, 3), 255, np.uint8)
    (found,) = detector.detect([Image(1, pixels)])
    assert seen[0].shape == (1, 3, 48, 96)
    white = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 20, 30], white)
    assert len(found) == 6
    np.testing.assert_allclose(found.boxes_xyxy[0], (16, 8, 32, 16), rtol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy[-1], (0, 160 / 3, 40 / 3, 64), rtol=1e-5)


@pytest.mark.parametrize("kind", ["owl", "owl-hungarian", "region"])
def test_chunks_change_nothing(kind: str, tmp_path: Path) -> None:
    """But in GLIP, where the classes of a chunk see each other."""
    config = CONFIGS[kind]
    detector = _detector(tmp_path, config)
    image = Image(1, np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    answers = []
    for plan in (PromptPlan(), PromptPlan(chunk_classes=1)):
        detector.set_vocabulary(VOCABULARY, plan)
        answers.append(detector.detect([image])[0])
    np.testing.assert_array_equal(answers[0].scores, answers[1].scores)
    np.testing.assert_array_equal(answers[0].category_ids, answers[1].category_ids)


def test_the_card_says_what_the_weights_were_trained_on(tmp_path: Path) -> None:
    """What they do not say is not known, which a board flags."""
    assert _detector(tmp_path, SMALL).card.training_data is None
    path = tmp_path / "w.safetensors"
    told = {"sources": [{"name": "train_od.jsonl", "sha256": "0123456789abcdef"}]}
    path.write_bytes(save_weights(build(SMALL), SMALL, told, half=False))
    data = load_detector("contestant", DetectorSettings(weights=str(path))).card.training_data
    assert data is not None
    assert [(one.dataset, one.note) for one in data[-1:]] == [("train_od.jsonl", "sha256 0123456789ab")]
    assert data[0].role == "pretraining"


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    detector = _detector(tmp_path, SMALL)
    with pytest.raises(DetectorError, match="has 2 templates"):
        detector.set_vocabulary(VOCABULARY, PromptPlan(templates=("{}", "a {}")))
    with pytest.raises(DetectorError, match="name the weights of a training with --weights"):
        load_detector("contestant", DetectorSettings())
    with pytest.raises(DetectorError, match="no such file"):
        load_detector("contestant", DetectorSettings(weights=str(tmp_path / "none")))
    weights = str(tmp_path / "w.safetensors")
    with pytest.raises(DetectorError, match="computes in float32"):
        load_detector("contestant", DetectorSettings(weights=weights, device="cuda", dtype="float16"))
