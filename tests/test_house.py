"""The arrows between the rooms run downwards only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ovd_bench.perf.house import House, imported, survey

ROOT = Path(__file__).resolve().parents[1]
#: Room -> the rooms below it that it may import. What is not listed here imports nothing of the suite.
MAY_IMPORT = {
    "metrics": set[str](),
    "kernels": set[str](),
    "grounding_dino_jt": {"kernels"},
    "baselines": {"kernels"},
    "detectors": {"baselines", "grounding_dino_jt"},
    "benchmarks/data": {"detectors", "metrics"},
    "benchmarks/machine": {"metrics"},
    "benchmarks/store": {"detectors", "metrics"},
    "benchmarks/scoring": {"metrics"},
    "benchmarks/pictures": {"detectors", "metrics"},
    "benchmarks/runner": {"detectors", "metrics"},
    "benchmarks/conformance": {"detectors", "metrics"},
    "benchmarks/training": {"baselines", "detectors", "grounding_dino_jt", "metrics"},
    "benchmarks/speed": {"detectors", "metrics"},
    "benchmarks/board": {"metrics"},
    "benchmarks/studies": {"metrics"},
    "benchmarks/api": {"detectors", "metrics"},
    "benchmarks/cli": {"detectors", "metrics"},
}
#: The wings of ``benchmarks``, from the top to the ground. A wing imports from lines below its own, and nothing else.
FLOORS = (
    {"api", "cli"},
    {"studies"},
    {"board", "speed", "training", "conformance"},
    {"runner", "pictures"},
    {"scoring"},
    {"store"},
    {"machine"},
    {"data"},
)
ROOMS = {"bench", "benchmarks", "perf", "tests", *(room for room in MAY_IMPORT if "/" not in room)}
FRAMEWORKS = {"torch", "jittor", "transformers", "sentence_transformers", "open_clip", "tensorflow"}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_lies_below(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    own = room.split("/")[0]
    for path in files:
        ours = {name.split(".")[1] for name in imported(path) if name.startswith("ovd_bench.")}
        assert not (ours & ROOMS) - MAY_IMPORT[room] - {own}, path


@pytest.fixture(scope="module")
def benchmarks() -> House:
    return survey(ROOT / "benchmarks")


def test_every_wing_has_a_place(benchmarks: House) -> None:
    wings = {wing for floor in FLOORS for wing in floor}
    assert benchmarks.arrows.keys() == wings
    assert {f"benchmarks/{wing}" for wing in wings} == {room for room in MAY_IMPORT if "/" in room}


def test_arrows_between_the_wings_run_downwards(benchmarks: House) -> None:
    for height, floor in enumerate(FLOORS):
        below = {wing for lower in FLOORS[height + 1 :] for wing in lower}
        for wing in floor:
            assert not benchmarks.arrows[wing] - below, wing
    assert not benchmarks.circles()


def test_the_survey_finds_arrows_floors_and_circles(tmp_path: Path) -> None:
    package = tmp_path / "house"
    files = {
        "top/__init__.py": "from house.middle import one",
        "middle/__init__.py": "def late():\n    import house.ground",
        "ground.py": "import os",
        "ring.py": "from house import knot",
        "knot.py": "import house.ring",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    house = survey(package)
    assert house.arrows == {
        "top": {"middle"},
        "middle": {"ground"},
        "ground": set(),
        "ring": {"knot"},
        "knot": {"ring"},
    }
    assert house.loose == {"ground", "ring", "knot"}
    assert house.floors() == {"top": 2, "middle": 1, "ground": 0, "ring": 0, "knot": 0}
    assert house.circles() == [frozenset({"ring", "knot"})]


def test_metrics_know_no_framework_and_no_file_formats() -> None:
    for path in (ROOT / "metrics").rglob("*.py"):
        names = {name.split(".")[0] for name in imported(path)}
        assert not names & (FRAMEWORKS | {"pyarrow", "PIL", "pydantic", "rich", "typer"}), path


def test_importing_the_command_line_imports_no_framework() -> None:
    heavy = FRAMEWORKS | {"pyarrow", "matplotlib", "scipy"}
    code = f"import sys, ovd_bench.benchmarks.cli.app; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_nothing_imports_a_room_by_its_bare_name() -> None:
    """Only ``ovd_bench`` is ours: ``kernels`` and ``metrics`` are packages of other people."""
    ours = {"bench", "benchmarks", "detectors", "grounding_dino_jt", "kernels", "baselines", "metrics", "perf"}
    files = [ROOT / "bench.py", *(path for room in (*ROOMS, "examples") for path in (ROOT / room).rglob("*.py"))]
    for path in files:
        assert not {name.split(".")[0] for name in imported(path)} & ours, path
