"""Hashes of decoded pixels, which distinguish rows made from different images under the same names.

Re-encoded or resized files, or another decoder, change the pixels and therefore the predictions, but not the
annotations, names and sizes in the annotation file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.images import image_file, read_image
from ovd_bench.metrics.errors import DataError

#: Number of images that are compared before the first prediction, as a sample of all.
PROBE_IMAGES = 32

#: Used instead of the hash of an image that cannot be read.
UNREADABLE = "unreadable"


def image_sha256(pixels: npt.NDArray[np.uint8]) -> str:
    """Hash of one image as a detector gets it: its size and its pixels, upright RGB.

    SHA-256 because CPUs have instructions for it: 0.09 ms for 192 x 192 pixels and 0.8 ms for 640 x 480, compared with
    0.25 and 2.0 for BLAKE2b and 0.7 and 13 for decoding the JPEG (one core of a busy server).

    Args:
        pixels: uint8 (H, W, 3).
    """
    digest = hashlib.sha256(f"{pixels.shape[1]}x{pixels.shape[0]} ".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def pixels_sha256(images: Mapping[int, str]) -> str:
    """One hash of several images, from the sorted list of ids and hashes; it does not depend on the shards of a run.

    Args:
        images: image id -> result of ``image_sha256``, or ``UNREADABLE``.
    """
    lines = "".join(f"{image} {digest}\n" for image, digest in sorted(images.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def probe_sha256(
    root: Path, image_ids: Sequence[int], files: Sequence[str], sizes: Sequence[tuple[int, int] | None]
) -> str:
    """Hash of up to ``PROBE_IMAGES`` of the images, spread evenly over their order: a quick check of all images.

    It is computed before the first prediction, so every process of a run can check that it decodes the same pixels.

    Args:
        root: folder of the images.
        image_ids: n ids in order.
        files: n names in the annotations.
        sizes: n annotated widths and heights; None = not known.
    """
    rows = np.unique(np.linspace(0, len(image_ids) - 1, min(PROBE_IMAGES, len(image_ids))).round().astype(np.intp))
    return pixels_sha256({image_ids[row]: _read(root, image_ids[row], files[row], sizes[row]) for row in rows.tolist()})


def _read(root: Path, image_id: int, file: str, size: tuple[int, int] | None) -> str:
    try:
        return image_sha256(read_image(image_id, image_file(root, file), size).pixels)
    except DataError:  # ImageError is one; it is reported when the image is read for the detector
        return UNREADABLE
