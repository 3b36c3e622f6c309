"""Cards of the CLIP region classifier: plain CLIP on regions of another detector.

Facts from openai/CLIP (``model-card.md``; MIT licence, image-text pairs of the web) and from the card of the detector
that proposes; once loaded, the cards say which one that was.
"""

from __future__ import annotations

from ovd_bench.detectors.card import DetectorCard, TrainingData
from ovd_bench.detectors.cards.owl import CARDS as OWL

CLIP_DATA = (TrainingData("clip", ("wit-400m",), "pretraining", "CLIP's image-text pairs"),)
_PROPOSING = next(card for card in OWL if card.name == "owlv2-base-patch16-ensemble")
_CLIP = 149_620_737


def _card(variant: str, image_size: str, note: str) -> DetectorCard:
    return DetectorCard(
        name=f"clip-region-{variant}",
        family="clip-region",
        framework="torch",
        loader=f"ovd_bench.detectors.clip_region:load_{variant}",
        weights="openai/clip-vit-base-patch16",
        parameters=_CLIP + (_PROPOSING.parameters or 0),
        backbone="CLIP ViT-B/16",
        text_encoder="CLIP text transformer, 77 tokens",
        image_size=image_size,
        training_data=tuple(dict.fromkeys((*CLIP_DATA, *(_PROPOSING.training_data or ())))),
        licence="MIT; Apache-2.0 of the proposing detector",
        url="https://github.com/openai/CLIP",
        paper="arXiv:2103.00020",
        capabilities=("open_vocabulary", "templates", "joint"),
        notes=(f"regions of {_PROPOSING.name} unless a file of options names another (docs/clip-region.md)", note),
        suppression_version=1,  # baselines.clip_region.proposals
    )


CARDS: tuple[DetectorCard, ...] = (
    _card("crop", "square crops of 224", "one forward pass per region, 300 per image"),
    _card("pooled", "longer side 448", "one forward pass per image; patches pooled inside boxes, as MaskCLIP's"),
)
