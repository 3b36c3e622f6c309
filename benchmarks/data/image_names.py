"""Maps the texts by which prediction files name images to image ids."""

from __future__ import annotations

from pathlib import PurePosixPath

from ovd_bench.benchmarks.data.images import image_paths
from ovd_bench.benchmarks.data.match import TextMatch
from ovd_bench.metrics.types import GroundTruth


def image_ids_by_text(gt: GroundTruth, match: TextMatch) -> dict[str, int]:
    """Text -> image id. A file name that two images share is left out.

    Args:
        gt: ground truth.
        match: kind of the texts.

    Raises:
        DataError: ``match`` is ``stem``, and an image has no file name.
    """
    ids = gt.image_ids.tolist()
    if match == "id":
        names = gt.image_names
        return {str(i) if names is None else names[row]: i for row, i in enumerate(ids)}
    found: dict[str, int] = {}
    shared: set[str] = set()
    for image, name in zip(ids, image_paths(gt), strict=True):
        path = PurePosixPath(name.replace("\\", "/"))
        for text in {name, path.name, path.stem}:
            shared |= {text} if found.setdefault(text, image) != image else set()
    return {text: image for text, image in found.items() if text not in shared}
