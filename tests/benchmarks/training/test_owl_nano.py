"""Training end to end on a tiny data set: files, resuming, errors."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import typer
import yaml
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from ovd_bench.baselines.owl_nano.train import OwlNanoOptimisation
from ovd_bench.benchmarks.cli.training import register
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.studies.cells import training_facts
from ovd_bench.benchmarks.training import owl_nano
from ovd_bench.benchmarks.training.config import CONFIGS, find_config
from ovd_bench.benchmarks.training.data import TrainingData
from ovd_bench.benchmarks.training.evaluation import SplitEvaluation
from ovd_bench.benchmarks.training.loop import train
from ovd_bench.benchmarks.training.owl_nano import OwlNanoTrainer, OwlNanoTraining, make_training
from ovd_bench.benchmarks.training.registry import read_config
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.owl_nano import load
from ovd_bench.metrics.errors import DataError

SIDE = 32
MODEL = {"widths": [8, 8, 16], "depths": [1, 1, 1], "window": 2, "neck": 8, "embedding": 8}
CONFIG = {"trainer": "owl-nano", "steps": 7, "batch": 2, "log_every": 3, "checkpoint_every": 4, "model": MODEL}
FACTS = {"data": "toy"}
CARD = DetectorCard("toy", family="owl-nano", framework="torch", loader="ovd_bench.detectors.owl_nano:load")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _toy(folder: Path, images: int = 6, **changes: Any) -> Path:
    """Coloured squares: classes 3 'red' and 5 'blue_(square)'; class 9 'unseen' has no box."""
    rng = np.random.default_rng(images)
    (folder / "p").mkdir(parents=True, exist_ok=True)
    categories = [
        {"id": i, "name": name, "frequency": "f", "image_count": count, "synset": f"s{i}", "synonyms": [], "def": ""}
        for i, name, count in ((3, "red", 3), (5, "blue_(square)", 3), (9, "unseen", 0))
    ]
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    for index in range(images):
        pixels = rng.integers(0, 60, (SIDE, SIDE, 3), np.uint8)
        x, y, side = (int(v) for v in (*rng.integers(0, 16, 2), rng.integers(8, 15)))
        pixels[y : y + side, x : x + side, 2 * (index % 2)] = 255
        Image.fromarray(pixels).save(folder / f"p/{index}.png")
        lists = {"neg_category_ids": [9], "not_exhaustive_category_ids": [3] if index == 0 else []}
        size = {"width": SIDE, "height": SIDE}
        document["images"].append({"id": index + 1, "file_name": f"p/{index}.png", **size, **lists})
        box = {"bbox": [x, y, side, side], "area": side * side, "category_id": (3, 5)[index % 2]}
        document["annotations"].append({"id": index + 1, "image_id": index + 1, **box})
    path = folder / "toy.json"
    path.write_text(json.dumps(document | changes))
    return path


@pytest.fixture
def data(tmp_path: Path) -> TrainingData:
    return TrainingData.read(_toy(tmp_path / "toy"), tmp_path / "toy")


def _config(**changes: Any) -> OwlNanoTraining:
    return OwlNanoTraining.model_validate(CONFIG | changes)


def _train(
    config: OwlNanoTraining, data: TrainingData, evaluation: SplitEvaluation | None, out: Path, **options: Any
) -> dict[str, Any]:
    return train(config, make_training(config, data, evaluation, FACTS), out, **options)


def test_classes_without_a_box_do_not_enter_training_even_by_name(data: TrainingData) -> None:
    assert data.names == ("red", "blue")
    assert data.sure.tolist() == [[False, True]] + [[True, True]] * 5
    assert data.rows.tolist() == [0, 1, 0, 1, 0, 1]


def test_batches_hold_each_image_once_per_epoch_and_mirror_boxes_with_pixels(data: TrainingData) -> None:
    batches = data.batches(2, seed=4)
    first, again = [next(batches) for _ in range(9)], data.batches(2, seed=4, first=5)
    mirrored = 0
    for epoch in range(3):
        seen = []
        for batch in first[3 * epoch : 3 * epoch + 3]:
            for pixels, boxes, rows in zip(batch.images, batch.boxes_xyxy, batch.rows, strict=True):
                x0, y0, x1, y1 = boxes[0].astype(int)
                inside = pixels[y0:y1, x0:x1, 2 * rows[0]]
                assert (inside == 255).all()
                assert (pixels[..., 2 * rows[0]] == 255).sum() == inside.size
                plain = [i for i in range(6) if np.array_equal(pixels, data.images[i])]
                flipped = [i for i in range(6) if np.array_equal(pixels[:, ::-1], data.images[i])]
                mirrored += len(flipped)
                seen += plain + flipped
        assert sorted(seen) == list(range(6))
    assert 3 < mirrored < 15
    for batch in first[5:]:
        np.testing.assert_array_equal(next(again).images, batch.images)
    with pytest.raises(DataError, match="batch of 7"):
        next(data.batches(7, seed=0))


def test_a_training_leaves_all_its_files_and_the_weights_load(tmp_path: Path, data: TrainingData) -> None:
    evaluation = SplitEvaluation(tmp_path / "toy/toy.json", tmp_path / "toy")
    result = _train(_config(evaluate_every=4), data, evaluation, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.yaml",
        "log.jsonl",
        "tensorboard",
        "curve.png",
        "checkpoint.bin",
        "weights.safetensors",
    }
    records = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert [(record["step"], "AP" in record) for record in records] == [
        (3, False),
        (4, True),
        (6, False),
        (7, False),
        (7, True),
    ]
    assert result["minival"] == records[-1]
    detector = load(CARD, DetectorSettings(weights=result["weights"]))
    assert evaluation.score(detector)["AP"] == pytest.approx(records[-1]["AP"], abs=0.1)  # float16
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text()) == _config(evaluate_every=4).model_dump(
        mode="json"
    )


def test_a_training_that_was_killed_goes_on_bit_for_bit(
    tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def curve(folder: Path) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [{key: value for key, value in record.items() if key != "core_seconds"} for record in records]

    _train(_config(), data, None, tmp_path / "whole")
    step = OwlNanoOptimisation.train_step

    def killed(self: OwlNanoOptimisation, batch: Any) -> dict[str, float]:
        if self.step == 5:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(OwlNanoOptimisation, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        _train(_config(), data, None, tmp_path / "parts")
    monkeypatch.setattr(OwlNanoOptimisation, "train_step", step)
    assert curve(tmp_path / "parts")[-1]["step"] == 3
    with pytest.raises(DataError, match="--resume"):
        _train(_config(), data, None, tmp_path / "parts")
    _train(_config(), data, None, tmp_path / "parts", resume=True)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    made = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("parts", "whole")]
    assert made[0] == made[1]  # so that equal trainings have one hash
    sums = {training_facts(tmp_path / name / "weights.safetensors")["data_sha256"] for name in ("parts", "whole")}
    assert len(sums) == 1  # of all batches, also of those before the kill
    assert len(sums.pop()) == 64
    states = []
    for name in ("parts", "whole"):
        trainer = make_training(_config(), data, None, FACTS).trainer
        trainer.restore((tmp_path / name / "checkpoint.bin").read_bytes().split(b"\n", 2)[2])
        trainer.write_weights(tmp_path / name / "again.safetensors", {})
        states.append((tmp_path / name / "again.safetensors").read_bytes())
    assert states[0] == states[1]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path, data: TrainingData) -> None:
    _train(_config(), data, None, tmp_path / "out")
    with pytest.raises(DataError, match="another configuration"):
        _train(_config(lr=0.5), data, None, tmp_path / "out", resume=True)
    (tmp_path / "out/checkpoint.bin").write_bytes(b"not\na\ncheckpoint")
    with pytest.raises(DataError, match=r"checkpoint\.bin"):
        _train(_config(), data, None, tmp_path / "out", resume=True)


def test_a_diverging_training_stops_with_one_line(
    tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = OwlNanoOptimisation.losses
    monkeypatch.setattr(
        OwlNanoOptimisation, "losses", lambda self, batch: {n: v * float("nan") for n, v in losses(self, batch).items()}
    )
    with pytest.raises(DataError, match=r"stopped: the loss is nan at step 1.*bad_batch\.npz.*lower the learning rate"):
        _train(_config(), data, None, tmp_path / "out")

    with np.load(tmp_path / "out/bad_batch.npz") as saved:
        assert saved["images"].shape == (2, SIDE, SIDE, 3)
        assert saved["boxes_xyxy.1"].shape == (1, 4)


def test_progress_is_drawn_on_the_console_only(tmp_path: Path, data: TrainingData, capsys: Any) -> None:
    stream = io.StringIO()
    _train(_config(), data, None, tmp_path / "out", console=Console(file=stream))
    assert "7/7" in stream.getvalue()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["owl-nano", "owl-nano-hungarian", "closed-nano", "owl-nano-short"])
def test_shipped_configurations_are_valid(name: str) -> None:
    config = read_config(find_config(name))
    assert isinstance(config, OwlNanoTraining)
    assert OwlNanoTrainer(config, ("red star", "ring")).step == 0


def test_arms_differ_in_one_thing_only() -> None:
    short, *others = (
        read_config(CONFIGS / f"{n}.yaml") for n in ("owl-nano-short", "owl-nano-hungarian", "closed-nano")
    )
    assert isinstance(short, OwlNanoTraining)
    for other in others:
        assert isinstance(other, OwlNanoTraining)
        different = {key for key in short.model_fields_set if getattr(short, key) != getattr(other, key)}
        assert different == {"model"}
        mine, theirs = short.model.model_dump(), other.model.model_dump()
        assert len([key for key in mine if mine[key] != theirs[key]]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "mapping"),
        ("trainer: [", "is not YAML"),
        ("trainer: owl-nano", "steps"),
        ("trainer: owl-nano\nsteps: 5\nstep: 4", "step: .*the keys are"),
        ("trainer: owl-nano\nsteps: '5'", "steps"),
        ("trainer: owl-nano\nsteps: 5\nlr: .nan", "lr"),
        ("trainer: owl-nano\nsteps: 5\nlr: 2e-3", "lr: .*write 0.002"),
        ("trainer: owl-nano\nsteps: 5\nbatch: 0", "batch"),
        ("!!python/object/apply:os.system [x]", "is not YAML"),
        ("\x00", "is not YAML"),
    ],
)
def test_bad_configurations_give_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainer": "yolo"}, "unknown trainer 'yolo'"),
        ({"model": {"neck": "wide"}}, r"model\.neck"),
        ({"model": {"heads": 3}}, r"model\.heads.*the keys are widths"),
        ({"model": {"window": 0}}, "model: .*sizes"),
        ({"model": {"widths": [1, 2]}}, "model: .*three widths"),
    ],
)
def test_bad_model_options_give_one_line(
    tmp_path: Path, data: TrainingData, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG | changes))
    with pytest.raises(DataError, match=message):
        make_training(cast(OwlNanoTraining, read_config(path)), data, None, FACTS)


def test_bad_data_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no boxes"):
        TrainingData.read(_toy(tmp_path / "a", annotations=[]), tmp_path / "a")
    path = _toy(tmp_path / "b")
    Image.new("RGB", (40, 32)).save(tmp_path / "b/p/3.png")
    with pytest.raises(DataError, match="all images need one size"):
        TrainingData.read(path, tmp_path / "b")
    path.write_text(path.read_text().replace("p/3.png", "../../etc/passwd"))
    with pytest.raises(DataError, match="leaves the folder"):
        TrainingData.read(path, tmp_path / "b")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The verb alone, on the toy data instead of a rendered data set."""

    def toy_benchmark(name: str, data_root: Path) -> Benchmark:
        folder = data_root / name
        return Benchmark(name, "toy", "", _toy(folder), folder, "lvis")

    monkeypatch.setattr(owl_nano, "open_benchmark", toy_benchmark)
    app = typer.Typer()
    register(app)
    app.command()(lambda: None)
    return app


def test_command_line(tmp_path: Path, app: typer.Typer) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    arguments = ["train", str(config), "--data-root", str(tmp_path / "d"), "--out", str(tmp_path / "o"), "--seed", "3"]
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert result["steps"] == 7
    assert set(result["minival"]) >= {"AP", "APf"}
    assert read_config(tmp_path / "o/config.yaml").seed == 3
    with pytest.raises(DataError, match="--resume"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    again = CliRunner().invoke(app, [*arguments, "--resume"], catch_exceptions=False)
    assert "7 steps" in again.stdout
    with pytest.raises(DataError, match="owl-nano-hungarian"):
        CliRunner().invoke(app, ["train", "nothing"], catch_exceptions=False)
    config.write_text(yaml.safe_dump(CONFIG | {"data": "coco"}))
    with pytest.raises(DataError, match="no data set 'coco-train'"):
        CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "p")], catch_exceptions=False)
