"""The timing harness runs on tiny sets, its tables parse, it notices wrong statistics. Nothing here asserts a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ovd_bench.benchmarks.scoring.extra_metrics import EXTRA_METRICS
from ovd_bench.perf import extra_metrics, scoring
from ovd_bench.perf.child import Run
from ovd_bench.perf.datasets import synthetic_set
from ovd_bench.perf.peers import EVALUATORS, OURS
from ovd_bench.perf.race import Timing
from ovd_bench.perf.scoring import agreement_table, growth_table, speed_table
from ovd_bench.perf.startup import time_of_first_number
from ovd_bench.perf.tables import MarkdownTable

Rows = dict[str, list[str]]
RESULT = Run(seconds=1.0, peak_rss=100_000_000, metrics={"AP": 0.5, "APr": None})
STARTUP = MarkdownTable("Start", ("", "s"), [("now", "1.0")])


def markdown_tables(text: str) -> dict[str, Rows]:
    """Title -> first cell of each row -> the other cells."""
    tables: dict[str, Rows] = {}
    for section in text.split("\n## ")[1:]:
        title, *lines = section.splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
        tables[title] = {row[0]: row[1:] for row in [cells[0], *cells[2:]]}
    return tables


def timing(library: str, form: str, *runs: Run, images: int = 1000) -> Timing:
    evaluator = next(c for c in EVALUATORS if (c.library, c.form, c.protocol) == (library, form, "lvis"))
    return Timing(evaluator, images, runs)


def test_harness_runs_on_tiny_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "time_of_first_number", lambda *_: STARTUP)  # compiles: has a test of its own
    app = typer.Typer()
    app.command()(scoring.main)
    out = tmp_path / "speed.md"
    options = ["--sizes", "6", "--coco-images", "8", "--repeats", "1", "--resamples", "5"]
    options += ["--peers", "hotcoco,lvis,pycocotools", "--work", str(tmp_path / "sets"), "--out", str(out)]
    result = CliRunner().invoke(app, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output

    tables = markdown_tables(out.read_text())
    for title in ("LVIS rules, 6 images", "COCO rules, 8 images"):
        rows = tables[title]
        oracle = "lvis, JSON" if "LVIS" in title else "pycocotools, JSON"
        names = [f"{library}, {form}" for library, form in ((OURS, "columns"), (OURS, "JSON"))]
        assert list(rows)[1:] == [*names, "hotcoco, array", "hotcoco, JSON", oracle]
        assert all(float(cell) > 0 for name in list(rows)[1:] for cell in rows[name])
        agreement = tables[f"Statistics, {title}"]
        assert {agreement[name][0].split()[0] for name in names} == {"0"}
    assert list(tables[f"Growth of {OURS}, LVIS rules"])[1:] == ["columns, 6", "JSON, 6"]
    assert list(tables["Bootstrap, 5 resamples"])[1:] == ["6"]
    assert list(tables[STARTUP.title]) == ["", "now"]


@pytest.mark.full
def test_first_number_is_timed(tmp_path: Path) -> None:
    table = time_of_first_number(synthetic_set(tmp_path, "lvis", 5), repeats=1)
    assert all(float(cell) > 0 for row in table.rows for cell in row[1:])


def test_speed_table_gives_medians_and_ratios() -> None:
    ours = timing(OURS, "columns", *(replace(RESULT, seconds=s) for s in (0.5, 9.0, 0.4)))
    peer = timing("hotcoco", "JSON", replace(RESULT, seconds=2.0, peak_rss=300_000_000))
    table = speed_table("title", [ours, peer])
    assert table.rows == [
        (f"{OURS}, columns", "0.500", "0.400", "100", "1.00", "1.00"),
        ("hotcoco, JSON", "2.000", "2.000", "300", "4.00", "3.00"),
    ]


def test_agreement_table_compares_with_the_oracle_and_counts_undefined() -> None:
    other = replace(RESULT, metrics={"AP": 0.75, "APr": 0.0})
    timings = [timing(OURS, "columns", RESULT), timing("hotcoco", "JSON", other), timing("lvis", "JSON", RESULT)]
    table = agreement_table("title", timings)
    assert table.header[0] == "compared with lvis, JSON"
    assert table.rows[0] == (f"{OURS}, columns", "0 of 2", "0", "-")
    assert table.rows[1] == ("hotcoco, JSON", "2 of 2", "inf", "APr")


def test_growth_table_gives_cost_per_image() -> None:
    small = timing(OURS, "columns", replace(RESULT, seconds=1.0), images=1000)
    large = timing(OURS, "columns", replace(RESULT, seconds=6.0, peak_rss=180_000_000), images=5000)
    rows = growth_table([large, small, timing("hotcoco", "JSON", RESULT)]).rows
    assert rows == [
        ("columns, 1,000", "1.000", "1000.0", "100", "-"),
        ("columns, 5,000", "6.000", "1200.0", "180", "20.0"),
    ]


def test_wrong_statistics_fail_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_child(_module: str, name: str, *_rest: str) -> Run:
        return replace(RESULT, metrics={"AP": 0.4}) if name.startswith(OURS) else RESULT

    monkeypatch.setattr("ovd_bench.perf.race.run_child", fake_child)
    monkeypatch.setattr(scoring, "time_of_first_number", lambda *_: STARTUP)
    with pytest.raises(typer.Exit):
        scoring.main(sizes="4", coco_images=0, repeats=1, resamples=0, peers="lvis", out=None, work=tmp_path)


def test_unknown_peer_is_named(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="unknown library 'hotcocoa'"):
        scoring.main(sizes="4", peers="lvis,hotcocoa", work=tmp_path)


def test_runs_that_disagree_with_themselves_are_refused() -> None:
    twice = timing(OURS, "columns", RESULT, replace(RESULT, metrics={"AP": 0.4}))
    with pytest.raises(RuntimeError, match="different statistics"):
        _ = twice.metrics


def test_every_extra_statistic_is_timed(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(extra_metrics.main)
    arguments = ["--images", "20", "--repeats", "1", "--work", str(tmp_path), "--out", str(tmp_path / "out.md")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (rows,) = markdown_tables((tmp_path / "out.md").read_text()).values()
    timed = {name.split(",")[0] for name in rows} - {"statistic"}
    assert timed == set(EXTRA_METRICS) - {"region"} | {"grounding"}
    assert all(float(cells[0]) >= 0 for name, cells in rows.items() if name != "statistic")
