"""Names of run folders, and finding results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ovd_bench.benchmarks.store.folders import find_results, run_folder
from ovd_bench.metrics.errors import DataError

OLD = Path(__file__).with_name("results_v1")


def test_run_folder(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "lvis-minival", "lvis-names-0123abcd", "owl", "89abcdef" * 8)
    assert folder == tmp_path / "lvis-minival" / "lvis-names-0123abcd" / "owl@89abcdef"
    part = run_folder(tmp_path, "lvis-minival", "lvis-names-0123abcd", "owl", "89abcdef" * 8, partial="20")
    assert part.name == "owl@89abcdef-partial-20"


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "", "a b", "x" * 129, "ü", "a\n"])
def test_illegal_names(tmp_path: Path, name: str) -> None:
    for names in ((name, "slug", "owl"), ("b", name, "owl"), ("b", "slug", name)):
        with pytest.raises(DataError, match="letters, digits"):
            run_folder(tmp_path, *names, "0" * 64)


def test_find_results(tmp_path: Path) -> None:
    files = sorted(OLD.glob("*.json"))
    for number, file in enumerate(files):
        folder = tmp_path / "toy" / "lvis" / f"det-{number}@0"
        folder.mkdir(parents=True)
        shutil.copy(file, folder / "result.json")
    broken = tmp_path / "toy" / "coco" / "bad@0"
    broken.mkdir(parents=True)
    (broken / "result.json").write_text('{"schema": 2}')
    found, unreadable = find_results(tmp_path)
    assert [path.parent.name for path, _ in found] == [f"det-{number}@0" for number in range(len(files))]
    assert len(unreadable) == 1
    assert unreadable[0].startswith(f"{broken}/result.json: schema: ")
    assert find_results(tmp_path / "nowhere") == ([], [])
