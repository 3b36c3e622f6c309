"""YOLO data sets: values by hand, layouts, and files that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from ovd_bench.benchmarks.cli import data
from ovd_bench.benchmarks.data.catalog.registry import open_benchmark
from ovd_bench.benchmarks.data.instances.yolo import NO_AREA, REPEATED, read_yolo
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.catalog.made import write_image

SIZE = (200, 100)


def make(
    folder: Path, labels: str = "0 0.5 0.5 0.25 0.5\n", yaml: str = "names: [cat, dog]\nval: images/val\n"
) -> Path:
    write_image(folder / "images/val/a.png", SIZE)
    (folder / "labels/val").mkdir(parents=True, exist_ok=True)
    (folder / "labels/val/a.txt").write_text(labels)
    (folder / "data.yaml").write_text(yaml)
    return folder


def written(folder: Path, split: str = "val") -> dict[str, Any]:
    made = read_yolo(folder, split)
    made.write(folder / "made.json")
    document: dict[str, Any] = json.loads((folder / "made.json").read_text())
    return document


def boxes(folder: Path) -> list[tuple[int, list[float]]]:
    return [(box["category_id"], box["bbox"]) for box in written(folder)["annotations"]]


def test_boxes_and_polygons_by_hand(tmp_path: Path) -> None:
    # Centre (100, 50), 50 wide, 50 high; a triangle from x 20 to 120 and y 10 to 60.
    folder = make(tmp_path, "0 0.5 0.5 0.25 0.5\n\n1 0.1 0.1 0.6 0.1 0.35 0.6\n")
    (first, second) = boxes(folder)
    assert first == (1, [75.0, 25.0, 50.0, 50.0])
    assert second[0] == 2
    assert second[1] == pytest.approx([20.0, 10.0, 100.0, 50.0])
    document = written(folder)
    assert document["images"] == [{"id": 1, "file_name": "images/val/a.png", "width": 200, "height": 100}]
    assert document["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert document["annotations"][0]["area"] == 2500


def test_an_upright_image_has_the_size_that_labels_are_of(tmp_path: Path) -> None:
    folder = make(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(folder / "images/val/a.png", exif=exif)
    assert (written(folder)["images"][0]["width"], written(folder)["images"][0]["height"]) == (100, 200)


@pytest.mark.parametrize(
    "yaml",
    [
        "names: {0: cat, 1: dog}\nval: images/val",
        "names: [cat, dog]\nval: [images/val]\nnc: 2\nroboflow: {a: b}",
        "names: [cat, dog]\nval: ../images/val",  # as Roboflow writes it
        "names: [cat, dog]\npath: images\nval: val",
        "names: [cat, dog]\npath: ../datasets/other\nval: images/val",
        "names: [cat, dog]\nvalid: images/val",
        "names: [cat, dog]\nval: list.txt",
    ],
)
def test_forms_of_data_yaml(tmp_path: Path, yaml: str) -> None:
    folder = make(tmp_path / "set", yaml=yaml)
    (folder / "list.txt").write_text("./images/val/a.png\n")
    assert boxes(folder) == [(1, [75.0, 25.0, 50.0, 50.0])]


def test_numbers_as_names_are_their_text(tmp_path: Path) -> None:
    assert written(make(tmp_path, yaml="names: [1, 2]\nval: images/val"))["categories"][0]["name"] == "1"


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    write_image(tmp_path / "images/val/empty.png", SIZE)
    folder = make(tmp_path, "0 0.5 0.5 0.25 0.5\n0 0.5 0.5 0.25 0.5\n1 0.5 0.5 0 0.5\n")
    made = read_yolo(folder, "val")
    assert made.dropped == {REPEATED: 1, NO_AREA: 1}
    document = written(folder)
    assert (len(document["images"]), len(document["annotations"])) == (2, 1)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("0 0.5 0.5 0.25", "line 1: 3 numbers after the class"),
        ("0 0.5 0.5 0.25 0.5 0.9", "line 1: 5 numbers after the class"),
        ("0", "line 1: 0 numbers after the class"),
        ("\n2 0.5 0.5 0.25 0.5", "line 2: class 2 is not among the names"),
        ("0.5 0.5 0.5 0.25 0.5", "line 1: class 0.5 is not among the names"),
        ("nan 0.5 0.5 0.25 0.5", "line 1: class nan is not among the names"),
        ("0 50 50 25 50", "line 1: a coordinate is not a fraction"),
        ("0 nan 0.5 0.25 0.5", "line 1: a coordinate is not a fraction"),
        ("0 0.5 0.5 1e999 0.5", "line 1: a coordinate is not a fraction"),
        ("cat 0.5 0.5 0.25 0.5", "line 1: 'cat 0.5 0.5 0.25 0.5' has something that is no number"),
    ],
)
def test_wrong_labels_are_one_line(tmp_path: Path, labels: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read_yolo(make(tmp_path, labels), "val")
    assert str(caught.value).startswith(f"{tmp_path}/labels/val/a.txt: {problem}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("yaml", "problem"),
    [
        ("names: [", "is not YAML"),
        ("- a", "the document: "),
        ("val: images/val", "names: Field required"),
        ("names: []\nval: images/val", "names: has no class"),
        ("names: [no]\nval: images/val", "names.list"),
        ("names: ['']\nval: images/val", "names: the name of class 0 is empty"),
        ("names: {-1: cat}\nval: images/val", "names: -1 is not a class number"),
        ("names: [cat]", "has no split 'val'"),
        ("names: [cat]\nval: nowhere", "'nowhere' is not in its folder"),
        ("names: [cat]\nval: /etc", "'/etc' is not in its folder"),
        ("names: [cat]\nval: labels", "'val' has no images"),
        ('names: [cat]\nval: "a\\0b"', "val.constrained-str: "),
        ("names: [cat]\nval: list.txt", "list.txt: line 1: '../../a.png' leaves the folder"),
        ("names: [cat]\nval: other", "none of the 1 images of 'val' has labels"),
    ],
)
def test_a_wrong_data_yaml_is_one_line(tmp_path: Path, yaml: str, problem: str) -> None:
    folder = make(tmp_path / "set", yaml=yaml)
    (folder / "list.txt").write_text("../../a.png\n")
    write_image(folder / "other/b.png", SIZE)
    with pytest.raises(DataError) as caught:
        read_yolo(folder, "val")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_do_not_leave_the_folder_through_links(tmp_path: Path) -> None:
    folder = make(tmp_path / "set")
    write_image(tmp_path / "secret.png", SIZE)
    (folder / "images/val/b.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="leaves the folder"):
        read_yolo(folder, "val")


def test_the_verb_makes_a_benchmark(tmp_path: Path) -> None:
    folder, app = make(tmp_path / "pets"), typer.Typer()
    data.register(app)
    result = CliRunner().invoke(
        app, ["data", "convert", "yolo-coco", str(folder), "-o", str(folder / "val.json"), "--json"]
    )
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["images"], facts["classes"], facts["boxes"], facts["dropped"]) == (1, 2, 1, {})
    benchmark = open_benchmark(str(folder / "val.json"), tmp_path)
    assert (benchmark.name, benchmark.images, benchmark.protocol) == ("pets-val", folder, "coco")
