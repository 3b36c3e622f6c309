"""The command line as a user meets it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovd_bench.tests import oracles
from ovd_bench.tests.metrics.small_sets import random_set

ROOT = Path(__file__).resolve().parents[1]
Json = dict[str, Any]


def bench(*arguments: object, width: int = 200) -> subprocess.CompletedProcess[str]:
    """Run bench.py in its own process."""
    return subprocess.run(
        [sys.executable, ROOT / "bench.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": str(width), "NO_COLOR": "1"},
        timeout=300,
    )


def bench_json(*arguments: object) -> Json:
    result = bench(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    document: Json = json.loads(result.stdout)
    return document


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Annotations (federated, with training counts) and predictions of a seeded set."""
    folder = tmp_path_factory.mktemp("files")
    annotations, results = random_set(21, 80, 12, 30, odd=True)
    for k, category in enumerate(annotations["categories"]):
        category |= {"image_count": 3 ** (k % 7) + 1, "synonyms": [category["name"]], "synset": f"thing.n.{k:02}"}
    for box in annotations["annotations"]:
        box["id"] += 1
    gt, dt = folder / "gt.json", folder / "dt.json"
    gt.write_text(json.dumps(annotations))
    dt.write_text(json.dumps(results))
    return gt, dt


@pytest.mark.parametrize("protocol", ["lvis", "lvis-fixed"])
def test_score_json_equals_lvis_api(files: tuple[Path, Path], protocol: str) -> None:
    gt, dt = files
    document = bench_json("score", dt, "-a", gt, "-p", protocol)
    annotations, results = json.loads(gt.read_text()), json.loads(dt.read_text())
    official = oracles.run_lvis(annotations, results, fixed=protocol == "lvis-fixed").results
    assert list(document["metrics"]) == list(official)
    assert list(document["metrics"].values()) == oracles.statistics(official.values())
    assert document["protocol"] == protocol
    assert document["counts"]["total"] == len(results)


def test_score_json_equals_pycocotools(files: tuple[Path, Path]) -> None:
    gt, dt = files
    document = bench_json("score", dt, "-a", gt, "-p", "coco")
    official = oracles.run_coco(json.loads(gt.read_text()), json.loads(dt.read_text()))
    assert list(document["metrics"].values()) == oracles.statistics(official.stats)
    assert any(note.startswith("warning: COCO rules on federated annotations") for note in document["notes"])


def test_arrays_are_the_official_arrays(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, dt = files
    assert bench("score", dt, "-a", gt, "--arrays", tmp_path / "a.npz").returncode == 0
    official = oracles.run_lvis(json.loads(gt.read_text()), json.loads(dt.read_text())).eval
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["precision"], official["precision"])
        np.testing.assert_array_equal(arrays["recall"], official["recall"])
        assert arrays["precision"].shape == (
            len(arrays["iou_thresholds"]),
            len(arrays["recall_thresholds"]),
            len(arrays["category_ids"]),
            len(arrays["areas"]),
        )
    assert bench("score", dt, "-a", gt, "-p", "coco", "--arrays", tmp_path / "c.npz").returncode == 0
    official = oracles.run_coco(json.loads(gt.read_text()), json.loads(dt.read_text())).eval
    with np.load(tmp_path / "c.npz") as arrays:
        np.testing.assert_array_equal(arrays["precision"], official["precision"])
        np.testing.assert_array_equal(arrays["recall"], official["recall"])
        assert arrays["max_dets"].tolist() == [1, 10, 100]


