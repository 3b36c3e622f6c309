"""Value types between detectors and their users. Numpy only; validated on construction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ovd_bench.detectors.errors import DetectorError as DetectorError


@dataclass(frozen=True)
class Image:
    """An upright RGB image.

    Attributes:
        id: image id of the data set.
        pixels: uint8 (H, W, 3), RGB, EXIF orientation applied.
        path: of the file, for messages only.

    Raises:
        DetectorError: pixels of another type or shape, or without any pixel.
    """

    id: int
    pixels: npt.NDArray[np.uint8]
    path: str = ""

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise DetectorError(
                f"Image {self.id}: pixels must be uint8 (H, W, 3), not {self.pixels.dtype} {self.pixels.shape}"
            )
        if self.pixels.size == 0:
            raise DetectorError(f"Image {self.id}: pixels has shape {self.pixels.shape}, expected at least one pixel")

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True)
class Vocabulary:
    """Classes to find: category ids and names, in a fixed order (K categories).

    Attributes:
        ids: category ids, unique, each fitting int32.
        names: as the data set gives them; equal names are allowed, LVIS has them.
        synonyms: per category; empty tuple = none known.
        synset, frequency, supercategory: per category; empty tuple = none known.

    Raises:
        DetectorError: no categories, an id twice, an empty name, or columns of different length.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...] = ()
    synset: tuple[str, ...] = ()
    frequency: tuple[str, ...] = ()
    supercategory: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.ids:
            raise DetectorError("Vocabulary: is empty, expected at least one category")
        for name in ("names", "synonyms", "synset", "frequency", "supercategory"):
            column = getattr(self, name)
            if len(column) != len(self.ids) and (column or name == "names"):
                raise DetectorError(f"Vocabulary: {name} has {len(column)} rows, ids has {len(self.ids)}")
        if len(set(self.ids)) != len(self.ids):
            twice = next(i for i in self.ids if self.ids.count(i) > 1)
            raise DetectorError(f"Vocabulary: ids contains {twice} twice")
        if wrong := [i for i in self.ids if not -(2**31) <= i < 2**31]:
            raise DetectorError(f"Vocabulary: ids contains {wrong[0]}, which does not fit 32 bits")
        if nameless := [i for i, name in zip(self.ids, self.names, strict=True) if not name.strip()]:
            raise DetectorError(f"Vocabulary: names: category {nameless[0]} has an empty name")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> Vocabulary:
        """The given categories, in that order."""
        return Vocabulary(
            ids=tuple(self.ids[row] for row in rows),
            names=tuple(self.names[row] for row in rows),
            synonyms=tuple(self.synonyms[row] for row in rows if self.synonyms),
            synset=tuple(self.synset[row] for row in rows if self.synset),
            frequency=tuple(self.frequency[row] for row in rows if self.frequency),
            supercategory=tuple(self.supercategory[row] for row in rows if self.supercategory),
        )

    @property
    def sha256(self) -> str:
        """Hash of ids and names in order, the input of a detector."""
        text = json.dumps([self.ids, self.names], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Detections:
    """Boxes found in one image (n boxes).

    Attributes:
        image_id: of the image.
        width, height: of the original image, pixels.
        boxes_xyxy: float32 (n, 4), absolute pixels of the original image; may reach over its border.
        scores: float32 (n,), finite; higher is surer.
        category_ids: int32 (n,), of the vocabulary.

    Raises:
        DetectorError: wrong type or shape, NaN or infinity, a box of negative size, an image without a pixel; names the
            field.
    """

    image_id: int
    width: int
    height: int
    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    category_ids: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise DetectorError(f"Detections of image {self.image_id}: the image is {self.width} x {self.height}")
        _check_boxes(f"Detections of image {self.image_id}", self.boxes_xyxy, self.scores)
        n = len(self.scores)
        if self.category_ids.dtype != np.int32 or self.category_ids.shape != (n,):
            raise DetectorError(
                f"Detections of image {self.image_id}: category_ids must be int32 ({n},), "
                f"not {self.category_ids.dtype} {self.category_ids.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def check_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Refuse a category that is not in the vocabulary.

        Raises:
            DetectorError: naming the category.
        """
        unknown = ~np.isin(self.category_ids, np.array(vocabulary.ids))
        if unknown.any():
            row = int(np.argmax(unknown))
            raise DetectorError(
                f"Detections of image {self.image_id}: category_ids[{row}] is {self.category_ids[row]}, "
                "which is not in the vocabulary"
            )

    def of_categories(self, category_ids: npt.NDArray[np.int32]) -> Detections:
        """Only those of the given categories, in the same order."""
        kept = np.isin(self.category_ids, category_ids)
        return Detections(
            self.image_id,
            self.width,
            self.height,
            self.boxes_xyxy[kept],
            self.scores[kept],
            self.category_ids[kept],
        )

    @staticmethod
    def of(image: Image, boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike, category_ids: npt.ArrayLike) -> Detections:
        """Detections of an image from anything that numpy converts; types are converted, values are checked.

        Raises:
            DetectorError: as ``Detections``; a category id beyond int32.
        """
        boxes = np.ascontiguousarray(boxes_xyxy, np.float32)
        ids = np.asarray(category_ids)
        converted = ids.astype(np.int32)
        if ids.size and not np.array_equal(converted, ids):
            row = int(np.argmax(converted != ids))
            raise DetectorError(f"Detections of image {image.id}: category_ids[{row}] is {ids[row]}, not an int32")
        return Detections(
            image.id,
            image.width,
            image.height,
            boxes if boxes.size else boxes.reshape(-1, 4),
            np.ascontiguousarray(scores, np.float32),
            np.ascontiguousarray(converted),
        )


@dataclass(frozen=True)
class Question:
    """A text that is asked of an image, or a phrase of a caption.

    Attributes:
        text: the caption or expression.
        spans: character ranges ``(begin, end)`` of the phrase that is meant, increasing; empty = the whole text.

    Raises:
        DetectorError: a text of white space; a span outside the text, of white space, or that begins before the end of
            the one before.
    """

    text: str
    spans: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise DetectorError("text is empty")
        last = 0
        for begin, end in self.spans:
            if not last <= begin < end <= len(self.text) or not self.text[begin:end].strip():
                raise DetectorError(f"spans: ({begin}, {end}) is not a range of words in a text of {len(self.text)}")
            last = end

    @property
    def phrase(self) -> str:
        """The words that are meant."""
        if not self.spans:
            return self.text
        return " ".join(self.text[begin:end].strip() for begin, end in self.spans)


@dataclass(frozen=True)
class Grounding:
    """Boxes found for the phrases of one caption (n boxes).

    Attributes:
        image_id: of the image.
        caption: the text, as given.
        boxes_xyxy: float32 (n, 4), absolute pixels of the original image.
        scores: float32 (n,).
        spans: n tuples of character ranges ``(begin, end)`` in the caption that the box belongs to.

    Raises:
        DetectorError: as ``Detections``; a span outside the caption.
    """

    image_id: int
    caption: str
    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    spans: tuple[tuple[tuple[int, int], ...], ...] = field(default=())

    def __post_init__(self) -> None:
        owner = f"Grounding of image {self.image_id}"
        _check_boxes(owner, self.boxes_xyxy, self.scores)
        if len(self.spans) != len(self.scores):
            raise DetectorError(f"{owner}: spans has {len(self.spans)} rows, scores has {len(self.scores)}")
        for row, ranges in enumerate(self.spans):
            for begin, end in ranges:
                if not 0 <= begin < end <= len(self.caption):
                    raise DetectorError(f"{owner}: spans[{row}] is ({begin}, {end}), outside the caption")

    @property
    def phrases(self) -> tuple[str, ...]:
        """The words of the caption that each box belongs to."""
        return tuple(" ".join(self.caption[begin:end] for begin, end in ranges) for ranges in self.spans)


def _check_boxes(owner: str, boxes_xyxy: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> None:
    if scores.dtype != np.float32 or scores.ndim != 1:
        raise DetectorError(f"{owner}: scores must be float32 (n,), not {scores.dtype} {scores.shape}")
    if boxes_xyxy.dtype != np.float32 or boxes_xyxy.shape != (len(scores), 4):
        raise DetectorError(
            f"{owner}: boxes_xyxy must be float32 ({len(scores)}, 4), not {boxes_xyxy.dtype} {boxes_xyxy.shape}"
        )
    for name, values in (("scores", scores[:, None]), ("boxes_xyxy", boxes_xyxy)):
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            row = int(np.argmax(bad))
            raise DetectorError(f"{owner}: {name}[{row}] is {values[row].tolist()}, expected finite numbers")
    inverted = (boxes_xyxy[:, 2:] < boxes_xyxy[:, :2]).any(axis=1)
    if inverted.any():
        row = int(np.argmax(inverted))
        raise DetectorError(f"{owner}: boxes_xyxy[{row}] is {boxes_xyxy[row].tolist()}: negative width or height")
