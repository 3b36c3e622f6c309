"""Names that nearly exist: the verbs say which does."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ovd_bench.benchmarks.cli.app import app

MISSPELT = {
    "detector": (["check", "owl-nanoo"], "no detector 'owl-nanoo': did you mean 'owl-nano'?"),
    "data set": (["data", "get", "lvis-minivall"], "no data set 'lvis-minivall': did you mean 'lvis-minival'?"),
    "benchmark": (
        ["run", "-d", "owl-nano", "-b", "shape"],
        "no benchmark 'shape' and no such file or folder: did you mean 'shapes'?",
    ),
    "metric": (
        ["run", "-d", "owl-nano", "-b", "shapes", "-m", "laddr"],
        "unknown metric 'laddr': did you mean 'ladder'?",
    ),
    "study": (["study", "show", "controled"], "no study 'controled': did you mean 'controlled'?"),
    "training": (["train", "owl-nanoo"], "no configuration 'owl-nanoo': did you mean 'owl-nano'?"),
    "prompt plan": (
        ["run", "-d", "owl-nano", "-b", "shapes", "--prompts", "owl-7"],
        "no prompt plan 'owl-7' and no such file: did you mean 'owl7'?",
    ),
    "protocol": (
        ["run", "-d", "owl-nano", "-b", "shapes", "-p", "lvis-fix"],
        "unknown protocol 'lvis-fix': did you mean 'lvis-fixed'?",
    ),
}


@pytest.mark.parametrize("what", MISSPELT)
def test_the_nearest_name_is_named(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = MISSPELT[what]
    result = CliRunner().invoke(app, arguments)
    assert f"{result.exception}\n{result.output}".count(message) == 1
    assert "Traceback" not in result.output
    assert result.exit_code == 1
