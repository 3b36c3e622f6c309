"""Terminals that show only ASCII, and output that nobody reads."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ovd_bench.benchmarks.cli.app import app
from ovd_bench.tests.benchmarks.board.made_runs import make_benchmark as make_toy
from ovd_bench.tests.benchmarks.board.made_runs import make_results
from ovd_bench.tests.benchmarks.cli.test_examples import commands
from ovd_bench.tests.benchmarks.runner.toy import detector, make_data

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("Käse", "猫", "rød stjerne", "ключ", "wide “door”", "tall lamp")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "COLUMNS": "100", "NO_COLOR": "1"}

#: Runs command lines one after the other in this process and says which of them did not end normally.
PROGRAM = """
import json, sys
from ovd_bench.benchmarks.cli import streams
from ovd_bench.benchmarks.cli.app import app
streams.show_everything()
failed = []
for line in json.loads(sys.argv[1]):
    print("==", *line)
    try:
        app(line, standalone_mode=False, prog_name="bench")
    except BaseException as error:
        failed.append((line, repr(error)))
sys.stdout.flush()
print(failed, file=sys.stderr)
"""


def start(*words: object, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "ovd_bench.bench", *map(str, words)]
    return subprocess.Popen(command, env=os.environ | ASCII, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a benchmark ``toy`` whose class names are not ASCII, and runs on it."""
    folder = tmp_path_factory.mktemp("ascii")
    toy = make_toy(folder / "data")
    document = json.loads(toy.annotations.read_text(encoding="utf-8"))
    for category, name in zip(document["categories"], NAMES, strict=True):
        category["name"] = name
    toy.annotations.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    make_results(folder / "runs", toy)
    return folder


def test_every_verb_prints_on_an_ascii_terminal(made: Path, tmp_path: Path) -> None:
    truth = next(path for path in (made / "data").glob("*.json"))
    beta, gamma = (next((made / "runs").glob(f"*/lvis-*/{name}@*")) for name in ("beta", "gamma"))
    images, runs, data = str(made / "data" / "images"), str(made / "runs"), ["--data-root", str(tmp_path / "data")]
    quick = ["--bootstrap", "20"]
    board = ["board", "--out", runs, *quick]
    lines = [
        *([*names, "--help"] for names, _ in commands(_click())),
        ["list"],
        ["list", "detectors", "--json"],
        ["data", "list", *data],
        ["data", "get", "lvis-minival", *data],
        ["data", "verify", str(truth), "--images", images],
        ["data", "show", str(truth), "--images", images, "-o", str(tmp_path / "sheet.png")],
        ["data", "convert", "coco-odvg", str(truth), "-o", str(tmp_path / "odvg.jsonl")],
        ["score", str(beta), *quick, "-m", "presence"],
        ["compare", str(beta), str(gamma), *quick],
        ["export", str(beta), "--to", "csv", "-o", str(tmp_path / "beta.csv")],
        ["show", str(beta), str(gamma), "-n", "1", "-o", str(tmp_path / "show.png")],
        ["report", str(beta), "-n", "1", *quick, "-o", str(tmp_path / "report.html")],
        [*board, "--write", "--published"],
        *([*board, "--format", shape] for shape in ("md", "json")),
        ["study", "list"],
        ["run", "-d", detector(), "-b", str(truth), "--images", images, "--out", str(made / "new"), *quick],
    ]
    command = [sys.executable, "-P", "-c", PROGRAM, json.dumps(lines)]
    result = subprocess.run(command, capture_output=True, env=os.environ | ASCII, cwd=tmp_path, check=True)
    assert result.stderr.decode("ascii").splitlines()[-1] == "[]", result.stderr.decode("ascii")
    blocks = dict(block.partition("\n")[::2] for block in result.stdout.decode().split("== ")[1:])
    assert json.loads(blocks["list detectors --json"])["detectors"]
    tables = [text for line, text in blocks.items() if "--format" not in line]
    assert [text for text in tables if not text.isascii()] == []
    assert "±" in next(text for line, text in blocks.items() if line.endswith("--format md")), "a file is UTF-8"


def test_a_table_keeps_its_shape(made: Path) -> None:
    """Signs are replaced by as many as they are wide, so the frame around them stays straight."""
    words = ["board", "--bootstrap", "20", "--out", str(made / "runs")]
    command = [sys.executable, "-P", "-m", "ovd_bench.bench", *words]
    result = subprocess.run(command, capture_output=True, env=os.environ | ASCII, check=True)
    lines = result.stdout.decode("ascii").splitlines()
    framed = [(one, two) for one, two in pairwise(lines) if one[:1] == two[:1] == "|"]
    assert any("*" in one for one, _ in framed)
    assert [(one, two) for one, two in framed if len(one) != len(two)] == []


def test_an_error_is_one_line(tmp_path: Path) -> None:
    process = start("score", "Käse – 猫.json", cwd=tmp_path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.decode("ascii").startswith("error: K")
    assert errors.count(b"\n") == 1


def test_a_path_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    """Without UTF-8, a path with such letters cannot be written into a request."""
    folder = tmp_path / "données"
    truth = make_data(folder, 3)
    place = ("-b", truth, "--images", folder / "images", "--out", folder / "out")
    process = start("run", "-d", detector(), *place, stdout=subprocess.DEVNULL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"set the locale to UTF-8" in errors
    assert errors.count(b"\n") == 1


@pytest.mark.parametrize("words", ["list", "list detectors --json", "run --help"])
def test_a_reader_that_leaves_ends_the_verb_in_silence(words: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*words.split(), stdout=writing)
    os.close(writing)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (141, b"")


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        process = start("list", "protocols", "--json", stdout=full)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.startswith(b"error: ")
    assert b"No space left" in errors
    assert errors.count(b"\n") == 1


def _click() -> object:
    import typer

    return typer.main.get_command(app)


def _calls(file: Path) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


def test_text_files_and_processes_state_their_encoding() -> None:
    """Else it would be that of the terminal."""
    rooms = ("benchmarks", "detectors", "metrics", "kernels", "baselines", "grounding_dino_jt")
    found = []
    for file in (path for room in rooms for path in (ROOT / room).rglob("*.py")):
        for call in _calls(file):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            given = {keyword.arg for keyword in call.keywords}
            modes = [a.value for a in call.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            text = (
                (name == "read_text" and not call.args)
                or name == "write_text"
                or (name in ("run", "Popen") and "text" in given)
                or (name == "open" and any(mode in ("r", "w", "a", "x") for mode in modes))
            )
            if text and "encoding" not in given:
                found.append(f"{file.relative_to(ROOT)}:{call.lineno}")
    assert found == []
