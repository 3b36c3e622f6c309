"""Options of the CLIP region classifier, from a file given as weights.

This detector consists of two networks, so ``--weights`` may name a YAML file that specifies both:

    clip: openai/clip-vit-base-patch16         # hub id, or a folder; one in the file's own folder comes first
    proposals:
      detector: owlv2-base-patch16-ensemble    # any detector of the suite, or grid
      weights: my/owlv2                        # left out: what its card names
      words: [object, thing]
      iou: 0.7
      most: 300
    context: 1.5
    temperature: 0.01                          # left out: the model's own
    objectness: 0.5
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ovd_bench.detectors.types import DetectorError
from ovd_bench.detectors.yaml_text import parse_yaml

#: Suffixes of files of options; anything else is a folder or a hub id of CLIP.
SUFFIXES = (".yaml", ".yml")

#: Name of ``baselines.clip_region.proposals.GridProposer`` instead of a detector.
GRID = "grid"


class ProposalOptions(BaseModel):
    """Options of the region proposals.

    Attributes:
        detector: name in the suite, or ``grid``.
        weights: of that detector; None = those of its card.
        words: class names for it; boxes of all words are pooled.
        iou: IoU above which, of two boxes, the one with the lower score is removed, even if the words differ.
        most: maximum number of regions per image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: str = "owlv2-base-patch16-ensemble"
    weights: str | None = None
    words: Annotated[tuple[str, ...], Field(min_length=1)] = ("object",)
    iou: Annotated[float, Field(ge=0, le=1)] = 0.7
    most: Annotated[int, Field(ge=1)] = 300


class ClipRegionOptions(BaseModel):
    """Options of the classification of regions.

    Attributes:
        clip: hub id or folder; None = that of the card.
        proposals: of the regions.
        context: of crops, side of the square over the longer side of the box.
        temperature: that cosines are divided by; None = the model's own.
        objectness: exponent of the objectness in the score, 0 = classes alone, 1 = objectness alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clip: str | None = None
    proposals: ProposalOptions = ProposalOptions()
    context: Annotated[float, Field(gt=0, le=10)] = 1.5
    temperature: Annotated[float | None, Field(gt=0)] = None
    objectness: Annotated[float, Field(ge=0, le=1)] = 0.5


def read_options(source: str | None) -> ClipRegionOptions:
    """Options from ``--weights``: a file of options, or a folder or hub id of CLIP.

    Raises:
        DetectorError: the file cannot be read or has an unknown or invalid option.
    """
    if source is None or not source.endswith(SUFFIXES):
        return ClipRegionOptions(clip=source)
    file = Path(source)
    try:
        options = ClipRegionOptions.model_validate(parse_yaml(file.read_text(encoding="utf-8")) or {})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DetectorError(f"{file}: {place}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise DetectorError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())[:200]}") from error
    proposals = options.proposals.model_copy(update={"weights": _beside(file, options.proposals.weights)})
    return options.model_copy(update={"clip": _beside(file, options.clip), "proposals": proposals})


def _beside(file: Path, source: str | None) -> str | None:
    """A path relative to the file's folder if it exists there, else unchanged."""
    if source is not None and (beside := file.parent / source).exists():
        return str(beside)
    return source
