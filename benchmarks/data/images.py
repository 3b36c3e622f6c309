"""Lookup and decoding of images from untrusted files."""

from __future__ import annotations

import re
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL import UnidentifiedImageError
from PIL.Image import Transpose

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.detectors.types import Image
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth

#: Images with more pixels are refused before decoding; as RGB this is 200 MB.
MAX_PIXELS = 2**26

PIL.Image.init()  # needed for OPEN to contain every format of this build
#: Raster formats in common use. Pillow's other formats are left out: EPS, for example, runs a program.
_FORMATS = tuple(
    name
    for name in ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
    if name in PIL.Image.OPEN
)

#: LVIS v0.5 names its images as COCO 2014 did; in the folders of COCO 2017 their names are the digits alone.
_COCO_2014 = re.compile(r"COCO_(?:train|val|test)2014_(\d{12}\.jpg)")

_ORIENTATION = 0x0112
#: Operation that makes an image upright, by the value of its EXIF orientation tag.
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}

#: From this value of the tag on, width and height change places.
_FIRST_QUARTER_TURN = 5

# MAX_PIXELS is stricter; setting a filter for every image would be a race, since images are read in threads.
warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)


class ImageError(DataError):
    """An image that cannot be used. The runner counts it as failed and never skips it silently.

    Attributes:
        reason: the message without the path, one line.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = printable(reason)[:200]
        super().__init__(f"{path}: {self.reason}")


def image_paths(gt: GroundTruth) -> list[str]:
    """Path of every image relative to the folder of the images, in the order of ``gt.image_ids``.

    ``file_name`` as it stands, except for LVIS v0.5, which names the files of COCO 2017 as COCO 2014 did; where an
    image has only a ``coco_url`` (LVIS v1) its last folder and file name, such as ``val2017/000000397133.jpg``. The
    paths come from the annotation file: callers must check that they stay inside the folder (``image_file``).

    Raises:
        DataError: an image without a name.
    """
    lvis = gt.federated and any(gt.categories.synset)  # expressions about images of COCO 2014 mean these files
    paths = []
    for name in annotated_names(gt):
        if "://" in name:
            name = "/".join(name.split("/")[-2:])
        elif lvis and (old := _COCO_2014.fullmatch(name)):
            name = old[1]
        paths.append(name)
    return paths


def annotated_names(gt: GroundTruth) -> list[str]:
    """Name of every image as the annotations give it: ``file_name``, or ``coco_url`` where there is none.

    Raises:
        DataError: an image without a name.
    """
    names = []
    for position, image in enumerate(gt.image_ids.tolist()):
        name = gt.image_files[position] if gt.image_files is not None else ""
        if not name:
            raise DataError(f"image {image} has neither file_name nor coco_url in the annotations")
        names.append(name)
    return names


def image_file(root: Path, name: str) -> Path:
    """Path of an image whose name comes from an annotation file; links are followed before the check.

    Raises:
        DataError: the name is not a path, or leaves ``root``.
    """
    folder = root.resolve()
    try:
        path = (folder / name).resolve()
    except (ValueError, OSError, RuntimeError) as error:
        raise DataError(f"image path {name!r:.200} is not a path: correct it in the annotation file") from error
    if not path.is_relative_to(folder):
        raise DataError(
            f"image path {name!r:.200} leaves the folder {root}: correct it in the annotation file, "
            "or, if a link leads outside, give the folder that it leads to"
        )
    return path


def read_image(image_id: int, path: Path, size: tuple[int, int] | None = None) -> Image:
    """Read an image as upright 8-bit RGB.

    **Colour** is that of Pillow's ``convert("RGB")``, which torchvision and the detectors' own code use: transparency
    is dropped (hidden colours become visible, nothing is composited), palettes are looked up, CMYK, YCbCr, HSV and LAB
    are converted, colour profiles are not applied. Two conversions that clip are corrected: 16-bit channels keep their
    high byte, as Pillow does for 16-bit colour and OpenCV for all, and floats from 0 to 1 are scaled to 0 … 255. Wider
    integers and other floats have no defined white level and are refused. The first frame of an animation is used.

    **Orientation.** The EXIF tag is applied, as in OpenCV and detectron2; a damaged tag is ignored. Boxes refer to an
    image of the given ``size``, so a size that fits only before the tag's quarter turn is refused: some tools write
    the stored size together with boxes of the upright image (HumanSignal/label-studio issue 6608), others give both
    for the stored pixels, and the file does not say which. detectron2 refuses such images too; COCO and LVIS have
    none.

    Args:
        image_id: id in the data set.
        path: the file; the format follows from its content, not its suffix.
        size: annotated width and height; None or 0 = not known.

    Raises:
        ImageError: no regular file, no such format, damaged, cut off, more than ``MAX_PIXELS`` pixels, pixels without a
            defined white, or not of the annotated size.
    """
    if size is not None and not all(size):
        size = None
    stored = _decode(path, size)
    orientation = _orientation(stored)
    image = stored.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else stored
    if size is not None and image.size != size:
        reason = _mismatch(image.size, size)
        if stored.size == size:
            reason += f", its size before EXIF orientation {orientation} is applied: rotate the file and drop the tag"
        raise ImageError(path, reason)
    return Image(image_id, _rgb(path, image), str(path))


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright image, from its header.

    Raises:
        ImageError: see ``read_image``; damage behind the header is not noticed.
    """
    with _opened(path) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= _FIRST_QUARTER_TURN else (width, height)


