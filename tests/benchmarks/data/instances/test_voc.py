"""Pascal VOC: values by hand, splits, and files that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ovd_bench.benchmarks.cli import data
from ovd_bench.benchmarks.data.instances.voc import NAMES, NO_AREA, read_voc
from ovd_bench.metrics.errors import DataError

CORNERS = (1, 1, 500, 375)


def thing(name: str = "dog", box: tuple[float, ...] = CORNERS, extra: str = "") -> str:
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object>"


def annotation(*objects: str, size: str = "<width>500</width><height>375</height>") -> str:
    return f"<annotation><filename>7.jpg</filename><size>{size}</size>{''.join(objects)}</annotation>"


def make(folder: Path, *texts: str) -> Path:
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts, 1):
        (folder / f"Annotations/{number:06}.xml").write_text(text)
    return folder


def written(folder: Path, split: str | None = None) -> dict[str, Any]:
    read_voc(folder, split).write(folder / "made.json")
    document: dict[str, Any] = json.loads((folder / "made.json").read_text())
    return document


def test_values_by_hand(tmp_path: Path) -> None:
    """A box over the whole image is the whole image; pixel 48 to 195 are 148 pixels."""
    part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></part>"
    document = written(
        make(
            tmp_path,
            annotation(
                thing(extra=part),
                thing("person", (48, 240, 195, 371), "<difficult>0</difficult>"),
                thing("person", (8, 12, 352, 498), "<difficult>1</difficult>"),
                thing("cat", (10.5, 20, 20.5, 30)),
            ),
        )
    )
    assert document["images"] == [{"id": 1, "file_name": "7.jpg", "width": 500, "height": 375}]
    found = [(box["category_id"], box["bbox"], box["area"], box["iscrowd"]) for box in document["annotations"]]
    assert found == [
        (12, [0, 0, 500, 375], 187500, 0),
        (15, [47, 239, 148, 132], 19536, 0),
        (15, [7, 11, 345, 487], 168015, 1),
        (8, [9.5, 19, 11, 11], 121, 0),
    ]
    assert [box.get("ignore") for box in document["annotations"]] == [None, None, 1, None]
    assert [category["name"] for category in document["categories"]] == list(NAMES)


def test_other_names_are_the_classes(tmp_path: Path) -> None:
    document = written(make(tmp_path, annotation(thing("wheel")), annotation(thing("dog"), thing("axle"))))
    assert document["categories"] == [{"id": 1, "name": "axle"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "wheel"}]


def test_a_split_is_a_list_in_its_order(tmp_path: Path) -> None:
    folder = make(tmp_path, annotation(thing()), annotation(), annotation(thing("cat")))
    (folder / "ImageSets/Main/test.txt").write_text("000003\n\n000001  1\n")
    document = written(folder, "test")
    assert [(box["image_id"], box["category_id"]) for box in document["annotations"]] == [(1, 8), (2, 12)]
    assert len(written(folder)["images"]) == 3


def test_boxes_without_area_are_counted(tmp_path: Path) -> None:
    made = read_voc(make(tmp_path, annotation(thing(box=(9, 9, 8, 20)), thing(box=(9, 9, 9, 9)))), None)
    assert made.dropped == {NO_AREA: 1}


def test_a_folder_of_xml_files(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(annotation(thing()))
    assert len(written(tmp_path)["annotations"]) == 1


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "' + "a" * 1000 + '">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 100}">' for a, b in zip("abcd", "bcde", strict=True))
    + "]><annotation><filename>&e;</filename></annotation>"
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not XML"),
        ("<a>", "is not XML"),
        (BOMB, "is not XML"),
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>', "is not XML"),
        ("<svg/>", "is not an annotation of Pascal VOC: its root is 'svg'"),
        (annotation(size=""), "field 'size/width' is '', an integer is needed"),
        (annotation(size="<width>0</width><height>5</height>"), "field 'size/width' is 0, which is out of range"),
        (annotation(thing(name=" ")), "object: field 'name' is missing"),
        (annotation("<object><name>dog</name></object>"), "field 'bndbox/xmin' is '', a number is needed"),
        (annotation(thing(box=(1, 1, float("nan"), 2))), "field 'bndbox/xmax' is 'nan', a number is needed"),
        (annotation(thing(box=(1, 1, 1e300, 2))), "field 'bndbox/xmax' is '1e+300', a number is needed"),
        (annotation(thing(extra="<difficult>x</difficult>")), "field 'difficult' is 'x', an integer is needed"),
        ("<annotation>" + " " * (1 << 20) + "</annotation>", "that is not a valid annotation of Pascal VOC"),
    ],
)
def test_a_wrong_annotation_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read_voc(make(tmp_path, text), None)
    assert str(caught.value).startswith(f"{tmp_path}/Annotations/000001.xml: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("split", "content", "problem"),
    [
        ("val", None, "cannot be read"),
        ("../../x", None, "is not the name of a split"),
        ("test", "", "names no image"),
        ("test", "../000001", "'../000001' is not the name of an image"),
        ("test", "000001\n000001", "names an image twice"),
        ("test", "000009", "000009.xml: cannot be read"),
    ],
)
def test_a_wrong_split_is_one_line(tmp_path: Path, split: str, content: str | None, problem: str) -> None:
    folder = make(tmp_path / "VOC2007", annotation(thing()))
    if content is not None:
        (folder / f"ImageSets/Main/{split}.txt").write_text(content)
    with pytest.raises(DataError) as caught:
        read_voc(folder, split)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no \.xml file"):
        read_voc(tmp_path, None)


def test_the_verb(tmp_path: Path) -> None:
    folder, app = make(tmp_path, annotation(thing())), typer.Typer()
    data.register(app)
    result = CliRunner().invoke(app, ["data", "convert", "voc-coco", str(folder), "-o", str(tmp_path / "o.json")])
    assert result.exit_code == 0, result.output
    assert f"-b {tmp_path}/o.json --images {folder}" in " ".join(result.output.split())
