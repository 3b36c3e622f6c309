"""Contestants in training: the batches, words and backbone of Grounding DINO, to the byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ovd_bench.benchmarks.studies.cells import training_facts
from ovd_bench.benchmarks.studies.controlled import PROOF
from ovd_bench.benchmarks.training.config import find_config
from ovd_bench.benchmarks.training.controlled import ContestantTraining, prepare
from ovd_bench.benchmarks.training.evaluation import SplitEvaluation
from ovd_bench.benchmarks.training.grounding.config import GroundingDinoTraining
from ovd_bench.benchmarks.training.grounding.prepare import prepare as prepare_grounding_dino
from ovd_bench.benchmarks.training.loop import train
from ovd_bench.benchmarks.training.prepared import Machine, Prepared
from ovd_bench.benchmarks.training.registry import read_config
from ovd_bench.detectors.fusion_gates import read_mean_gates
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.registry import load_detector
from ovd_bench.grounding_dino_jt.tokens import TokenBatch
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.training.toy_grounding import OPTIONS, toy_document, write_toy

MACHINE = Machine(Path("/"))
SWIN = {**OPTIONS["backbone"], "depths": [1, 1, 1], "num_heads": [1, 2, 4], "out_stages": [1, 2], "drop_path_rate": 0.0}
#: What both frameworks' configurations have.
SHARED: dict[str, Any] = {"steps": 8, "batch": 4}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _document(toy: Path, **changes: Any) -> dict[str, Any]:
    base = toy_document(toy)
    options = {
        "backbone": SWIN,
        "width": 32,
        "blocks": 1,
        "fusion_width": 16,
        "regions": 20,
        "image_size": 64,
        "image_longest": 64,
    }
    return {
        **{key: base[key] for key in ("seed", "log_every", "checkpoint_every", "data")},
        **SHARED,
        "trainer": "contestant",
        "model": {"kind": "owl", "options": options},
        "optimizer": {"lr": 0.005},
        **changes,
    }


def _prepare(document: dict[str, Any]) -> Prepared:
    return prepare(ContestantTraining.model_validate(document), MACHINE, None)


@pytest.mark.parametrize("kind", ["owl", "region", "glip"])
def test_a_training_from_beginning_to_end(kind: str, toy: Path, tmp_path: Path) -> None:
    """It learns; the weights file gives the last evaluation's AP, and says what it comes of."""
    document = _document(toy, steps=120, log_every=20, watch=str(toy / "lvis.json"), half=True)
    document["model"]["kind"] = kind
    config = ContestantTraining.model_validate(document)
    result = train(config, prepare(config, MACHINE, None), tmp_path / "out")
    records = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses[-1] < 0.7 * losses[0]
    assert records[-1]["AP50"] > 0.1
    gates = [record for record in records if "gamma_v.0" in record]
    assert [record["step"] for record in gates] == (list(range(2, 121, 2)) if kind == "glip" else [])  # checkpoints
    for name, value in read_mean_gates(Path(result["weights"])).items():
        assert gates[-1][name] == pytest.approx(value, rel=1e-3)  # the file holds float16
    detector = load_detector("contestant", DetectorSettings(weights=result["weights"]))
    assert SplitEvaluation(toy / "lvis.json", toy).score(detector)["AP50"] == pytest.approx(
        records[-1]["AP50"], abs=0.05
    )
    facts = training_facts(Path(result["weights"]))
    assert ContestantTraining.model_validate(facts["recipe"]) == config
    assert (facts["steps"], facts["samples"]) == (120, 480)


def test_it_shares_everything_that_a_controlled_study_asks_for(toy: Path, tmp_path: Path) -> None:
    """Sums of backbone, text encoder and batches are those of a training of Grounding DINO."""
    other = toy_document(toy, **SHARED)
    other["model"] = {"size": "nano", "backbone": "drawn", "options": {**OPTIONS, "backbone": SWIN}}
    grounding_dino = GroundingDinoTraining.model_validate(other)
    ours = ContestantTraining.model_validate(_document(toy))
    facts = []
    for name, config, made in (
        ("ours", ours, prepare(ours, MACHINE, None)),
        ("other", grounding_dino, prepare_grounding_dino(grounding_dino, MACHINE, None)),
    ):
        facts.append(training_facts(Path(train(config, made, tmp_path / name)["weights"])))
    for key in PROOF:
        assert facts[0][key] == facts[1][key], key
    assert len(facts[0]["data_sha256"]) == 64


def test_another_seed_is_another_backbone(toy: Path) -> None:
    sums = {_prepare(_document(toy, seed=seed)).facts["backbone_sha256"] for seed in (1, 1, 2)}
    assert len(sums) == 2


