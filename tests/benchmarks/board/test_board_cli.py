"""``board``, ``report``, ``show`` and ``detect`` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from ovd_bench.benchmarks.cli import board, pictures
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark

APP = typer.Typer()
board.register(APP)
pictures.register(APP)

FAKE = '''
"""A detector that sees the left upper quarter in the first class, and a faint box in the last."""

from ovd_bench.detectors.types import Detections, Grounding

import numpy as np


class Fake:
    def __init__(self, card, settings):
        self._card = card

    @property
    def card(self):
        return self._card

    def set_vocabulary(self, vocabulary, plan):
        self.ids = vocabulary.ids

    def detect(self, images):
        return [
            Detections.of(i, [[0, 0, i.width / 2, i.height / 2], [1, 1, 9, 9]], [0.9, 0.2], [self.ids[0], self.ids[-1]])
            for i in images
        ]


class Speaker(Fake):
    def ground(self, images, captions):
        box = np.array([[1, 2, 30, 40]], np.float32)
        return [Grounding(i.id, c, box, np.ones(1, np.float32), (((0, 5),),)) for i, c in zip(images, captions)]
'''


def run(*arguments: object, width: int = 240) -> Result:
    return CliRunner().invoke(APP, [str(a) for a in arguments], env={"COLUMNS": str(width), "NO_COLOR": "1"})


def refused(*arguments: object) -> str:
    """The error of a command that must fail, one line."""
    result = run(*arguments)
    assert isinstance(result.exception, ValueError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fake") / "fake_detector.py"
    path.write_text(FAKE)
    return path


def test_the_terminal_shows_stars_flags_and_what_was_left_out(results: Path) -> None:
    output = run("board", "--out", results, "--bootstrap", 50).output
    lines = output.splitlines()
    assert any("★ 1" in line and "alpha@aaaaaaaa" in line for line in lines)
    assert any("beta" in line and "⚑1" in line for line in lines)
    assert "1 partial runs are not shown" in output
    assert any("left out" in line and "broken@00000000" in line for line in lines)
    assert "Grounding DINO" not in output
    assert "Grounding DINO-T" in run("board", "--out", results, "--bootstrap", 50, "--published").output


def test_json_is_one_object_on_stdout(results: Path) -> None:
    result = run("board", "--out", results, "--bootstrap", 50, "--json")
    assert [table["protocol"]["name"] for table in json.loads(result.stdout)["tables"]] == ["lvis", "lvis-fixed"]
    assert "left out" in result.stderr


@pytest.mark.parametrize(("shape", "begin"), [("md", "# Leaderboard"), ("csv", "benchmark,"), ("html", "<!doctype")])
def test_formats_go_to_stdout(results: Path, shape: str, begin: str) -> None:
    result = run("board", "--out", results, "--bootstrap", 20, "--format", shape)
    assert result.exit_code == 0
    assert result.stdout.startswith(begin)


def test_write_makes_the_three_files_of_the_whole_board(results: Path, tmp_path: Path) -> None:
    (tmp_path / "toy").symlink_to(results / "toy")
    assert run("board", "--out", tmp_path, "--bootstrap", 20, "--write").exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("board.*")) == ["board.html", "board.json", "board.md"]
    assert "leave out -b" in refused("board", "--out", tmp_path, "--write", "-b", "toy")
    assert "no such folder" in refused("board", "--out", tmp_path / "absent")


def test_report_is_a_page_with_pictures(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    result = run("report", "beta,gamma", "-o", page, "--out", results, "-n", 2, "--bootstrap", 20)
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.count("data:image/webp") == 2
    assert "All statistics" in text
    assert "'alpha' is 3 runs" in refused("report", "alpha", "-o", page, "--out", results)


def test_show_draws_and_says_what(results: Path, tmp_path: Path) -> None:
    picture = tmp_path / "s.png"
    result = run("show", "beta", "gamma", "--out", results, "-n", 3, "-o", picture, "--json")
    document = json.loads(result.stdout)
    assert len(document["images"]) == 3
    spread = [abs(image["f1"]["beta"] - image["f1"]["gamma"]) for image in document["images"]]
    assert spread == sorted(spread, reverse=True)
    assert set(document["operating_points"]) == {"beta", "gamma"}
    with Image.open(picture) as image:
        assert image.width > image.height / 3


def test_show_takes_files_ids_and_classes(results: Path, toy: Benchmark, tmp_path: Path) -> None:
    file = next(results.glob("toy/*/gamma@*/predictions/*.arrow"))
    place = ("-a", toy.annotations, "--images", toy.images, "-o", tmp_path / "s.png")
    result = run("show", file, *place, "--ids", "5,2", "--json")
    assert [image["id"] for image in json.loads(result.stdout)["images"]] == [5, 2]
    assert run("show", file, *place, "--worst", "--class", "wide door", "-n", 1).exit_code == 0
    assert "exclude each other" in refused("show", file, *place, "--worst", "--ids", "1")
    assert "whole numbers" in refused("show", file, *place, "--ids", "1,two")
    assert "two runs or more" in refused("show", file, *place, "--disagree")
    assert "the file name must end in .png" in refused("show", file, *place[:-1], tmp_path / "s.txt")
    assert "needs its benchmark" in refused("show", file, "-o", tmp_path / "s.png")


def test_detect_prints_and_draws(fake: Path, toy: Benchmark, tmp_path: Path) -> None:
    image, picture = toy.images / "1.png", tmp_path / "d.png"
    result = run("detect", image, "-d", f"{fake}:Fake", "--prompt", "a cat. a dog.", "-o", picture)
    assert result.exit_code == 0, result.output
    assert "a cat" in result.stdout
    assert "0.900" in result.stdout
    assert "a dog" not in result.stdout
    with Image.open(picture) as drawn:
        assert drawn.size == (96 * 5, 72 * 5)
    many = run("detect", image, toy.images / "2.png", "-d", f"{fake}:Fake", "--prompt", "cat", "--threshold", 0.95)
    assert many.stdout.count("the best has 0.900: lower --threshold") == 2


def test_detect_in_a_folder(fake: Path, toy: Benchmark, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    (photos / "deep").mkdir(parents=True)
    for name in ("b.png", "a.png", "deep/a.png"):
        (photos / name).write_bytes((toy.images / "1.png").read_bytes())
    (photos / "c.jpg").write_bytes(b"no image")
    (photos / "notes.txt").write_text("no image")
    names = ("--class", "St. Bernard", "--class", "3.5 mm jack")
    asked = ("-d", f"{fake}:Fake", *names, "--threshold", "0.1", "-o", out, "--json")
    document = json.loads(run("detect", photos, photos / "deep" / "*.png", *asked).stdout)
    assert [Path(image["image"]).name for image in document["images"]] == ["a.png", "b.png", "a.png"]
    assert [image["picture"] for image in document["images"]] == ["a.png", "b.png", "a-2.png"]
    assert [found["label"] for found in document["images"][0]["detections"]] == ["St. Bernard", "3.5 mm jack"]
    assert [line.split(":")[0] for line in document["passed_over"]] == [str(photos / "c.jpg")]
    assert json.loads((out / "detections.json").read_text()) == document
    assert sorted(path.name for path in out.glob("*.png")) == ["a-2.png", "a.png", "b.png"]
    assert "no images there" in refused("detect", photos / "*.bmp", *asked)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/c.jpg").write_bytes(b"no image")
    assert "none of 1 images can be read" in refused("detect", tmp_path / "bad", *asked)


def test_detect_as_json(fake: Path, toy: Benchmark) -> None:
    arguments = ("-d", f"{fake}:Fake", "--prompt", "a cat, a dog", "--threshold", "0.1", "--json")
    document = json.loads(run("detect", toy.images / "1.png", *arguments).stdout)
    found = document["images"][0]["detections"]
    assert [(d["label"], d["box_xyxy"]) for d in found] == [("a cat", [0, 0, 48, 36]), ("a dog", [1, 1, 9, 9])]


def test_detect_grounds_captions_where_the_detector_can(fake: Path, toy: Benchmark, tmp_path: Path) -> None:
    image = toy.images / "1.png"
    result = run("detect", image, "-d", f"{fake}:Speaker", "--caption", "a cat on a mat", "--json")
    assert json.loads(result.stdout)["images"][0]["detections"][0]["label"] == "a cat"
    assert "not phrases of a caption" in refused("detect", image, "-d", f"{fake}:Fake", "--caption", "a cat")
    assert "one of --prompt" in refused("detect", image, "-d", f"{fake}:Fake")
    assert "one of --prompt" in refused("detect", image, "-d", f"{fake}:Fake", "--prompt", "a", "--caption", "b")
    assert "no such file" in refused("detect", tmp_path / "no.png", "-d", f"{fake}:Fake", "--prompt", "a")


def test_a_narrow_terminal_keeps_names_and_ap_whole(results: Path) -> None:
    output = run("board", "--out", results, "--bootstrap", 20, width=72).output
    table = output.split("columns left out, the terminal is too narrow")[0]
    assert any("alpha@aaaaaaaa" in line for line in table.splitlines())
    assert "parameters" not in table
    assert "parameters" in output
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 72
