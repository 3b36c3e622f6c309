"""One's own names on one's own images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.api.errors import check_number, file_errors
from ovd_bench.benchmarks.api.paths import StrPath
from ovd_bench.benchmarks.api.records import Record, data_frame
from ovd_bench.detectors.types import Image
from ovd_bench.metrics.errors import DataError

if TYPE_CHECKING:
    import PIL.Image

    from ovd_bench.benchmarks.pictures.detect import Found
    from ovd_bench.detectors.card import DetectorCard
    from ovd_bench.detectors.interface import Detector
    from ovd_bench.detectors.prompts import PromptPlan
    from ovd_bench.detectors.types import Vocabulary

Pixels = npt.NDArray[np.uint8]
#: Pixels uint8 (H, W, 3), RGB, or the path of an image file.
AnImage = Pixels | StrPath


@dataclass(frozen=True, repr=False)
class NamedDetections:
    """Boxes found in one image, best first (n boxes).

    Attributes:
        xyxy: float32 (n, 4): left, top, right, bottom in absolute pixels of the original image, origin at its top left
            corner; may reach over its border.
        scores: float32 (n,); higher is surer.
        names: n class names, or phrases of the caption.
        width, height: of the original image, pixels.
    """

    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    names: tuple[str, ...]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        best = f", best {self.names[0]!r} {self.scores[0]:.3f}" if self.names else ""
        return f"NamedDetections({len(self):,} boxes in {self.width} x {self.height} pixels{best})"

    def to_records(self) -> list[Record]:
        """One row per box: ``name``, ``score``, ``left``, ``top``, ``right``, ``bottom`` (pixels)."""
        rows = zip(self.names, self.scores.tolist(), self.xyxy.tolist(), strict=True)
        columns = ("name", "score", "left", "top", "right", "bottom")
        return [dict(zip(columns, (name, score, *box), strict=True)) for name, score, box in rows]

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises:
            DataError: pandas is not installed.
        """
        return data_frame(self.to_records())


class NamedDetector:
    """A loaded detector that takes class names and gives boxes with names; ``load_detector`` makes it.

    Attributes:
        detector: the detector as the suite's runner sees it.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._vocabulary: Vocabulary | None = None

    @property
    def card(self) -> DetectorCard:
        """What it is: weights, parameters, licence, training data."""
        return self.detector.card

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Names that are looked for; empty before ``set_vocabulary``."""
        return () if self._vocabulary is None else self._vocabulary.names

    def set_vocabulary(self, names: Sequence[str], *, prompts: StrPath | None = None) -> None:
        """Encode the names once; holds until the next call.

        Args:
            names: plain class names; empty ones and repetitions are left out.
            prompts: name of a prompt plan, or path of its YAML file; None = the names are read as they are written.

        Raises:
            DataError: no name, or no such plan.
            DetectorError: the detector cannot read the names or the plan.
        """
        from ovd_bench.benchmarks.pictures.detect import plain_vocabulary

        if isinstance(names, str):
            raise DataError(f"vocabulary is the text {names!r:.60}: expected a list of names")
        vocabulary = plain_vocabulary(names, "vocabulary names no class: expected a list of names")
        self.detector.set_vocabulary(vocabulary, _plan(prompts))
        self._vocabulary = vocabulary

    @overload
    def detect(  # type: ignore[overload-overlap]  # a text is also a sequence of texts
        self, images: AnImage, *, threshold: float = 0.3, count: int = 50
    ) -> NamedDetections: ...
    @overload
    def detect(
        self, images: Sequence[AnImage], *, threshold: float = 0.3, count: int = 50
    ) -> list[NamedDetections]: ...
    @file_errors()
    def detect(
        self, images: AnImage | Sequence[AnImage], *, threshold: float = 0.3, count: int = 50
    ) -> NamedDetections | list[NamedDetections]:
        """Look for the vocabulary, as ``bench detect`` does.

        Args:
            images: one array uint8 (H, W, 3) in RGB or one path of an image file, or a list of them.
            threshold: lowest score that is kept.
            count: boxes per image at most.

        Returns:
            The boxes of one image, or a list with those of each.

        Raises:
            DataError: no vocabulary was set, or an image cannot be read.
            DetectorError: the detector fails, or an array is no image.
        """
        from ovd_bench.benchmarks.pictures.detect import detect_again

        check_number("count", count, 1, 10_000)
        if self._vocabulary is None:
            raise DataError("no vocabulary is set: pass names to load_detector or set_vocabulary")
        found = detect_again(self.detector, _images(images), self._vocabulary, threshold, count)
        return _named(found, alone=_is_one(images))

    @overload
    def ground(  # type: ignore[overload-overlap]  # as above
        self, images: AnImage, caption: str, *, threshold: float = 0.3, count: int = 50
    ) -> NamedDetections: ...
    @overload
    def ground(
        self, images: Sequence[AnImage], caption: str, *, threshold: float = 0.3, count: int = 50
    ) -> list[NamedDetections]: ...
    @file_errors()
    def ground(
        self, images: AnImage | Sequence[AnImage], caption: str, *, threshold: float = 0.3, count: int = 50
    ) -> NamedDetections | list[NamedDetections]:
        """Look for the phrases of a caption, as ``bench detect --caption`` does; the vocabulary plays no part.

        Args:
            images: as ``detect``.
            caption: a sentence.
            threshold: lowest score that is kept.
            count: boxes per image at most.

        Raises:
            DataError: the detector knows no captions, or the caption is empty.
            DetectorError: the detector fails, or an array is no image.
        """
        from ovd_bench.benchmarks.pictures.detect import detect_caption

        check_number("count", count, 1, 10_000)
        found = detect_caption(self.detector, _images(images), caption, threshold, count)
        return _named(found, alone=_is_one(images))

    def __repr__(self) -> str:
        return f"NamedDetector({self.card.name}, {len(self.vocabulary):,} names)"


