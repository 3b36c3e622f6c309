"""The verbs under ``bench data``, and what ``verify`` finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from ovd_bench.benchmarks.cli import data
from ovd_bench.benchmarks.data.catalog.card import Counts
from ovd_bench.benchmarks.data.catalog.registry import open_benchmark
from ovd_bench.benchmarks.data.catalog.verify import verify
from ovd_bench.benchmarks.data.report import Report
from ovd_bench.tests.benchmarks.data.catalog.made import (
    coco_document,
    lvis_document,
    lvis_root,
    write_image,
    write_json,
)

FOLDERS = ("train2017", "val2017", "val2017", "val2017")


def run(*arguments: object) -> Result:
    app = typer.Typer()
    data.register(app)
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def run_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lvis_root(tmp_path, FOLDERS)
    return tmp_path


def test_list(root: Path) -> None:
    rows = {row["name"]: row for row in run_json("list", "--data-root", root)["datasets"]}
    assert rows["lvis-v1-val"]["ready"]
    assert not rows["lvis-minival"]["ready"]
    assert rows["shapes"]["made_here"]
    assert rows["coco-val2017"]["images"] == 5000
    assert "lvis-minival" in run("list", "--data-root", root).stdout


def test_get_says_what_is_missing(tmp_path: Path) -> None:
    document = run_json("get", "coco-val2017", "--data-root", tmp_path)
    assert not document["ready"]
    assert [step["state"] for step in document["downloads"]] == ["missing", "missing", "optional"]
    text = run("get", "coco-val2017", "--data-root", tmp_path).stdout
    for part in ("http://images.cocodataset.org/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", "licence"):
        assert part in text
    assert f"unpack in {tmp_path}/coco" in text.replace("\n", "")


def test_get_derives_minival(root: Path) -> None:
    document = run_json("get", "lvis-minival", "--data-root", root)
    assert document["ready"]
    assert (document["facts"]["images"], document["facts"]["rare_with_boxes"]) == (3, 2)
    assert (root / "lvis/lvis_v1_minival.json").is_file()
    assert run_json("get", "lvis-minival", "--data-root", root) == document


def test_get_of_an_unknown_name() -> None:
    assert "no data set 'nope'" in str(run("get", "nope").exception)


def test_verify_compares_with_the_official_counts(root: Path) -> None:
    document = run_json("verify", "lvis-v1-val", "--data-root", root, code=1)
    assert document["wrong"] == [
        "annotations: 4 images, the official file has 19,809",
        "annotations: 3 classes, the official file has 1,203",
        "annotations: 4 boxes, the official file has 244,707",
    ]
    assert run("verify", "lvis-v1-val", "--data-root", root).exit_code == 1


def test_verify_of_ones_own_is_silent_when_right(root: Path) -> None:
    document = run_json("verify", root / "lvis/lvis_v1_val.json", "--images", root / "coco", "--decode")
    assert document["ok"]
    assert document["facts"]["image files"] == document["facts"]["images read"] == 4
    assert "no problems found" in run("verify", root / "lvis/lvis_v1_val.json", "--images", root / "coco").stdout


def check(folder: Path, document: dict[str, Any], *, decode: bool = True) -> Report:
    write_json(folder / "gt.json", document)
    return verify(open_benchmark(str(folder / "gt.json"), folder), None, Counts(), decode=decode)


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    names = ["a.png", "b.png", "c.png"]
    for number, name in enumerate(names):
        write_image(tmp_path / name, seed=number)
    return tmp_path, coco_document(names)


def test_verify_finds_missing_and_unusable_images(three: tuple[Path, dict[str, Any]]) -> None:
    folder, document = three
    (folder / "a.png").unlink()
    half = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(half[: len(half) // 2])
    Image.new("RGB", (30, 40)).save(folder / "c.png")
    missing, *unusable = check(folder, document).wrong
    assert missing == "1 image files are missing: a.png"
    assert len(unusable) == 2
    assert any(line.endswith("image is 30 x 40, the annotations say 40 x 30: c.png") for line in unusable)
    assert check(folder, document, decode=False).wrong == [missing]


def test_verify_finds_paths_that_leave(three: tuple[Path, dict[str, Any]]) -> None:
    folder, document = three
    document["images"][1]["file_name"] = "../b.png"
    assert "1 image paths leave the folder of the images: ../b.png" in check(folder, document).wrong


def test_verify_and_show_by_base_name(three: tuple[Path, dict[str, Any]]) -> None:
    folder, document = three
    for image in document["images"]:
        image["file_name"] = f"s3://bucket/{image['file_name']}"
    path = write_json(folder / "gt.json", document)
    report = run_json("verify", path, "--images", folder, code=1)
    assert report["remarks"][-1].endswith("--match basename finds images by base name")
    assert run_json("verify", path, "--match", "basename", "--decode")["facts"]["images read"] == 3
    sheet = run_json("show", path, "--match", "basename", "-o", folder / "sheet.png")
    assert sorted(sheet["image_ids"]) == [1, 2, 3]


def test_verify_finds_files_named_twice(three: tuple[Path, dict[str, Any]]) -> None:
    folder, document = three
    document["images"][1]["file_name"] = "a.png"
    assert "1 files are named by several images: a.png" in check(folder, document).wrong


@pytest.mark.parametrize(
    ("box", "where", "message"),
    [
        ([50, 5, 5, 5], "wrong", "1 boxes lie outside their image: annotations 1"),
        ([-20, 5, 10, 5], "wrong", "1 boxes lie outside their image: annotations 1"),
        ([30, 5, 15, 5], "remarks", "1 boxes reach over the border of their image by more than a pixel: annotations 1"),
        ([30, 5, 0, 5], "remarks", "1 boxes have no area: annotations 1"),
    ],
)
def test_verify_of_boxes(three: tuple[Path, dict[str, Any]], box: list[float], where: str, message: str) -> None:
    folder, document = three
    document["annotations"][0]["bbox"] = box
    report = check(folder, document)
    assert message in getattr(report, where)
    assert report.wrong == ([message] if where == "wrong" else [])


def test_boxes_over_the_border_by_rounding_are_fine(three: tuple[Path, dict[str, Any]]) -> None:
    folder, document = three
    document["annotations"][0]["bbox"] = [-0.5, 0, 41, 30.5]
    report = check(folder, document)
    assert (report.wrong, report.remarks) == ([], [])


def test_verify_finds_boxes_that_are_there_twice(three: tuple[Path, dict[str, Any]]) -> None:
    folder, document = three
    document["annotations"].append(document["annotations"][0] | {"id": 9})
    assert "1 boxes occur twice, with the same class: annotations 9" in check(folder, document).remarks


def test_verify_of_real_files(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "lvis-api/lvis_val_100.json"
    report = verify(open_benchmark(str(path), tmp_path, images=tmp_path), None, Counts(100, 1230, 977))
    assert [line.split(":")[0] for line in report.wrong] == ["100 image files are missing"]
    path = real_data / "faster_coco_eval/instances_val2014_100.json"
    report = verify(open_benchmark(str(path), tmp_path, images=tmp_path), None, Counts(100, 80, 839))
    assert [line.split(":")[0] for line in report.wrong] == ["100 image files are missing"]


def test_verify_of_phrases(tmp_path: Path) -> None:
    captions = [
        {"id": i, "caption": "a dog", "original_img_id": 1000 + i // 2, "tokens_positive_eval": [[[0, 5]]]}
        for i in range(4)
    ]
    boxes = [{"image_id": i, "bbox": [1, 2, 3, 4], "tokens_positive": [[0, 5]]} for i in range(4)]
    write_json(
        tmp_path / "mdetr_annotations/final_flickr_separateGT_test.json", {"images": captions, "annotations": boxes}
    )
    write_image(tmp_path / "flickr30k/flickr30k_images/1000.jpg")
    document = run_json("verify", "flickr30k-test", "--data-root", tmp_path, code=1)
    assert document["wrong"] == [
        "annotations: 2 images, the official file has 1,000",
        "1 image files are missing: 1001.jpg",
    ]
    assert document["facts"]["phrases"] == 4


def test_show(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "lvis/lvis_v1_val.json", root / "coco/gt.json")
    document = run_json("show", root / "coco/gt.json", "-n", 3, "-o", tmp_path / "s.png")
    assert len(document["image_ids"]) == 3
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size[0] > 3 * 40
    again = run_json("show", root / "coco/gt.json", "-n", 3, "-o", tmp_path / "t.png")
    assert again["image_ids"] == document["image_ids"]
    assert (tmp_path / "t.png").read_bytes() == (tmp_path / "s.png").read_bytes()


def test_show_of_a_class(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "lvis/lvis_v1_val.json", root / "coco/gt.json")
    document = run_json("show", root / "coco/gt.json", "--class", "zebra", "-o", tmp_path / "s.jpg")
    assert sorted(document["image_ids"]) == [100, 103]
    result = run("show", root / "coco/gt.json", "--class", "Zeb", "-o", tmp_path / "s.jpg")
    assert str(result.exception) == "no class is called 'Zeb': did you mean 'zebra'?"
    assert "the file name must end in .png or .jpg" in str(run("show", root / "coco/gt.json", "-o", "s.exe").exception)


def test_show_says_which_images_it_passed_over(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "lvis/lvis_v1_val.json", root / "coco/gt.json")
    (root / "coco/val2017/000000000002.jpg").write_text("no image")
    document = run_json("show", root / "coco/gt.json", "-o", tmp_path / "s.png")
    assert sorted(document["image_ids"]) == [100, 101, 103]
    assert len(document["passed_over"]) == 1


def test_convert_verbs(tmp_path: Path) -> None:
    source = write_json(tmp_path / "val.json", lvis_document(FOLDERS))
    assert run_json("convert", "lvis-minival", source, "-o", tmp_path / "m.json")["images"] == 3
    assert run_json("convert", "file-names", source, "-o", tmp_path / "f.json")["images"] == 4
    (tmp_path / "ids").write_text("101\n")
    subset = run_json("convert", "subset", source, "--ids", tmp_path / "ids", "-o", tmp_path / "s.json")
    assert subset["boxes"] == 1
    result = run("convert", "lvis-minival", source, "-o", tmp_path / "no/m.json")
    assert "the folder" in str(result.exception)
    assert "does not exist" in str(result.exception)


def _ordinary() -> dict[str, Any]:
    boxes = [[90.0 + 3 * n, 60.0 + 2 * n, 40.0, 25.0 + n] for n in range(10)]
    return {
        "images": [{"id": 1, "width": 160, "height": 120, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "cart"}],
        "annotations": [
            {"id": n + 1, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, box in enumerate(boxes)
        ],
    }


def _written_as(form: str, document: dict[str, Any]) -> None:
    for annotation in document["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x / 160, y / 120, w / 160, h / 120] if form == "relative" else [x, y, x + w, y + h]


@pytest.mark.parametrize(("form", "cause"), [("relative", "in 0 … 1"), ("corners", "[x1, y1, x2, y2]")])
def test_verify_names_another_form_of_boxes(form: str, cause: str, tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.png", (160, 120))
    document = _ordinary()
    assert check(tmp_path, document).wrong == []
    _written_as(form, document)
    assert any(cause in line for line in check(tmp_path, document).wrong)


def test_verify_names_categories_that_read_alike(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.png", (160, 120))
    document = _ordinary()
    document["categories"] += [{"id": 3, "name": "Car"}, {"id": 4, "name": " car "}, {"id": 5, "name": " "}]
    wrong = check(tmp_path, document).wrong
    assert "1 categories have an empty name: ids 5" in wrong
    assert "3 classes are 1 texts to a detector: 'car' and 'Car' and ' car '" in wrong


def test_verify_remarks_on_id_0_and_does_not_say_all_is_right(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.png", (160, 120))
    document = _ordinary()
    document["annotations"][0]["id"] = 0
    report = check(tmp_path, document)
    assert report.wrong == []
    assert any("id 0" in line for line in report.remarks)
    said = run("verify", tmp_path / "gt.json", "--images", tmp_path / "images").stdout
    assert "no problems found" not in said


def test_objects365_gets_correct_names(tmp_path: Path) -> None:
    document = coco_document(["a.png", "b.png"])
    document["categories"] = [{"id": 1, "name": "Moniter/TV", "x": 1}, {"id": 2, "name": " Dinning  Table "}]
    official = write_json(tmp_path / "objects365v1/objects365_val.json", document)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "objects365v1/val" / name)
    facts = run_json("get", "objects365-v1-val", "--data-root", tmp_path)
    assert facts["ready"]
    made = tmp_path / "objects365v1/objects365_val_names.json"
    corrected = [{"id": 1, "name": "Monitor/TV", "x": 1}, {"id": 2, "name": "Dining Table"}]
    assert json.loads(made.read_text()) == document | {"categories": corrected}
    assert open_benchmark("objects365-v1-val", tmp_path).annotations == made
    other = tmp_path / "other.json"
    run_json("convert", "objects365-names", official, "-o", other)
    assert other.read_bytes() == made.read_bytes()


def test_objects365_without_names_is_one_line(tmp_path: Path) -> None:
    broken = write_json(tmp_path / "o.json", coco_document(["a.png"]) | {"categories": [{"id": 1}]})
    result = run("convert", "objects365-names", broken, "-o", tmp_path / "p.json")
    assert str(result.exception) == f"{broken}: categories record 0: field 'name' is missing or no text"
    assert not (tmp_path / "p.json").exists()
