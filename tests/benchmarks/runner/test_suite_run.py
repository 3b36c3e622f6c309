"""``run -b SUITE``: every set is an ordinary run; the mean is over all of them."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from ovd_bench.benchmarks.store.schema import read_result
from ovd_bench.tests.benchmarks.runner.toy import Json, bench, bench_json, detector, make_data


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite") / "toys"
    for seed, name in enumerate(("one", "two")):
        make_data(folder / name, 12, seed=seed)
    (folder / "suite.yaml").write_text("name: toys\nsets: {one: one, two: two}\n")
    return folder


def arguments(suite: Path, out: Path) -> tuple[object, ...]:
    return ("run", "-d", detector(), "-b", suite, "--bootstrap", 40, "--out", out)


def ap(folder: Path) -> Json:
    return read_result(folder / "result.json").metrics["AP"].model_dump(mode="json")


def test_a_suite_stops_resumes_and_is_on_the_board(suite: Path, tmp_path: Path) -> None:
    out, hidden = tmp_path / "results", suite.parent / "hidden"
    shutil.move(suite / "two", hidden)
    done = bench(*arguments(suite, out))
    assert done.returncode == 3
    assert "no such file or folder" in done.stderr
    assert "1 of 2 sets" in done.stdout
    assert "no mean: 1 of 2 sets have AP" in done.stdout
    shutil.move(hidden, suite / "two")
    document = bench_json(*arguments(suite, out))
    (mean,) = document["suites"]
    assert (mean["suite"], mean["complete"], mean["partial"]) == ("toys", True, False)
    folders = [Path(run["folder"]) for run in document["runs"]]
    assert [folder.parts[-3] for folder in folders] == ["toys-one", "toys-two"]
    sets = [ap(folder) for folder in folders]
    assert list(mean["sets"].values()) == sets
    assert mean["mean"]["value"] == pytest.approx(sum(one["value"] for one in sets) / 2)
    half = math.hypot(*((one["ci95"][1] - one["ci95"][0]) / 2 for one in sets)) / 2
    assert mean["mean"]["ci95"] == pytest.approx([mean["mean"]["value"] - half, mean["mean"]["value"] + half])
    board = bench_json("board", "--out", out, "--bootstrap", 20)
    (table,) = board["suites"]
    assert table["rows"][0]["mean_AP"] == mean["mean"]["value"]
    assert len(board["tables"]) == 2
    assert "mean over 2 sets" in bench("board", "--out", out, "--bootstrap", 20).stdout


def test_a_suite_without_any_set_is_one_line(suite: Path, tmp_path: Path) -> None:
    done = bench("run", "-d", detector(), "-b", "odinw13", "--data-root", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "odinw13: none of its 13 data sets is here: 'bench data get odinw13'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_suite_has_its_own_names(suite: Path, tmp_path: Path) -> None:
    done = bench(*arguments(suite, tmp_path), "--name", "mine")
    assert done.returncode == 1
    assert "a suite of your own has all names in its suite.yaml" in done.stderr
