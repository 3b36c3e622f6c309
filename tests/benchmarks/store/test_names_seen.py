"""How many names of a benchmark the weights of a detector were taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.catalog.label_sets import label_set
from ovd_bench.benchmarks.data.odvg.objects365 import REPAIRED_NAMES
from ovd_bench.benchmarks.data.shapes import WORLDS
from ovd_bench.benchmarks.store.names_seen import names_seen
from ovd_bench.benchmarks.store.schema import Contamination, NamesSeen
from ovd_bench.detectors.card import DetectorCard, TrainingData
from ovd_bench.detectors.coco_classes import COCO_NAMES
from ovd_bench.detectors.registry import BUILT_IN
from ovd_bench.metrics.types import Categories

COCO = TrainingData("coco-train2017", ("coco-train2017",))
O365 = TrainingData("objects365-v1-train", ("objects365-train",))
LVIS = TrainingData("lvis-v1-train", ("coco-train2017",))
GOLDG = TrainingData("goldg", ("flickr30k-train",), "grounding")


def categories(*names: str, frequency: str = "", synonyms: tuple[tuple[str, ...], ...] = ()) -> Categories:
    count = len(names)
    letters = tuple(frequency) or ("",) * count
    listed = synonyms or ((),) * count
    return Categories(np.arange(1, count + 1), names, letters, np.full(count, -1), ("",) * count, listed, ("",) * count)


def entries(name: str, of: Categories, *data: TrainingData) -> list[Contamination]:
    card = CARDS[name]
    benchmark = Benchmark(name, card.dataset, card.split, Path(), Path(), "coco", (), card.train_sources)
    return names_seen(DetectorCard("d", "d", "numpy", "", training_data=data), benchmark, of)


def of_world(name: str) -> Categories:
    rows = WORLDS[name].categories
    return categories(*(row.name for row in rows), frequency="".join(row.frequency for row in rows))


def test_label_sets_are_whole() -> None:
    sizes = {"coco-train2017": 80, "objects365-v1-train": 365, "objects365-v2-train": 365, "lvis-v1-train": 1203}
    for dataset, size in sizes.items():
        names = label_set(dataset)
        assert names is not None
        assert (len(names), len(set(names))) == (size, size)
        assert all(name == " ".join(name.split()) for name in names)
    objects = label_set("objects365-train")
    assert objects is not None
    assert not set(objects) & REPAIRED_NAMES.keys(), "misspelt names are found by nobody"
    assert {label_set(dataset) for dataset in ("goldg", "openimages", "webli", "secret", "")} == {None}


def test_shapes_are_taught_what_a_training_image_shows() -> None:
    (entry,) = entries("shapes", of_world("shapes"), TrainingData("shapes-train", ("shapes-train",)))
    assert entry.names == NamesSeen(seen=92, names=120, rare_seen=2, rare=30)
    assert entry.note == "92 of 120 names (76.7 %), 2 of the 30 rare ones (6.7 %)"
    assert (entry.dataset, entry.level) == ("shapes-train", "names")


def test_all_names_of_coco_are_in_lvis_or_objects365_or_not() -> None:
    coco = categories(*COCO_NAMES)
    own, by_objects, by_lvis, together = entries("coco-val2017", coco, COCO, O365, LVIS)
    assert own.names == NamesSeen(seen=80, names=80, rare_seen=None, rare=None)
    assert own.note == "80 of 80 names (100.0 %)"
    for entry in (by_objects, by_lvis):
        assert entry.names is not None
        assert 70 <= entry.names.seen < 80
    assert together.names == own.names
    assert together.dataset == ""


def test_rare_names_that_were_left_out_are_not_counted() -> None:
    lvis = label_set("lvis-v1-train")
    assert lvis is not None
    of = categories(*lvis[:6], frequency="frcrfc")
    base = TrainingData("lvis-v1-train", ("coco-train2017",), rare_left_out=True)
    (whole,), (without,) = entries("lvis-minival", of, LVIS), entries("lvis-minival", of, base)
    assert whole.names == NamesSeen(seen=6, names=6, rare_seen=2, rare=2)
    assert without.names == NamesSeen(seen=4, names=6, rare_seen=0, rare=2)


def test_names_are_compared_as_closed_set_detectors_do() -> None:
    of = categories(
        *("Fire_Hydrant", "sofa", "television_set", "mouse_(animal_rodent)", "wing_chair", "thing"),
        synonyms=((), (), (), (), (), ("frisbee",)),
    )
    (entry,) = entries("coco-val2017", of, COCO)
    assert entry.names is not None
    assert entry.names.seen == 4, "case, other names and listed synonyms count; a qualifier is not cut away"


def test_unknown_is_said_and_never_zero() -> None:
    of = categories("person", "unicorn")
    known, rest = entries("lvis-minival", of, COCO, GOLDG, TrainingData("secret"))
    assert known.names == NamesSeen(seen=1, names=2, rare_seen=None, rare=None)
    assert (rest.dataset, rest.names, rest.note) == ("", None, "names not known: goldg, secret")
    *_, rest = entries("lvis-minival", of, COCO, O365, GOLDG)
    assert rest.names == NamesSeen(seen=1, names=2, rare_seen=None, rare=None)
    assert rest.note == "1 of 2 names (50.0 %); names not known: goldg"
    (only,) = entries("lvis-minival", of, GOLDG)
    assert (only.dataset, only.names, only.note) == ("", None, "names not known: goldg")
    (nothing,) = names_seen(
        DetectorCard("d", "d", "numpy", "", training_data=None), Benchmark("x", "x", "", Path(), Path(), "coco"), of
    )
    assert nothing.names is None
    assert "not known" in nothing.note
    assert entries("lvis-minival", of) == []


def test_a_benchmark_of_ones_own_teaches_its_own_names() -> None:
    of = categories("apple", "pear")
    mine = Benchmark("mine", "mine", "val", Path(), Path(), "coco", (), ("mine-train",))
    card = DetectorCard("d", "d", "numpy", "", training_data=(TrainingData("mine-train"),))
    (entry,) = names_seen(card, mine, of)
    assert entry.names == NamesSeen(seen=2, names=2, rare_seen=None, rare=None)


@pytest.mark.parametrize("name", ["grounding-dino-tiny", "owlv2-base-patch16-ensemble", "owl-nano", "detr-resnet-50"])
def test_shipped_cards_are_judged(name: str) -> None:
    data = BUILT_IN[name].training_data
    assert data is not None
    lvis = label_set("lvis-v1-train")
    assert lvis is not None
    found = entries("lvis-minival", categories(*lvis, frequency="f" * 600 + "r" * 603), *data)
    expected = {one.dataset for one in data if label_set(one.dataset) is not None}
    assert {entry.dataset for entry in found} - {""} == expected
    unknown = [one.dataset for one in data if label_set(one.dataset) is None]
    assert all(one in found[-1].note for one in unknown)
