"""``run -b FILE.jsonl``: from a file of queries to a row, in parts, resumed, compared and scored again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovd_bench.benchmarks.store.predictions import read_run_predictions
from ovd_bench.benchmarks.store.schema import Result, read_result
from ovd_bench.tests.benchmarks.runner.toy import NAMES, bench, bench_json, detector, make_data


@pytest.fixture(scope="module")
def refs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every image is asked for its thing and for one that is not there."""
    folder = tmp_path_factory.mktemp("queries")
    document = json.loads(make_data(folder, 12).read_text())
    boxes = {box["image_id"]: box for box in document["annotations"]}
    lines = []
    for row in document["images"]:
        box = boxes[row["id"]]
        there, gone = NAMES[box["category_id"] - 1], NAMES[box["category_id"] % 3]
        image = {"image_id": row["id"], "file_name": row["file_name"], "width": row["width"], "height": row["height"]}
        text = f"a picture with {there}"
        spans = [[text.index(there), len(text)]]
        lines.append(image | {"text": text, "spans": spans, "kinds": ["phrase"], "boxes": [box["bbox"]]})
        lines.append(image | {"text": gone, "present": False, "kinds": ["absent"], "boxes": []})
    path = folder / "refs.jsonl"
    path.write_text("".join(json.dumps({"query_id": n} | line) + "\n" for n, line in enumerate(lines)))
    return path


def options(refs: Path, out: Path) -> tuple[object, ...]:
    return ("run", "-d", detector(), "-b", refs, "--images", refs.parent / "images", "--out", out)


def only(out: Path) -> tuple[Path, Result]:
    (folder,) = out.glob("*/*/*/")
    return folder, read_result(folder / "result.json")


def test_a_file_of_queries_becomes_a_row(refs: Path, tmp_path: Path) -> None:
    done = bench(*options(refs, tmp_path))
    assert done.returncode == 0, done.stderr
    assert "R@1" in done.stdout
    folder, result = only(tmp_path)
    assert (result.protocol.name, result.protocol.vocabulary, result.protocol.reading) == (
        "queries", "queries", "annotated"
    )  # fmt: skip
    assert "does not read captions: each question was its only class" in result.detector.notes
    value = {name: metric.value for name, metric in result.metrics.items()}
    assert value["queries/acc@0.5"] == value["queries/acc@0.5/phrase"]
    assert value["queries/acc@0.5/absent"] is None
    assert value["queries/fpr95"] is not None
    low, high = result.metrics["queries/mIoU"].ci95 or (1.0, 0.0)
    assert low <= (value["queries/mIoU"] or 0) <= high
    answered = read_run_predictions(folder)
    assert len(set(zip(answered.image_id.tolist(), answered.category_id.tolist(), strict=True))) == 24
    again = bench_json("score", folder, "--bootstrap", 0, "-m", "queries")
    assert again["metrics"]["queries/acc@0.5"] == value["queries/acc@0.5"]
    board = bench("board", "--out", tmp_path)
    assert "FPR95" in board.stdout


def test_shards_by_separate_commands_give_the_same(refs: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert bench(*options(refs, whole), "--shards", 3).returncode == 0
    for shard in range(3):
        done = bench("predict", *options(refs, parts)[1:], "--shard", f"{shard}/3")
        assert done.returncode == 0, done.stderr
    assert bench(*options(refs, parts), "--shards", 3).returncode == 0
    ours, theirs = only(whole)[1], only(parts)[1]
    assert ours.metrics == theirs.metrics


def test_a_part_of_the_images_and_the_comparison(refs: Path, tmp_path: Path) -> None:
    assert bench(*options(refs, tmp_path / "a"), "--limit", 5).returncode == 0
    assert bench(*options(refs, tmp_path / "b"), "--limit", 5, "--reading", "own").returncode == 0
    (one, first), (other, second) = only(tmp_path / "a"), only(tmp_path / "b")
    assert first.partial
    assert first.protocol.sha256 != second.protocol.sha256
    compared = bench_json("compare", one, other, "--bootstrap", 20)
    assert compared["differences"]["queries/R@1_any"]["delta"] == 0
    assert any("reading annotated and own" in note for note in compared["notes"])


@pytest.mark.parametrize("wrong", [("--vocabulary", "verified"), ("-p", "lvis", "--reading", "own"), ("-p", "coco")])
def test_options_of_classes_are_refused_in_one_line(refs: Path, tmp_path: Path, wrong: tuple[str, ...]) -> None:
    done = bench(*options(refs, tmp_path), *wrong)
    assert done.returncode == 1
    assert "queries" in done.stderr
    assert "Traceback" not in done.stderr
