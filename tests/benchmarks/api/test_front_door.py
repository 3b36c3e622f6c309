"""``import ovd_bench``: the same numbers as the command line, and one-line errors."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ovd_bench as ovd
from ovd_bench.benchmarks.data.catalog.suites import SUITES
from ovd_bench.benchmarks.data.files.predictions import write_predictions
from ovd_bench.benchmarks.store.predictions import read_run_predictions
from ovd_bench.tests.benchmarks.runner.toy import bench_json, detector, make_data

ROOT = Path(__file__).resolve().parents[3]
IMAGES = 24


@pytest.fixture(scope="module")
def gt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), IMAGES)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def made(gt: Path, out: Path) -> ovd.Run:
    return ovd.run(detector(), gt, batch=2, bootstrap=40, out=out, quiet=True)


@pytest.fixture(scope="module")
def part(gt: Path, out: Path) -> ovd.Run:
    return ovd.run(detector(), str(gt), limit=10, bootstrap=40, out=str(out), quiet=True)


@pytest.fixture(scope="module")
def file(made: ovd.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "all.json"
    write_predictions(path, read_run_predictions(made.folder))
    return path


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = {"torch", "jittor", "transformers", "tensorflow", "pyarrow", "scipy", "numpy", "pandas", "PIL", "rich"}
    code = (
        "import sys, ovd_bench as ovd\n"
        f"print(sorted({heavy} & set(sys.modules)))\n"
        "ovd.list_detectors(), ovd.list_datasets(), ovd.list_metrics(), ovd.list_protocols(), ovd.__version__\n"
        "[getattr(ovd, name) for name in ovd.__all__]\n"
        "print(sorted({'torch', 'jittor', 'transformers', 'pyarrow', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_every_name_is_there_and_typed() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = {
        alias.name: node.module for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imports.keys() | {"__version__"} == set(ovd.__all__)
    assert set(ovd.__all__) <= set(dir(ovd))
    for name, module in imports.items():
        assert getattr(ovd, name) is getattr(sys.modules[str(module)], name)
    with pytest.raises(AttributeError, match="has no attribute 'detectron'"):
        ovd.detectron  # type: ignore[attr-defined]  # noqa: B018


def test_lists() -> None:
    listed = bench_json("list")
    assert ovd.list_detectors() == [card["name"] for card in listed["detectors"]]
    assert ovd.list_datasets() == [card["name"] for card in listed["datasets"] if card["name"] not in SUITES]
    assert ovd.list_metrics() == [metric["name"] for metric in listed["metrics"]]
    assert [protocol["name"] for protocol in listed["protocols"]] == ovd.list_protocols()[:4]
    assert ovd.detector_card("owl-nano").framework == "torch"
    assert ovd.dataset_card("shapes").name == "shapes"


@pytest.mark.parametrize("options", [{"batch": 2}, {"limit": 10}])
def test_run_is_what_the_command_line_runs(
    gt: Path, made: ovd.Run, part: ovd.Run, tmp_path: Path, options: Any
) -> None:
    ours = part if "limit" in options else made
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    (theirs,) = bench_json("run", "-d", detector(), "-b", gt, *flags, "--bootstrap", 40, "--out", tmp_path)["runs"]
    for key in ("detector", "benchmark", "protocol", "metrics", "files", "partial", "notes"):
        assert ours.to_dict()[key] == theirs["result"][key], key
    assert ours.metrics == {name: metric["value"] for name, metric in theirs["result"]["metrics"].items()}
    assert ours.ci95["AP"] == tuple(theirs["result"]["metrics"]["AP"]["ci95"])
    assert {type(value) for value in ours.metrics.values()} <= {float, int, type(None)}


def test_the_result_keeps_a_command_that_makes_it(part: ovd.Run, tmp_path: Path) -> None:
    words = shlex.split(part.result.run.command)
    assert words[:2] == ["bench", "run"]
    assert "--quiet" in words
    words[words.index("--out") + 1] = str(tmp_path)
    (again,) = bench_json(*words[1:])["runs"]
    assert again["result"]["metrics"] == part.to_dict()["metrics"]


def test_classes_of_a_run(made: ovd.Run) -> None:
    rows = made.per_class()
    assert [row["category_id"] for row in rows] == [1, 2, 3, 4]
    assert rows[1]["name"] == "green thing"
    assert [row["train_images"] for row in rows] == [200, 20, 2, 0]
    values = [row["AP"] for row in rows if row["AP"] is not None]
    assert np.mean(values) == pytest.approx(made.metrics["AP"], abs=1e-12)
    assert list(rows) == rows.to_records() == list(ovd.score(made).per_class())


def test_score_is_what_the_command_line_scores(gt: Path, made: ovd.Run, part: ovd.Run, file: Path) -> None:
    ours = ovd.score(file, str(gt), protocol="lvis", metrics=["ladder", "pool"], bootstrap=20)
    theirs = bench_json("score", file, "-a", gt, "-p", "lvis", "-m", "ladder,pool", "--bootstrap", 20)
    assert _plain(ours.to_dict()) == theirs
    assert ours.metrics == theirs["metrics"]
    assert {name: list(interval) for name, interval in ours.ci95.items()} == theirs["ci95"]
    assert ours.sd == theirs["sd"]
    assert _plain(ovd.score(part).to_dict()) == bench_json("score", part.folder)
    assert ovd.score(part.folder / "result.json").metrics["AP"] == part.metrics["AP"]


def test_compare_is_what_the_command_line_compares(made: ovd.Run, file: Path, gt: Path, tmp_path: Path) -> None:
    worse = tmp_path / "worse.arrow"
    write_predictions(worse, read_run_predictions(made.folder).take(np.arange(0, 60, 2)))
    ours = ovd.compare(made, worse, bootstrap=30)
    assert _plain(ours.to_dict()) == bench_json("compare", made.folder, worse, "--bootstrap", 30)
    difference = ours.differences["AP"]
    assert difference.delta is not None
    assert difference.delta < 0
    assert [row["AP_A"] for row in ours.per_class()] == [row["AP"] for row in made.per_class()]
    assert ovd.compare(str(file), file, str(gt), bootstrap=5).differences["AP"].delta == 0


def test_phrases(tmp_path: Path) -> None:
    truth, found = tmp_path / "truth.jsonl", tmp_path / "found.jsonl"
    truth.write_text('{"phrase_id": 9, "image_id": 5, "boxes": [[1, 2, 3, 4]]}\n')
    found.write_text('{"phrase_id": 9, "boxes": [[1, 2, 3, 4]], "scores": [0.5]}\n')
    ours = ovd.score(found, truth, protocol="grounding-recall")
    assert ours.metrics == bench_json("score", found, "-a", truth, "-p", "grounding-recall")["metrics"]
    with pytest.raises(ovd.DataError, match="there are no classes"):
        ours.per_class()


def test_results_of_a_folder(made: ovd.Run, part: ovd.Run, out: Path) -> None:
    broken = out / "a" / "b" / "c" / "result.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{}")
    results = ovd.load_results(out)
    assert [run.folder for run in results] == sorted([made.folder, part.folder])
    assert len(results.problems) == 1
    rows = results.to_records()
    (whole,) = [row for row in rows if not row["partial"]]
    assert whole["AP"] == made.metrics["AP"]
    assert (whole["AP_low"], whole["AP_high"]) == made.ci95["AP"]
    assert len({tuple(row) for row in rows}) == 1
    assert ovd.load_run(part.folder).metrics == ovd.load_run(part.folder / "result.json").metrics == part.metrics
    assert repr(part).startswith(f"Run(toy-plain on toy, lvis: AP {100 * (part.metrics['AP'] or 0):.2f}, partial")


def test_pandas(made: ovd.Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = made.per_class().to_pandas()
    assert frame["AP"].tolist()[0] == made.per_class()[0]["AP"]
    assert len(ovd.load_results(out).to_pandas()) == len(ovd.load_results(out))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ovd.DataError, match="pip install pandas"):
        made.per_class().to_pandas()


def test_own_names_on_own_images(gt: Path, tmp_path: Path) -> None:
    paths = sorted((gt.parent / "images").glob("*.png"))[:3]
    loaded = ovd.load_detector(detector(), vocabulary=["red thing", "blue thing", "Blue  thing", ""])
    assert loaded.vocabulary == ("red thing", "blue thing")
    prompt = ["--prompt", "red thing. blue thing.", "--threshold", 0.1, "--count", 4]
    theirs = bench_json("detect", *paths, "-d", detector(), *prompt)["images"]
    found = loaded.detect(paths, threshold=0.1, count=4)
    for one, expected in zip(found, theirs, strict=True):
        rows = [(row["label"], row["score"], row["box_xyxy"]) for row in expected["detections"]]
        assert list(zip(one.names, one.scores.tolist(), one.xyxy.tolist(), strict=True)) == rows
        assert (one.width, one.height) == (expected["width"], expected["height"])
    from ovd_bench.benchmarks.data.images import read_image

    pixels = read_image(1, paths[0]).pixels
    alone = loaded.detect(pixels, threshold=0.1, count=4)
    assert alone.to_records() == found[0].to_records()
    picture = ovd.show(pixels, alone, path=tmp_path / "one.png")
    assert (tmp_path / "one.png").is_file()
    assert np.asarray(picture).shape[2] == 3
    assert ovd.show(paths, found).width > picture.width


def test_errors_are_one_line_of_the_suites_kinds(gt: Path, made: ovd.Run, tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    loaded = ovd.load_detector(detector())
    wrong: list[tuple[type[Exception], str, Any]] = [
        (ovd.DetectorError, "no detector 'nosuch'", lambda: ovd.run("nosuch", gt, out=tmp_path, quiet=True)),
        (ovd.DetectorError, "no detector 'nosuch'", lambda: ovd.load_detector("nosuch")),
        (ovd.DataError, "no benchmark 'nosuch'", lambda: ovd.run(detector(), "nosuch", out=tmp_path, quiet=True)),
        (ovd.DataError, "batch: ", lambda: ovd.run(detector(), gt, batch=0, quiet=True)),
        (ovd.DataError, "unknown metric 'x'", lambda: ovd.run(detector(), gt, metrics=["x"], quiet=True)),
        (ovd.DataError, "nosuch.json", lambda: ovd.score(tmp_path / "nosuch.json", gt)),
        (ovd.DataError, "give 'annotations' or 'benchmark'", lambda: ovd.score(gt)),
        (ovd.DataError, "unknown protocol 'x'", lambda: ovd.score(made, protocol="x")),
        (ovd.DataError, "bootstrap is 1: expected 2 to", lambda: ovd.compare(made, made, bootstrap=1)),
        (ovd.DataError, "no such folder", lambda: ovd.load_results(tmp_path / "nosuch")),
        (ovd.DataError, "result.json: cannot be read", lambda: ovd.load_run(tmp_path)),
        (ovd.DataError, "no vocabulary is set", lambda: loaded.detect(pixels)),
        (ovd.DataError, "expected a list of names", lambda: loaded.set_vocabulary("cat")),
        (ovd.DataError, "expected a list of names", lambda: loaded.set_vocabulary([" "])),
        (ovd.DetectorError, "pixels must be uint8", lambda: ovd.show(pixels[0], ovd.NamedDetections(*_nothing()))),
        (ovd.DataError, "images and boxes of 0", lambda: ovd.show(pixels, [])),
        (ovd.DataError, "finds classes, not phrases", lambda: loaded.ground(pixels, "a cat")),
        (ovd.DataError, "image 1 is a int", lambda: ovd.show([1], [])),  # type: ignore[list-item]
    ]
    for kind, words, call in wrong:
        with pytest.raises(kind) as caught:
            call()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_run_that_fails_in_its_worker(gt: Path, tmp_path: Path) -> None:
    with pytest.raises(ovd.RunError, match="contains none of the 24 images") as caught:
        ovd.run(detector(), gt, images=tmp_path, out=tmp_path / "out", quiet=True)
    assert isinstance(caught.value, ovd.DataError)
    assert isinstance(caught.value, ovd.DetectorError)


def test_progress_is_on_stderr_unless_quiet(gt: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ovd.run(detector(), gt, limit=3, out=tmp_path, bootstrap=0, quiet=True)
    quiet = capfd.readouterr()
    ovd.run(detector(), gt, limit=3, out=tmp_path, bootstrap=0, overwrite="always")
    loud = capfd.readouterr()
    assert (quiet.out, quiet.err, loud.out) == ("", "", "")
    assert "3 of 3 images" in loud.err


def _nothing() -> tuple[Any, Any, tuple[str, ...], int, int]:
    return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), (), 8, 8


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """As JSON keeps it: tuples are lists."""
    import json

    plain: dict[str, Any] = json.loads(json.dumps(document))
    return plain
