"""Card of OmDet-Turbo.

Facts from the README and ``configs/OmDet-Turbo_tiny_SWIN_T.yaml`` of om-ai-lab/OmDet. Parameters are those of the
architecture.
"""

from __future__ import annotations

from ovd_bench.detectors.card import DetectorCard, TrainingData

CARDS: tuple[DetectorCard, ...] = (
    DetectorCard(
        name="omdet-turbo-tiny",
        family="omdet-turbo",
        framework="torch",
        loader="ovd_bench.detectors.omdet_turbo:load",
        weights="omlab/omdet-turbo-swin-tiny-hf",
        parameters=115_406_806,
        backbone="Swin-T (timm)",
        text_encoder="CLIP ViT-B/16 text transformer, 77 tokens",
        image_size="squashed to 640 × 640",
        training_data=(
            TrainingData("clip", ("wit-400m",), "pretraining", "CLIP's image-text pairs, text encoder only"),
            TrainingData("imagenet", ("imagenet-1k",), "pretraining", "Swin"),
            TrainingData("objects365-train", ("objects365-train",)),
            TrainingData(
                "goldg",
                ("flickr30k-train", "visual-genome-no-coco", "gqa-no-coco"),
                "grounding",
                "named after GLIP's, which leaves COCO's images out",
            ),
        ),
        licence="Apache-2.0",
        url="https://github.com/om-ai-lab/OmDet",
        paper="arXiv:2403.06892",
        capabilities=("open_vocabulary", "joint"),
        notes=(
            "scores of a class depend on the other classes of its chunk",
            "no suppression of overlapping boxes, unlike the demo of its authors",
        ),
    ),
)