def test_per_class(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, dt = files
    assert bench("score", dt, "-a", gt, "--per-class", tmp_path / "ap.csv").returncode == 0
    rows = list(csv.DictReader((tmp_path / "ap.csv").open()))
    annotations = json.loads(gt.read_text())
    assert [int(row["category_id"]) for row in rows] == list(range(1, 13))
    mean = np.mean([float(row["AP"]) for row in rows if row["AP"]])
    assert mean == pytest.approx(bench_json("score", dt, "-a", gt)["metrics"]["AP"], abs=1e-12)
    for k, row in enumerate(rows):
        boxes = [a for a in annotations["annotations"] if a["category_id"] == k + 1]
        present = {a["image_id"] for a in boxes if a["area"] > 0}
        absent = {image["id"] for image in annotations["images"] if k + 1 in image["neg_category_ids"]}
        assert int(row["boxes"]) == len(boxes)
        assert int(row["images"]) == len({a["image_id"] for a in boxes})
        assert int(row["verified_images"]) == len(present | absent)
        assert int(row["train_images"]) == 3 ** (k % 7) + 1
        assert row["frequency"] == "rcf"[k % 3]


def test_plots(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, dt = files
    assert bench("score", dt, "-a", gt, "--plots", tmp_path / "plots").returncode == 0
    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == ["ap_vs_frequency.png", "pr_curves.png"]
    pictures = {name: (tmp_path / "plots" / name).read_bytes() for name in names}
    assert all(data.startswith(b"\x89PNG") for data in pictures.values())
    # the pictures show the scores: worse detections give others, the same ones the same bytes
    worse = [{**row, "bbox": [row["bbox"][0] + 9, *row["bbox"][1:]]} for row in json.loads(dt.read_text())]
    (tmp_path / "worse.json").write_text(json.dumps(worse))
    for predictions, same in ((dt, True), (tmp_path / "worse.json", False)):
        assert bench("score", predictions, "-a", gt, "--plots", tmp_path / "plots").returncode == 0
        for name, before in pictures.items():
            assert ((tmp_path / "plots" / name).read_bytes() == before) is same


def test_bootstrap_and_extras(files: tuple[Path, Path]) -> None:
    gt, dt = files
    document = bench_json("score", dt, "-a", gt, "--bootstrap", 100, "-m", "all")
    low, high = document["ci95"]["AP"]
    assert low < document["metrics"]["AP"] < high
    families = {name.split("/")[0] for name in document["metrics"] if "/" in name}
    assert families == {"pool", "ladder", "presence", "tide", "calibration", "unseen"}
    assert bench_json("score", dt, "-a", gt, "--bootstrap", 100)["ci95"] == document["ci95"]


def test_table_shows_every_statistic_and_remark(files: tuple[Path, Path]) -> None:
    gt, dt = files
    result = bench("score", dt, "-a", gt, "--bootstrap", 50)
    document = bench_json("score", dt, "-a", gt)
    words = result.stdout.split()
    for name, value in document["metrics"].items():
        assert name in words
        assert f"{100 * value:.2f}" in words
    for note in document["notes"]:
        assert note in " ".join(words)
    assert any("w * h <= 0: dropped, as lvis-api does" in note for note in document["notes"])
    assert any("of classes not in the annotations" in note for note in document["notes"])


def test_same_bytes_for_one_and_two_threads(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, dt = files
    outputs = []
    for threads in (1, 2):
        arguments = ("--bootstrap", 40, "-m", "all", "--threads", threads, "--json")
        csv_file, npz_file = tmp_path / f"{threads}.csv", tmp_path / f"{threads}.npz"
        result = bench("score", dt, "-a", gt, *arguments, "--per-class", csv_file, "--arrays", npz_file)
        assert result.returncode == 0, result.stderr
        outputs.append((result.stdout, csv_file.read_bytes(), npz_file.read_bytes()))
    assert outputs[0] == outputs[1]


def test_compare(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, dt = files
    rng = np.random.default_rng(0)
    worse = json.loads(dt.read_text())
    for row in worse:
        row["bbox"] = (np.array(row["bbox"]) * rng.normal(1, 0.15, 4)).tolist()
    (tmp_path / "worse.json").write_text(json.dumps(worse))
    document = bench_json("compare", tmp_path / "worse.json", dt, "-a", gt, "--bootstrap", 200)
    ap = document["differences"]["AP"]
    assert ap["delta"] == ap["b"] - ap["a"]
    assert ap["ci95"][0] > 0
    assert ap["p_greater"] > 0.9999
    classes = document["classes"]
    assert classes["wins"] + classes["losses"] + classes["ties"] == 12
    table = bench(
        "compare", tmp_path / "worse.json", dt, "-a", gt, "--bootstrap", 50, "--per-class", tmp_path / "d.csv"
    )
    assert "P(B > A)" in table.stdout
    assert len((tmp_path / "d.csv").read_text().splitlines()) == 13


def test_capped_file_is_not_fixed_ap(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, _ = files
    image = json.loads(gt.read_text())["images"][0]["id"]
    rows = [{"image_id": image, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}] * 300
    (tmp_path / "capped.json").write_text(json.dumps(rows))
    notes = bench_json("score", tmp_path / "capped.json", "-a", gt, "-p", "lvis-fixed")["notes"]
    assert any("looks capped per image, so this is not fixed AP" in note for note in notes)
    (tmp_path / "open.json").write_text(json.dumps(rows + rows[:1]))
    notes = bench_json("score", tmp_path / "open.json", "-a", gt, "-p", "lvis-fixed")["notes"]
    assert not any("capped" in note for note in notes)


def test_grounding(tmp_path: Path) -> None:
    (tmp_path / "gt.jsonl").write_text(
        '{"phrase_id": 1, "image_id": 5, "boxes": [[0, 0, 10, 10]]}\n'
        '{"phrase_id": 2, "image_id": 5, "boxes": [[50, 50, 10, 10]]}\n'
    )
    (tmp_path / "dt.jsonl").write_text(
        '{"phrase_id": 1, "boxes": [[0, 0, 10, 9]], "scores": [0.9]}\n'
        '{"phrase_id": 2, "boxes": [[0, 0, 9, 9], [50, 50, 10, 9]], "scores": [0.9, 0.3]}\n'
    )
    document = bench_json("score", tmp_path / "dt.jsonl", "-a", tmp_path / "gt.jsonl", "-p", "grounding-recall")
    metrics = document["metrics"]
    assert (metrics["grounding/R@1_any"], metrics["grounding/R@5_any"], metrics["grounding/acc@0.5"]) == (0.5, 1.0, 0.5)
    table = bench("score", tmp_path / "dt.jsonl", "-a", tmp_path / "gt.jsonl", "-p", "grounding-recall")
    assert "R@1_any" in table.stdout


def test_free_text(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Phrases instead of category ids: the same score as with the ids, less what no phrase names."""
    gt, dt = files
    rows = [row for row in json.loads(dt.read_text()) if row["category_id"] <= 12]
    plain, spoken = tmp_path / "plain.json", tmp_path / "spoken.json"
    plain.write_text(json.dumps(rows))
    for row in rows:
        row["phrase"] = f"a class {row.pop('category_id') - 1}"
    spoken.write_text(json.dumps([*rows, {**rows[0], "phrase": "nothing known"}]))
    by_id = bench_json("score", plain, "-a", gt)
    by_phrase = bench_json("score", spoken, "-a", gt, "--map-phrases", "exact", "-m", "phrases")
    assert {name: by_phrase["metrics"][name] for name in by_id["metrics"]} == by_id["metrics"]
    assert by_phrase["metrics"]["phrase/AP_exact"] == by_id["metrics"]["AP"]
    assert by_phrase["metrics"]["phrase/unmapped_rate"] == 1 / (len(rows) + 1)
    assert by_phrase["notes"][0] == "1 detections whose phrase names no class: dropped"
    refused = bench("score", plain, "-a", gt, "--map-phrases", "exact")
    assert refused.returncode == 1
    assert "--map-phrases needs predictions with phrases" in refused.stderr


BAD = {
    "unknown protocol": (["-p", "voc"], "unknown protocol 'voc': choose from lvis, lvis-fixed, coco, queries, "),
    "unknown metric": (["-m", "pool,wow"], "unknown metric 'wow': choose from pool, ladder, srp"),
    "srp without a judge": (["-m", "srp"], "--metric srp needs --judge FILE"),
    "region without images": (["-m", "region"], "--metric region needs --images FOLDER and --region-judge"),
    "unknown relation": (["--map-phrases", "close"], "choose from exact, lemma, synonym, hyponym, head"),
    "no such tables": (["--tables", "nowhere.json"], "nowhere.json: cannot be read: No such file or directory"),
    "no folder for the file": (["--per-class", "nowhere/ap.csv"], "the folder nowhere does not exist"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_one_line(files: tuple[Path, Path], name: str) -> None:
    gt, dt = files
    options, message = BAD[name]
    result = bench("score", dt, "-a", gt, *options)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_unknown_image_names_file_and_record(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, _ = files
    rows = [{"image_id": 10**6, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]
    (tmp_path / "dt.json").write_text(json.dumps(rows))
    result = bench("score", tmp_path / "dt.json", "-a", gt)
    assert result.returncode == 1
    expected = f"{tmp_path}/dt.json: record 0: image_id 1000000 is not among the annotations' images"
    assert result.stderr == f"error: {expected}\n"


def test_lvis_rules_need_federated_lists(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, dt = files
    annotations = json.loads(gt.read_text())
    for image in annotations["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    (tmp_path / "coco.json").write_text(json.dumps(annotations))
    result = bench("score", dt, "-a", tmp_path / "coco.json")
    assert result.returncode == 1
    assert "use --protocol coco" in result.stderr


def test_usage_error_is_exit_code_2(files: tuple[Path, Path]) -> None:
    assert bench("score", files[1]).returncode == 2
    assert bench("score", files[1], "-a", files[0], "--bootstrap", "-3").returncode == 2


def test_scoring_imports_no_framework(files: tuple[Path, Path]) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nimport ovd_bench.benchmarks.cli.app\n"
        "from ovd_bench.benchmarks.scoring.score import ScoreRequest, score\n"
        f"score(ScoreRequest(Path({str(files[1])!r}), Path({str(files[0])!r}), 'lvis'))\n"
        "print(sorted({'torch', 'jittor', 'transformers', 'matplotlib', 'pyarrow', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_two_at_once_write_whole_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, dt = files
    outputs = ("--plots", tmp_path / "plots", "--per-class", tmp_path / "ap.csv", "--arrays", tmp_path / "a.npz")
    command = [sys.executable, ROOT / "bench.py", "score", dt, "-a", gt, *outputs]
    runs = [subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
    assert [(run.wait(timeout=120), run.stderr.read() if run.stderr else b"") for run in runs] == [(0, b"")] * 4
    left = {path.name for path in [*tmp_path.iterdir(), *(tmp_path / "plots").iterdir()]}
    assert left == {"plots", "ap.csv", "a.npz", "ap_vs_frequency.png", "pr_curves.png"}
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["precision"].shape[2] == 12
