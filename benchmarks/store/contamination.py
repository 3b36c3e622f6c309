"""Contamination: overlap of a detector's training data with a benchmark.

There are three kinds. *Test images*: some or all images of the benchmark were in the training data, with any labels.
*Train split*: boxes of the benchmark's own training split were in the training data, so the number is not zero-shot,
although the images differ. *Unknown*: it cannot be judged. Without any flag no overlap is documented.

Sources:

* COCO 2017 is a new split of COCO 2014 (cocodataset.org): train2017 = train2014 and all of val2014 but 5,000 images,
  which are val2017. RefCOCO, RefCOCO+ and RefCOCOg are of train2014, so of train2017.
* LVIS (lvisdataset.org): train is of COCO train2017; v1 val is 4,809 images of val2017 and 15,000 of train2017, none of
  them in LVIS train; minival is the 4,809 (ashkamath/mdetr, ``.github/lvis.md``); v0.5 val is val2017.
* Visual Genome: 51,498 of its 108,077 images have a COCO id, about half of them
  (ranjaykrishna/visual_genome_python_driver issues 25 and 30), among the 123,287 of COCO train and val. GQA's images
  are Visual Genome's, and all of these are of YFCC100M (Krishna et al. 2016), which therefore overlaps with COCO.
  GLIP's GoldG leaves COCO's images out (its abstract): ``visual-genome-no-coco``, ``gqa-no-coco``.
* Flickr30k and COCO share images: UNITER excludes "duplicated Flickr30k images in COCO". The splits are not published.
* OmniLabel's images are of the validation splits of COCO 2017, Objects365 and Open Images (its abstract and website).
  SA-Co Gold's are of SA-1B in one subset and of MetaCLIP's crawl in six (facebookresearch/sam3
  ``scripts/eval/gold/README.md``).
* For web crawls (image-text pairs) there is no citable comparison with the benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.store.schema import Contamination
from ovd_bench.detectors.card import DetectorCard, TrainingData

#: Images that the suite renders itself.
RENDERED = frozenset(
    f"{world}-{split}" for world in ("shapes", "shapes-lvis") for split in ("train", "minival", "test")
)

#: Image collections whose origin is documented.
COLLECTIONS = RENDERED | frozenset(
    {
        "coco-train2014",
        "coco-val2014",
        "coco-train2017",
        "coco-val2017",
        "coco-test2017",
        "coco-unlabeled2017",
        "objects365-train",
        "objects365-val",
        "flickr30k",
        "flickr30k-train",
        "flickr30k-test",
        "visual-genome",
        "visual-genome-no-coco",
        "gqa",
        "gqa-no-coco",
        "openimages-v6",
        "openimages-val",
        "imagenet-1k",
        "imagenet-21k",
        "v3det",
        "d3",
        "sa-1b",
        "metaclip",
        "yfcc100m",
        "odinw",
        "rf100-vl",
        "coco-o",
    }
)

#: Crawled from the web: it is not published which images of the benchmarks are among them.
WEB = frozenset(
    {
        "cc3m",
        "cc12m",
        "sbu",
        "grit",
        "laion-400m",
        "laion-2b",
        "datacomp",
        "wit-400m",
        "webli",
        "web",
        "cap4m",
        "cap24m",
    }
)

_COCO = ("coco-train2014", "coco-val2014", "coco-train2017", "coco-val2017")
_GENOME = ("visual-genome", "gqa")
_GENOME_WITHOUT_COCO = ("visual-genome-no-coco", "gqa-no-coco")
_FLICKR = ("flickr30k", "flickr30k-train", "flickr30k-test")


def _pairs(first: Iterable[str], second: Iterable[str], note: str) -> dict[frozenset[str], str]:
    return {frozenset({one, other}): note for one, other in product(first, second) if one != other}


#: Two collections that share images -> note. Equal names need no entry.
_SHARED = {
    frozenset({"coco-train2014", "coco-train2017"}): "all of train2014 is in train2017",
    frozenset({"coco-val2014", "coco-train2017"}): "val2014 is in train2017 but for 5,000 images",
    frozenset({"coco-val2014", "coco-val2017"}): "val2017 is 5,000 images of val2014",
    **_pairs(_GENOME, _COCO, "about half of Visual Genome's images are COCO's"),
    **_pairs(_GENOME, (*_GENOME, *_GENOME_WITHOUT_COCO), "GQA's images are Visual Genome's"),
    **_pairs(_GENOME_WITHOUT_COCO, _GENOME_WITHOUT_COCO, "GQA's images are Visual Genome's"),
    **_pairs(["yfcc100m"], (*_COCO, *_GENOME, *_GENOME_WITHOUT_COCO), "images of YFCC100M are in both"),
    frozenset({"flickr30k", "flickr30k-train"}): "the training split is a part of it",
    frozenset({"flickr30k", "flickr30k-test"}): "the test split is a part of it",
}

#: Two collections that may share the images in question.
_MAYBE_SHARED = _pairs(_FLICKR, _COCO, "some images of Flickr30k are in COCO, of which split is not published")

#: Number of a benchmark's images in a collection, if not all of them.
_SHARES = {
    ("lvis-v1-val", "coco-train2017"): "15,000 of the 19,809 images",
    ("lvis-v1-val", "coco-val2017"): "4,809 of the 19,809 images",
}


_WEB_NOTE = "crawled from the web, not compared with the test images"
_STRANGE = "no image collection that the suite knows"


def contamination(card: DetectorCard, benchmark: Benchmark) -> list[Contamination]:
    """Flags of a detector on a benchmark, in the order of its training data; empty = no overlap is documented.

    Splits of one data set share no image. Training on the benchmark's training split is therefore a separate flag and
    never one for test images, even if both are from the same collection (LVIS v1 train and val).
    """
    if card.training_data is None:
        return [_flag("", "unknown", "")]
    flags = (
        [] if benchmark.image_sources else [_flag("", "unknown", "the origin of the benchmark's images is not known")]
    )
    for data in card.training_data:
        flags += _flags_of(data, benchmark)
    return list(dict.fromkeys(flags))


def _flags_of(data: TrainingData, benchmark: Benchmark) -> list[Contamination]:
    if data.dataset == benchmark.name:
        return [_flag(data.dataset, "test-images", "trained on this very split")]
    if data.dataset in benchmark.train_sources:
        return [] if data.role == "pretraining" else [_flag(data.dataset, "train-split", data.note)]
    if not benchmark.image_sources:
        return []
    pairs = list(product(data.images, benchmark.image_sources))
    if seen := [note for pair in pairs if (note := _shared(*pair, benchmark.name))]:
        return [_flag(data.dataset, "test-images", _joined([*seen, data.note]))]
    if RENDERED.issuperset(benchmark.image_sources):
        return []  # these images are not published
    doubts = [] if data.images else ["its images are not listed"]
    doubts += [note for pair in pairs if (note := _MAYBE_SHARED.get(frozenset(pair), ""))]
    doubts += [f"{name}: {_WEB_NOTE}" for name in data.images if name in WEB]
    doubts += [f"{name}: {_STRANGE}" for name in data.images if name not in COLLECTIONS | WEB]
    return [_flag(data.dataset, "unknown", _joined(doubts))] if doubts else []


def _shared(collection: str, source: str, benchmark: str) -> str:
    """Overlap of a collection with one of the benchmark's image sources; empty = none."""
    if collection == source:
        return f"{_SHARES.get((benchmark, source), 'all images')} are of {source}"
    note = _SHARED.get(frozenset({collection, source}))
    return f"{collection} and {source}: {note}" if note else ""


def _joined(notes: list[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, notes)))


def _flag(dataset: str, level: str, note: str) -> Contamination:
    return Contamination.model_validate({"dataset": dataset, "level": level, "note": note})
