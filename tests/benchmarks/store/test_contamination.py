"""What parts of benchmarks detectors were trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.store.contamination import COLLECTIONS, WEB, contamination
from ovd_bench.detectors.card import DetectorCard, TrainingData


def benchmark(name: str) -> Benchmark:
    card = CARDS[name]
    here = Path()
    return Benchmark(name, card.dataset, card.split, here, here, card.protocol, card.image_sources, card.train_sources)


def levels(name: str, *data: TrainingData) -> list[tuple[str, str]]:
    card = DetectorCard("d", "d", "numpy", "", training_data=data)
    return [(flag.dataset, flag.level) for flag in contamination(card, benchmark(name))]


COCO = TrainingData("coco-train2017", ("coco-train2017",))
LVIS = TrainingData("lvis-v1-train", ("coco-train2017",))
O365 = TrainingData("objects365-v1-train", ("objects365-train",))
GENOME = TrainingData("visual-genome", ("visual-genome",), "grounding")
GOLDG_GQA = TrainingData("gqa", ("gqa-no-coco",), "grounding", "COCO's images removed")
REFCOCO = TrainingData("refcoco", ("coco-train2014",), "grounding")
FLICKR = TrainingData("flickr30k-train", ("flickr30k-train",), "grounding")
CLIP = TrainingData("wit-400m", ("wit-400m",), "pretraining")


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        # COCO train: 15,000 images of LVIS val, none of minival or COCO val; its own val is trained for
        ("lvis-v1-val", COCO, [("coco-train2017", "test-images")]),
        ("lvis-minival", COCO, []),
        ("lvis-v0.5-val", COCO, []),
        ("coco-val2017", COCO, [("coco-train2017", "train-split")]),
        ("coco-train2017", COCO, [("coco-train2017", "test-images")]),
        # LVIS train and val share no image although both have images of COCO train
        ("lvis-v1-val", LVIS, [("lvis-v1-train", "train-split")]),
        ("lvis-minival", LVIS, [("lvis-v1-train", "train-split")]),
        ("lvis-v1-train", LVIS, [("lvis-v1-train", "test-images")]),
        ("coco-val2017", LVIS, []),
        ("coco-train2017", LVIS, [("lvis-v1-train", "test-images")]),
        # Objects365
        ("objects365-v1-val", O365, [("objects365-v1-train", "train-split")]),
        ("objects365-v2-val", O365, [("objects365-v1-train", "train-split")]),
        ("lvis-minival", O365, []),
        ("objects365-v1-val", TrainingData("o365-all", ("objects365-val",)), [("o365-all", "test-images")]),
        # Visual Genome is half COCO, unless that half was taken out
        ("lvis-minival", GENOME, [("visual-genome", "test-images")]),
        ("coco-val2017", GENOME, [("visual-genome", "test-images")]),
        ("lvis-minival", GOLDG_GQA, []),
        ("gqa", GOLDG_GQA, [("gqa", "test-images")]),
        ("gqa", GENOME, [("visual-genome", "test-images")]),
        # RefCOCO is of COCO train2014, which is in train2017
        ("lvis-v1-val", REFCOCO, [("refcoco", "test-images")]),
        ("lvis-minival", REFCOCO, []),
        ("coco-val2017", TrainingData("captions", ("coco-val2014",)), [("captions", "test-images")]),
        # Flickr30k
        ("flickr30k-test", FLICKR, [("flickr30k-train", "train-split")]),
        ("flickr30k-test", TrainingData("all", ("flickr30k",), "grounding"), [("all", "test-images")]),
        ("lvis-minival", FLICKR, [("flickr30k-train", "unknown")]),
        # the web, and what nobody knows
        ("lvis-minival", CLIP, [("wit-400m", "unknown")]),
        ("lvis-minival", TrainingData("secret"), [("secret", "unknown")]),
        ("lvis-minival", TrainingData("x", ("my-photos",)), [("x", "unknown")]),
        ("lvis-minival", TrainingData("imagenet-1k", ("imagenet-1k",), "pretraining"), []),
        # shapes are in no crawl and in no secret collection, for they are made here
        ("shapes", CLIP, []),
        ("shapes", TrainingData("secret"), []),
        ("shapes", TrainingData("all", ("shapes-test",)), [("all", "test-images")]),
        ("shapes", TrainingData("shapes-train", ("shapes-train",)), [("shapes-train", "train-split")]),
        ("shapes-lvis", TrainingData("shapes-train", ("shapes-train",)), []),
        ("shapes", TrainingData("shapes-train", ("shapes-train",), "pretraining"), []),
    ],
)
def test_single_data_sets(name: str, data: TrainingData, expected: list[tuple[str, str]]) -> None:
    assert levels(name, data) == expected


def test_known_overlap_goes_before_doubt() -> None:
    mixed = TrainingData("mix", ("wit-400m", "coco-val2017"))
    assert levels("lvis-minival", mixed) == [("mix", "test-images")]


def test_notes_say_how_much() -> None:
    card = DetectorCard("d", "d", "numpy", "", training_data=(COCO, LVIS, GENOME))
    flags = contamination(card, benchmark("lvis-v1-val"))
    assert flags[0].note == "15,000 of the 19,809 images are of coco-train2017"
    assert flags[1].note == ""
    assert "about half of Visual Genome's images are COCO's" in flags[2].note
    rare = TrainingData("lvis-v1-train", ("coco-train2017",), note="rare classes removed")
    card = DetectorCard("d", "d", "numpy", "", training_data=(rare, rare))
    assert [flag.note for flag in contamination(card, benchmark("lvis-minival"))] == ["rare classes removed"]


def test_unknown_training_data() -> None:
    card = DetectorCard("d", "d", "numpy", "", training_data=None)
    assert [flag.level for flag in contamination(card, benchmark("lvis-minival"))] == ["unknown"]
    assert contamination(DetectorCard("d", "d", "numpy", "", training_data=()), benchmark("shapes")) == []


def test_benchmark_of_unknown_origin() -> None:
    own = Benchmark("mine", "mine", "all", Path(), Path(), "coco")
    flags = contamination(DetectorCard("d", "d", "numpy", "", training_data=(COCO, O365)), own)
    assert [flag.level for flag in flags] == ["unknown"]
    assert "origin of the benchmark's images" in flags[0].note


def test_collections_are_either_documented_or_crawled() -> None:
    assert not COLLECTIONS & WEB
