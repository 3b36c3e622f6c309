"""The data sets that the suite knows by name.

Counts are those of the official releases: cocodataset.org, lvisdataset.org (the LVIS v1 val images are 4,809 of COCO
val2017 and 15,000 of COCO train2017), objects365.org. Checksums of the COCO archives are those that
intel/neural-compressor lists (``examples/pytorch/fx/object_detection/maskrcnn/download_dataset.sh``). The authors
publish no sha256 of annotation files, so there is none here; counts are checked instead.
"""

from __future__ import annotations

from dataclasses import replace

from ovd_bench.benchmarks.data.catalog.card import Counts, DatasetCard, Download
from ovd_bench.benchmarks.data.catalog.query_cards import QUERY_CARDS
from ovd_bench.benchmarks.data.catalog.sources import COCO, FLICKR_IMAGES, FLICKR_LICENCE, MDETR

_LVIS = "https://dl.fbaipublicfiles.com/LVIS"

_TRAIN2017 = Download(
    f"{COCO}/zips/train2017.zip", "18 GB", "coco", ("coco/train2017",), "cced6f7f71b7629ddf16f17bbcfab6b2"
)
_VAL2017 = Download(f"{COCO}/zips/val2017.zip", "780 MB", "coco", ("coco/val2017",), "442b8da7639aecaf257c1dceb8ba8c80")
_COCO_SYNSETS = Download(
    "https://raw.githubusercontent.com/lvis-dataset/lvis-api/master/data/coco_to_synset.json",
    "10 kB, synsets of the 80 names for 'score -m ladder'",
    "coco",
    ("coco/coco_to_synset.json",),
    optional=True,
)
_LVIS_V1_VAL = Download(f"{_LVIS}/lvis_v1_val.json.zip", "200 MB unpacked", "lvis", ("lvis/lvis_v1_val.json",))
_COCO_LICENCE = "annotations CC BY 4.0; images are their Flickr owners', under the Flickr terms of use"
_O365_LICENCE = "see objects365.org; images for research only"
_O365_NAMES = "class names that are misspelt in the official file are corrected, nothing else: they are prompts"
_COCO_FOLDERS = ("coco", "coco/images")
_LVIS_TRAINING = ("lvis-v1-train", "lvis-v1", "lvis")
_O365_TRAINING = ("objects365-v1-train", "objects365-v2-train", "objects365-train", "objects365")


def _lvis_places(file: str) -> tuple[str, ...]:
    return (f"lvis/{file}", f"lvis/annotations/{file}", f"lvis_v1/annotations/{file}", f"coco/annotations/{file}")


def _coco(split: str, counts: Counts, images: Download) -> DatasetCard:
    file = f"coco/annotations/instances_{split}.json"
    annotations = Download(
        f"{COCO}/annotations/annotations_trainval2017.zip",
        "240 MB",
        "coco",
        (file,),
        "f4bbac642086de4f52a3fdda2de5fa2c",
    )
    return DatasetCard(
        name=f"coco-{split}",
        dataset="coco",
        split=split,
        title=f"COCO 2017, {split}",
        protocol="coco",
        annotations=(file,),
        images=(f"coco/{split}", f"coco/images/{split}"),
        licence=_COCO_LICENCE,
        image_sources=(f"coco-{split}",),
        train_sources=("coco-train2017", "coco"),
        downloads=(annotations, images, _COCO_SYNSETS),
        counts=counts,
        tables="coco/coco_to_synset.json",
    )


def _shapes(name: str, world: str, split: str) -> DatasetCard:
    return DatasetCard(
        name=name,
        dataset=world,
        split=split,
        title=f"rendered scenes, {split}",
        protocol="lvis",
        annotations=(f"{world}/{split}.json",),
        images=(world,),
        licence="Apache-2.0",
        image_sources=(f"{world}-{split}",),
        train_sources=(f"{world}-train", world) if split != "train" else (),
        world=world,
        tables=f"{world}/tables.json",
    )


