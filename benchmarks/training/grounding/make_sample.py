"""Make samples from records, and batches from samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.images import image_file, read_image
from ovd_bench.benchmarks.data.odvg.index import OdvgFile
from ovd_bench.benchmarks.data.odvg.records import OdvgRecord
from ovd_bench.benchmarks.data.odvg.spans import with_spans
from ovd_bench.benchmarks.training.grounding.captioned import Captioned
from ovd_bench.benchmarks.training.grounding.class_captions import ClassCaptions
from ovd_bench.benchmarks.training.grounding.free_captions import Spans, read_caption, swap_sides
from ovd_bench.benchmarks.training.grounding.samples import Sample, collate, relative_boxes
from ovd_bench.benchmarks.training.grounding.settings import GroundingSettings
from ovd_bench.benchmarks.training.grounding.sources import Source
from ovd_bench.benchmarks.training.grounding.transforms import Transformed, transform
from ovd_bench.grounding_dino_jt.tokenizer import Tokenizer
from ovd_bench.grounding_dino_jt.training.batch import Targets, TrainingBatch
from ovd_bench.metrics.errors import DataError

#: Numbers of a batch's records, and numbers of the samples, each of which seeds its own randomness.
Task = Sequence[tuple[int, int]]
#: Maximum number of records that a message names.
_NAMED = 4


@dataclass(frozen=True)
class _Open:
    """The parts of a source needed to make samples; sent to the workers."""

    records: OdvgFile
    folder: Path
    captions: ClassCaptions


class BatchMaker:
    """Makes batches from the records of several sources, numbered one source after the other."""

    def __init__(self, sources: Sequence[Source], settings: GroundingSettings, tokenizer: Tokenizer, seed: int) -> None:
        """Tokenise all class names.

        Args:
            sources: opened.
            settings: of images and captions.
            tokenizer: the model's.
            seed: of all randomness.

        Raises:
            DataError: a class name without a word.
        """
        self._settings = settings
        self._tokenize = tokenizer.words
        self._seed = seed
        self._begins = np.cumsum([0, *(len(source.records) for source in sources)])
        self._sources = [_Open(s.records, s.folder, self._class_captions(s)) for s in sources]
        self._images: dict[Path, npt.NDArray[np.uint8]] = {}

    def _class_captions(self, source: Source) -> ClassCaptions:
        try:
            return ClassCaptions(source.names, source.records.labels.values, self._tokenize, self._settings)
        except DataError as error:
            raise DataError(f"{source.records.path}: {error}") from error

    def __call__(self, task: Task) -> TrainingBatch:
        """A batch.

        Raises:
            DataError: a bad record or image; the message names file, record and image.
        """
        return collate([self._sample(record, number) for record, number in task])

    def where(self, task: Task) -> str:
        """Description of the records of a batch, for messages."""
        found = [self._find(record) for record, _ in task[:_NAMED]]
        names = [f"{source.records.path}: record {position + 1}" for source, position in found]
        more = len(task) - len(names)
        return ", ".join(names) + (f" and {more} more" if more else "")

    def _find(self, record: int) -> tuple[_Open, int]:
        """Source of a record and position in it."""
        which = int(np.searchsorted(self._begins, record, side="right")) - 1
        return self._sources[which], record - int(self._begins[which])

    def _sample(self, number: int, sample: int) -> Sample:
        source, position = self._find(number)
        rng = np.random.Generator(np.random.PCG64([self._seed, 1, sample]))
        record = source.records[position]
        try:
            record = with_spans(record)
            boxes, belongs = _boxes(record)
            image = transform(self._image(source, record), boxes, rng, self._settings)
            captioned = self._captioned(source, record, belongs[image.kept], image, rng)
        except DataError as error:
            raise DataError(f"{source.records.path}: record {position + 1}: {error}") from error
        height, width = image.image.shape[:2]
        boxes_cxcywh = relative_boxes(image.boxes_xyxy[captioned.kept], width, height)
        targets = Targets(boxes_cxcywh, captioned.phrases, captioned.token_map, len(captioned.dropped))
        return Sample(image.image, captioned.ids, targets)

    def _captioned(
        self,
        source: _Open,
        record: OdvgRecord,
        belongs: npt.NDArray[np.int64],
        image: Transformed,
        rng: np.random.Generator,
    ) -> Captioned:
        """The caption, drawn after the augmentation, so that a class that was cropped away counts as absent.

        For a mirrored image, left and right in a sentence are swapped; class names are unchanged.
        """
        if record.grounding is None:
            return source.captions.draw(belongs, rng)
        caption = record.grounding.caption
        spans: list[Spans] = [region.tokens_positive or () for region in record.grounding.regions]
        if image.mirrored:
            caption, spans = swap_sides(caption, spans)
        return read_caption(self._tokenize, caption, spans, belongs, self._settings.max_tokens)

    def _image(self, source: _Open, record: OdvgRecord) -> npt.NDArray[np.uint8]:
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