def _decode(path: Path, size: tuple[int, int] | None) -> PIL.Image.Image:
    """Pixels as stored; a quarter turn may be missing."""
    with _opened(path) as image:
        width, height = image.size
        if size is not None and size not in ((width, height), (height, width)):
            raise ImageError(path, _mismatch((width, height), size))
        image.load()
    return image


@contextmanager
def _opened(path: Path) -> Iterator[PIL.Image.Image]:
    """The image before its pixels are read; an error of Pillow inside becomes an ``ImageError``."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
            raise ImageError(path, "is not a regular file")
        with PIL.Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    path,
                    f"decompression bomb: {width} x {height} pixels, at most {MAX_PIXELS} are read: scale it down",
                )
            yield image
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except UnidentifiedImageError as error:
        raise ImageError(path, f"is not an image in a supported format ({', '.join(_FORMATS)})") from error
    except Exception as error:  # Pillow's decoders may raise any exception for a damaged file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(path, f"cannot be read: {reason}") from error


def _orientation(image: PIL.Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (ValueError, TypeError, LookupError, OSError, EOFError, SyntaxError, struct.error):
        return 1
    return value if isinstance(value, int) else 1


def _mismatch(found: tuple[int, int], annotated: tuple[int, int]) -> str:
    return f"image is {found[0]} x {found[1]}, the annotations say {annotated[0]} x {annotated[1]}"


def _rgb(path: Path, image: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """uint8 (H, W, 3), writable."""
    if image.mode == "RGB":
        return np.array(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.repeat(_grey(path, np.asarray(image))[:, :, None], 3, axis=2)
    image.info.pop("transparency", None)  # Pillow warns of it although it does not change the colours
    try:
        return np.array(image.convert("RGB"))
    except ValueError as error:
        raise ImageError(path, f"pixels of mode {image.mode} cannot be converted to RGB") from error


def _grey(path: Path, values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """uint8 (H, W) from 16-bit integers, or floats from 0 to 1."""
    wide = values.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    white = 1 if values.dtype.kind == "f" else 65535
    if not (low >= 0 and high <= white):
        raise ImageError(
            path, f"pixels from {low:g} to {high:g} have no defined white: save it with 8 bits per channel"
        )
    return np.round(wide * 255).astype(np.uint8) if white == 1 else (wide / 256).astype(np.uint8)
