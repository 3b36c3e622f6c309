"""Paths of the images of a data set according to its annotation file."""

from __future__ import annotations

import re

from ovd_bench.metrics.types import DataError, GroundTruth

#: LVIS v0.5 uses the image names of COCO 2014; in the folders of COCO 2017 the names are the digits only.
_COCO_2014 = re.compile(r"COCO_(?:train|val|test)2014_(\d{12}\.jpg)")


def image_paths(gt: GroundTruth) -> list[str]:
    """Path of every image relative to the folder of the images, in the order of ``gt.image_ids``.

    ``file_name`` unchanged, except for LVIS v0.5; if an image has only a ``coco_url`` (LVIS v1), its last folder and
    file name, such as ``val2017/000000397133.jpg``. The paths come from the annotation file: open them only with
    ``benchmarks.data.images.image_file``, which keeps them inside the folder.

    Raises:
        DataError: an image without a name.
    """
    paths = []
    for position, image in enumerate(gt.image_ids.tolist()):
        name = gt.image_files[position] if gt.image_files is not None else ""
        if not name:
            raise DataError(f"image {image} has neither file_name nor coco_url in the annotations")
        if "://" in name:
            name = "/".join(name.split("/")[-2:])
        elif gt.federated and (old := _COCO_2014.fullmatch(name)):
            name = old[1]
        paths.append(name)
    return paths
