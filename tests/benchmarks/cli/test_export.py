"""Exported predictions, read back from every format."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from ovd_bench.benchmarks.cli.app import app
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.predictions import read_predictions
from ovd_bench.benchmarks.store.export import WRITERS
from ovd_bench.benchmarks.store.predictions import read_run_predictions
from ovd_bench.metrics.types import Predictions
from ovd_bench.tests import oracles
from ovd_bench.tests.benchmarks.board.made_runs import SIZE, make_benchmark, make_predictions, make_run

Box = tuple[int, int, float, float, float, float, float]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return make_benchmark(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def run(toy: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("export") / "results", toy)


@pytest.fixture
def truth(toy: Benchmark) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(toy.annotations.read_text())
    return document


def export(run: object, to: str, output: Path, *more: object) -> dict[str, Any]:
    words = ["export", str(run), "--to", to, "-o", str(output), *map(str, more), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.exception, result.output)
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def rows(predictions: Predictions) -> list[Box]:
    columns = [getattr(predictions, c).tolist() for c in ("image_id", "category_id", "score", "x", "y", "w", "h")]
    return sorted(zip(*columns, strict=True))


def close(found: list[Box], expected: list[Box], tolerance: float) -> bool:
    pairs: tuple[npt.NDArray[np.float64], ...] = (np.array(sorted(found)), np.array(expected))
    return len(found) == len(expected) and bool(np.abs(pairs[0] - pairs[1]).max() <= tolerance)


def test_every_format_has_a_test_and_an_option() -> None:
    tested = {name.removeprefix("test_").split("_")[0] for name in globals() if name.startswith("test_")}
    assert set(WRITERS) - {"coco", "lvis"} <= tested


@pytest.mark.parametrize("to", ["coco", "lvis"])
def test_results_json(run: Path, toy: Benchmark, truth: dict[str, Any], tmp_path: Path, to: str) -> None:
    said = export(run, to, tmp_path / "dets.json")
    assert rows(read_predictions(tmp_path / "dets.json")) == rows(read_run_predictions(run))
    assert (said["images"], said["boxes"]) == (len(truth["images"]), len(read_run_predictions(run)))
    results = json.loads((tmp_path / "dets.json").read_text())
    official = oracles.run_lvis(truth, results).results["AP"]
    assert official == json.loads((run / "result.json").read_text())["metrics"]["AP"]["value"]


def test_csv_and_names(run: Path, truth: dict[str, Any], tmp_path: Path) -> None:
    export(run, "csv", tmp_path / "dets.csv")
    with (tmp_path / "dets.csv").open() as file:
        table = list(csv.DictReader(file))
    found = [
        (int(r["image_id"]), int(r["category_id"]), *(float(r[c]) for c in ("score", "x", "y", "w", "h")))
        for r in table
    ]
    assert sorted(found) == rows(read_run_predictions(run))
    names = {c["id"]: c["name"] for c in truth["categories"]}
    files = {i["id"]: i["file_name"] for i in truth["images"]}
    assert all(r["category"] == names[int(r["category_id"])] for r in table)
    assert all(r["file_name"] == files[int(r["image_id"])] for r in table)
    scores = [(int(r["image_id"]), -float(r["score"])) for r in table]
    assert scores == sorted(scores)


def test_parquet_is_scored_like_the_run(run: Path, truth: dict[str, Any], tmp_path: Path) -> None:
    export(run, "parquet", tmp_path / "dets.parquet")
    assert rows(read_predictions(tmp_path / "dets.parquet")) == rows(read_run_predictions(run))
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "dets.parquet").to_pydict()
    names = {c["id"]: c["name"] for c in truth["categories"]}
    assert table["category"] == [names[k] for k in table["category_id"]]


def test_yolo_text_files(run: Path, truth: dict[str, Any], tmp_path: Path) -> None:
    export(run, "yolo", tmp_path / "yolo")
    names = (tmp_path / "yolo/classes.txt").read_text().splitlines()
    assert names == [c["name"] for c in sorted(truth["categories"], key=lambda c: c["id"])]
    ids = {c["name"]: c["id"] for c in truth["categories"]}
    found: list[Box] = []
    for image in truth["images"]:
        for line in (tmp_path / "yolo/labels" / image["file_name"]).with_suffix(".txt").read_text().splitlines():
            label, *numbers = line.split()
            x, y, w, h, score = map(float, numbers)
            w, h, x, y = w * SIZE[0], h * SIZE[1], x * SIZE[0], y * SIZE[1]
            found.append((image["id"], ids[names[int(label)]], score, x - w / 2, y - h / 2, w, h))
    assert close(found, rows(read_run_predictions(run)), 1e-5)
    again = CliRunner().invoke(app, ["export", str(run), "--to", "yolo", "-o", str(tmp_path / "yolo")])
    assert str(again.exception).endswith("labels: exists already: name another folder")


def test_fiftyone_is_coco_with_scores(run: Path, truth: dict[str, Any], tmp_path: Path) -> None:
    export(run, "fiftyone", tmp_path / "fo")
    from pycocotools.coco import COCO

    coco = COCO(str(tmp_path / "fo/labels.json"))
    found = [(a["image_id"], a["category_id"], a["score"], *a["bbox"]) for a in coco.anns.values()]
    assert sorted(found) == rows(read_run_predictions(run))
    assert {i: v["file_name"] for i, v in coco.imgs.items()} == {i["id"]: i["file_name"] for i in truth["images"]}
    assert {(v["width"], v["height"]) for v in coco.imgs.values()} == {SIZE}
    assert {k: v["name"] for k, v in coco.cats.items()} == {c["id"]: c["name"] for c in truth["categories"]}


def test_supervision_arrays(run: Path, truth: dict[str, Any], tmp_path: Path) -> None:
    export(run, "supervision", tmp_path / "dets.npz")
    ids = {c["name"]: c["id"] for c in truth["categories"]}
    found: list[Box] = []
    with np.load(tmp_path / "dets.npz", allow_pickle=False) as arrays:
        for i, image in enumerate(arrays["image_id"].tolist()):
            part = slice(*arrays["starts"][i : i + 2])
            labels = arrays["class_names"][arrays["class_id"][part]].tolist()
            for box, score, label in zip(arrays["xyxy"][part], arrays["confidence"][part], labels, strict=True):
                left, top, right, bottom = box.tolist()
                found.append((image, ids[label], float(score), left, top, right - left, bottom - top))
        assert arrays["file_name"].tolist() == [i["file_name"] for i in sorted(truth["images"], key=lambda i: i["id"])]
    assert close(found, rows(read_run_predictions(run)), 1e-4)


def test_a_partial_run_has_its_images_only(toy: Benchmark, truth: dict[str, Any], tmp_path: Path) -> None:
    everything = make_predictions(toy, miss=0.1, wrong=0.1, seed=3)
    predictions = everything.take(everything.image_id <= len(truth["images"]) // 2)
    part = make_run(tmp_path / "results", toy, "part", partial=True, predictions=predictions)
    assert export(part, "yolo", tmp_path / "yolo")["images"] == len(truth["images"]) // 2
    assert len(list((tmp_path / "yolo/labels").iterdir())) == len(truth["images"]) // 2


def test_what_cannot_be_exported_is_one_line(toy: Benchmark, run: Path, tmp_path: Path) -> None:
    def refused(*words: object) -> str:
        return str(CliRunner().invoke(app, ["export", *map(str, words)]).exception)

    assert refused(run, "--to", "coco", "-o", tmp_path / "a.txt").endswith("a.txt: the file name must end in .json")
    odd = tmp_path / "odd.json"
    odd.write_text('[{"image_id": 1, "category_id": 999, "bbox": [1, 1, 2, 2], "score": 0.5}]')
    message = refused(odd, "-a", toy.annotations, "--to", "csv", "-o", tmp_path / "a.csv")
    assert message == f"{odd}: record 0: category_id 999 is not in {toy.annotations}"
    assert CliRunner().invoke(app, ["export", str(odd), "--to", "csv", "-o", "a.csv"]).exit_code == 2
