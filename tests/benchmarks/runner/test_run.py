"""``run`` and ``predict`` as a user meets them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.predictions import write_predictions
from ovd_bench.benchmarks.store.folders import find_results
from ovd_bench.benchmarks.store.predictions import read_run_predictions
from ovd_bench.benchmarks.store.schema import read_result
from ovd_bench.tests.benchmarks.runner.toy import artefacts, bench, bench_json, command, detector, make_data

IMAGES = 24


@pytest.fixture(scope="module")
def gt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), IMAGES)


@pytest.fixture(scope="module")
def done(gt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run of four shards."""
    out = tmp_path_factory.mktemp("results")
    document = bench_json(
        *("run", "-d", detector(), "-b", gt, "--shards", 4, "--batch", 2, "--bootstrap", 40, "--out", out)
    )
    (one,) = document["runs"]
    assert one["problem"] is None
    assert json.loads((Path(one["folder"]) / "result.json").read_text()) == one["result"]
    return Path(one["folder"])


def test_result(gt: Path, done: Path) -> None:
    result = read_result(done / "result.json")
    assert done.parts[-3] == "toy"
    assert done.parent.name == f"lvis-names-{result.protocol.sha256[:8]}"
    assert done.name == f"toy-plain@{result.detector.weights_sha256[:8]}"
    assert not result.partial
    assert (result.benchmark.images, result.benchmark.classes, result.benchmark.boxes) == (IMAGES, 4, IMAGES)
    assert result.benchmark.annotations_sha256 == file_sha256(gt)
    run = result.run
    assert (run.batch, run.smallest_batch, run.shards, run.images, run.engine) == (2, 2, 4, IMAGES, "local")
    assert run.detections == len(read_run_predictions(done))
    assert run.command.startswith("bench run -d ")
    warm = result.speed.warm
    assert warm is not None
    assert warm.images == IMAGES - 2  # one process: its first batch of 2 is no part of the speed
    assert warm.image_seconds
    assert result.speed.images_per_second == pytest.approx(1 / warm.image_seconds)
    assert warm.threads == 1
    assert (warm.alone is True) is (warm.reasons == [])
    assert result.env.packages["numpy"]
    assert set(result.files) == {"per_class.csv", "predictions/manifest.json"} | {
        f"predictions/shard-0000{k}-of-00004.arrow" for k in range(4)
    }
    for name, sha256 in result.files.items():
        assert file_sha256(done / name) == sha256
    ap = result.metrics["AP"]
    assert ap.value is not None
    assert ap.ci95 is not None
    assert ap.ci95[0] < ap.value < ap.ci95[1]
    families = {name.split("/")[0] for name in result.metrics if "/" in name}
    assert families == {"pool", "ladder", "presence", "tide", "calibration", "unseen"}
    assert find_results(done.parents[2]) == ([(done / "result.json", result)], [])


def test_unseen_classes_have_their_own_number(done: Path) -> None:
    """The toy's last class has image_count 0, so its AP is the mean over the unseen ones."""
    result = read_result(done / "result.json")
    rows = list(csv.DictReader((done / "per_class.csv").open()))
    assert [row["train_images"] for row in rows] == ["200", "20", "2", "0"]
    unseen = result.metrics["unseen/APu"]
    assert unseen.value == float(rows[3]["AP"])
    assert unseen.ci95 is not None
    assert result.metrics["unseen/classes"].value == 1


def test_score_of_a_run_equals_score_of_its_predictions(gt: Path, done: Path, tmp_path: Path) -> None:
    write_predictions(tmp_path / "all.json", read_run_predictions(done))
    of_file = bench_json("score", tmp_path / "all.json", "-a", gt, "-m", "pool,unseen")
    for run in (done, done / "result.json"):
        of_run = bench_json("score", run, "-m", "pool,unseen")
        assert of_run["metrics"] == of_file["metrics"]
    metrics = read_result(done / "result.json").metrics
    assert {name: metrics[name].value for name in of_file["metrics"]} == of_file["metrics"]
    differences = bench_json("compare", done, tmp_path / "all.json", "--bootstrap", 5)["differences"]
    assert differences["AP"]["delta"] == 0


