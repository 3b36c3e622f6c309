"""Cards of the contestants of the controlled study (docs/controlled.md), as trained with its first seed.

They have backbone, text encoder, batches and number of steps in common, which the detectors of ``nano`` have not. Each
is called by its way to bring image and words together, then by the method that it stands for, and what that has beyond.
"""

from __future__ import annotations

import dataclasses

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.cards.nano import CARDS as NANO
from ovd_bench.detectors.cards.nano import PHRASES, READS_BARE

_STEPS = "contestant of the controlled study: 2,000 steps of 4 images on batches that all contestants share"

_GROUNDING_DINO = next(card for card in NANO if card.name == "grounding-dino-nano")
_CONTESTANT = DetectorCard(
    name="contestant",
    family="contestant",
    framework="torch",
    loader="ovd_bench.detectors.contestants:load",
    backbone="Swin",
    text_encoder="all-MiniLM-L6-v2, frozen",
    image_size="shorter side as in training",
    training_data=(PHRASES,),
    licence="that of what it was trained on",
    notes=("a detector of a controlled study: --weights names those of a training (docs/studies.md)",),
    suppression_version=1,  # detectors.suppression.without_duplicates, and NMS of proposals in baselines.controlled
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
        notes=(*notes, READS_BARE, _STEPS),
    )


CARDS: tuple[DetectorCard, ...] = (
    _CONTESTANT,
    dataclasses.replace(
        _GROUNDING_DINO,
        name="grounding-dino-controlled",
        weights="package:grounding_dino_jt/shipped/grounding-dino-controlled.safetensors",
        weights_sha256="110c915fc7f72130c8c28bdf8b8a8762168af7e67f2a848d77550f0082f3a51a",
        parameters=23_506_695,
        notes=(
            "query-based early fusion; stands for Grounding DINO, which has a text encoder that learns, six layers "
            "each of encoder and decoder, four levels and 900 queries",
            "22.7 million of the parameters are the text encoder's",
            READS_BARE,
            _STEPS,
        ),
    ),
    _card(
        "glip-controlled",
        "ad09873b1be0194fd471c5a11a0952760e48869cff64cb22b4af9968a08002ed",
        1_598_143,
        "arXiv:2112.03857",
        "dense deep fusion; stands for GLIP, which has a text encoder that learns, six or eight blocks and five levels",
    ),
    _card(
        "owl-controlled",
        "7e475fd16f8e4555f685f343a2eb7f4f64433f659179a87f5ded55d951a0c718",
        684_963,
        "arXiv:2205.06230",
        "dense late fusion; stands for OWL-ViT, which has image and text encoders pretrained together on image-text "
        "pairs, a plain ViT and one-to-one matching: here the backbone is a Swin of random numbers, and several places "
        "learn an object, with NMS",
        joint=False,
    ),
    _card(
        "clip-region-controlled",
        "fc90a32ab1c3b06561ab4ef2f767a01f094ace1a8f3b8b4ec1dc103757299a65",
        1_069_987,
        "arXiv:2112.09106",
        "two-stage late fusion; stands for RegionCLIP and ViLD, which have region embeddings learned from an "
        "image-text model (pretraining on pseudo-labelled regions, or distillation), box refinement and class-wise NMS",
    ),
)
