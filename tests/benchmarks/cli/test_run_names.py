"""Runs by name: show, report, compare and score find the same ones and refuse the same ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ovd_bench.benchmarks.cli.app import app
from ovd_bench.tests.benchmarks.board.made_runs import make_benchmark, make_results

#: How each verb is asked for one run; compare takes a second one.
VERBS = {
    "show": ("-o", "picture.png", "-n", "1"),
    "report": ("-o", "page.html", "-n", "1", "--bootstrap", "20"),
    "compare": ("gamma", "--bootstrap", "20"),
    "score": (),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    make_results(folder / "runs" / "bench", make_benchmark(folder / "data"))
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with runs in ``runs/bench``."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "bench").symlink_to(made / "runs" / "bench")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(verb: str, run: object, out: str = "runs/bench") -> Result:
    return CliRunner().invoke(app, [verb, str(run), *VERBS[verb], "--out", out])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_folder_result_and_name(here: Path, verb: str) -> None:
    folder = next((here / "runs/bench/toy").glob("lvis-*/beta@*"))
    for run in ("beta", folder.name, folder, folder / "result.json"):
        result = ask(verb, run)
        assert result.exit_code == 0, (run, result.exception, result.output)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_alike(here: Path, verb: str) -> None:
    assert str(ask(verb, "nobody").exception).startswith("no run 'nobody' under runs/bench: ")
    assert str(ask(verb, "betta").exception) == "no run 'betta' under runs/bench: did you mean 'beta'?"
    assert str(ask(verb, "nowhere.json").exception) == "nowhere.json: no such file or folder"
    assert str(ask(verb, here).exception).endswith("is not a run: it has neither result.json nor predictions")
    assert str(ask(verb, "alpha").exception).startswith("'alpha' is 3 runs: name the folder of one: ")
    elsewhere = str(ask(verb, "beta", out="results").exception)
    assert elsewhere == "no run 'beta' under results: runs/bench has one: give --out runs/bench"


@pytest.mark.parametrize("verb", ["show", "compare", "score"])
def test_the_folder_that_has_the_predictions_is_named(here: Path, verb: str) -> None:
    original = next((here / "runs/bench/toy").glob("lvis-*/beta@*"))
    copy = here / "results" / original.relative_to(here / "runs/bench")
    copy.mkdir(parents=True)
    shutil.copy(original / "result.json", copy)
    for run in ("beta", copy / "result.json"):
        message = str(ask(verb, run, out="results").exception)
        assert message.endswith(f"not in this folder: {original.relative_to(here)} has them")
    assert "not on this machine: run it again" in str(ask(verb, "delta").exception)


def test_a_report_without_pictures_says_so(here: Path) -> None:
    result = ask("report", "delta")
    assert result.exit_code == 0
    assert result.stderr == "warning: the page has no pictures of toy: no predictions of delta on this machine\n"
    assert Path("page.html").is_file()


def test_a_run_that_is_not_scored_is_no_report(here: Path, tmp_path: Path) -> None:
    original = next((here / "runs/bench/toy").glob("lvis-*/beta@*"))
    copy = tmp_path / "mine"
    shutil.copytree(original, copy)
    (copy / "result.json").unlink()
    assert str(ask("report", copy).exception) == f"{copy}: is not scored yet: 'bench score {copy} --save' does it"


def test_compare_names_the_runs_as_they_were_given(here: Path) -> None:
    result = CliRunner().invoke(app, ["compare", "beta", "gamma", "--out", "runs/bench", "--bootstrap", "20"])
    assert "beta" in result.stdout
    arguments = ["compare", "beta", "gamma", "--out", "runs/bench", "--bootstrap", "20", "--json"]
    document = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert document["differences"]["AP"]["delta"] < 0