def test_save_writes_what_run_writes(done: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", done, copy], check=True)
    (copy / "result.json").unlink()
    (copy / "per_class.csv").unlink()
    assert bench("score", copy, "--save", "--bootstrap", 40).returncode == 0
    ours, theirs = (read_result(folder / "result.json").model_dump(exclude={"id"}) for folder in (copy, done))
    assert ours["run"].pop("command") != theirs["run"].pop("command")
    assert ours == theirs


def test_a_moved_annotation_file_must_be_named(done: Path, gt: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", 6)
    document = bench_json("predict", "-d", detector(), "-b", data, "--out", tmp_path / "out")
    folder = document["runs"][0]["folder"]
    moved = data.rename(tmp_path / "moved.json")
    result = bench("score", folder)
    assert result.returncode == 1
    assert "no longer exists: give the annotations with -a FILE" in result.stderr
    assert bench_json("score", folder, "-a", moved)["metrics"]["AP"] is not None
    other = bench("score", done, "--save", "-a", moved)
    assert other.returncode == 1
    assert "was made on other annotations" in other.stderr


def test_again_makes_nothing_anew(gt: Path, done: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.glob("predictions/shard-*")}
    out = done.parents[2]
    again = bench("run", "-d", detector(), "-b", gt, "--batch", 2, "--bootstrap", 0, "--out", out)
    assert again.returncode == 0, again.stderr
    assert f"{IMAGES} of {IMAGES} images are done already" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in done.glob("predictions/shard-*")} == before
    assert bench("run", "-d", detector(), "-b", gt, "--batch", 2, "--bootstrap", 40, "--out", out, "-q").stderr == ""


def test_limit_is_partial_and_scored_on_its_images(gt: Path, tmp_path: Path) -> None:
    (one,) = bench_json(
        "run", "-d", detector(), "-b", gt, "--limit", 9, "--bootstrap", 0, "-m", "pool", "--out", tmp_path
    )["runs"]
    assert one["folder"].endswith("-partial-9")
    assert one["result"]["partial"] is True
    assert (one["result"]["benchmark"]["images"], one["result"]["benchmark"]["boxes"]) == (9, 9)
    assert f"partial run: 9 of {IMAGES} images" in one["result"]["notes"]
    ids = set(read_ground_truth(gt).image_ids[:9].tolist())
    document = json.loads(gt.read_text())
    document["images"] = [image for image in document["images"] if image["id"] in ids]
    document["annotations"] = [box for box in document["annotations"] if box["image_id"] in ids]
    (tmp_path / "nine.json").write_text(json.dumps(document))
    write_predictions(tmp_path / "nine.arrow", read_run_predictions(Path(one["folder"])))
    expected = bench_json("score", tmp_path / "nine.arrow", "-a", tmp_path / "nine.json", "-m", "pool")["metrics"]
    assert {name: metric["value"] for name, metric in one["result"]["metrics"].items()} == expected


def test_a_sweep_goes_on_after_a_failure(gt: Path, tmp_path: Path) -> None:
    names = f"{detector('Unloadable')},{detector()}"
    result = bench("run", "-d", names, "-b", gt, "--bootstrap", 0, "-m", "pool", "--out", tmp_path, "--json")
    assert result.returncode == 3
    bad, good = json.loads(result.stdout)["runs"]
    assert bad["problem"] == "the weights are not where they should be"
    assert (bad["folder"], bad["result"]) == (None, None)
    assert good["result"]["metrics"]["AP"]["value"] is not None
    assert "error: toy_detectors.py:Unloadable on toy.json: the weights are not where they should be\n" in result.stderr
    assert "Traceback" not in result.stderr
    alone = bench("run", "-d", detector("Unloadable"), "-b", gt, "--out", tmp_path)
    assert alone.returncode == 1
    assert alone.stderr.count("\n") == 1


def test_full_disk_leaves_nothing_half_written(gt: Path, tmp_path: Path) -> None:
    options = ("predict", "-d", detector("SmallDisk"), "-b", gt, "--shards", 2, "--batch", 1, "--out", tmp_path)
    result = bench(*options, TOY_DISK="1000")
    assert result.returncode == 3
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    (folder,) = tmp_path.glob("*/*/*")
    assert sorted(path.name for path in (folder / "predictions").iterdir()) == [".locks", "manifest.json"]
    assert bench(*options).returncode == 0


def test_chatter_of_libraries_does_not_disturb(gt: Path, tmp_path: Path) -> None:
    image = str(read_ground_truth(gt).image_ids[3])
    options = ("predict", "-d", detector("Broken"), "-b", gt, "--limit", 6)
    quiet = bench(*options, "--out", tmp_path / "a", "-q", TOY_FAULT="print", TOY_IMAGES=image)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    loud = bench(*options, "--out", tmp_path / "b", "-v", TOY_FAULT="print", TOY_IMAGES=image)
    assert "a library's chatter on stdout" in loud.stderr
    assert "chatter on" not in loud.stdout


def test_interrupt(gt: Path, tmp_path: Path) -> None:
    options = ("predict", "-d", detector(), "-b", gt, "--shards", 12, "--out", tmp_path, "--batch", 1)
    process = subprocess.Popen(
        command(*options), env=os.environ | {"TOY_SECONDS": "0.2"}, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 60
    while not list(tmp_path.glob("*/*/*/predictions/shard-*.json")) and time.monotonic() < limit:
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "interrupted: the same command resumes"
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    (folder,) = tmp_path.glob("*/*/*")
    assert 0 < len(list(folder.glob("predictions/shard-*.arrow"))) < 12
    assert bench(*options).returncode == 0
    whole = bench_json(*options[:-4], "--out", tmp_path / "whole", "--batch", 1)["runs"][0]["folder"]
    assert artefacts(folder) == artefacts(Path(whole))


def test_shards_by_separate_commands(gt: Path, done: Path, tmp_path: Path) -> None:
    """As a job array would do it, two of them at once."""
    options = ("predict", "-d", detector(), "-b", gt, "--batch", 2, "--out", tmp_path, "-q")
    jobs = [subprocess.Popen(command(*options, "--shard", f"{shard}/4")) for shard in (1, 3)]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0]
    folder = tmp_path / done.relative_to(done.parents[2])
    unfinished = bench("score", folder)
    assert unfinished.returncode == 1
    assert "2 of 4 shards are missing or changed, shard-00000-of-00004.arrow is the first" in unfinished.stderr
    for shard in (0, 2):
        assert bench(*options, "--shard", f"{shard}/4").returncode == 0
    assert artefacts(folder) == artefacts(done)


BAD = {
    "unknown plan": (["--prompts", "poem"], "no prompt plan 'poem' and no such file: choose from names, "),
    "unknown metric": (["-m", "wow"], "unknown metric 'wow'"),
    "device": (["--device", "gpu"], "device: "),
    "ids": (["--image-ids", "nowhere.txt"], "nowhere.txt: cannot be read"),
    "both parts": (["--limit", "3", "--image-ids", "x"], "--limit and --image-ids: give one of them"),
    "images": (["--images", "nowhere"], "nowhere: no such folder of images"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_one_line(gt: Path, tmp_path: Path, name: str) -> None:
    options, message = BAD[name]
    result = bench("run", "-d", detector(), "-b", gt, "--out", tmp_path, *options)
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("shard", ["4/4", "1", "a/2", "-1/2"])
def test_bad_shard(gt: Path, tmp_path: Path, shard: str) -> None:
    result = bench("predict", "-d", detector(), "-b", gt, "--out", tmp_path, "--shard", shard)
    assert result.returncode == 1
    assert "expected K/N with K from 0 to N - 1" in result.stderr
