"""Options of the CLIP region classifier, from a file that stands in the place of weights.

Two networks make this detector, so ``--weights`` may name a YAML file that says which:

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

#: Files of options end so; anything else is a folder or a hub id of CLIP.
SUFFIXES = (".yaml", ".yml")

#: In place of a detector: ``baselines.clip_region.proposals.GridProposer``.
GRID = "grid"


class ProposalOptions(BaseModel):
    """Where regions come from.

    Attributes:
        detector: name in the suite, or ``grid``.
        weights: of that detector; None = what its card names.
        words: what it is asked for; boxes of all words are pooled.
        iou: overlap above which the lesser of two boxes is a duplicate, whatever the word.
        most: regions kept per image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: str = "owlv2-base-patch16-ensemble"
    weights: str | None = None
    words: Annotated[tuple[str, ...], Field(min_length=1)] = ("object",)
    iou: Annotated[float, Field(ge=0, le=1)] = 0.7
    most: Annotated[int, Field(ge=1)] = 300


class ClipRegionOptions(BaseModel):
    """How regions are classified.

    Attributes:
        clip: hub id or folder; None = what the card names.
        proposals: where regions come from.
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
    """Options from what ``--weights`` names: a file of options, or else where CLIP is.

    Raises:
        DetectorError: the file cannot be read, or holds what is no option.
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
    """A path relative to the file's folder if there is such a thing, else as it is."""
    if source is not None and (beside := file.parent / source).exists():
        return str(beside)
    return source
