"""The part of a training's YAML file for data and augmentation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.detectors.prompts import Cleaning

_Side = Annotated[int, Field(ge=16, le=8192)]
_Sides = Annotated[tuple[_Side, ...], Field(strict=False)]
_Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class SourceSettings(StrictModel):
    """A file of records and its images.

    Attributes:
        annotations: ODVG JSONL.
        images: folder that the file names are relative to.
        label_map: names of the classes; needed if the file has detection records.
        cleaning: ``lvis`` cuts out what LVIS puts in brackets to tell senses of a word apart, as in "bow_(weapon)";
            ``none``: names as they are.
        weight: how often per epoch each record is seen, on average; 1 for all sources = plain concatenation.
    """

    annotations: Annotated[str, Field(min_length=1)]
    images: Annotated[str, Field(min_length=1)]
    label_map: Annotated[str, Field(min_length=1)] | None = None
    cleaning: Cleaning = "none"
    weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0


class CropSettings(StrictModel):
    """A random part of the image, as in DETR (``datasets/coco.py``, make_coco_transforms).

    Attributes:
        probability: of a crop.
        sizes: the shorter side is resized to one of these before the crop.
        smallest, largest: limits of the sides of the crop, which are drawn independently.
    """

    probability: _Probability = 0.5
    sizes: Annotated[_Sides, Field(min_length=1)] = (400, 500, 600)
    smallest: _Side = 384
    largest: _Side = 600

    @model_validator(mode="after")
    def _ordered(self) -> CropSettings:
        if self.smallest > self.largest:
            raise ValueError(f"smallest is {self.smallest}, more than largest, {self.largest}")
        return self


class TransformSettings(StrictModel):
    """Augmentation of images; the defaults are those of DETR and Grounding DINO.

    Attributes:
        flip: probability of mirroring left to right.
        sizes: the shorter side is resized to one of these, drawn each time; empty = no resizing.
        longest: maximum of the longer side.
        crop: None = whole images only.
    """

    flip: _Probability = 0.5
    sizes: _Sides = tuple(range(480, 801, 32))
    longest: _Side = 1333
    crop: CropSettings | None = CropSettings()

    @model_validator(mode="after")
    def _fitting(self) -> TransformSettings:
        if self.sizes and max(self.sizes) > self.longest:
            raise ValueError(f"the largest of sizes is {max(self.sizes)}, more than longest, {self.longest}")
        return self


class CaptionSettings(StrictModel):
    """Construction of captions; the defaults are mmdetection's.

    Attributes:
        max_tokens: of a caption, [CLS], [SEP] and dots counted.
        num_negatives: maximum number of classes in the caption that are not in the image; detection records only.
        full_sampling_probability: of ``num_negatives`` such classes; otherwise 1 to that many.
    """

    max_tokens: Annotated[int, Field(ge=8, le=256)] = 256
    num_negatives: Annotated[int, Field(ge=0, le=256)] = 85
    full_sampling_probability: _Probability = 0.5


class GroundingSettings(TransformSettings, CaptionSettings):
    """Data of a training.

    Attributes:
        sources: files that are mixed together.
        repeat_threshold: images with a class that fewer than this share of images have are seen more often (Gupta et
            al. 2019, LVIS, section 5.1; 0.001 there); 0 = all images equally often.
        aspect_buckets: whether images wider than high and others are put into separate batches.
        workers: processes that prepare batches; 0 = the process of the training.
        cache_images: whether decoded images are kept in memory, in each process that prepares batches.
    """

    sources: Annotated[tuple[SourceSettings, ...], Field(strict=False, min_length=1)]
    repeat_threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    aspect_buckets: bool = True
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    cache_images: bool = False
