"""Where the images of a data set lie, as its annotation file says."""

from __future__ import annotations

from metrics.types import DataError, GroundTruth


def image_paths(gt: GroundTruth) -> list[str]:
    """Path of every image relative to the folder of the images, in the order of ``gt.image_ids``.

    ``file_name`` as it stands; where an image has only a ``coco_url`` (LVIS v1) its last folder and file name, such as
    ``val2017/000000397133.jpg``. The paths come from the annotation file: whoever opens them must keep them inside the
    folder.

    Raises:
        DataError: an image without a name.
    """
    paths = []
    for position, image in enumerate(gt.image_ids.tolist()):
        name = gt.image_files[position] if gt.image_files is not None else ""
        if not name:
            raise DataError(f"image {image} has neither file_name nor coco_url in the annotations")
        paths.append("/".join(name.split("/")[-2:]) if "://" in name else name)
    return paths
