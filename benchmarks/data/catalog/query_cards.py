"""Data sets of queries that the suite knows by name; their files are made by ``bench data convert …-queries``."""

from __future__ import annotations

from dataclasses import replace

from ovd_bench.benchmarks.data.catalog.card import Counts, DatasetCard, Download
from ovd_bench.benchmarks.data.catalog.sources import COCO, FLICKR_IMAGES, FLICKR_LICENCE, MDETR

_ENTITIES = Download(
    "https://github.com/BryanPlummer/flickr30k_entities",
    "annotations.zip, and the splits train.txt, val.txt and test.txt",
    "flickr30k_entities",
    ("flickr30k_entities/Sentences", "flickr30k_entities/Annotations", "flickr30k_entities/test.txt"),
)

_SAM_LICENCE = "annotations: SAM License; images of MetaCLIP are their owners', SA-1B has a licence of its own"

_REFCOCO_FILES = (
    *(f"refcoco_{split}" for split in ("val", "testA", "testB")),
    *(f"refcoco+_{split}" for split in ("val", "testA", "testB")),
    *(f"refcocog_{split}" for split in ("val", "test")),
)


def _saco_gold(subset: str, title: str, images: str) -> DatasetCard:
    folder = f"saco_gold/{images}-images"
    files = [f"saco_gold/gt-annotations/gold_{subset}_merged_{annotator}_release_test.json" for annotator in "abc"]
    sources = " ".join(f"{{root}}/{file}" for file in files)
    return DatasetCard(
        name=f"saco-gold-{subset.replace('_', '-')}",
        dataset="saco-gold",
        split=subset,
        title=f"SA-Co Gold, {title}; annotator a",
        protocol="queries",
        annotations=(f"saco_gold/gold_{subset}-a.jsonl",),
        images=(folder,),
        licence=_SAM_LICENCE,
        image_sources=({"metaclip": "metaclip", "sa1b": "sa-1b"}[images],),
        train_sources=(),
        downloads=(
            Download(
                "https://huggingface.co/datasets/facebook/SACo-Gold",
                "after accepting the licence there",
                "saco_gold/gt-annotations",
                tuple(files),
            ),
            Download(f"https://sa-co.roboflow.com/gold/{images}-images.zip", "several GB", "saco_gold", (folder,)),
        ),
        conversion=f"saco-queries {sources} -o {{root}}/saco_gold/gold_{subset}.jsonl",
        task="queries",
        notes=(
            "the command also writes the files of the annotators b and c, which are run by path; the official figure "
            "takes the best of the three for each pair",
        ),
    )


#: In the order in which lists show them.
QUERY_CARDS = (
    DatasetCard(
        name="refcoco",
        dataset="refcoco",
        split="val-test",
        title="RefCOCO, RefCOCO+ and RefCOCOg, all splits but train",
        protocol="queries",
        annotations=("mdetr_annotations/refcoco.jsonl",),
        images=("coco/train2014",),
        licence="see lichengunc/refer; images are their Flickr owners', under the Flickr terms of use",
        image_sources=("coco-train2014",),
        train_sources=("refcoco", "refcoco+", "refcocog"),
        downloads=(
            replace(MDETR, gives=tuple(f"mdetr_annotations/finetune_{name}.json" for name in _REFCOCO_FILES)),
            Download(f"{COCO}/zips/train2014.zip", "13 GB", "coco", ("coco/train2014",)),
        ),
        conversion="refcoco-queries "
        + " ".join(f"{{root}}/mdetr_annotations/finetune_{name}.json" for name in _REFCOCO_FILES)
        + " -o {root}/mdetr_annotations/refcoco.jsonl",
        task="queries",
        notes=("each split is a kind: queries/acc@0.5/refcoco/testA",),
    ),
    DatasetCard(
        name="flickr30k-entities-test",
        dataset="flickr30k",
        split="test",
        title="Flickr30k Entities, test; phrases with their types",
        protocol="queries",
        annotations=("flickr30k_entities/test.jsonl",),
        images=("flickr30k/flickr30k_images", "flickr30k_entities/flickr30k_images"),
        licence=FLICKR_LICENCE,
        image_sources=("flickr30k-test",),
        train_sources=("flickr30k-train", "flickr30k", "goldg"),
        downloads=(_ENTITIES, FLICKR_IMAGES),
        counts=Counts(images=1_000),
        conversion="flickr30k-queries {root}/flickr30k_entities --split {root}/flickr30k_entities/test.txt "
        "-o {root}/flickr30k_entities/test.jsonl",
        task="queries",
    ),
    DatasetCard(
        name="d3",
        dataset="d3",
        split="intra",
        title="D³ (Described Object Detection), intra-scenario",
        protocol="queries",
        annotations=("d3/d3_intra.jsonl",),
        images=("d3/d3_images",),
        licence="CC BY-NC 4.0, as the licence file of shikras/d-cube says",
        image_sources=("d3",),
        train_sources=(),
        downloads=(
            Download(
                "https://drive.google.com/drive/folders/11kfY12NzKPwsliLEcIYki1yUqt7PbMEi",
                "d3_images.zip, d3_pkl.zip and d3_json.zip",
                "d3",
                ("d3/d3_images", "d3/d3_pkl", "d3/d3_json/d3_full_annotations.json"),
            ),
        ),
        conversion="d3-queries {root}/d3/d3_json/d3_full_annotations.json --tables {root}/d3/d3_pkl "
        "-o {root}/d3/d3_intra.jsonl",
        task="queries",
    ),
    DatasetCard(
        name="omnilabel-val",
        dataset="omnilabel",
        split="val",
        title="OmniLabel, val",
        protocol="queries",
        annotations=("omnilabel/omnilabel_val.jsonl",),
        images=("omnilabel/images",),
        licence="see omnilabel.org; images under the terms of COCO, Objects365 and Open Images",
        image_sources=("coco-val2017", "objects365-val", "openimages-val"),
        train_sources=(),
        downloads=(
            Download(
                "https://www.omnilabel.org/dataset/download",
                "annotations and a script for the images; Objects365 after registration",
                "omnilabel",
                ("omnilabel/dataset_all_val_v0.1.3.json", "omnilabel/images"),
            ),
        ),
        conversion="omnilabel-queries {root}/omnilabel/dataset_all_val_v0.1.3.json "
        "-o {root}/omnilabel/omnilabel_val.jsonl",
        task="queries",
    ),
    _saco_gold("metaclip", "MetaCLIP captioner phrases", "metaclip"),
    _saco_gold("sa1b", "SA-1B captioner phrases", "sa1b"),
    _saco_gold("attributes", "attributes", "metaclip"),
    _saco_gold("crowded", "crowded scenes", "metaclip"),
    _saco_gold("wiki_common", "Wiki-Common1K", "metaclip"),
    _saco_gold("fg_food", "Wiki-Food/Drink", "metaclip"),
    _saco_gold("fg_sports_equipment", "Wiki-Sports Equipment", "metaclip"),
)
