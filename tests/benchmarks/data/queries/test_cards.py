"""From a card's downloads to a benchmark, by the command that the card names."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from ovd_bench.benchmarks.data.catalog.query_cards import QUERY_CARDS
from ovd_bench.benchmarks.data.catalog.registry import find_dataset, open_benchmark
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.tests.benchmarks.data.odvg.test_flickr30k import folder
from ovd_bench.tests.benchmarks.data.odvg.test_verbs import run, run_json
from ovd_bench.tests.benchmarks.data.queries import test_d3, test_omnilabel, test_saco
from ovd_bench.tests.benchmarks.data.queries import test_refcoco as expressions
from ovd_bench.tests.benchmarks.data.queries.test_d3 import source, tables

__all__ = ["folder", "source", "tables"]


def _made(name: str, root: Path) -> int:
    """Make the file of a card as ``data get`` says, from the small downloads in ``root``; returns its questions."""
    card = find_dataset(name)
    for place in (card.images[0], str(Path(card.annotations[0]).parent)):
        (root / place).mkdir(parents=True, exist_ok=True)
    before = run_json("get", name, "--data-root", root)
    assert not before["ready"]
    assert [step["state"] for step in before["downloads"]] == ["here"] * len(before["downloads"])
    told = run("get", name, "--data-root", root).stdout
    assert before["conversion"] in told
    assert card.licence in told
    words = shlex.split(before["conversion"])
    assert words[:3] == ["bench", "data", "convert"]
    result = run(*words[2:])
    assert result.exit_code == 0, result.output
    benchmark = open_benchmark(name, root)
    assert (benchmark.protocol, benchmark.annotations) == ("queries", root / card.annotations[0])
    assert run_json("get", name, "--data-root", root)["ready"]
    return read_ground_truth(benchmark.annotations).num_classes


def test_refcoco(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "mdetr_annotations").mkdir(parents=True)
    for place in find_dataset("refcoco").downloads[0].gives:
        _document(root / place)
    assert _made("refcoco", root) == 1
    kinds = {kind for line in (root / "mdetr_annotations/refcoco.jsonl").open() for kind in json.loads(line)["kinds"]}
    assert kinds == {f"refcoco+/{split}" for split in ("val", "testA", "testB", "test")}


def _document(path: Path) -> None:
    expressions._document(path, [expressions._image(1, "left")], [expressions._box(1, [1, 2, 3, 4])])


def test_flickr30k(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(folder, root / "flickr30k_entities")
    (root / "flickr30k_entities" / "test.txt").write_text("36\n")
    assert _made("flickr30k-entities-test", root) == 11


def test_d3_intra(source: Path, tables: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(tables, root / "d3" / "d3_pkl")
    (root / "d3" / "d3_json").mkdir()
    shutil.copy(source, root / "d3" / "d3_json")
    assert _made("d3", root) == len(test_d3.TEXTS)


def test_omnilabel_val(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "omnilabel").mkdir(parents=True)
    test_omnilabel._write(root / "omnilabel" / "dataset_all_val_v0.1.3.json", test_omnilabel._document())
    assert _made("omnilabel-val", root) == 4


@pytest.mark.parametrize("name", [card.name for card in QUERY_CARDS if card.dataset == "saco-gold"])
def test_saco_gold(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    (root / "saco_gold" / "gt-annotations").mkdir(parents=True)
    for place in find_dataset(name).downloads[0].gives:
        test_saco._write(root / place, test_saco.PAIRS, test_saco.BOXES)
    assert _made(name, root) == 4
    assert len(list((root / "saco_gold").glob("gold_*-[abc].jsonl"))) == 3
