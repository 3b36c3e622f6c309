"""Cards of DINO: the closed-set sibling of Grounding DINO, in the suite's own implementation.

Facts from the README and ``config/DINO`` of IDEA-Research/DINO. Parameters are those of the architecture, without the
labels of the denoising and without the frozen statistics and factors of the backbone's batch norms.
"""

from __future__ import annotations

from ovd_bench.detectors.card import DetectorCard, TrainingData

_COCO = TrainingData("coco-train2017", ("coco-train2017",))
_PRETRAINING = {
    "ResNet-50": TrainingData("imagenet-1k", ("imagenet-1k",), "pretraining", "ResNet"),
    "Swin-L, window 12": TrainingData("imagenet-21k", ("imagenet-21k",), "pretraining", "Swin"),
}


def _card(name: str, backbone: str, parameters: int) -> DetectorCard:
    return DetectorCard(
        name=name,
        family="dino",
        framework="jittor",
        loader="ovd_bench.detectors.dino:load",
        parameters=parameters,
        backbone=backbone,
        text_encoder="none",
        image_size="shorter side 800, longer at most 1333",
        training_data=(_PRETRAINING[backbone], _COCO),
        licence="Apache-2.0",
        url="https://github.com/IDEA-Research/DINO",
        paper="arXiv:2203.03605",
        capabilities=(),
        notes=(
            "has the 80 classes of COCO and finds a category by name; others get no box",
            f"weights: checkpoint*_{name[-6:]}.pth of the model zoo, a file in the official layout",
        ),
    )


CARDS: tuple[DetectorCard, ...] = (
    _card("dino-resnet-50-4scale", "ResNet-50", 46_869_630),
    _card("dino-resnet-50-5scale", "ResNet-50", 47_232_254),
    _card("dino-swin-large-4scale", "Swin-L, window 12", 217_206_514),
    _card("dino-swin-large-5scale", "Swin-L, window 12", 217_553_138),
)
