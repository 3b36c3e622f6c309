"""Runs and scores under a changed COCO protocol: other names and hashes, tables of their own, the change in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ovd_bench.benchmarks.board.collect import of_runs
from ovd_bench.benchmarks.board.page import render
from ovd_bench.benchmarks.board.text_formats import board_csv, board_markdown
from ovd_bench.benchmarks.cli.app import app
from ovd_bench.benchmarks.runner.plan import RunPlan
from ovd_bench.benchmarks.runner.score_run import ScoreOptions, score_run
from ovd_bench.benchmarks.store.describe import plan_fits
from ovd_bench.benchmarks.store.manifest import read_manifest
from ovd_bench.benchmarks.store.protocols import TOP_K, RunProtocol
from ovd_bench.benchmarks.store.schema import Result, read_result
from ovd_bench.detectors.prompts import PLANS
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.runner.toy import failures, folder_of, make, make_data, request

CHANGED = "coco_dets-1-2_iou-0.5_small-0-100"
OPTIONS = ("--max-dets", "1,2", "--iou", "0.5", "--area", "small=0:10^2")
Runs = dict[str, tuple[Path, Result]]


@pytest.fixture(scope="module")
def gt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), 12)


@pytest.fixture(scope="module")
def runs(gt: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two runs under each protocol."""
    out, made = tmp_path_factory.mktemp("results"), {}
    for ap in ("coco", CHANGED):
        for name in ("one", "two"):
            asked = request(gt, out, ap=ap, detector_name=name)
            events = make(asked)
            assert failures(events) == []
            options = ScoreOptions(resamples=30, threads=1)
            benchmark = RunPlan.of(asked).benchmark
            result = score_run(folder_of(events), benchmark, options, command="test", engine="local")[1]
            made[f"{ap} {name}"] = (folder_of(events), result)
    return made


def test_a_changed_run_has_another_name_and_hash_and_folder(runs: Runs) -> None:
    (usual_folder, usual), (changed_folder, changed) = runs["coco one"], runs[f"{CHANGED} one"]
    assert (usual.protocol.name, changed.protocol.name) == ("coco", CHANGED)
    assert usual.protocol.sha256 != changed.protocol.sha256
    assert usual_folder.parent != changed_folder.parent
    assert changed_folder.parent.name.startswith(CHANGED)
    assert plan_fits(read_manifest(changed_folder).protocol)
    assert read_result(changed_folder / "result.json") == changed
    assert "AP75" not in changed.metrics
    assert changed.metrics["AP"].value == changed.metrics["AP50"].value
    assert changed.metrics["AP"].ci95 is not None
    assert any("not COCO AP" in note for note in changed.notes)
    assert not any("not COCO AP" in note for note in usual.notes)


def test_the_board_never_pools_it_with_coco(runs: Runs) -> None:
    board = of_runs(list(runs.values()), resamples=20)
    assert sorted(table.protocol.name for table in board.tables) == ["coco", CHANGED]
    assert all(len(table.rows) == 2 for table in board.tables)
    for table in board.tables:
        assert all(row.standing.basis in ("best", "paired") for row in table.rows)
    for text in (board_markdown(board), render(board, title="t"), board_csv(board)):
        assert "dets-1-2" in text
    for text in (board_markdown(board), render(board, title="t")):
        assert text.count("departs from COCO: ") >= 1


def test_no_other_part_of_the_protocol_is_affected() -> None:
    plain, changed = (RunProtocol.of(ap, PLANS["raw"]) for ap in ("coco", CHANGED))
    assert (plain.top_k, plain.chunk_top_k) == (changed.top_k, changed.chunk_top_k) == TOP_K["coco"]
    assert RunProtocol.of("coco_dets-1-10-1000", PLANS["raw"]).top_k == 1000
    assert RunProtocol.of("coco_dets-1-10-1000", PLANS["raw"], top_k=50).top_k == 50
    longest = "coco_iou-" + "-".join(f"0.{digit}12345678" for digit in range(10))
    assert len(RunProtocol.of(longest, PLANS["raw"]).slug) <= 128
    with pytest.raises(DataError, match="unknown protocol"):
        RunProtocol.of("coco_dets-0", PLANS["raw"])


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_score_takes_the_options(runs: Runs, gt: Path) -> None:
    folder, result = runs["coco one"]
    scored = invoke("score", folder, "-a", gt, "-p", "coco", *OPTIONS, "--json")
    assert scored.exit_code == 0, scored.output
    document = json.loads(scored.stdout)
    assert document["protocol"] == document["rules"]["name"] == CHANGED
    assert document["metrics"]["AP"] == runs[f"{CHANGED} one"][1].metrics["AP"].value
    assert json.loads(invoke("score", folder, "-p", CHANGED, "--json").stdout)["metrics"] == document["metrics"]
    plain = json.loads(invoke("score", folder, "--max-dets", "1,10,100", "--json").stdout)
    assert plain["protocol"] == "coco"
    assert plain["metrics"] == {name: result.metrics[name].value for name in plain["metrics"]}
    assert "iou" not in plain["rules"]
    shown = invoke("score", folder, *OPTIONS)
    assert "0 to 100" in shown.stdout
    assert "0.50:0.95" not in shown.stdout


@pytest.mark.parametrize(
    "options",
    [
        ("-p", "lvis", "--iou", "0.5"),
        ("-p", "grounding-recall", "--max-dets", "5"),
        ("-p", "coco", "--iou", "nan"),
        ("--save", "--max-dets", "5"),
        ("--save", "--area", "small=0:9"),
    ],
)
def test_score_refuses(runs: Runs, gt: Path, options: tuple[str, ...]) -> None:
    folder = runs["coco one"][0]
    before = (folder / "result.json").read_bytes()
    refused = invoke("score", folder, "-a", gt, *options)
    assert refused.exit_code != 0
    assert isinstance(refused.exception, DataError)
    assert (folder / "result.json").read_bytes() == before


@pytest.mark.parametrize("verb", ["run", "predict"])
def test_run_refuses_without_coco(gt: Path, tmp_path: Path, verb: str) -> None:
    refused = invoke(verb, "-d", "owl-nano", "-b", gt, "--max-dets", "5", "--out", tmp_path)
    assert isinstance(refused.exception, DataError)
    assert "--protocol coco" in str(refused.exception)
