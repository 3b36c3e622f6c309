"""How a record becomes a sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.images import image_file, read_image
from benchmarks.odvg.records import OdvgRecord
from benchmarks.training.grounding.captioned import Captioned
from benchmarks.training.grounding.class_captions import ClassCaptions
from benchmarks.training.grounding.free_captions import Spans, read_caption, swap_sides
from benchmarks.training.grounding.samples import Sample, relative_boxes
from benchmarks.training.grounding.settings import GroundingSettings
from benchmarks.training.grounding.sources import Source
from benchmarks.training.grounding.transforms import Transformed, transform
from grounding_dino_jt.tokenizer import Tokenizer
from grounding_dino_jt.training.batch import Targets
from metrics.types import DataError


class SampleMaker:
    """Makes samples of the records of several sources, which are numbered one source after the other."""

    def __init__(self, sources: Sequence[Source], settings: GroundingSettings, tokenizer: Tokenizer) -> None:
        """Tokenise all class names.

        Raises:
            DataError: a class name without a word.
        """
        self._sources = sources
        self._settings = settings
        self._tokenize = tokenizer.words
        self._begins = np.cumsum([0, *(len(source.records) for source in sources)])
        self._captions = [self._class_captions(source) for source in sources]
        self._images: dict[Path, npt.NDArray[np.uint8]] = {}

    def _class_captions(self, source: Source) -> ClassCaptions:
        try:
            return ClassCaptions(source.names, source.labels.values, self._tokenize, self._settings)
        except DataError as error:
            raise DataError(f"{source.file}: {error}") from error

    def __call__(self, number: int, rng: np.random.Generator) -> Sample:
        """A sample of record ``number``.

        Raises:
            DataError: a bad record or image; the message names file, record and image.
        """
        which = int(np.searchsorted(self._begins, number, side="right")) - 1
        source, position = self._sources[which], int(number - self._begins[which])
        try:
            record = source.records[position]
            boxes, belongs = _boxes(record)
            image = transform(self._image(source, record), boxes, rng, self._settings)
            captioned = self._captioned(which, record, belongs[image.kept], image, rng)
        except DataError as error:
            raise DataError(f"{source.file}: record {position + 1}: {error}") from error
        height, width = image.image.shape[:2]
        targets = Targets(
            relative_boxes(image.boxes_xyxy[captioned.kept], width, height), captioned.phrases, captioned.token_map
        )
        return Sample(image.image, captioned.ids, targets, captioned.dropped)

    def _captioned(
        self,
        which: int,
        record: OdvgRecord,
        belongs: npt.NDArray[np.int64],
        image: Transformed,
        rng: np.random.Generator,
    ) -> Captioned:
        """The caption, drawn after the image was varied, so that a class that was cropped away counts as absent."""
        if record.grounding is None:
            return self._captions[which].draw(belongs, rng)
        caption = record.grounding.caption
        spans: list[Spans] = [region.tokens_positive or () for region in record.grounding.regions]
        if image.mirrored:
            caption, spans = swap_sides(caption, spans)
        return read_caption(self._tokenize, caption, spans, belongs, self._settings.max_tokens)

    def _image(self, source: Source, record: OdvgRecord) -> npt.NDArray[np.uint8]:
        path = image_file(source.folder, record.filename)
        pixels = self._images.get(path)
        if pixels is None:
            pixels = read_image(0, path, (record.width, record.height)).pixels
            if self._settings.cache_images:
                self._images[path] = pixels
        return pixels


def _boxes(record: OdvgRecord) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Boxes (n, 4) of a record and, for each, its label or the number of its region."""
    if record.detection is not None:
        rows = [(instance.bbox, instance.label) for instance in record.detection.instances]
    else:
        regions = record.grounding.regions if record.grounding else ()
        rows = [(box, number) for number, region in enumerate(regions) for box in region.bbox]
    boxes = np.array([box for box, _ in rows], np.float64).reshape(-1, 4)
    return boxes, np.array([belongs for _, belongs in rows], np.int64)
