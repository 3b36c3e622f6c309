"""Cards of DETR and Deformable DETR.

Facts from the READMEs of facebookresearch/detr and fundamentalvision/Deformable-DETR. Parameters are those of the
architecture, without the frozen statistics and factors of the backbone's batch norms.
"""

from __future__ import annotations

from ovd_bench.detectors.card import DetectorCard, TrainingData

_TRAINING_DATA = (
    TrainingData("imagenet-1k", ("imagenet-1k",), "pretraining", "ResNet"),
    TrainingData("coco-train2017", ("coco-train2017",)),
)
_CLOSED = "has the 80 classes of COCO and finds a category by name; others get no box"


def _card(
    name: str, family: str, weights: str, backbone: str, parameters: int, url: str, paper: str, note: str
) -> DetectorCard:
    return DetectorCard(
        name=name,
        family=family,
        framework="torch",
        loader="ovd_bench.detectors.closed_set:load",
        weights=weights,
        parameters=parameters,
        backbone=f"{backbone} (timm)",
        text_encoder="none",
        image_size="shorter side 800, longer at most 1333",
        training_data=_TRAINING_DATA,
        licence="Apache-2.0",
        url=url,
        paper=paper,
        capabilities=(),
        notes=(_CLOSED, note),
    )


def _detr(layers: int, parameters: int) -> DetectorCard:
    return _card(
        f"detr-resnet-{layers}",
        "detr",
        f"facebook/detr-resnet-{layers}",
        f"ResNet-{layers}",
        parameters,
        "https://github.com/facebookresearch/detr",
        "arXiv:2005.12872",
        "several classes per box compete; its authors keep the best class of each of 100 boxes",
    )


CARDS: tuple[DetectorCard, ...] = (
    _detr(50, 41_524_768),
    _detr(101, 60_464_672),
    _card(
        "deformable-detr",
        "deformable-detr",
        "SenseTime/deformable-detr",
        "ResNet-50",
        40_069_665,
        "https://github.com/fundamentalvision/Deformable-DETR",
        "arXiv:2010.04159",
        "one stage, no iterative refinement of boxes; 300 queries",
    ),
)
