"""Trainings of Grounding DINO on a toy, within this process: weights, evaluation, errors, what options do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors
import typer
import yaml
from typer.testing import CliRunner

from ovd_bench.benchmarks.cli.training import register
from ovd_bench.benchmarks.training.config import find_config
from ovd_bench.benchmarks.training.evaluation import SplitEvaluation
from ovd_bench.benchmarks.training.grounding.config import GroundingDinoTraining
from ovd_bench.benchmarks.training.grounding.prepare import prepare
from ovd_bench.benchmarks.training.loop import train
from ovd_bench.benchmarks.training.prepared import Machine, Prepared
from ovd_bench.benchmarks.training.processes import Group
from ovd_bench.benchmarks.training.registry import read_config
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.grounding_dino import load
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.grounding_dino_jt.training.losses import Loss
from ovd_bench.grounding_dino_jt.training.optimisation import GroundingDinoOptimisation
from ovd_bench.grounding_dino_jt.weights import draw_backbone, read_weights, tensors_sha256
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.training.toy_grounding import OPTIONS, toy_document, write_bert, write_config, write_toy

Floats = npt.NDArray[np.float32]

MACHINE = Machine(Path("/"))
CARD = DetectorCard(
    "toy", family="grounding-dino", framework="jittor", loader="ovd_bench.detectors.grounding_dino:load"
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toy = write_toy(tmp_path_factory.mktemp("data"))
    write_bert(toy / "bert")
    return toy


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what the trainer sets; so it is put back


def _config(document: dict[str, Any]) -> GroundingDinoTraining:
    return GroundingDinoTraining.model_validate(document)


def _prepare(document: dict[str, Any]) -> Prepared:
    return prepare(_config(document), MACHINE, None)


def _train(document: dict[str, Any], out: Path, **options: Any) -> dict[str, Any]:
    return train(_config(document), _prepare(document), out, **options)


def test_weights_give_the_ap_of_the_last_evaluation(toy: Path, tmp_path: Path) -> None:
    """Stored as float16. Paths are dropped in training and must not be dropped in evaluation; nothing is averaged."""
    document = toy_document(
        toy, steps=40, checkpoint_every=40, watch=str(toy / "lvis.json"), half=True, optimizer={"average": 0.0}
    )
    result = _train(document, tmp_path / "out")
    records = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert result["minival"] == records[-1]
    assert records[-1]["AP50"] > 0.02
    detector = load(CARD, DetectorSettings(weights=result["weights"]))
    scores = SplitEvaluation(toy / "lvis.json", toy).score(detector)
    assert scores["AP"] == pytest.approx(records[-1]["AP"], abs=0.02)
    assert scores["AP50"] == pytest.approx(records[-1]["AP50"], abs=0.02)
    with safetensors.safe_open(result["weights"], "np") as file:
        about = json.loads(file.metadata()["training"])
    assert about["recipe"]["steps"] == 40
    assert about["sources"][0]["name"] == "od.jsonl"
    assert len(about["sources"][0]["sha256"]) == 64


def test_a_packaged_text_encoder_that_does_not_learn_is_left_out(toy: Path, tmp_path: Path) -> None:
    document = toy_document(toy, steps=1, model={"text_encoder": "packaged"})
    result = _train(document, tmp_path / "out")
    with safetensors.safe_open(result["weights"], "np") as file:
        assert not any(name.startswith("bert.") for name in file.keys())  # noqa: SIM118 - the file is not a mapping
    tensors, _, _ = read_weights(Path(result["weights"]))
    assert any(name.startswith("bert.") for name in tensors)


def test_fine_tuning_from_a_file(toy: Path, tmp_path: Path) -> None:
    """From the weights of an earlier training, which say what the model is made of; the text encoder learns now."""
    first = _train(toy_document(toy, steps=2), tmp_path / "first")
    start, config, _ = read_weights(Path(first["weights"]))
    document = toy_document(
        toy, steps=2, model={"size": "tiny", "options": {}, "weights": first["weights"]}, optimizer={"average": 0.0}
    )
    document["optimizer"]["rates"] = {"bert.": 0.1}
    tuned, found, _ = read_weights(Path(_train(document, tmp_path / "tuned")["weights"]))
    assert found == config
    moved = {name: float(np.abs(tuned[name] - values).max()) for name, values in start.items()}
    assert moved.pop("text_mean") == 0.0  # of the start's vocabulary: measured, not learned
    assert all(moved[name] > 0 for name in moved if "position_embeddings" not in name)
    assert max(moved.values()) < 0.02
    assert 0 < moved["bert.encoder.layer.0.output.dense.weight"] < 0.001


def test_start_weights_are_mixed_in(toy: Path, tmp_path: Path) -> None:
    first = _train(toy_document(toy, steps=2), tmp_path / "first")
    start, _, _ = read_weights(Path(first["weights"]))
    results = []
    for share in (0.0, 0.25):
        document = toy_document(toy, steps=2, seed=5, interpolate=share, model={"weights": first["weights"]})
        results.append(read_weights(Path(_train(document, tmp_path / str(share))["weights"]))[0])
    plain, mixed = results
    for name, values in start.items():
        np.testing.assert_allclose(mixed[name], 0.75 * plain[name] + 0.25 * values, rtol=1e-6, atol=1e-7)


def _losses(document: dict[str, Any], steps: int) -> list[float]:
    prepared = _prepare(document)
    batches = prepared.batches(0)
    return [prepared.trainer.train_step(next(batches))["loss"] for _ in range(steps)]


def test_options_of_the_losses(toy: Path) -> None:
    plain = _losses(toy_document(toy), 3)
    assert plain == _losses(toy_document(toy), 3)
    np.testing.assert_allclose(_losses(toy_document(toy, parts=2), 3), plain, rtol=1e-5)
    official = _losses(toy_document(toy, losses="open-groundingdino"), 3)
    assert official[0] > plain[0]  # its class loss weighs double
    assert _losses(toy_document(toy, denoising={"queries": 0}), 1)[0] < plain[0]
    assert _losses(toy_document(toy, seed=2), 1) != plain[:1]
    assert np.isfinite(_losses(toy_document(toy, seed=2**62), 1)).all()


def test_recomputed_layers_change_nothing(toy: Path) -> None:
    """But for rounding."""
    plain = _losses(toy_document(toy), 3)
    np.testing.assert_allclose(_losses(toy_document(toy, recompute=True), 3), plain, rtol=1e-4)


def test_another_configuration_is_refused(toy: Path, tmp_path: Path) -> None:
    _train(toy_document(toy, steps=2), tmp_path / "out")
    with pytest.raises(DataError, match="--resume"):
        _train(toy_document(toy, steps=2), tmp_path / "out")
    with pytest.raises(DataError, match="another configuration"):
        _train(toy_document(toy, steps=4), tmp_path / "out", resume=True)
    checkpoint = tmp_path / "out/checkpoint.bin"
    whole = checkpoint.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole.replace(b"grounding-dino training 1", b"x" * 25)):
        checkpoint.write_bytes(damaged)
        with pytest.raises(DataError, match=r"checkpoint\.bin: .*choose another --out"):
            _train(toy_document(toy, steps=2), tmp_path / "out", resume=True)


def test_a_loss_that_is_not_finite_stops_with_one_line(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = GroundingDinoOptimisation.loss

    def diverging(self: GroundingDinoOptimisation, *arguments: Any, **options: Any) -> Loss:
        found = losses(self, *arguments, **options)
        return Loss(found.total * np.nan, found.terms * np.nan, found.names) if self.step == 3 else found

    monkeypatch.setattr(GroundingDinoOptimisation, "loss", diverging)
    prepared = _prepare(toy_document(toy))
    with pytest.raises(
        DataError, match=r"stopped: the loss is not a finite number at step 4.*bad_batch\.npz"
    ) as caught:
        train(_config(toy_document(toy)), prepared, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert prepared.trainer.step == 3
    with np.load(tmp_path / "out/bad_batch.npz") as saved:
        assert saved["images"].shape == (4, 64, 64, 3)
        assert saved["tokens.ids"].shape[0] == 4
        assert {f"targets.{image}.{part}" for image in range(4) for part in ("boxes", "token_map")} < set(saved)
    monkeypatch.setattr(GroundingDinoOptimisation, "loss", losses)
    result = _train(toy_document(toy), tmp_path / "out", resume=True)
    assert result["steps"] == 6


def test_under_mpiexec_without_mpi(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(DataError, match=r"started by mpiexec, but MPI cannot be used .*extra 'mpi'") as caught:
        _prepare(toy_document(toy))
    assert "\n" not in str(caught.value)


SOURCE = {"annotations": "od.jsonl", "images": "."}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"sources": [{**SOURCE, "annotation": "x"}]}}, r"data\.sources\.0\.annotation: .*are annotations"),
        ({"data": {"sources": []}}, r"data\.sources: "),
        ({"data": {"crop": {"size": 3}}}, r"data\.crop\.size: .*are probability, sizes"),
        ({"optimizer": {"schedule": {"warmup": 3}}}, r"optimizer\.schedule\.warmup: .*milestones"),
        ({"optimizer": {"rates": {"bert.": -1}}}, r"optimizer\.rates\.bert\."),
        ({"optimizer": {"lr": "1e-4"}}, r"optimizer\.lr"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, r"optimizer\.betas\.1: .*less than 1"),
        ({"denoising": {"query": 3}}, r"denoising\.query: .*queries"),
        ({"losses": "mmdet"}, "losses: .*open-groundingdino"),
        ({"epochs": 3}, "either epochs or steps"),
        ({"steps": None}, "either epochs or steps"),
        ({"parts": 3}, "batch is 4, not divisible by parts, 3"),
        ({"interpolate": 0.5}, r"give model\.weights"),
    ],
)
def test_bad_configurations_give_one_line(toy: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_config(tmp_path / "c.yaml", toy_document(toy, **changes))
    with pytest.raises(DataError, match=message) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"needs": ["lvis-train"]}, "lvis-train"),
        ({"needs": ["coco-train2017"]}, r"looked for .*data get"),
        ({"watch": "nothing"}, "no benchmark 'nothing'"),
        ({"data": {"sources": [{**SOURCE, "annotations": "/nowhere/x.jsonl", "images": "/tmp"}]}}, "/nowhere/x.jsonl"),
        ({"data": {"sources": [{**SOURCE, "images": "/nowhere"}]}}, "/nowhere: is not a folder of images"),
        ({"model": {"weights": "/nowhere/w.safetensors"}}, "/nowhere/w.safetensors: no such file"),
        ({"model": {"text_encoder": "/nowhere"}}, "model: .*nowhere"),
        ({"model": {"options": {**OPTIONS, "heads": 3}}}, "model: .*unknown key 'heads'"),
        ({"model": {"options": {**OPTIONS, "hidden_dim": 48}}}, "model: .*48"),
        ({"model": {"options": {**OPTIONS, "num_feature_levels": 1}}}, "model: .*num_feature_levels is 1"),
        ({"model": {"options": {**OPTIONS, "max_text_len": 64}}}, "max_tokens"),
        ({"optimizer": {"rates": {"bakcbone.": 0.0}}}, "rates: .*bakcbone"),
        ({"batch": 40, "parts": 4}, "batch"),
    ],
)
def test_what_cannot_be_trained_with_is_said_in_one_line(toy: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _prepare(toy_document(toy, **changes))
    assert "\n" not in str(caught.value)


def test_a_batch_that_the_processes_cannot_share(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovd_bench.benchmarks.training.grounding.prepare.group", lambda: Group(count=2, rank=1))
    with pytest.raises(DataError, match="batch is 6, not divisible by 2 processes with 2 parts each"):
        _prepare(toy_document(toy, batch=6, parts=2))


def test_help_says_what_a_training_of_grounding_dino_needs() -> None:
    app = typer.Typer()
    register(app)
    app.command()(lambda: None)
    text = " ".join(CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert "grounding-dino-nano" in text
    assert "mpiexec -n 2" in text
    assert "ODVG" in text


def test_the_shipped_configuration_is_valid() -> None:
    config = read_config(find_config("grounding-dino-nano"))
    assert isinstance(config, GroundingDinoTraining)
    assert yaml.safe_load(config.as_yaml())["needs"] == ["shapes-train"]


def test_half_precision_is_for_graphics_processors(toy: Path) -> None:
    with pytest.raises(DataError, match="precision is bfloat16, which needs a CUDA device"):
        _losses(toy_document(toy, precision="bfloat16"), 1)


def test_a_drawn_backbone_is_the_seeds(toy: Path) -> None:
    """Equal for equal seeds, whatever else is configured; its sum is written down."""
    document = toy_document(toy)
    document["model"]["backbone"] = "drawn"
    sums = []
    for seed, queries in ((1, 10), (1, 12), (2, 10)):
        document["seed"] = seed
        document["model"]["options"] = {**document["model"]["options"], "num_queries": queries}
        prepared = _prepare(document)
        sums.append((prepared.facts["backbone_sha256"], prepared.facts["text_sha256"]))
    assert sums[0] == sums[1]
    assert sums[0][0] != sums[2][0]
    assert sums[0][1] == sums[2][1]
    config = _config(document).model.config()
    assert sums[2][0] == tensors_sha256(draw_backbone(config.backbone, 2))
