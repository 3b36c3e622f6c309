"""Data sets are kept in one place that does not depend on the current folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import ovd_bench
from ovd_bench.benchmarks.api.paths import data_folder
from ovd_bench.benchmarks.cli.app import app
from ovd_bench.benchmarks.data.catalog import registry
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.catalog.data_root import VARIABLE, default_data_root, tell_new_place


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder, with the suite installed from a wheel and an empty current folder."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(ovd_bench, "__file__", str(tmp_path / "site-packages" / "ovd_bench" / "__init__.py"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "user" / "ovd-bench"


def test_an_installed_suite_keeps_data_with_the_user(installed: Path) -> None:
    assert default_data_root() == data_folder(None) == installed
    (Path("data") / "my own").mkdir(parents=True)
    assert default_data_root() == installed, "another folder that is called data"
    assert data_folder("elsewhere") == Path("elsewhere")


def test_data_sets_that_are_here_are_found(installed: Path) -> None:
    file = Path("data") / CARDS["lvis-v1-val"].annotations[0]
    file.parent.mkdir(parents=True)
    file.touch()
    assert default_data_root() == Path("data")


def test_a_checkout_has_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    checkout = Path(ovd_bench.__file__).resolve().parent
    assert default_data_root() == checkout / "data"
    assert "/data/" in (checkout / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_the_variable_comes_first(monkeypatch: pytest.MonkeyPatch, installed: Path) -> None:
    monkeypatch.setenv(VARIABLE, "/large/data")
    assert default_data_root() == Path("/large/data")
    monkeypatch.setenv(VARIABLE, "")
    assert default_data_root() == installed


def test_the_place_is_told_once(
    installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the first data are rendered there, and not for a folder that the user chose."""

    def write(world: object, split: str, folder: Path, **options: object) -> None:
        (folder / split).mkdir(parents=True)

    monkeypatch.setattr("ovd_bench.benchmarks.data.shapes.write_split", write)
    for card in (CARDS["shapes"], CARDS["shapes-minival"]):
        registry.render(card, default_data_root())
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"data sets are kept in {installed}; --data-root or {VARIABLE} names another folder\n"
    tell_new_place(installed.parent / "chosen")
    monkeypatch.setenv(VARIABLE, str(installed.parent / "named"))
    tell_new_place(default_data_root())
    assert capsys.readouterr().err == ""


def parameters(command: Any) -> Iterator[Any]:
    yield from (parameter for parameter in command.params if parameter.name == "data_root")
    for inner in getattr(command, "commands", {}).values():
        yield from parameters(inner)


def test_every_verb_has_the_same_rule(installed: Path) -> None:
    found = list(parameters(typer.main.get_command(app)))
    assert len(found) >= 12
    assert {str(parameter.default()) for parameter in found} == {str(installed)}
