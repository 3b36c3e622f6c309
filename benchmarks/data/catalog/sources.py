"""Downloads and licences that several cards name."""

from __future__ import annotations

from ovd_bench.benchmarks.data.catalog.card import Download

COCO = "http://images.cocodataset.org"
MDETR = Download(
    "https://zenodo.org/record/4729015/files/mdetr_annotations.tar.gz",
    "several GB; all annotation files of MDETR",
    ".",
    ("mdetr_annotations",),
)
FLICKR_IMAGES = Download(
    "https://shannon.cs.illinois.edu/DenotationGraph/",
    "31,783 images, on request",
    "flickr30k",
    ("flickr30k/flickr30k_images",),
)
FLICKR_LICENCE = "see the pages of Flickr30k and Flickr30k Entities; images are their Flickr owners', for research only"