def test_shipped_configurations_are_valid_and_alike() -> None:
    """But for what they compare, kind and rates, and what GLIP alone has."""
    settled = [read_config(find_config(f"contestant-{kind}")).resolved() for kind in ("owl", "region", "glip")]
    for one in settled:
        one["model"].pop("kind")
        one["optimizer"].pop("lr")
        for option in ("anchor", "extra_levels", "coarse_offsets", "fusion_gate"):
            one["model"]["options"].pop(option)
    assert settled[0] == settled[1] == settled[2]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": {"kind": "owl", "options": {"size": 3}}}, "model: size"),
        ({"model": {"kind": "owl", "options": {"width": "wide"}}}, "model: width"),
        ({"model": {"kind": "owl", "options": {"backbone": {"out_stages": [0, 1]}}}}, "every 8 pixels"),
        ({"model": {"kind": "owl", "backbone": "/no/such.pth", "options": {"backbone": SWIN}}}, "no such file"),
    ],
)
def test_bad_options_are_one_line(changes: dict[str, Any], reason: str, toy: Path) -> None:
    with pytest.raises(DataError, match="trainer 'contestant'") as caught:
        _prepare(_document(toy, **changes))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("parts", [1, 2])
def test_names_of_the_batch_change_what_is_learned_and_not_the_batches(parts: int, toy: Path) -> None:
    """Whole or in parts, each image is asked for the names of all captions."""
    losses, sums = [], []
    data = {**_document(toy)["data"], "num_negatives": 0}
    for names in ("caption", "batch"):
        prepared = _prepare(_document(toy, names=names, parts=parts, data=data))
        batch = next(prepared.batches(0))
        losses.append(prepared.trainer.train_step(batch)["loss"])
        sums.append(batch.images.sum())
    assert losses[0] != losses[1]
    assert sums[0] == sums[1]


def test_names_of_the_batch_are_refused_where_they_cannot_be_told(toy: Path) -> None:
    document = _document(toy, names="batch")
    with pytest.raises(ValidationError, match="glip reads one caption"):
        ContestantTraining.model_validate({**document, "model": {"kind": "glip"}})
    sources = [{key: value for key, value in document["data"]["sources"][0].items() if key != "label_map"}]
    with pytest.raises(ValidationError, match="no label_map"):
        ContestantTraining.model_validate({**document, "data": {**document["data"], "sources": sources}})


@pytest.mark.parametrize(
    ("device", "reason"),
    [("cuda:99", "is not available"), ("gpu", "choose auto, cpu, cuda or cuda:N"), ("cuda:x", "choose auto, cpu")],
)
def test_a_device_that_is_not_there_is_one_line(device: str, reason: str, toy: Path) -> None:
    config = ContestantTraining.model_validate(_document(toy))
    with pytest.raises(DataError, match=f"trainer 'contestant': device '{device}'") as caught:
        prepare(config, Machine(Path("/"), device=device), None)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_graphics_processor_there_is_no_cuda(toy: Path) -> None:
    config = ContestantTraining.model_validate(_document(toy))
    with pytest.raises(DataError, match=r"device 'cuda' is not available: .*: choose another, or --device cpu"):
        prepare(config, Machine(Path("/"), device="cuda"), None)
    assert prepare(config, Machine(Path("/"), device="auto"), None).facts["device"] == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics processor")
@pytest.mark.parametrize("kind", ["owl", "region", "glip"])
def test_cuda_learns_as_the_cpu_does_and_goes_on_where_it_was(kind: str, toy: Path, tmp_path: Path) -> None:
    document = _document(toy, steps=4, checkpoint_every=2)
    document["model"]["kind"] = kind
    config = ContestantTraining.model_validate(document)
    made = {device: prepare(config, Machine(Path("/"), device=device), None) for device in ("cpu", "cuda")}
    assert made["cpu"].facts["backbone_sha256"] == made["cuda"].facts["backbone_sha256"]
    batch = next(made["cpu"].batches(0))
    cpu, cuda = (one.trainer.train_step(batch) for one in made.values())
    assert cuda == pytest.approx(cpu, rel=1e-2)
    train(config, prepare(config, Machine(Path("/"), device="cuda"), None), tmp_path / "out")
    again = prepare(config, Machine(Path("/"), device="cuda"), None)
    again.trainer.restore((tmp_path / "out/checkpoint.bin").read_bytes().split(b"\n", 2)[2])
    assert again.trainer.step == 4


def test_the_losses_of_parts_are_averaged(toy: Path) -> None:
    """Of two halves that are alike the step is that of the whole, but for rounding."""
    whole, halves = _prepare(_document(toy)), _prepare(_document(toy, parts=2))
    batch = next(whole.batches(0))
    twice = replace(
        batch,
        images=np.concatenate([batch.images[:2]] * 2),
        sizes=np.concatenate([batch.sizes[:2]] * 2),
        tokens=TokenBatch(*(np.concatenate([array[:2]] * 2) for array in (batch.tokens.ids, batch.tokens.real))),
        targets=[*batch.targets[:2]] * 2,
    )
    assert halves.trainer.train_step(twice) == pytest.approx(whole.trainer.train_step(twice), rel=1e-4)
    with pytest.raises(ValidationError, match="batch is 4, not divisible by parts, 3"):
        ContestantTraining.model_validate(_document(toy, parts=3))


def test_too_little_memory_is_one_line(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _prepare(_document(toy, parts=2))

    def full(*_: object) -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr("ovd_bench.baselines.controlled.train.ContestantOptimisation.train_step", full)
    with pytest.raises(DataError, match=r"cpu: out of memory: parts is 2, batch 4: use more parts"):
        made.trainer.train_step(next(made.batches(0)))
