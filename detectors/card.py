"""Cards: facts about a detector, before and after it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: ``templates``: several prompts per class can be ensembled. ``joint``: classes of a chunk see each other in the text.
Capability = Literal["open_vocabulary", "templates", "joint", "grounding"]


@dataclass(frozen=True)
class TrainingData:
    """A data set that a detector, or its pretrained parts, was trained on.

    Attributes:
        dataset: name as in the suite's data sets, such as ``objects365``, ``lvis-v1-train``.
        images: its image collections, such as ``coco-train2017``; contamination is decided by these.
        role: kind of its labels: ``detection`` (boxes with class names), ``grounding`` (boxes with phrases),
            ``pseudo`` (boxes and labels made by a model), ``pretraining`` (image-text or image-class pairs, no boxes).
        note: such as "rare classes removed".
        rare_left_out: boxes of classes that are rare in LVIS, and of names close to them, were left out.
    """

    dataset: str
    images: tuple[str, ...] = ()
    role: Literal["detection", "grounding", "pseudo", "pretraining"] = "detection"
    note: str = ""
    rare_left_out: bool = False


@dataclass(frozen=True)
class DetectorCard:
    """Facts about a detector; no framework is needed to read them.

    Attributes:
        name: on the command line and on the board.
        family: system it belongs to, such as ``owlv2``.
        framework: ``torch``, ``jittor`` or ``numpy``.
        loader: ``module:callable``, imported only when the detector is loaded.
        weights: hub id, or ``package:FILE`` for shipped weights; empty = the user must name them.
        weights_sha256: of the loaded weights; empty until loaded, except for shipped ones, where it is checked.
        parameters: number of scalars; None until loaded if not known.
        backbone, text_encoder: short descriptions.
        image_size: description of the resizing.
        training_data: all training data of the weights; None = not known, which is flagged.
        licence: of the weights.
        url, paper: their source.
        capabilities: of the detector.
        notes: one-line notes for users.
        adapter_version: of what the adapter makes of image, prompts and network: raised whenever the same weights,
            image and vocabulary give other boxes or scores than before (preprocessing, text, scores, a mended error).
            Part of a run's recipe: predictions of two versions never meet in one run.
        suppression_version: of its rule for duplicates (NMS: thresholds, ties, what competes with what), raised when
            that changes; None = it suppresses nothing. Part of the recipe, too.
    """

    name: str
    family: str
    framework: Literal["torch", "jittor", "numpy"]
    loader: str
    weights: str = ""
    weights_sha256: str = ""
    parameters: int | None = None
    backbone: str = ""
    text_encoder: str = ""
    image_size: str = ""
    training_data: tuple[TrainingData, ...] | None = None
    licence: str = ""
    url: str = ""
    paper: str = ""
    capabilities: tuple[Capability, ...] = ("open_vocabulary",)
    notes: tuple[str, ...] = ()
    adapter_version: int = 1
    suppression_version: int | None = None
