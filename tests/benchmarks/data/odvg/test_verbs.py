"""The verbs on ODVG files, rewriting of the dialect, and what ``verify`` finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import typer
from typer.testing import CliRunner, Result

from ovd_bench.benchmarks.cli import data
from ovd_bench.benchmarks.data.odvg.conversion import DUPLICATE, THIN
from ovd_bench.benchmarks.data.odvg.dialect import convert_dialect
from ovd_bench.benchmarks.data.odvg.spans import ABSENT, BLANK, INSIDE
from ovd_bench.benchmarks.data.odvg.verify import find_label_map, verify_odvg
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.catalog.made import coco_document, lvis_document, write_image, write_json
from ovd_bench.tests.benchmarks.data.odvg.read_odvg import read_odvg
from ovd_bench.tests.benchmarks.data.odvg.test_flickr30k import folder
from ovd_bench.tests.benchmarks.data.odvg.test_mdetr import DOCUMENT
from ovd_bench.tests.benchmarks.data.odvg.test_records import DETECTION, MMDET, OGD

__all__ = ["folder"]

CAPTION = "A man greets a man and two dogs"


def run(*arguments: object) -> Result:
    app = typer.Typer()
    data.register(app)
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def run_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def _write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def _ogd(*regions: tuple[list[float], str]) -> dict[str, Any]:
    rows = [{"bbox": box, "phrase": phrase} for box, phrase in regions]
    return {"filename": "m.jpg", "height": 30, "width": 40, "grounding": {"caption": CAPTION, "regions": rows}}


def test_coco_and_verify(tmp_path: Path) -> None:
    source = write_json(tmp_path / "coco.json", coco_document(["a.png", "b/c.png"]))
    target = tmp_path / "coco.jsonl"
    report = run_json("convert", "coco-odvg", source, "-o", target)
    assert (report["records"], report["boxes"], report["classes"], report["dropped"]) == (2, 2, 2, {})
    assert report["label_map"] == str(tmp_path / "coco.label_map.json")
    for name in ("a.png", "b/c.png"):
        write_image(tmp_path / "images" / name)
    found = run_json("verify", target, "--images", tmp_path / "images", "--decode")
    assert found["ok"]
    assert found["facts"]["sha256"] == report["sha256"]
    assert (found["facts"]["images"], found["facts"]["images read"], found["facts"]["classes"]) == (2, 2, 2)
    write_image(tmp_path / "images" / "a.png", (9, 9))
    (tmp_path / "images/b/c.png").unlink()
    found = run_json("verify", target, "--images", tmp_path / "images", "--decode", code=1)
    assert found["wrong"][0] == "1 image files are missing: b/c.png"
    assert "1 images cannot be used: " in found["wrong"][1]
    assert "no problems found" in run("verify", target).stdout


def test_reports_are_printed(tmp_path: Path) -> None:
    document = coco_document(["a.png", "b.png"])
    document["annotations"][0]["iscrowd"] = 1
    text = run("convert", "coco-odvg", write_json(tmp_path / "c.json", document), "-o", tmp_path / "c.jsonl").stdout
    assert "records            2" in text
    assert "empty              1" in text
    assert "dropped:\n  1 crowd\n" in text
    assert "left out: nothing" in text


def test_other_converters_have_verbs(tmp_path: Path, folder: Path) -> None:
    lvis = write_json(tmp_path / "lvis.json", lvis_document(["train2017"] * 3))
    target = tmp_path / "x.jsonl"
    report = run_json("convert", "lvis-odvg", lvis, "-o", target, "--frequencies", "cf")
    assert (report["records"], report["boxes"], report["classes"]) == (3, 1, 1)
    assert report["dropped"] == {"of a class left out": 2}
    assert run_json("convert", "lvis-odvg", lvis, "-o", target)["boxes"] == 3
    assert run_json("convert", "objects365-odvg", lvis, "-o", target)["notes"][-1].startswith("Objects365 v1")
    goldg = write_json(tmp_path / "goldg.json", DOCUMENT)
    report = run_json("convert", "goldg-odvg", goldg, "-o", target)
    assert (report["label_map"], report["phrases"]) == (None, 4)
    assert run_json("convert", "flickr30k-odvg", folder, "-o", target)["records"] == 6
    assert run_json("verify", target)["facts"]["phrases"] == 14


def test_dialect_is_rewritten(tmp_path: Path) -> None:
    boxes: list[list[float]] = [[0, 0, 9, 9], [1, 1, 9, 9], [2, 2, 9, 9], [3, 3, 9, 9], [3, 3, 9, 9]]
    phrases = ("a man", "a man", "two dogs", "two dogs", "two dogs")
    source = _write(tmp_path / "ogd.jsonl", DETECTION, _ogd(*zip(boxes, phrases, strict=True)), MMDET)
    report = run_json("convert", "ogd-odvg", source, "-o", tmp_path / "new.jsonl")
    assert report["notes"] == ["5 regions had no spans: they were found in the captions"]
    assert report["dropped"] == {DUPLICATE: 1}
    detection, ogd, mmdet = read_odvg(tmp_path / "new.jsonl")
    assert [detection, mmdet] == [record for record in read_odvg(source) if record.filename != "m.jpg"]
    assert ogd.grounding is not None
    assert [(r.phrase, r.tokens_positive, [list(box) for box in r.bbox]) for r in ogd.grounding.regions] == [
        (("A man",), ((0, 5),), boxes[:1]),
        (("a man",), ((13, 18),), boxes[1:2]),
        (("two dogs",), ((23, 31),), boxes[2:4]),
    ]
    again = convert_dialect(tmp_path / "new.jsonl", tmp_path / "again.jsonl")
    assert again.sha256 == report["sha256"]
    with pytest.raises(DataError, match="is the file that is read"):
        convert_dialect(source, source)


def test_phrase_that_is_not_there_is_named_with_its_line(tmp_path: Path) -> None:
    source = _write(tmp_path / "ogd.jsonl", OGD, _ogd(([0, 0, 9, 9], "a cat")))
    problem = str(run("verify", source).exception)
    assert "ogd.jsonl: line 2: phrase 'a cat' is not in the caption" in problem


def test_phrases_that_do_not_fit_are_dropped_and_counted(tmp_path: Path) -> None:
    box: list[float] = [0, 0, 9, 9]
    phrases = ("a cat", "dog", " ", "two dogs", "a man")
    source, target = (
        _write(tmp_path / "ogd.jsonl", OGD, _ogd(*((box, phrase) for phrase in phrases))),
        tmp_path / "n.jsonl",
    )
    report = run_json("convert", "ogd-odvg", source, "-o", target)
    assert report["dropped"] == {ABSENT: 1, INSIDE: 1, BLANK: 1}
    assert report["boxes"] >= 3
    assert run_json("verify", target)["facts"]["records"] == 2


def test_a_file_that_mostly_does_not_fit_is_refused(tmp_path: Path) -> None:
    box: list[float] = [0, 0, 9, 9]
    source = _write(tmp_path / "ogd.jsonl", _ogd((box, "a cat"), (box, "a cow"), (box, "a man")))
    problem = str(run("convert", "ogd-odvg", source, "-o", tmp_path / "new.jsonl").exception)
    assert f"2 of 3 boxes do not fit (2 {ABSENT})" in problem
    document = coco_document(["a.png", "b.png", "c.png"])
    for annotation in document["annotations"][:2]:
        annotation["bbox"] = [0.1, 0.1, 0.5, 0.5]
    found = run("convert", "coco-odvg", write_json(tmp_path / "c.json", document), "-o", tmp_path / "new.jsonl")
    assert found.exit_code == 1
    assert f"2 of 3 boxes do not fit (2 {THIN})" in str(found.exception)
    assert not (tmp_path / "new.jsonl").exists()


def test_joined_phrases_are_the_caption(tmp_path: Path) -> None:
    box: list[float] = [0, 0, 9, 9]
    source = _write(tmp_path / "ogd.jsonl", _ogd((box, "a cat"), (box, "猫"), ([1, 1, 9, 9], "a cat")), MMDET)
    report = run_json("convert", "ogd-odvg", source, "-o", tmp_path / "new.jsonl", "--join-phrases")
    assert report["notes"] == ["2 captions were replaced by their phrases"]
    record = next(read_odvg(tmp_path / "new.jsonl")).grounding
    assert record is not None
    assert record.caption == "a cat . 猫 ."
    assert [(r.phrase, r.tokens_positive, len(r.bbox)) for r in record.regions] == [
        (("a cat",), ((0, 5),), 2),
        (("猫",), ((8, 9),), 1),
    ]


def test_verify_names_what_is_odd(tmp_path: Path) -> None:
    def row(label: int, box: list[float], **fields: Any) -> dict[str, Any]:
        return {"bbox": box, "label": label, **fields}

    instances = [
        row(0, [0, 0, 9, 9], category="cat"),
        row(0, [0, 0, 9, 9]),
        row(1, [0, 0, 9, 9], category="cat"),
        row(7, [50, 0, 60, 9]),
        row(0, [-5, 0, 9, 9]),
        row(0, [5, 5, 5, 9]),
    ]
    first = {"filename": "a.jpg", "height": 30, "width": 40, "detection": {"instances": instances}}
    second = first | {"width": 41, "detection": {"instances": []}}
    path = _write(tmp_path / "x.jsonl", first, second, _ogd(([0, 0, 9, 9], "a man")))
    report = verify_odvg(path)
    assert "there is no label map in the folder of the file: give it with --label-map" in report.wrong
    write_json(tmp_path / "label_map.json", {"0": "cat", "1": "dog", "2": "cow", "3": "cat"})
    assert find_label_map(path) == tmp_path / "label_map.json"
    report = verify_odvg(path, images=tmp_path)
    facts = {"records": 3, "with classes": 2, "with captions": 1, "boxes": 7, "without boxes": 1, "phrases": 1}
    assert report.facts.items() >= (facts | {"images": 2, "image files": 0, "classes": 4}).items()
    first_record = "record 0 (a.jpg)"
    assert report.wrong == [
        "1 labels are not in the label map: 7",
        "record 1 (a.jpg): width and height are not those of an earlier record of the image",
        f"1 boxes have a category that is not the name of their label in the label map: {first_record}",
        f"1 boxes lie outside their image: {first_record}",
        "2 image files are missing: a.jpg, m.jpg",
    ]
    assert report.remarks == [
        "2 classes of the label map have no box",
        "1 names belong to several labels: cat",
        f"1 boxes occur twice, with the same class or phrase: {first_record}",
        f"1 boxes reach over the border of their image by more than a pixel: {first_record}",
        f"1 boxes have no area: {first_record}",
        "1 regions have no spans: 'data convert ogd-odvg' writes them: record 2 (m.jpg)",
        "1 images have several records with classes: a.jpg",
    ]


def test_images_that_leave_their_folder_are_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", OGD | {"filename": "../../etc/passwd"})
    assert verify_odvg(path, images=tmp_path).wrong == [
        "1 image paths leave the folder of the images: ../../etc/passwd"
    ]


def test_label_map_can_be_elsewhere(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", DETECTION)
    elsewhere = write_json(tmp_path / "maps" / "m.json", {str(i): name for i, name in enumerate("abcd")})
    found = run_json("verify", path, "--label-map", elsewhere, code=1)
    assert "not the name of their label" in found["wrong"][0]
    write_json(elsewhere, {"0": "a", "1": "b", "2": "c", "3": "desk lamp"})
    assert run_json("verify", path, "--label-map", elsewhere)["ok"]


def test_show(tmp_path: Path) -> None:
    """Records of both kinds; boxes by class and by phrase, and images that cannot be used."""
    detection = {
        "filename": "a.png",
        "height": 30,
        "width": 40,
        "detection": {"instances": [{"bbox": [1, 2, 20, 25], "label": 1}, {"bbox": [30, 2, 38, 9], "label": 0}]},
    }
    file = _write(tmp_path / "some.jsonl", detection, _ogd(([1, 1, 9, 9], "two dogs")) | {"filename": "m.png"})
    write_json(tmp_path / "some.label_map.json", {"0": "cat", "1": "desk lamp"})
    for name in ("a.png", "m.png"):
        write_image(tmp_path / "images" / name)
    options = ("--images", tmp_path / "images", "-o", tmp_path / "s.png")
    assert sorted(run_json("show", file, *options)["records"]) == [1, 2]
    with PIL.Image.open(tmp_path / "s.png") as picture:
        assert min(picture.size) > 100
    assert run_json("show", file, "--class", "desk lamp", *options)["records"] == [1]
    assert run_json("show", file, "--class", "two dogs", *options)["records"] == [2]
    assert "2 records in" in run("show", file, *options).output
    (tmp_path / "images" / "a.png").unlink()
    document = run_json("show", file, *options)
    assert document["records"] == [2]
    assert "a.png" in document["passed_over"][0]
    assert "no box is called 'dog'" in str(run("show", file, "--class", "dog", *options).exception)
