"""Suites of the catalogue and of one's own, and what ``data`` says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from ovd_bench.benchmarks.cli import data
from ovd_bench.benchmarks.data.catalog.registry import located_members, open_benchmark
from ovd_bench.benchmarks.data.catalog.suites import KNOWN, SUITES, Suite, find_suite
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.catalog.made import coco_document, write_image, write_json


def run(*arguments: object) -> Result:
    app = typer.Typer()
    data.register(app)
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def own(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "suite.yaml").write_text(text)
    return folder


def test_numbers_of_sets() -> None:
    numbers = {name: len(suite.members) for name, suite in SUITES.items()}
    assert numbers == {"odinw13": 13, "odinw35": 35, "rf100-vl": 100, "rf20-vl": 20, "coco-o": 6}
    assert set(SUITES["odinw13"].names) < set(SUITES["odinw35"].names)  # so runs on the 13 count for the 35
    assert set(SUITES["rf20-vl"].names) < set(SUITES["rf100-vl"].names)
    assert not set(SUITES) & set(KNOWN)


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_members_are_known(suite: Suite) -> None:
    assert len(set(suite.names)) == len(suite.names)
    assert all(name in KNOWN for name in suite.names)
    assert all(name in suite.names for group in suite.shared for name in group)
    assert len({suite.short(name) for name in suite.names}) == len(suite.names)
    assert suite.licence
    assert suite.downloads


def test_headings_leave_out_what_all_names_share() -> None:
    assert SUITES["odinw13"].short("odinw-pothole") == "pothole"
    assert SUITES["coco-o"].short("coco-o-sketch") == "sketch"


@pytest.mark.parametrize(
    ("name", "annotations", "images"),
    [
        ("odinw-packages", "odinw/Packages/Raw/valid/annotations_without_background.json", "odinw/Packages/Raw/valid"),
        ("odinw-pistols", "odinw/pistols/export/val_annotations_without_background.json", "odinw/pistols/export"),
        ("rf100-vl-bees", "rf100-vl/bees/test/_annotations.coco.json", "rf100-vl/bees/test"),
        ("rf100-vl-grccs", "rf100-vl/-grccs/test/_annotations.coco.json", "rf100-vl/-grccs/test"),
        ("rf100-vl-actions", "rf20-vl/actions/test/_annotations.coco.json", "rf20-vl/actions/test"),
        ("coco-o-sketch", "ood_coco/sketch/annotations/instances_val2017.json", "ood_coco/sketch/val2017"),
        ("coco-o-sketch", "coco-o/sketch/annotations/instances_val2017.json", "coco-o/sketch/val2017"),
    ],
)
def test_members_are_found_where_their_makers_put_them(
    tmp_path: Path, name: str, annotations: str, images: str
) -> None:
    write_json(tmp_path / annotations, coco_document(["a.png"]))
    write_image(tmp_path / images / "a.png")
    benchmark = open_benchmark(name, tmp_path)
    assert (benchmark.name, benchmark.annotations, benchmark.images) == (
        name,
        tmp_path / annotations,
        tmp_path / images,
    )


def test_a_missing_member_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^odinw-aquarium: the annotation file is missing.*'bench data get odinw-aquar"
    ):
        open_benchmark("odinw-aquarium", tmp_path)


def test_a_suite_is_no_benchmark(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a suite of 13 data sets: name one of them, such as odinw-aerial"):
        open_benchmark("odinw13", tmp_path)


def test_get_names_what_is_missing(tmp_path: Path) -> None:
    write_json(tmp_path / "coco-o/tattoo/annotations/instances_val2017.json", coco_document(["a.png"]))
    write_image(tmp_path / "coco-o/tattoo/val2017/a.png")
    document = json.loads(run("get", "coco-o", "--data-root", tmp_path, "--json").stdout)
    assert document["sets_here"] == ["coco-o-tattoo"]
    assert len(document["missing"]) == 5
    assert not document["ready"]
    text = run("get", "coco-o", "--data-root", tmp_path).stdout
    assert "1 of 6 sets are here" in text
    assert "ood_coco.zip" in text
    assert "ROBOFLOW_API_KEY" in run("get", "rf100-vl", "--data-root", tmp_path).stdout
    listed = json.loads(run("list", "--data-root", tmp_path, "--json").stdout)["suites"]
    assert {suite["name"]: suite["sets_here"] for suite in listed}["coco-o"] == ["coco-o-tattoo"]


def test_verify_checks_every_set(tmp_path: Path) -> None:
    folder = own(tmp_path / "shops", "name: shops\nsets: {bakery: bread, butcher: meat}")
    for name in ("bread", "meat"):
        write_json(folder / name / "_annotations.coco.json", coco_document(["a.png"]))
        write_image(folder / name / "a.png")
    result = run("verify", folder, "--data-root", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.index("shops-bakery") < result.stdout.index("shops-butcher")
    (folder / "meat/a.png").unlink()
    result = run("verify", folder, "--data-root", tmp_path, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"]) == (1, False)
    assert {name: report["ok"] for name, report in document["sets"].items()} == {
        "shops-bakery": True,
        "shops-butcher": False,
    }
    assert "images not found" in document["sets"]["shops-butcher"]["wrong"][0]


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    folder = own(tmp_path / "shops", "name: shops\nsets:\n  bakery: bread/valid\n  butcher: meat.json\n")
    (folder / "bread/valid").mkdir(parents=True)
    for spec in (folder, folder / "suite.yaml"):
        suite = find_suite(str(spec))
        assert suite is not None
        assert suite.names == ("shops-bakery", "shops-butcher")
        assert [member.spec for member in suite.members] == [f"{folder}/bread/valid", f"{folder}/meat.json"]
        assert located_members(suite, tmp_path) == ["shops-bakery"]


def test_only_the_file_makes_a_suite(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_json(tmp_path / name / "_annotations.coco.json", coco_document(["a.png"]))
    assert find_suite(str(tmp_path)) is None
    (tmp_path / "other.yaml").write_text("name: a\nsets: {b: one, c: two}\n")
    assert find_suite(str(tmp_path / "other.yaml")) is None
    assert find_suite("odinw-aquarium") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: [", "is not YAML"),
        ("- one", "the document: Input should be a valid dict"),
        ("name: x", "sets: Field required"),
        ("name: x\nsets: {a: b}", "sets: Dictionary should have at least 2 items"),
        ("name: ../x\nsets: {a: b, c: d}", "name: String should match pattern"),
        ("name: x\nsets: {../a: b, c: d}", "String should match pattern"),
        ("name: x\nsets: {a: ../b, c: d}", "sets.a: '../b' leaves the folder of the file"),
        ("name: x\nsets: {a: /etc, c: d}", "sets.a: '/etc' leaves the folder of the file"),
        ('name: x\nsets: {a: "\\0", c: d}', "sets.a: String should match pattern"),
        ("name: odinw13\nsets: {a: b, c: d}", "is a data set or suite of the catalogue"),
        ("name: odinw\nsets: {aquarium: b, c: d}", "sets.aquarium: 'odinw-aquarium' is a data set of the catalogue"),
        ("name: x\nsets: {a: b, c: d}\nmore: 1", "more: Extra inputs are not permitted"),
        (f"name: {'x' * 128}\nsets: {{a: b, c: d}}", "is too long as a name"),
    ],
)
def test_a_bad_list_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        find_suite(str(own(tmp_path, text)))
    assert str(caught.value).startswith(f"{tmp_path}/suite.yaml: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
