"""Cards of the contestants of the controlled study (docs/controlled.md), as trained with its first seed.

They have backbone, text encoder, batches and number of steps in common, which the detectors of ``nano`` have not.
"""

from __future__ import annotations

import dataclasses

from detectors.card import DetectorCard
from detectors.cards.nano import CARDS as NANO
from detectors.cards.nano import PHRASES

_STEPS = "contestant of the controlled study: 2,000 steps of 4 images on batches that all contestants share"

_GROUNDING_DINO = next(card for card in NANO if card.name == "grounding-dino-nano")
_CONTESTANT = DetectorCard(
    name="contestant",
    family="contestant",
    framework="torch",
    loader="detectors.contestants:load",
    backbone="Swin",
    text_encoder="all-MiniLM-L6-v2, frozen",
    image_size="shorter side as in training",
    training_data=(PHRASES,),
    licence="that of what it was trained on",
    notes=("a detector of a controlled study: --weights names those of a training (docs/studies.md)",),
    suppression_version=1,  # detectors.owl_nano.without_duplicates, and NMS of proposals in baselines.controlled
)


def _card(name: str, sha256: str, parameters: int, paper: str, *notes: str, joint: bool = True) -> DetectorCard:
    return dataclasses.replace(
        _CONTESTANT,
        name=name,
        weights=f"package:baselines/weights/{name}.safetensors",
        weights_sha256=sha256,
        parameters=parameters,
        backbone=_GROUNDING_DINO.backbone,
        image_size=_GROUNDING_DINO.image_size,
        training_data=_GROUNDING_DINO.training_data,
        licence=_GROUNDING_DINO.licence,
        paper=paper,
        capabilities=("open_vocabulary", "joint") if joint else ("open_vocabulary",),
        notes=(_STEPS, *notes),
    )


CARDS: tuple[DetectorCard, ...] = (
    _CONTESTANT,
    dataclasses.replace(
        _GROUNDING_DINO,
        name="grounding-dino-controlled",
        weights="package:grounding_dino_jt/shipped/grounding-dino-controlled.safetensors",
        weights_sha256="110c915fc7f72130c8c28bdf8b8a8762168af7e67f2a848d77550f0082f3a51a",
        notes=("22.7 million of the parameters are the text encoder's", _STEPS),
    ),
    _card(
        "glip-controlled",
        "ad09873b1be0194fd471c5a11a0952760e48869cff64cb22b4af9968a08002ed",
        1_598_143,
        "arXiv:2112.03857",
    ),
    _card(
        "owl-controlled",
        "7e475fd16f8e4555f685f343a2eb7f4f64433f659179a87f5ded55d951a0c718",
        684_963,
        "arXiv:2205.06230",
        "one-to-many assignment and NMS, unlike OWL-ViT",
        joint=False,
    ),
    _card(
        "clip-region-controlled",
        "fc90a32ab1c3b06561ab4ef2f767a01f094ace1a8f3b8b4ec1dc103757299a65",
        1_069_987,
        "arXiv:2112.09106",
    ),
)