def _shapes_phrases(name: str, split: str) -> DatasetCard:
    return replace(
        _shapes(name, "shapes", split),
        title=f"texts about rendered scenes, {split}",
        protocol="queries",
        annotations=(f"shapes/phrases_{split}.jsonl",),
        tables="",
        task="queries",
    )


_CARDS = (
    _shapes("shapes", "shapes", "test"),
    _shapes("shapes-minival", "shapes", "minival"),
    _shapes("shapes-train", "shapes", "train"),
    _shapes("shapes-lvis", "shapes-lvis", "test"),
    _shapes_phrases("shapes-phrases", "test"),
    _shapes_phrases("shapes-phrases-minival", "minival"),
    _shapes_phrases("shapes-phrases-train", "train"),
    DatasetCard(
        name="lvis-minival",
        dataset="lvis-v1",
        split="minival",
        title="LVIS v1 val of COCO val2017",
        protocol="lvis",
        annotations=("lvis/lvis_v1_minival.json",),
        images=_COCO_FOLDERS,
        image_folders=("val2017",),
        licence=_COCO_LICENCE,
        image_sources=("coco-val2017",),
        train_sources=_LVIS_TRAINING,
        downloads=(_LVIS_V1_VAL, _VAL2017),
        derived_from="lvis-v1-val",
        counts=Counts(4_809, 1_203),
        notes=(
            "AP of rare classes is averaged over the few that have an object here; 'data get' counts them",
            "files that others share (lvis_v1_minival_inserted_image_name.json) are the same images and boxes, not the "
            "same bytes: results on them are in a separate table",
        ),
    ),
    DatasetCard(
        name="lvis-v1-val",
        dataset="lvis-v1",
        split="val",
        title="LVIS v1, val",
        protocol="lvis",
        annotations=_lvis_places("lvis_v1_val.json"),
        images=_COCO_FOLDERS,
        image_folders=("train2017", "val2017"),
        licence=_COCO_LICENCE,
        image_sources=("coco-train2017", "coco-val2017"),
        train_sources=_LVIS_TRAINING,
        downloads=(_LVIS_V1_VAL, _TRAIN2017, _VAL2017),
        counts=Counts(19_809, 1_203, 244_707),
        notes=("15,000 of the images are COCO train2017: seen by detectors trained on COCO",),
    ),
    DatasetCard(
        name="lvis-v1-train",
        dataset="lvis-v1",
        split="train",
        title="LVIS v1, train",
        protocol="lvis",
        annotations=_lvis_places("lvis_v1_train.json"),
        images=_COCO_FOLDERS,
        image_folders=("train2017",),
        licence=_COCO_LICENCE,
        image_sources=("coco-train2017",),
        train_sources=(),
        downloads=(
            Download(f"{_LVIS}/lvis_v1_train.json.zip", "1 GB unpacked", "lvis", ("lvis/lvis_v1_train.json",)),
            _TRAIN2017,
        ),
        counts=Counts(100_170, 1_203, 1_270_141),
    ),
    DatasetCard(
        name="lvis-v0.5-val",
        dataset="lvis-v0.5",
        split="val",
        title="LVIS v0.5, val",
        protocol="lvis",
        annotations=("lvis/lvis_v0.5_val.json", "lvis/annotations/lvis_v0.5_val.json"),
        images=("coco/val2017", "coco/images/val2017"),
        licence=_COCO_LICENCE,
        image_sources=("coco-val2017",),
        train_sources=("lvis-v0.5-train", *_LVIS_TRAINING),
        downloads=(
            Download(f"{_LVIS}/lvis_v0.5_val.json.zip", "50 MB unpacked", "lvis", ("lvis/lvis_v0.5_val.json",)),
            _VAL2017,
        ),
        counts=Counts(5_000, 1_230),
    ),
    _coco("val2017", Counts(5_000, 80, 36_781), _VAL2017),
    _coco("train2017", Counts(118_287, 80, 860_001), _TRAIN2017),
    DatasetCard(
        name="objects365-v1-val",
        dataset="objects365-v1",
        split="val",
        title="Objects365 v1, val",
        protocol="coco",
        annotations=("objects365v1/objects365_val_names.json",),
        misspelt="objects365v1/objects365_val.json",
        images=("objects365v1/val",),
        licence=_O365_LICENCE,
        image_sources=("objects365-val",),
        train_sources=_O365_TRAINING,
        downloads=(
            Download(
                "https://www.objects365.org/download.html",
                "after registration",
                "objects365v1",
                ("objects365v1/objects365_val.json", "objects365v1/val"),
            ),
        ),
        counts=Counts(30_000, 365),
        notes=(_O365_NAMES,),
    ),
    DatasetCard(
        name="objects365-v2-val",
        dataset="objects365-v2",
        split="val",
        title="Objects365 v2, val",
        protocol="coco",
        annotations=("objects365v2/annotations/zhiyuan_objv2_val_names.json",),
        misspelt="objects365v2/annotations/zhiyuan_objv2_val.json",
        images=("objects365v2/val", "objects365v2"),
        licence=_O365_LICENCE,
        image_sources=("objects365-val",),
        train_sources=_O365_TRAINING,
        downloads=(
            Download(
                "https://www.objects365.org/download.html",
                "after registration",
                "objects365v2",
                ("objects365v2/annotations/zhiyuan_objv2_val.json", "objects365v2/val"),
            ),
        ),
        counts=Counts(80_000, 365),
        notes=(
            _O365_NAMES,
            "file names are images/v1/patch0/… and images/v2/patch0/…: keep these folders when unpacking",
        ),
    ),
    DatasetCard(
        name="flickr30k-test",
        dataset="flickr30k",
        split="test",
        title="Flickr30k Entities, test",
        protocol="grounding-recall",
        annotations=("mdetr_annotations/final_flickr_separateGT_test.json",),
        images=("flickr30k/flickr30k_images", "flickr30k_entities/flickr30k_images"),
        image_name="{id}.jpg",
        licence=FLICKR_LICENCE,
        image_sources=("flickr30k-test",),
        train_sources=("flickr30k-train", "flickr30k", "goldg"),
        downloads=(MDETR, FLICKR_IMAGES),
        counts=Counts(images=1_000),
        task="grounding",
    ),
    DatasetCard(
        name="flickr30k-train",
        dataset="flickr30k",
        split="train",
        title="Flickr30k Entities, train",
        protocol="grounding-recall",
        annotations=("mdetr_annotations/final_flickr_separateGT_train.json",),
        images=("flickr30k/flickr30k_images", "flickr30k_entities/flickr30k_images"),
        licence=FLICKR_LICENCE,
        image_sources=("flickr30k-train",),
        train_sources=(),
        downloads=(MDETR, FLICKR_IMAGES),
        task="grounding",
        notes=("captions and boxes to train on, not to score; the smaller half of GoldG",),
    ),
    DatasetCard(
        name="gqa",
        dataset="gqa",
        split="train",
        title="GQA and VG captions (GoldG)",
        protocol="grounding-recall",
        annotations=("mdetr_annotations/final_mixed_train_no_coco.json",),
        images=("gqa/images",),
        licence="annotations CC BY 4.0; images are their Flickr owners', under the Flickr terms of use",
        image_sources=("gqa",),
        train_sources=(),
        downloads=(
            Download(
                "https://huggingface.co/GLIPModel/GLIP/tree/main/mdetr_annotations",
                "several GB",
                "mdetr_annotations",
                ("mdetr_annotations/final_mixed_train_no_coco.json",),
            ),
            Download("https://nlp.stanford.edu/data/gqa/images.zip", "20 GB", "gqa", ("gqa/images",)),
        ),
        task="grounding",
        notes=("captions and boxes to train on, not to score; MDETR's mix without the captions of COCO images",),
    ),
)

#: By name, in the order in which lists show them.
CARDS: dict[str, DatasetCard] = {card.name: card for card in (*_CARDS, *QUERY_CARDS)}
