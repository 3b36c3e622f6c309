"""Phrases of Flickr30k Entities, from the authors' folder and from a document of MDETR."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovd_bench.benchmarks.data.queries.conversion import NEGATIVE, NO_WORDS
from ovd_bench.benchmarks.data.queries.flickr30k import convert_flickr30k_queries
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.odvg.test_flickr30k import ANNOTATION, folder
from ovd_bench.tests.benchmarks.data.queries.lines import lines

__all__ = ["folder"]

POTTER, HAND, JAR = [0, 20, 119, 354], [300, 40, 50, 50], [110, 100, 40, 60]


def test_phrases_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("36\n")
    seen: list[int] = []
    report = convert_flickr30k_queries(folder, tmp_path / "f.jsonl", split=tmp_path / "test.txt", progress=seen.append)
    found = lines(tmp_path / "f.jsonl")
    assert {(row["image_id"], row["file_name"], row["width"], row["height"]) for row in found} == {
        (36, "36.jpg", 500, 375)
    }
    asked = [
        ([row["text"][slice(*span)] for span in row["spans"]], row.get("kinds", []), row["boxes"]) for row in found
    ]
    line = [199, 49, 0, 30]  # a box of no width counts, as in the authors' evaluation
    assert asked == [
        (["A potter"], ["people"], [POTTER]),
        (["a jar"], ["other"], [line, JAR, JAR]),
        (["a boy 's hand"], ["people", "bodyparts"], [HAND]),
        (["it"], ["other"], [line, JAR, JAR]),
        (["Two people"], ["people"], [POTTER, HAND]),
        (["themselves"], [], []),
        (["a workshop"], ["scene"], []),
        (["a wheel"], ["other"], []),
        (["The workshop"], ["scene"], []),
        (["A potter"], ["people"], [POTTER]),
        (["a potter"], ["people"], [HAND]),
    ]
    assert (report.queries, report.images, report.boxes, report.absent, report.unscored) == (11, 1, 12, 0, 4)
    assert report.kinds == {"people": 5, "bodyparts": 1, "other": 3, "scene": 2}
    assert seen == [1]
    convert_flickr30k_queries(folder, tmp_path / "f.jsonl")
    assert [row["image_id"] for row in lines(tmp_path / "f.jsonl")] == [9] * 11 + [36] * 11


def test_boxes_of_negative_size_are_counted(folder: Path, tmp_path: Path) -> None:
    path = folder / "Annotations" / "9.xml"
    path.write_text(ANNOTATION.replace("<xmax>120</xmax>", "<xmax>0</xmax>"))
    report = convert_flickr30k_queries(folder, tmp_path / "f.jsonl")
    assert report.left_out == {NEGATIVE: 3}  # "A potter" twice, "Two people"


def test_a_document_of_mdetr(tmp_path: Path) -> None:
    def box(bbox: list[float], spans: list[list[int]]) -> dict[str, object]:
        return {"image_id": 1, "bbox": bbox, "tokens_positive": spans, "iscrowd": 0}

    image = {
        "file_name": "36979.jpg", "height": "375", "width": "500", "id": 1, "original_img_id": 36979, "sentence_id": 0,
        "caption": "A man and a dog , a hat",
        "tokens_positive_eval": [[[0, 5]], [[16, 17], [10, 15]], [[18, 23]], [[5, 6]]],
    }  # fmt: skip
    boxes = [box([1, 2, 30, 40], [[0, 5]]), box([5, 6, 7, 8], [[10, 15], [16, 17], [0, 5]])]
    source = tmp_path / "final_flickr_separateGT_test.json"
    source.write_text(json.dumps({"images": [image], "annotations": boxes}))
    report = convert_flickr30k_queries(source, tmp_path / "f.jsonl")
    found = lines(tmp_path / "f.jsonl")
    assert [(row["query_id"], row["image_id"], row["width"], row["height"]) for row in found] == [
        (number, 36979, 500, 375) for number in (1, 2, 3)
    ]
    assert [(row["spans"], row["boxes"]) for row in found] == [
        ([[0, 5]], [[1, 2, 30, 40], [5, 6, 7, 8]]),
        ([[10, 15], [16, 17]], [[5, 6, 7, 8]]),
        ([[18, 23]], []),
    ]
    assert report.left_out == {NO_WORDS: 1}
    assert report.unscored == 1
    with pytest.raises(DataError, match="--split is for the folder"):
        convert_flickr30k_queries(source, tmp_path / "f.jsonl", split=source)


def test_odd_folders_are_one_line(folder: Path, tmp_path: Path) -> None:
    (folder / "Sentences" / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"Sentences/'notes'\.txt is not named by the number"):
        convert_flickr30k_queries(folder, tmp_path / "f.jsonl")
    with pytest.raises(DataError, match="has no folder 'Sentences'"):
        convert_flickr30k_queries(tmp_path, tmp_path / "f.jsonl")
    assert not (tmp_path / "f.jsonl").exists()
