"""``list`` and ``check`` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from ovd_bench.benchmarks.cli import detectors
from ovd_bench.benchmarks.conformance.checks import CHECKS
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.catalog.suites import SUITES
from ovd_bench.benchmarks.scoring.extra_metrics import EXTRA_METRICS
from ovd_bench.detectors.prompts import PLANS
from ovd_bench.detectors.registry import detector_cards
from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.protocol import PROTOCOLS

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "my_detector.py"

app = typer.Typer()
detectors.register(app)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})


def call_json(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(call(*arguments, "--json").stdout)
    return document


def test_list_json_holds_everything_there_is() -> None:
    document = call_json("list")
    names = {kind: [fact["name"] for fact in facts] for kind, facts in document.items()}
    assert names == {
        "detectors": list(detector_cards()),
        "datasets": [*CARDS, *SUITES],
        "metrics": list(EXTRA_METRICS),
        "protocols": list(PROTOCOLS),
        "prompts": list(PLANS),
    }
    assert {plan["name"]: plan["sha256"] for plan in document["prompts"]} == {n: p.sha256 for n, p in PLANS.items()}
    assert all(metric["about"] for metric in document["metrics"])


@pytest.mark.parametrize("kind", ["detectors", "datasets", "metrics", "protocols", "prompts"])
def test_list_of_one_kind(kind: str) -> None:
    document = call_json("list", kind)
    assert list(document) == [kind]
    text = call("list", kind).stdout
    assert all(fact["name"] in text for fact in document[kind])


def test_list_is_filtered_by_any_cell() -> None:
    document = call_json("list", "--filter", "OWL7")
    assert {kind: len(facts) for kind, facts in document.items() if facts} == {"prompts": 1}
    owls = call_json("list", "detectors", "--filter", "owlv2-large")["detectors"]
    assert [one["name"] for one in owls] == [name for name in detector_cards() if "owlv2-large" in name]
    text = call("list", "--filter", "owl7").stdout
    assert "owl7" in text
    assert "Detectors" not in text
    assert call("list", "--filter", "xyzzy").stdout == "nothing has 'xyzzy' in it\n"
    assert call("list", "gates", "--filter", "a").exit_code == 2


def test_list_says_what_runs_here() -> None:
    missing = {one["name"]: one["missing_here"] for one in call_json("list", "detectors")["detectors"]}
    assert missing["owl-nano"] is None
    assert missing["glip-tiny"] == "--weights"
    line = next(line for line in call("list", "detectors").stdout.splitlines() if " glip-tiny " in line)
    assert "needs --weights" in line


def test_list_gates_of_the_shipped_weights_and_of_files() -> None:
    """Of weights without fusion it says so."""
    shipped = {one["weights"]: one for one in call_json("list", "gates")["gates"]}
    assert {"grounding-dino-nano", "grounding-dino-controlled", "glip-controlled", "owl-controlled"} <= set(shipped)
    assert shipped["owl-controlled"]["gamma_v"] == []
    assert len(shipped["glip-controlled"]["gamma_v"]) == 2
    path = str(ROOT / "grounding_dino_jt/shipped/grounding-dino-nano.safetensors")
    [named] = call_json("list", "gates", "--weights", path)["gates"]
    assert (named["weights"], named["gamma_v"]) == (path, shipped["grounding-dino-nano"]["gamma_v"])
    assert 0 < named["gamma_v"][0] < named["gamma_l"][0] < 1
    text = call(
        "list", "gates", "--weights", path, "--weights", str(ROOT / "baselines/weights/owl-controlled.safetensors")
    )
    assert f"{named['gamma_v'][0]:.6f}" in text.stdout
    assert "no fusion" in text.stdout
    refused = call("list", "detectors", "--weights", path)
    assert refused.exit_code == 2
    assert "only 'list gates' reads weights" in refused.stderr


def test_list_of_an_unknown_kind_is_a_usage_error() -> None:
    result = call("list", "models")
    assert result.exit_code == 2
    assert "choose from detectors" in result.stderr


def test_list_has_no_framework_in_memory() -> None:
    code = (
        "import sys, typer; from ovd_bench.benchmarks.cli import detectors; from typer.testing import CliRunner\n"
        "app = typer.Typer(); detectors.register(app)\n"
        "assert CliRunner().invoke(app, ['list']).exit_code == 0\n"
        "print(sorted({'torch', 'jittor', 'transformers', 'pyarrow', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


@pytest.fixture
def few_checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Only the quick ones; all of them are made in test_conformance."""
    names = ["answers", "templates", "grounding"]
    for name in set(CHECKS) - set(names):
        monkeypatch.delitem(CHECKS, name)
    return names


def test_check_of_a_good_detector(few_checks: list[str]) -> None:
    result = call("check", f"{EXAMPLE}:ColourBlobs")
    assert result.exit_code == 0
    assert "colour-blobs: 2 passed, 0 failed, 1 skipped" in result.stdout
    document = call_json("check", f"{EXAMPLE}:ColourBlobs")
    assert document["conforms"] is True
    assert [one["check"] for one in document["checks"]] == few_checks
    assert {one["status"] for one in document["checks"]} == {"passed", "skipped"}


def test_check_of_a_broken_detector(few_checks: list[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(EXAMPLE.read_text().replace("return Detections.of(image,", "return list("))
    result = call("check", f"{path}:ColourBlobs")
    assert result.exit_code == 1
    assert "failed" in result.stdout
    assert "got TypeError" in result.stdout
    document = call_json("check", f"{path}:ColourBlobs")
    assert (document["conforms"], document["failed"], document["passed"]) == (False, 1, 1)


def test_check_of_no_detector() -> None:
    result = call("check", "nothing")
    assert isinstance(result.exception, DetectorError)