@file_errors()
def load_detector(
    name: StrPath,
    vocabulary: Sequence[str] | None = None,
    *,
    prompts: StrPath | None = None,
    weights: StrPath | None = None,
    key: str | None = None,
    device: str = "auto",
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    image_size: int | None = None,
    top_k: int = 300,
    nms_iou: float | None = None,
) -> NamedDetector:
    """Load a detector into this process.

    Args:
        name: see ``list_detectors``, or ``path/to/file.py:Name``.
        vocabulary: plain class names to look for; None = set later.
        prompts: see ``NamedDetector.set_vocabulary``.
        weights: path or hub id; None = the detector's.
        key: entry of a training checkpoint that holds the weights, such as ``ema_model``; None = the usual one.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: of the network.
        image_size: side that the network sees, pixels; None = the model's.
        top_k: (box, class) pairs per image before threshold and count.
        nms_iou: IoU above which the lesser of two boxes of a class is dropped, 0 to 1; None = the detector's choice.

    Raises:
        DataError: no name in the vocabulary, or no such plan.
        DetectorError: no such detector, a missing package, or weights that do not load.
    """
    from ovd_bench.benchmarks.runner.loading import choose_device
    from ovd_bench.detectors import registry
    from ovd_bench.detectors.interface import DetectorSettings

    spec = os.fspath(name)
    settings = DetectorSettings(
        weights=None if weights is None else os.fspath(weights),
        weights_key=key,
        device=choose_device(device, registry.find_card(spec).framework),
        dtype=dtype,
        image_size=image_size,
        top_k=top_k,
        nms_iou=nms_iou,
    )
    loaded = NamedDetector(registry.load_detector(spec, settings))
    if vocabulary is not None:
        loaded.set_vocabulary(vocabulary, prompts=prompts)
    return loaded


@file_errors()
def show(
    images: AnImage | Sequence[AnImage],
    boxes: NamedDetections | Sequence[NamedDetections],
    *,
    title: str = "",
    path: StrPath | None = None,
) -> PIL.Image.Image:
    """Draw boxes with names and scores on images; notebooks display what is returned.

    Args:
        images: one array uint8 (H, W, 3) in RGB or one path of an image file, or a list of them.
        boxes: of the image, or a list with those of each image.
        title: a line above the picture.
        path: write the picture there, too; its name ends in ``.png``.

    Returns:
        The picture; several images are put into a grid.

    Raises:
        DataError: an image cannot be read, or there are more or fewer boxes than images.
    """
    from ovd_bench.benchmarks.pictures.drawing import draw_boxes, grid
    from ovd_bench.benchmarks.pictures.gallery.pictures import save_png

    read, found = _images(images), [boxes] if isinstance(boxes, NamedDetections) else list(boxes)
    if not read or len(read) != len(found):
        raise DataError(f"show: {len(read):,} images and boxes of {len(found):,}: expected as many of each")
    pictures = [
        draw_boxes(image.pixels, one.xyxy, one.names, one.scores, title=title)
        for image, one in zip(read, found, strict=True)
    ]
    picture = pictures[0] if len(pictures) == 1 else grid(pictures, round(len(pictures) ** 0.5))
    if path is not None:
        save_png(Path(path), picture)
    return picture


def _plan(prompts: StrPath | None) -> PromptPlan:
    from ovd_bench.benchmarks.data.prompt_files import read_plan
    from ovd_bench.benchmarks.pictures.detect import PLAN

    return PLAN if prompts is None else read_plan(os.fspath(prompts))


def _is_one(images: AnImage | Sequence[AnImage]) -> bool:
    return isinstance(images, str | os.PathLike | np.ndarray)


def _images(images: AnImage | Sequence[AnImage]) -> list[Image]:
    """The images, numbered from 1."""
    several = [images] if isinstance(images, str | os.PathLike | np.ndarray) else list(images)
    return [_image(number, one) for number, one in enumerate(several, 1)]


def _image(number: int, image: AnImage) -> Image:
    from ovd_bench.benchmarks.data.images import read_image

    if isinstance(image, np.ndarray):
        return Image(number, image)
    if isinstance(image, str | os.PathLike):
        return read_image(number, Path(image))
    raise DataError(f"image {number} is a {type(image).__name__}: expected a uint8 array (H, W, 3) or a path")


def _named(found: Sequence[Found], *, alone: bool) -> NamedDetections | list[NamedDetections]:
    named = [
        NamedDetections(
            np.asarray(one.boxes_xyxy, np.float32),
            np.asarray(one.scores, np.float32),
            one.labels,
            one.image.width,
            one.image.height,
        )
        for one in found
    ]
    return named[0] if alone else named
