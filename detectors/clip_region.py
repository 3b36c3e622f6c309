"""Plain CLIP as a detector: CLIP classifies regions proposed by another detector (``baselines.clip_region``).

``crop`` encodes a square around every region, with many forward passes per image. ``pooled`` encodes the image once and
averages the patches inside each box. The text is encoded once per vocabulary.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovd_bench.baselines.clip_region.network import ClipNetwork
from ovd_bench.baselines.clip_region.proposals import GridProposer, Proposals, Proposer, pooled
from ovd_bench.baselines.clip_region.regions import Boxes, Pixels, patch_grid, pool_boxes, resized, square_crop
from ovd_bench.baselines.clip_region.scores import class_probabilities, fused_scores
from ovd_bench.baselines.clip_region.weights import LoadedClip, load_clip
from ovd_bench.detectors.card import DetectorCard, TrainingData
from ovd_bench.detectors.cards.clip_region import CLIP_DATA
from ovd_bench.detectors.class_vectors import ClassVectors
from ovd_bench.detectors.clip_region_options import GRID, ClipRegionOptions, ProposalOptions, read_options
from ovd_bench.detectors.hub import ModelFolder, model_folder, weights_sha256
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.last_image import LastImage
from ovd_bench.detectors.owl import ensembled
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.detectors.registry import find_card, load_detector
from ovd_bench.detectors.selection import best_pairs_of_chunks, detections
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary

Variant = Literal["crop", "pooled"]

#: Number of boxes requested from the proposing detector, duplicates included.
_PROPOSED = 1000
_CROPS_PER_BATCH = 64
#: Longer side of the image for ``pooled``, as a multiple of CLIP's training size.
_ENLARGED = 2


def load_crop(card: DetectorCard, settings: DetectorSettings) -> ClipRegionDetector:
    """Load the variant ``crop``; see ``load``."""
    return load(card, settings, "crop")


def load_pooled(card: DetectorCard, settings: DetectorSettings) -> ClipRegionDetector:
    """Load the variant ``pooled``; see ``load``."""
    return load(card, settings, "pooled")


def load(card: DetectorCard, settings: DetectorSettings, variant: Variant) -> ClipRegionDetector:
    """Load CLIP and the proposing detector.

    Args:
        card: its ``weights`` are CLIP's.
        settings: its ``weights`` are a file of options (``detectors.clip_region_options``), or CLIP's.
        variant: how a region is shown to CLIP.

    Raises:
        DetectorError: options, files or a proposing detector that do not load, a precision or device that is not there,
            an image size that the variant does not take.
    """
    if settings.dtype != "float32":
        raise DetectorError(f"detector '{card.name}': dtype is {settings.dtype}, it computes in float32")
    options = read_options(settings.weights)
    folder = model_folder(card, options.clip or card.weights)
    clip = _clip(card, folder, settings.device)
    proposer, proposing = _proposer(options.proposals, settings)
    filled = dataclasses.replace(
        card,
        weights=folder.source if settings.weights in (None, options.clip) else settings.weights,
        weights_sha256=_identity(clip, proposing, options),
        parameters=_parameters(clip, proposing),
        training_data=_training_data(proposing),
        notes=(*card.notes, _about(options, proposing)),
    )
    return ClipRegionDetector(filled, clip.network, proposer, options, settings, variant)


def _clip(card: DetectorCard, folder: ModelFolder, device: str) -> LoadedClip:
    try:
        return load_clip(folder.path, device)
    except ValueError as error:
        raise DetectorError(str(error)) from error
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DetectorError(f"detector '{card.name}': device '{device}': {reason}") from error


def _proposer(options: ProposalOptions, settings: DetectorSettings) -> tuple[Proposer, DetectorCard | None]:
    """The proposer, and the card of its detector; None = the grid."""
    if options.detector == GRID:
        return GridProposer(), None
    if find_card(options.detector).family == "clip-region":
        raise DetectorError(f"proposals: detector '{options.detector}' needs proposals itself: choose another")
    own = dataclasses.replace(
        settings, weights=options.weights, image_size=None, top_k=_PROPOSED, chunk_top_k=None, chunk_batch=None
    )
    detector = load_detector(options.detector, own)
    return DetectorProposer(detector, options), detector.card


def _identity(clip: LoadedClip, proposing: DetectorCard | None, options: ClipRegionOptions) -> str:
    """Hash of everything that the scores depend on: both networks and the options."""
    chosen = options.model_dump(exclude={"clip": True, "proposals": {"weights"}})
    lines = (
        f"clip {weights_sha256(clip.files)}",
        f"proposals {f'{proposing.name} {proposing.weights_sha256}' if proposing else GRID}",
        f"options {json.dumps(chosen, sort_keys=True, ensure_ascii=False)}",
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _parameters(clip: LoadedClip, proposing: DetectorCard | None) -> int | None:
    """Of both networks; None = that of the proposing one is not known."""
    own = clip.network.parameters
    if proposing is None:
        return own
    return None if proposing.parameters is None else own + proposing.parameters


def _training_data(proposing: DetectorCard | None) -> tuple[TrainingData, ...] | None:
    """Of both networks; None = that of the proposing one is not known."""
    if proposing is None:
        return CLIP_DATA
    if proposing.training_data is None:
        return None
    return tuple(dict.fromkeys((*CLIP_DATA, *proposing.training_data)))


def _about(options: ClipRegionOptions, proposing: DetectorCard | None) -> str:
    """One line that describes the options."""
    given = options.proposals
    regions = "a grid of windows" if proposing is None else f"{proposing.name}, asked for {', '.join(given.words)}"
    temperature = "its own" if options.temperature is None else f"{options.temperature:g}"
    return f"regions: {regions}; temperature {temperature}; exponent of the objectness {options.objectness:g}"


class DetectorProposer:
    """A detector as a proposer: boxes of all words pooled, their scores as objectness.

    Args:
        detector: of the suite; its scores must lie between 0 and 1.
        options: words, overlap and number.

    Raises:
        DetectorError: the detector refuses the words.
    """

    def __init__(self, detector: Detector, options: ProposalOptions) -> None:
        self._detector, self._options = detector, options
        words = options.words
        detector.set_vocabulary(Vocabulary(tuple(range(1, len(words) + 1)), words), PLANS["names"])

    def propose(self, images: Sequence[Pixels]) -> list[Proposals]:
        """See ``baselines.clip_region.proposals.Proposer``."""
        found = self._detector.detect([Image(number, pixels) for number, pixels in enumerate(images)])
        proposals = []
        for one in found:
            size = one.height, one.width
            try:
                proposals.append(pooled(one.boxes_xyxy, one.scores, size, self._options.iou, self._options.most))
            except ValueError as error:
                raise DetectorError(f"proposals of detector '{self._detector.card.name}': {error}") from error
        return proposals


@dataclass(frozen=True)
class _Queries:
    category_ids: tuple[int, ...]
    vectors: Tensor  # float32 (K, d)
    chunks: list[range]


class ClipRegionDetector:
    """CLIP on the regions of a proposer.

    The score of a class in a region is the weighted geometric mean of the region's objectness and the class's
    probability, the softmax over the whole vocabulary, whatever the chunks of the plan: so CLIP was trained, and so a
    class depends on the others. With one class the probability is 1 and the objectness alone ranks.

    Args:
        card: what it is.
        network: CLIP.
        proposer: of the regions.
        options: how they are classified.
        settings: sizes and limits.
        variant: how a region is shown to CLIP.

    Raises:
        DetectorError: an image size that the variant does not take.
    """

    def __init__(
        self,
        card: DetectorCard,
        network: ClipNetwork,
        proposer: Proposer,
        options: ClipRegionOptions,
        settings: DetectorSettings,
        variant: Variant,
    ) -> None:
        if variant == "crop" and settings.image_size not in (None, network.image_size):
            raise DetectorError(
                f"detector '{card.name}': image_size is {settings.image_size}, crops are of {network.image_size} pixels"
            )
        self._plain_card, self.card = card, card
        self._network, self._proposer, self._options, self._settings = network, proposer, options, settings
        self._variant = variant
        self._longer = settings.image_size or _ENLARGED * network.image_size
        self._scale = network.scale if options.temperature is None else 1 / options.temperature
        self._queries: _Queries | None = None
        self._seen = LastImage(self._see)

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Encode all prompts of all classes, each distinct prompt once."""
        rows = plan.rows(vocabulary)
        prompts = [plan.fill(vocabulary.names[row]) for row in rows]
        position = {text: number for number, text in enumerate(dict.fromkeys(text for row in prompts for text in row))}
        encoded = self._network.encode_texts(list(position))
        vectors = encoded[torch.tensor([[position[text] for text in row] for row in prompts])]
        notes = list(self._plain_card.notes)
        if long := self._network.too_long(list(position)):
            notes.append(
                f"{len(long)} prompts are too long for the text encoder and lose their end, such as '{long[0]}'"
            )
        self.card = dataclasses.replace(self._plain_card, notes=tuple(notes))
        self._queries = _Queries(
            category_ids=tuple(vocabulary.ids[row] for row in rows),
            vectors=ensembled(vectors, plan.ensemble),
            chunks=plan.chunks(len(rows)),
        )

    def class_vectors(self) -> ClassVectors:
        """See ``detectors.interface.TextDetector``: vectors that unit image vectors are multiplied with."""
        if self._queries is None:
            raise DetectorError(f"detector '{self.card.name}': no vocabulary was set")
        queries = self._queries
        return dict(zip(queries.category_ids, queries.vectors.float().cpu().numpy(), strict=True))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See ``detectors.interface.Detector``."""
        if self._queries is None:
            raise DetectorError(f"detector '{self.card.name}': no vocabulary was set")
        if len(images) == 1:
            return [self._named(images[0], *self._seen(images[0]), self._queries)]
        proposals = self._proposer.propose([image.pixels for image in images])
        return [
            self._named(image, *one, self._vectors(image, one[0]), self._queries)
            for image, one in zip(images, proposals, strict=True)
        ]

    def region_vectors(self, pixels: Pixels, boxes_xyxy: Boxes) -> Tensor:
        """Unit vectors of regions of one image, float32 (n, d).

        Args:
            pixels: uint8 (H, W, 3).
            boxes_xyxy: (n, 4), n at least 1, in pixels of the image, inside it and not empty.
        """
        return self._cropped(pixels, boxes_xyxy) if self._variant == "crop" else self._pooled(pixels, boxes_xyxy)

    def _cropped(self, pixels: Pixels, boxes_xyxy: Boxes) -> Tensor:
        network, context = self._network, self._options.context
        found = []
        for begin in range(0, len(boxes_xyxy), _CROPS_PER_BATCH):
            batch = boxes_xyxy[begin : begin + _CROPS_PER_BATCH]
            crops = [square_crop(pixels, box, context, network.image_size, network.fill) for box in batch]
            found.append(network.encode_crops(crops))
        return torch.cat(found)

    def _pooled(self, pixels: Pixels, boxes_xyxy: Boxes) -> Tensor:
        height, width = pixels.shape[:2]
        patch = self._network.patch_size
        rows, columns = patch_grid(height, width, self._longer, patch)
        features = self._network.encode_patches(resized(pixels, rows * patch, columns * patch))
        boxes = torch.from_numpy(boxes_xyxy).to(features.device)
        return torch.nn.functional.normalize(pool_boxes(features, boxes, height, width), dim=-1)

    def _see(self, image: Image) -> tuple[Boxes, npt.NDArray[np.float32], Tensor | None]:
        """Boxes of one image with their objectness and vectors, all of which depend only on the image."""
        (proposed,) = self._proposer.propose([image.pixels])
        return *proposed, self._vectors(image, proposed[0])

    def _vectors(self, image: Image, boxes_xyxy: Boxes) -> Tensor | None:
        return self.region_vectors(image.pixels, boxes_xyxy) if len(boxes_xyxy) else None

    def _named(
        self,
        image: Image,
        boxes_xyxy: Boxes,
        objectness: npt.NDArray[np.float32],
        vectors: Tensor | None,
        queries: _Queries,
    ) -> Detections:
        if vectors is None:
            return Detections.of(image, boxes_xyxy, objectness, ())
        probabilities = class_probabilities(vectors, queries.vectors, self._scale)
        likely = torch.from_numpy(objectness).to(probabilities.device)
        scores = fused_scores(probabilities, likely, self._options.objectness).cpu().numpy()
        pairs = best_pairs_of_chunks(scores, queries.chunks, self._settings.top_k, self._settings.chunk_top_k)
        return detections(image, pairs, boxes_xyxy, queries.category_ids)
