"""The HTML page: self-contained, escaped, complete."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ovd_bench.benchmarks.board.charts import (
    Line,
    category_axis,
    interval_bar,
    line_chart,
    linear_axis,
    log_axis,
    scatter_chart,
)
from ovd_bench.benchmarks.board.collect import collect, of_runs
from ovd_bench.benchmarks.board.galleries import make_galleries
from ovd_bench.benchmarks.board.page import command_now, render
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.store.schema import Contamination, TrainingDataInfo
from ovd_bench.tests.benchmarks.board.made_runs import load, make_benchmark, make_run

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"
UNSEEN = "a\x1b[31m\u202etxet\x00"


@dataclass
class Seen:
    """What a browser would see."""

    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.seen = Seen()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.tags.append(tag)
        self.seen.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.seen.text.append(data)


def look(page: str) -> Seen:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.seen


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return render(collect(results, resamples=50), title="Board", detailed=True)


def test_recorded_commands_are_shown_as_they_are_called_today() -> None:
    script = "bench.py"  # spelt apart, since nothing in the suite may advise the old form
    assert command_now(f"{script} run -b shapes -d a/bench.py:X") == "bench run -b shapes -d a/bench.py:X"
    assert command_now("bench run -d bench.py:X") == "bench run -d bench.py:X"


def test_no_name_hides_or_turns_text_around(results: Path) -> None:
    page = render(collect(results, resamples=50), title="a\x1b[31m\u202etxet\x00", detailed=True)
    assert "a\ufffd[31m\ufffdtxet\ufffd" in page
    assert not [c for c in page if not c.isprintable() and c != "\n"]


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    seen = look(page)
    links = [value for name, value in seen.attributes if name in ("src", "href", "action", "srcset", "data")]
    assert links
    assert all(value.startswith(("#", "data:")) for value in links)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(seen.tags)
    assert "@import" not in page
    assert "url(" not in page


def test_only_the_suites_own_script_may_run(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    policy = next(value for name, value in look(page).attributes if value.startswith("default-src"))
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_names_notes_and_files_of_others_are_text(tmp_path: Path) -> None:
    toy = make_benchmark(tmp_path / "data")
    document = json.loads(toy.annotations.read_text())
    document["categories"][0]["name"] = HOSTILE
    first = document["images"][0]
    (toy.images / first["file_name"]).rename(toy.images / "<b>x<img>.png")
    first["file_name"] = "<b>x<img>.png"
    toy.annotations.write_text(json.dumps(document))
    training = [TrainingDataInfo(dataset=HOSTILE, images=[HOSTILE], role="detection", note=HOSTILE)]
    runs = [
        make_run(
            tmp_path / "r",
            toy,
            name,
            seed=seed,
            contamination=(Contamination(dataset=HOSTILE, level="unknown", note=HOSTILE),),
            notes=(HOSTILE,),
            family=HOSTILE,
            backbone=HOSTILE,
            licence=HOSTILE,
            url="javascript:alert(1)",
            training_data=training,
        )
        for name, seed in (("a", 1), ("b", 2))
    ]
    board = of_runs([load(folder) for folder in runs], resamples=20)
    galleries = make_galleries(board, 24)
    page = render(board, title=HOSTILE, galleries=galleries, detailed=True)
    seen = look(page)
    assert seen.tags.count("script") == 1
    assert seen.tags.count("img") == 24
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert not [value for name, value in seen.attributes if "javascript:" in value]
    assert any(HOSTILE in text for text in seen.text)
    assert any("<b>x<img>.png" in text for text in seen.text)


def test_the_page_shows_every_row_number_and_hash(page: str, results: Path) -> None:
    board = collect(results, resamples=50)
    text = " ".join(look(page).text)
    for table in board.tables:
        assert table.protocol.sha256 in text
        for row in table.rows:
            assert row.name in text
            assert row.result.run.command in text
            assert row.result.detector.weights_sha256 in text
            assert f"{100 * (row.value('AP') or 0):.2f}" in text
    assert "coco-val2017" in text
    assert "schema" in next(piece for piece in look(page).text if "broken" in piece)
    assert text.index("Published numbers") > text.index("AP per class")


def test_the_downloadable_numbers_are_the_boards(page: str, results: Path) -> None:
    link = next(value for name, value in look(page).attributes if value.startswith("data:application/json;base64,"))
    document = json.loads(base64.b64decode(link.split(",", 1)[1]))
    ids = {row["result_id"] for table in document["tables"] for row in table["rows"]}
    assert ids == {row.result.id for table in collect(results, resamples=20).tables for row in table.rows}


def test_missing_pieces_are_said_not_drawn(toy: Benchmark, tmp_path: Path) -> None:
    folder = make_run(tmp_path, toy, "alpha", keep_predictions=False)
    (folder / "per_class.csv").write_text("changed")
    board = of_runs([load(folder)])
    page = render(board, title="t", galleries=make_galleries(board, 3))
    text = " ".join(look(page).text)
    assert "no AP per class of alpha" in text
    assert "no predictions of alpha" in text
    assert "img" not in look(page).tags


def test_gallery_pictures_are_there_and_say_how_they_were_chosen(results: Path) -> None:
    folders = sorted((results / "toy").glob("lvis-names-*/[ab]*@aaaaaaaa"))
    board = of_runs([load(folder) for folder in folders], resamples=20)
    gallery = make_galleries(board, 3)[board.tables[0].slug]
    assert len(gallery.pictures) == 3
    assert any("some of the runs find" in note for note in gallery.notes)
    assert all(picture.uri.startswith("data:image/webp;base64,") for picture in gallery.pictures)


def test_partial_runs_are_marked_in_a_report(results: Path) -> None:
    board = of_runs([load(next((results / "toy").glob("*/part@*")))])
    assert board.tables[0].rows[0].result.partial
    assert "partial" in " ".join(look(render(board, title="t")).text).split("What the columns mean")[0]


def test_axes_hold_all_values_between_round_numbers() -> None:
    linear = linear_axis("AP", [3.0, 47.0])
    assert (linear.low, linear.high) == (0.0, 60.0)
    assert linear.place(0) == 0
    assert linear.place(60) == 1
    log = log_axis("images", [0.0, 1.0, 900.0], zero=True)
    assert log.ticks[0][1] == "0"
    assert log.place(0) == 0
    assert 0 < log.place(1) < log.place(900) < 1
    names = category_axis(["a", "b"])
    assert 0 < names.place(0) < names.place(1) < 1
    flat = linear_axis("AP", [0.0])
    assert flat.high > flat.low


def test_whiskers_stay_inside_their_cell() -> None:
    for value, interval in ((0.5, (0.4, 0.6)), (0.5, None), (0.0, (-0.2, 1.4))):
        numbers = [float(number) for number in re.findall(r"[MH](-?[\d.]+)", interval_bar(value, interval, 0, 1, 0))]
        assert all(0 <= number <= 100 for number in numbers)


def test_charts_escape_what_they_are_given() -> None:
    axis, line = linear_axis(HOSTILE, [1.0]), Line(0, HOSTILE, [(0.0, 1.0)])
    drawn = line_chart(HOSTILE, category_axis([HOSTILE]), axis, [line]) + scatter_chart(
        HOSTILE, log_axis(HOSTILE, [1.0]), axis, [(Line(0, HOSTILE, [(1.0, 1.0)]), (0.5, 1.5))]
    )
    seen = look(drawn)
    assert set(seen.tags) <= {"svg", "title", "path", "g", "text"}
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert HOSTILE in seen.text
