"""Cards of OWL-ViT and OWLv2.

Facts from ``scenic/projects/owl_vit`` (README, configs, ``preprocessing/label_ops.py``), arXiv 2205.06230, 2306.09683.
Parameters are those of the architecture.
"""

from __future__ import annotations

from ovd_bench.detectors.card import DetectorCard, TrainingData

_URL = "https://github.com/google-research/scenic/tree/main/scenic/projects/owl_vit"
_CLIP = TrainingData("clip", ("wit-400m",), "pretraining", "CLIP's image-text pairs")
_RARE_OUT = "labels close to a rare LVIS class left out"
_HUMAN_BOXES = (
    _CLIP,
    TrainingData("objects365", ("objects365-train",), "detection", _RARE_OUT, rare_left_out=True),
    TrainingData("visual-genome", ("visual-genome",), "detection", _RARE_OUT, rare_left_out=True),
)
_SELF_TRAINED = (
    _CLIP,
    TrainingData("webli", ("webli",), "pseudo", "boxes by OWL-ViT CLIP L/14, taught by objects365, visual-genome"),
)
_FINE_TUNED = (
    *_SELF_TRAINED,
    TrainingData("lvis-v1-train", ("coco-train2017",), "detection", "rare classes left out", rare_left_out=True),
)
_NOT_ZERO_SHOT = "fine-tuned on LVIS without its rare classes: only APr is zero-shot on LVIS"


def _card(
    version: int,
    variant: str,
    backbone: str,
    side: int,
    parameters: int,
    training_data: tuple[TrainingData, ...],
    notes: tuple[str, ...] = (),
) -> DetectorCard:
    family = "owlvit" if version == 1 else "owlv2"
    return DetectorCard(
        name=f"{family}-{variant}",
        family=family,
        framework="torch",
        loader="ovd_bench.detectors.owl:load",
        weights=f"google/{family}-{variant}",
        parameters=parameters,
        backbone=f"CLIP ViT-{backbone}",
        text_encoder="CLIP text transformer, 16 tokens",
        image_size=f"padded to a square of {side}",
        training_data=training_data,
        licence="Apache-2.0",
        url=_URL,
        paper="arXiv:2205.06230" if version == 1 else "arXiv:2306.09683",
        capabilities=("open_vocabulary", "templates"),
        notes=notes,
    )


CARDS: tuple[DetectorCard, ...] = (
    _card(1, "base-patch32", "B/32", 768, 153_231_879, _HUMAN_BOXES),
    _card(1, "base-patch16", "B/16", 768, 152_789_511, _HUMAN_BOXES),
    _card(1, "large-patch14", "L/14", 840, 433_888_519, _HUMAN_BOXES),
    _card(2, "base-patch16", "B/16", 960, 154_966_792, _SELF_TRAINED),
    _card(2, "base-patch16-finetuned", "B/16", 960, 154_966_792, _FINE_TUNED, (_NOT_ZERO_SHOT,)),
    _card(
        2,
        "base-patch16-ensemble",
        "B/16",
        960,
        154_966_792,
        _FINE_TUNED,
        (_NOT_ZERO_SHOT, "weights are an average of the self-trained and the fine-tuned model"),
    ),
    _card(
        2,
        "large-patch14-ensemble",
        "L/14",
        1008,
        437_610_760,
        _FINE_TUNED,
        (_NOT_ZERO_SHOT, "weights are an average of the self-trained and the fine-tuned model"),
    ),
    _card(2, "large-patch14-finetuned", "L/14", 1008, 437_610_760, _FINE_TUNED, (_NOT_ZERO_SHOT,)),
)
