"""Pages that name files of the repository name files that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/adding-a-detector.md",
    "docs/metrics.md",
    "docs/robustness.md",
)
ROOMS = ("baselines", "benchmarks", "detectors", "docs", "grounding_dino_jt", "kernels", "metrics", "perf", "tests")
#: ``room/…`` between backquotes.
NAMED = re.compile(rf"`((?:{'|'.join(ROOMS)})/[\w./-]*)`")
#: Target of a Markdown link, without its fragment.
LINKED = re.compile(r"\]\((?!https?:)([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_a_page_exist(page: str) -> None:
    named = set(NAMED.findall((ROOT / page).read_text()))
    assert named
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "results" / "README.md"]
    links = [(page, link) for page in pages for link in LINKED.findall(page.read_text())]
    assert links
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_citation_states_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_every_row_on_difficult_input_names_its_test() -> None:
    rows = [line for line in (ROOT / "docs" / "robustness.md").read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| input |", "| ---"))]
    assert len(rows) > 40
    tests = [
        [name for name in NAMED.findall(row.split("|")[-2]) if Path(name).name.startswith("test_")] for row in rows
    ]
    assert [row for row, named in zip(rows, tests, strict=True) if not named] == []
