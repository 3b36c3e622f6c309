"""Annotation files against a plain reading of the same JSON, their errors, notes and the cache."""

# ruff: noqa: E501  (one case per line)

from __future__ import annotations

import json
import logging
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.files import annotation_cache, read_ground_truth
from ovd_bench.benchmarks.data.files import annotations as reader
from ovd_bench.benchmarks.data.files.annotations import parse_ground_truth
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Categories, GroundTruth, Ragged, Texts
from ovd_bench.tests.benchmarks.data.files.complaints import assert_names_the_place

LISTS = ("neg_category_ids", "not_exhaustive_category_ids")


def expected(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``GroundTruth`` in plain Python."""
    images = sorted(document["images"], key=lambda image: image["id"])
    categories = sorted(document["categories"], key=lambda category: category["id"])
    image_row = {image["id"]: row for row, image in enumerate(images)}
    class_row = {category["id"]: row for row, category in enumerate(categories)}
    kept = [a for a in document["annotations"] if a["image_id"] in image_row and a["category_id"] in class_row]
    lists = {
        name: [[class_row[c] for c in image.get(name, []) if c in class_row] for image in images] for name in LISTS
    }
    return {
        "image_ids": [image["id"] for image in images],
        "image_sizes": [[image.get("width", 0), image.get("height", 0)] for image in images],
        "names": [category["name"] for category in categories],
        "category_ids": [category["id"] for category in categories],
        "frequency": [category.get("frequency", "") for category in categories],
        "synonyms": [tuple(category.get("synonyms", ())) for category in categories],
        "image_count": [category.get("image_count", -1) for category in categories],
        "ann_ids": [a["id"] for a in kept],
        "image_index": [image_row[a["image_id"]] for a in kept],
        "class_index": [class_row[a["category_id"]] for a in kept],
        "boxes_xywh": [[float(v) for v in a["bbox"]] for a in kept],
        "area": [float(a["area"]) for a in kept],
        "iscrowd": [bool(a.get("iscrowd", 0)) for a in kept],
        "ignore": [bool(a.get("ignore", 0)) for a in kept],
        "neg": lists[LISTS[0]],
        "not_exhaustive": lists[LISTS[1]],
        "federated": all(name in image for image in images for name in LISTS),
        "image_files": [image.get("file_name") or image.get("coco_url", "") for image in images],
        "image_names": None,
    }


def found(truth: GroundTruth) -> dict[str, Any]:
    categories = truth.categories
    plain = {field.name: getattr(truth, field.name) for field in fields(truth)}
    plain |= {name: [plain[name][i].tolist() for i in range(len(plain[name]))] for name in ("neg", "not_exhaustive")}
    assert truth.image_files is not None
    plain["image_files"] = [truth.image_files[i] for i in range(len(truth.image_files))]
    plain |= {"category_ids": categories.ids, "names": categories.names, "frequency": categories.frequency}
    plain |= {"synonyms": categories.synonyms, "image_count": categories.image_count}
    del plain["notes"], plain["categories"]
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else list(value) if isinstance(value, tuple) else value
        for name, value in plain.items()
    }


def document(federated: bool = True) -> dict[str, Any]:
    """A small complete file."""
    lists = {"neg_category_ids": [7], "not_exhaustive_category_ids": []} if federated else {}
    return {
        "info": {"year": 2020},
        "images": [{"id": i, "width": 640, "height": 480, **lists} for i in (5, 3)],
        "annotations": [
            {"id": i, "image_id": 5 - 2 * (i % 2), "category_id": 2, "bbox": [1, 2, 3, 4.5], "area": 9, "iscrowd": 0}
            for i in range(4)
        ],
        "categories": [{"id": 7, "name": "b"}, {"id": 2, "name": "a"}],
    }


def numbers(**options: Any) -> st.SearchStrategy[float]:
    return st.floats(-1e99, 1e99, allow_nan=False, **options) | st.integers(-(10**20), 10**20)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    any_ids = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5)
    ids = st.integers(-(2**62), 2**62) | st.integers(0, 5)
    image_ids = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    category_ids = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    federated = draw(st.booleans())
    some_category = st.sampled_from(category_ids) | ids
    images = []
    for image_id in image_ids:
        image: dict[str, Any] = {"id": image_id, "file_name": draw(st.text(max_size=5) | st.none())}
        if draw(st.booleans()):
            image["coco_url"] = draw(st.text(max_size=5))
        if draw(st.booleans()):
            image |= {"width": draw(st.integers(0, 2**31 - 1)), "height": draw(st.integers(0, 9))}
        if federated:
            image |= {name: draw(st.lists(some_category, max_size=4)) for name in LISTS}
        images.append(image)
    found_annotations = []
    for annotation_id in draw(st.lists(any_ids, max_size=6, unique=True)):
        annotation = {
            "id": annotation_id,
            "image_id": draw(st.sampled_from(image_ids) | ids),
            "category_id": draw(some_category),
            "bbox": draw(st.lists(numbers(), min_size=4, max_size=4)),
            "area": draw(numbers()),
            "segmentation": draw(
                st.sampled_from([[], [[1.5, 2, -3e-2]], {"size": [1, 2], "counts": '"},{"id"'}, None])
            ),
        }
        if draw(st.booleans()):
            annotation["iscrowd"] = draw(st.sampled_from([0, 1, True, False, 1.0]))
        if draw(st.booleans()):
            falsy: list[Any] = [0, 0.0, -0.0, False, None, "", [], {}]
            annotation["ignore"] = draw(st.sampled_from([*falsy, 1, 2.5, True, "0", [0], {"a": 0}, 1e-300]))
        found_annotations.append(dict(draw(st.permutations(list(annotation.items())))))
    categories = []
    for category_id in category_ids:
        category: dict[str, Any] = {"id": category_id, "name": draw(st.text(max_size=5)), "def": "\u00e9"}
        if draw(st.booleans()):
            category |= {"frequency": draw(st.sampled_from("rcf")), "image_count": 3, "synonyms": ["x", "y"]}
        categories.append(category)
    sections: list[tuple[str, Any]] = [
        ("images", images),
        ("annotations", found_annotations),
        ("categories", categories),
    ]
    sections += [("info", {"a": [{}, "]", None]}), ("licenses", [])]
    return dict(draw(st.permutations(sections)))


@settings(max_examples=150, deadline=None)
@given(
    data=documents(),
    indent=st.sampled_from([None, 1]),
    block_bytes=st.sampled_from([1, 40, 300, 1 << 20]),
    threads=st.sampled_from([1, 2]),
)
def test_any_document(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any], indent: int, block_bytes: int, threads: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(data, indent=indent, ensure_ascii=indent is None))
    assert found(parse_ground_truth(path, threads=threads, block_bytes=block_bytes)) == expected(data)


@pytest.mark.parametrize("name", ["lvis-api/lvis_val_100.json", "faster_coco_eval/instances_val2014_100.json"])
@pytest.mark.parametrize("block_bytes", [1000, 1 << 20])
def test_real_files(real_data: Path, name: str, block_bytes: int) -> None:
    path = real_data / name
    truth = parse_ground_truth(path, threads=2, block_bytes=block_bytes)
    assert found(truth) == expected(json.loads(path.read_text()))
    assert truth.federated == name.startswith("lvis")
    assert truth.categories.synset[:1] == (("acorn.n.01",) if truth.federated else ("",))
    assert truth.categories.supercategory[:1] == (("",) if truth.federated else ("person",))


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_notes(tmp_path: Path) -> None:
    data = document()
    data["annotations"][1]["image_id"] = 99
    data["annotations"][2]["category_id"] = 98
    data["annotations"][3]["category_id"] = 97
    data["images"][1]["neg_category_ids"] = [7, 96, 95]
    truth = read_ground_truth(write(tmp_path / "gt.json", data))
    assert truth.ann_ids.tolist() == [0]
    assert truth.notes == (
        "2 entries of neg_category_ids left out: category 96 (the first) is not declared",
        "1 annotations left out: image_id 99 (record 1, the first) is not declared in the file",
        "2 annotations left out: category_id 98 (record 2, the first) is not declared in the file",
    )
    data["annotations"] = []
    assert read_ground_truth(write(tmp_path / "gt.json", data)).notes[-1] == "the file has no annotations"


def test_missing_crowd_flags_are_worth_a_note_only_where_they_belong(tmp_path: Path) -> None:
    for federated, notes in ((False, ("1 annotations have no field 'iscrowd': taken as 0",)), (True, ())):
        data = document(federated)
        del data["annotations"][2]["iscrowd"]
        truth = read_ground_truth(write(tmp_path / "gt.json", data))
        assert truth.notes == notes
        assert truth.iscrowd.tolist() == [False] * 4


def test_of_a_repeated_key_the_last_value_counts(tmp_path: Path) -> None:
    text = json.dumps(document())
    text = text.replace('"id": 5,', '"neg_category_ids": [2, 7], "id": "x", "id": 5, "width": null,', 1)
    text = text.replace('"area": 9', '"ignore": 1, "iscrowd": 1, "area": "x", "area": 9, "ignore": 0', 1)
    assert_same(
        read_ground_truth(write(tmp_path / "a.json", text)), read_ground_truth(write(tmp_path / "b.json", document()))
    )


def changed(path: str, value: Any) -> dict[str, Any]:
    """The small file with one value replaced, or with ``...`` removed."""
    data: Any = document()
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    target = data
    for key in parents:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return data  # type: ignore[no-any-return]


INTEGER = "an integer (int64) is needed"
BOX_NEED = "a list of 4 numbers [x, y, width, height] within ±1e100 is needed"
BOTH = "all images need neg_category_ids and not_exhaustive_category_ids (LVIS), or none (COCO)"
CASES: list[tuple[Any, str]] = [
    ("[]", "the top level is a list, an object with images, annotations and categories is needed (is this a results file?)"),
    ("{}", "section 'images' is missing"),
    ('{"images": []', "the file ends before its top-level object does (truncated?)"),
    ('{"images": [{"id": 1}', "the file ends after images record 0, before the list does (truncated?)"),
    ('{"images": [{"id"', "the file ends inside images record 0, before the list does (truncated?)"),
    ('{"images": [], "annotations": [], "categories": []} {}', "expected the end of the file, found '{' at byte 52"),
    ('{"images": [], }', "expected '\"', found '}' at byte 15"),
    ('{"images": [], "images": []}', "section 'images' occurs twice"),
    ('{"images": {}}', "expected section 'images' as a list, found '{' at byte 11"),
    ('{"a": {"b": 1]}}', "expected ',' or '}', found ']' at byte 13"),
    (changed("images", []), "section 'images' is empty"),
    (changed("categories", []), "section 'categories' is empty"),
    (changed("annotations", ...), "section 'annotations' is missing"),
    (changed("categories", ...), "section 'categories' is missing"),
    (changed("images.1", 3), "images record 1: expected an object, found '3' at byte @"),
    (changed("images.1.id", ...), "images record 1: field 'id' is missing"),
    (changed("images.1.id", 5), "images record 1: id 5 is that of record 0 too"),
    (changed("images.1.id", "3"), f'images record 1: field \'id\' is "3", {INTEGER}'),
    (changed("images.1.width", 1.5), "images record 1: field 'width' is 1.5, a number of pixels (integer) is needed"),
    (changed("images.0.height", -2), "images record 0: field 'height' is -2, a number of pixels (integer) is needed"),
    (changed("images.1.neg_category_ids", ...), f"images record 1: field 'neg_category_ids' is missing; {BOTH}"),
    (changed("images.0.not_exhaustive_category_ids", ...), f"images record 0: field 'not_exhaustive_category_ids' is missing; {BOTH}"),
    (changed("images.0.neg_category_ids", [1, "2"]), "images record 0: field 'neg_category_ids' is [1, \"2\"], a list of integers is needed"),
    (changed("images.0.neg_category_ids", None), "images record 0: field 'neg_category_ids' is null, a list of integers is needed"),
    (changed("annotations.2.id", ...), "annotations record 2: field 'id' is missing"),
    (changed("annotations.2.id", 0), "annotations record 2: id 0 is that of record 0 too"),
    (changed("annotations.2.id", True), f"annotations record 2: field 'id' is true, {INTEGER}"),
    (changed("annotations.2.image_id", 1.5), f"annotations record 2: field 'image_id' is 1.5, {INTEGER}"),
    (changed("annotations.2.category_id", None), f"annotations record 2: field 'category_id' is null, {INTEGER}"),
    (changed("annotations.2.bbox", ...), "annotations record 2: field 'bbox' is missing"),
    (changed("annotations.2.bbox", [1, 2, 3]), f"annotations record 2: field 'bbox' is [1, 2, 3], {BOX_NEED}"),
    (changed("annotations.2.bbox", [1, 2, 3, 1e101]), f"annotations record 2: field 'bbox' is [1, 2, 3, 1e+101], {BOX_NEED}"),
    (changed("annotations.1.area", ...), "annotations record 1: field 'area' is missing (area of the mask in pixels; write width * height where there are only boxes)"),
    (changed("annotations.1.area", "9"), "annotations record 1: field 'area' is \"9\", a finite number is needed"),
    (changed("annotations.1.area", float("nan")), "annotations record 1: field 'area': expected a value, found NaN (which JSON does not know) at byte @"),
    (changed("annotations.1.iscrowd", 2), "annotations record 1: field 'iscrowd' is 2, 0 or 1 is needed"),
    (changed("annotations.1.iscrowd", None), "annotations record 1: field 'iscrowd' is null, 0 or 1 is needed"),
    (changed("categories.1.id", ...), "categories record 1: field 'id' is missing"),
    (changed("categories.1.id", None), "categories record 1: field 'id' is missing"),
    (changed("categories.1.id", 7), "categories record 1: id 7 is that of record 0 too"),
    (changed("categories.1.id", "7"), "categories record 1: field 'id' is '7': input should be a valid integer"),
    (changed("categories.1.id", True), "categories record 1: field 'id' is True: input should be a valid integer"),
    (changed("categories.1.id", 2**63), f"categories record 1: field 'id' is {2**63}: input should be less than 9223372036854776000"),
    (changed("categories.1.name", ...), "categories record 1: field 'name' is missing"),
    (changed("categories.1.name", True), "categories record 1: field 'name' is True: input should be a valid string"),
    (changed("categories.1.frequency", "x"), "categories record 1: field 'frequency' is 'x': input should be 'r', 'c', 'f' or ''"),
    (changed("categories.1.synonyms", [1]), "categories record 1: field 'synonyms' is 1: input should be a valid string"),
    (changed("categories.1", 3), "categories record 1: expected an object, found '3' at byte @"),
    (changed("categories.1.def", "x" * (1 << 20)), "categories record 1: is longer than 1048576 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), CASES, ids=[m[:50] for _, m in CASES])
def test_message(tmp_path: Path, data: Any, message: str) -> None:
    path = write(tmp_path / "gt.json", data)
    with pytest.raises(DataError) as error:
        read_ground_truth(path)
    text = str(error.value)
    if message.endswith("@"):
        text = text[: text.rindex(" byte ")]
    assert_names_the_place(text, path, message.removesuffix(" byte @"))


def test_a_table_is_no_annotation_file(tmp_path: Path) -> None:
    path = tmp_path / "gt.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"gt\.parquet: an annotation file is JSON, this is Parquet$"):
        read_ground_truth(path)


@pytest.fixture
def cached_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An annotation file that the cache is used for, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(reader, "CACHE_MIN_BYTES", 0)
    data = document()
    data["categories"][0] |= {"synonyms": ["ü", "v"], "frequency": "r", "image_count": 3, "synset": "b.n.01"}
    data["annotations"][0]["image_id"] = 77
    return write(tmp_path / "gt.json", data)


def assert_same(a: Any, b: Any) -> None:
    for field in fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, Ragged | Texts | Categories):
            assert_same(x, y)
        elif isinstance(x, np.ndarray):
            assert x.dtype == y.dtype
            assert x.tolist() == y.tolist()
        else:
            assert x == y


def cache_files(path: Path) -> list[Path]:
    return sorted(path.parent.glob("cache/**/*.npz"))


def test_cache_gives_the_same(cached_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_ground_truth(cached_file)
    monkeypatch.setattr(reader, "parse_ground_truth", None)  # a call would fail
    assert_same(read_ground_truth(cached_file), first)
    assert first.notes
    assert len(cache_files(cached_file)) == 1


def test_cache_is_not_used_when_not_wanted_or_for_small_files(
    cached_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_ground_truth(cached_file, cache=False)
    monkeypatch.setattr(reader, "CACHE_MIN_BYTES", cached_file.stat().st_size + 1)
    read_ground_truth(cached_file)
    assert cache_files(cached_file) == []


def test_changed_file_is_read_anew(cached_file: Path) -> None:
    read_ground_truth(cached_file)
    cached_file.write_text(cached_file.read_text().replace('"area": 9', '"area": 8'))
    assert read_ground_truth(cached_file).area[0] == 8
    assert len(cache_files(cached_file)) == 2


def test_damaged_cache_is_built_anew(cached_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    truth = read_ground_truth(cached_file)
    (stored,) = cache_files(cached_file)
    whole = stored.read_bytes()
    generator = random.Random(1)
    damaged = [b"", b"junk", whole[: len(whole) // 2], whole[:-1]]
    for _ in range(60):
        at = generator.randrange(len(whole))
        damaged.append(whole[:at] + bytes([whole[at] ^ 1 << generator.randrange(8)]) + whole[at + 1 :])
    for content in damaged:
        stored.write_bytes(content)
        assert_same(read_ground_truth(cached_file), truth)
    assert "damaged, rebuilt" in caplog.text
    assert_same(read_ground_truth(cached_file), truth)


def test_cache_of_another_file_is_not_taken(cached_file: Path) -> None:
    truth = read_ground_truth(cached_file)
    (stored,) = cache_files(cached_file)
    annotation_cache.store_cached("0" * 64, truth)
    annotation_cache.cache_path("0" * 64).replace(stored)
    assert annotation_cache.load_cached(stored.name.split("-")[0]) is None
    assert_same(read_ground_truth(cached_file), truth)


def test_cache_with_pickled_objects_is_not_opened(cached_file: Path) -> None:
    truth = read_ground_truth(cached_file)
    (stored,) = cache_files(cached_file)
    with stored.open("wb") as file:
        np.savez(file, texts=np.array([{"a": 1}], object))
    assert_same(read_ground_truth(cached_file), truth)


def test_cache_that_cannot_be_written_is_reported(cached_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    (cached_file.parent / "cache").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        assert read_ground_truth(cached_file).num_images == 2
    assert "the annotation cache cannot be written" in caplog.text
