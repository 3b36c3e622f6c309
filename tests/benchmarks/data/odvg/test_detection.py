"""COCO, LVIS and Objects365 to ODVG: kept boxes equal the source's, dropped ones are counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.odvg import detection
from ovd_bench.benchmarks.data.odvg.conversion import (
    CROWD,
    DUPLICATE,
    IGNORED,
    NO_AREA,
    OUTSIDE,
    THIN,
    Conversion,
    label_map_path,
)
from ovd_bench.benchmarks.data.odvg.detection import LEFT_OUT, MISSING, convert_coco, convert_lvis, convert_objects365
from ovd_bench.benchmarks.data.odvg.objects365 import REPAIRED_NAMES, repaired_name, v2_file_name
from ovd_bench.benchmarks.data.odvg.records import OdvgRecord, read_label_map
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.catalog.made import write_json
from ovd_bench.tests.benchmarks.data.odvg.read_odvg import read_odvg

#: Images of 40 x 30.
BOXES: list[tuple[str | None, dict[str, Any]]] = [
    (None, {"bbox": [1.5, 2.25, 10, 20]}),
    (None, {"bbox": [-5, -5, 10, 100]}),
    (DUPLICATE, {"bbox": [1.5, 2.25, 10, 20]}),
    (None, {"bbox": [1.5, 2.25, 10, 20], "category_id": 90}),
    (CROWD, {"bbox": [0, 0, 9, 9], "iscrowd": 1}),
    (IGNORED, {"bbox": [0, 0, 9, 9], "ignore": 1}),
    (OUTSIDE, {"bbox": [40, 0, 9, 9]}),
    (OUTSIDE, {"bbox": [0, -9, 9, 9]}),
    (NO_AREA, {"bbox": [3, 3, 0, 9]}),
    (NO_AREA, {"bbox": [3, 3, 9, -1]}),
    (THIN, {"bbox": [39.5, 3, 9, 9]}),
    (THIN, {"bbox": [3, 3, 0.9, 9]}),
]


def _document(boxes: list[dict[str, Any]], **image: Any) -> dict[str, Any]:
    head = {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30} | image
    rows = [{"id": i, "image_id": 7, "category_id": 1, "iscrowd": 0, "area": 9.0} | box for i, box in enumerate(boxes)]
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]
    return {"images": [head], "annotations": rows, "categories": categories}


def _boxes(record: OdvgRecord) -> list[tuple[int, tuple[float, ...]]]:
    assert record.detection is not None
    return [(instance.label, instance.bbox) for instance in record.detection.instances]


def _counts(report: Conversion) -> dict[str, int]:
    return dict(+report.dropped)


def test_every_reason_is_counted(tmp_path: Path) -> None:
    others = [(float(x), 3.0, x + 9.0, 12.0) for x in range(3)]  # so that half of the boxes fit, as is required
    boxes = [box for _, box in BOXES] + [{"bbox": [x, y, 9, 9]} for x, y, _, _ in others]
    source = write_json(tmp_path / "coco.json", _document(boxes))
    report = convert_coco(source, tmp_path / "coco.jsonl")
    (record,) = read_odvg(tmp_path / "coco.jsonl")
    assert (record.filename, record.width, record.height) == ("a.jpg", 40, 30)
    whole = (1.5, 2.25, 11.5, 22.25)
    assert _boxes(record) == [(0, whole), (0, (0.0, 0.0, 5.0, 30.0)), (2, whole), *((0, box) for box in others)]
    assert _counts(report) == Counter(reason for reason, _ in BOXES if reason)
    assert (report.records, report.boxes, report.empty, report.clipped, report.classes) == (1, 6, 0, 1, 3)
    assert read_label_map(label_map_path(tmp_path / "coco.jsonl")) == ("person", "stop sign", "toothbrush")


def test_images_without_boxes_stay(tmp_path: Path) -> None:
    report = convert_coco(write_json(tmp_path / "coco.json", _document([])), tmp_path / "coco.jsonl")
    (record,) = read_odvg(tmp_path / "coco.jsonl")
    assert _boxes(record) == []
    assert (report.records, report.empty) == (1, 1)


def _compared(document: dict[str, Any], target: Path, classes: dict[int, str]) -> None:
    """Every box of the file is in the source, with its class, and the other way round but for what is dropped."""
    names = read_label_map(label_map_path(target))
    written = list(read_odvg(target))
    assert len(written) == len(document["images"])
    images = sorted(document["images"], key=lambda image: image["id"])
    dropped = 0
    for image, record in zip(images, written, strict=True):
        assert record.filename.endswith(image["file_name"][-16:])
        assert (record.width, record.height) == (image["width"], image["height"])
        assert record.detection is not None
        found = [(names[instance.label], instance.bbox) for instance in record.detection.instances]
        assert all(instance.category == names[instance.label] for instance in record.detection.instances)
        rows = [row for row in document["annotations"] if row["image_id"] == image["id"] and not row.get("iscrowd")]
        expected = []
        for row in rows:
            x, y, w, h = row["bbox"]
            box = (max(x, 0), max(y, 0), min(x + w, image["width"]), min(y + h, image["height"]))
            if row["category_id"] not in classes or box[2] - box[0] < 1 or box[3] - box[1] < 1:
                dropped += 1
            else:
                expected.append((classes[row["category_id"]], box))
        assert [name for name, _ in found] == [name for name, _ in expected]
        for (_, box), (_, wanted) in zip(found, expected, strict=True):
            assert box == pytest.approx(wanted, abs=0.005 + 1e-9)
    assert dropped < len(document["annotations"]) * 0.1


def test_real_coco(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "faster_coco_eval/instances_val2014_100.json"
    document = json.loads(source.read_text())
    report = convert_coco(source, tmp_path / "coco.jsonl")
    _compared(document, tmp_path / "coco.jsonl", {row["id"]: row["name"] for row in document["categories"]})
    assert (report.records, report.classes) == (100, 80)
    crowds = sum(row["iscrowd"] for row in document["annotations"])
    assert report.dropped[CROWD] == crowds > 0
    assert report.boxes + sum(report.dropped.values()) == len(document["annotations"])
    names = read_label_map(label_map_path(tmp_path / "coco.jsonl"))
    assert (names[0], names[11], names[79]) == ("person", "stop sign", "toothbrush")  # ids 1, 13 and 90


@pytest.mark.parametrize("rare", [True, False])
def test_real_lvis(real_data: Path, tmp_path: Path, rare: bool) -> None:
    source = real_data / "lvis-api/lvis_val_100.json"
    document = json.loads(source.read_text())
    report = convert_lvis(source, tmp_path / "lvis.jsonl", keep="rcf" if rare else "fc")
    kept = {row["id"]: row["name"] for row in document["categories"] if rare or row["frequency"] != "r"}
    _compared(document, tmp_path / "lvis.jsonl", kept)
    assert report.classes == len(kept) == (1230 if rare else 776)
    gone = [row for row in document["annotations"] if row["category_id"] not in kept]
    assert report.dropped[LEFT_OUT] == len(gone)
    assert rare or gone
    assert report.boxes + sum(report.dropped.values()) == len(document["annotations"])


def test_lvis_v1_names_images_by_their_address(tmp_path: Path) -> None:
    document = _document(
        [{"bbox": [0, 0, 9, 9]}],
        coco_url="http://images.cocodataset.org/train2017/000000391895.jpg",
        neg_category_ids=[],
        not_exhaustive_category_ids=[],
    )
    del document["images"][0]["file_name"]
    source = write_json(tmp_path / "lvis.json", document)
    convert_lvis(source, tmp_path / "lvis.jsonl")
    (record,) = read_odvg(tmp_path / "lvis.jsonl")
    assert record.filename == "train2017/000000391895.jpg"
    with pytest.raises(DataError, match="not every class has a frequency"):
        convert_lvis(source, tmp_path / "lvis.jsonl", keep="cf")
    with pytest.raises(DataError, match="letters out of rcf"):
        convert_lvis(source, tmp_path / "lvis.jsonl", keep="x")


def _objects365(names: list[str], classes: list[str]) -> dict[str, Any]:
    """The layout of ``zhiyuan_objv2_train.json``: image ids are the numbers in the file names."""
    images = [
        {"id": int(name[-12:-4]), "file_name": name, "width": 40, "height": 30, "license": 5, "url": ""}
        for name in names
    ]
    boxes = [
        {
            "id": i,
            "image_id": image["id"],
            "category_id": i % len(classes) + 1,
            "bbox": [1.0000610352, 2.0, 10.3333282471, 20.0],
            "area": 206.66,
            "iscrowd": 0,
            "isfake": 0,
            "isreflected": 0,
        }
        for i, image in enumerate(images)
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate(classes, 1)]
    return {"images": images, "annotations": boxes, "categories": categories[::-1], "licenses": []}


def test_objects365_v2(tmp_path: Path) -> None:
    names = [
        "images/v1/patch8/objects365_v1_00420917.jpg",
        "images/v2/patch16/objects365_v2_00908726.jpg",
        "images/v2/patch29/objects365_v2_01422000.jpg",
    ]
    classes = ["Person", "Moniter/TV", "Cigar/Cigarette "]
    report = convert_objects365(write_json(tmp_path / "o.json", _objects365(names, classes)), tmp_path / "o.jsonl")
    assert read_label_map(label_map_path(tmp_path / "o.jsonl")) == ("Person", "Monitor/TV", "Cigar/Cigarette")
    records = list(read_odvg(tmp_path / "o.jsonl"))
    assert [record.filename for record in records] == [
        "patch8/objects365_v1_00420917.jpg",
        "patch29/objects365_v2_01422000.jpg",
    ]
    assert [_boxes(record) for record in records] == [[(0, (1.0, 2.0, 11.33, 22.0))], [(2, (1.0, 2.0, 11.33, 22.0))]]
    assert report.left_out == {MISSING: 1}
    assert report.notes == ["Objects365 v2; 2 class names were corrected"]


def test_objects365_v1(tmp_path: Path) -> None:
    names = [f"obj365_train_{i:012}.jpg" for i in (6, 7, 420917)]
    report = convert_objects365(
        write_json(tmp_path / "o.json", _objects365(names, ["person", "tea pot"])), tmp_path / "o.jsonl"
    )
    assert [record.filename for record in read_odvg(tmp_path / "o.jsonl")] == names[1:]
    assert report.left_out == {MISSING: 1}
    assert report.notes == ["Objects365 v1; 1 class names were corrected"]
    mixed = _objects365([*names, "images/v1/patch8/objects365_v1_00420918.jpg"], ["person"])
    with pytest.raises(DataError, match=r"image 'obj365_train_0+6\.jpg' is not named as those of Objects365 v2"):
        convert_objects365(write_json(tmp_path / "o.json", mixed), tmp_path / "o.jsonl")


def test_names_are_mended_once() -> None:
    for wrong, right in REPAIRED_NAMES.items():
        assert repaired_name(f" {wrong}  ") == right != wrong
        assert repaired_name(right) == right
    assert v2_file_name("patch8/objects365_v1_00420917.jpg") == "patch8/objects365_v1_00420917.jpg"
    assert v2_file_name("images/v3/patch8/objects365_v1_00420917.jpg") is None


def test_pieces_change_nothing(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = real_data / "lvis-api/lvis_val_100.json"
    seen: list[int] = []
    whole = convert_lvis(source, tmp_path / "a.jsonl", progress=seen.append)
    monkeypatch.setattr(detection, "_CHUNK", 7)
    assert convert_lvis(source, tmp_path / "b.jsonl", progress=seen.append).sha256 == whole.sha256
    assert sum(seen) == 200


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    source = write_json(tmp_path / "coco.json", _document([], width=0))
    with pytest.raises(DataError, match=r"coco\.json: image 7 has no width or height"):
        convert_coco(source, tmp_path / "coco.jsonl")
    with pytest.raises(DataError, match="is the file that is read"):
        convert_coco(source, source)
    with pytest.raises(DataError, match="does not exist: create it first"):
        convert_coco(write_json(source, _document([])), tmp_path / "none" / "coco.jsonl")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_files_are_converted_or_reported_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(json.dumps(_document([box for _, box in BOXES])).encode())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place : place + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=12))
    (tmp_path / "f.json").write_bytes(content)
    for convert in (convert_coco, convert_lvis, convert_objects365):
        target = tmp_path / "f.jsonl"
        target.unlink(missing_ok=True)
        try:
            report = convert(tmp_path / "f.json", target)
        except DataError as error:
            problem = str(error)
            assert "\n" not in problem, problem
            assert not target.exists()
        else:
            assert sum(len(_boxes(record)) for record in read_odvg(target)) == report.boxes
