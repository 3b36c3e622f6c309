"""Cards of Grounding DINO, MM-Grounding-DINO and LLMDet: through transformers, and the same weights in Jittor.

Facts from the READMEs and configurations of IDEA-Research/GroundingDINO, open-mmlab/mmdetection
(``configs/mm_grounding_dino``) and iSEE-Laboratory/LLMDet. Parameters are those of the architecture. The plain names
``grounding-dino-tiny`` and ``-base`` are the suite's own implementation; of the others it has the suffix ``-jt``.
"""

from __future__ import annotations

import dataclasses

from ovd_bench.detectors.card import DetectorCard, TrainingData

_IMAGENET_1K = TrainingData("imagenet-1k", ("imagenet-1k",), "pretraining", "Swin")
_IMAGENET_21K = TrainingData("imagenet-21k", ("imagenet-21k",), "pretraining", "Swin")
_O365 = TrainingData("objects365-train", ("objects365-train",))
_O365_V1 = TrainingData("objects365-v1-train", ("objects365-train",))
_O365_V2 = TrainingData("objects365-v2-train", ("objects365-train",))
_GOLDG = TrainingData(
    "goldg",
    ("flickr30k-train", "visual-genome-no-coco", "gqa-no-coco"),
    "grounding",
    "as GLIP's, without COCO images",
)
_CAP4M = TrainingData("cap4m", ("cap4m",), "pseudo", "web image-text pairs with boxes of a GLIP model")
_GRIT = TrainingData("grit", ("grit",), "pseudo", "web image-text pairs with boxes of a GLIP model")
_V3DET = TrainingData("v3det-train", ("v3det",))
_OPENIMAGES = TrainingData("openimages-v6-train", ("openimages-v6",))
_COCO = TrainingData("coco-train2017", ("coco-train2017",))
_GROUNDINGCAP = (
    TrainingData("coco-train2017", ("coco-train2017",), "detection", "GroundingCap-1M: with phrases and captions"),
    TrainingData("flickr30k-train", ("flickr30k-train",), "grounding", "GroundingCap-1M"),
    TrainingData("gqa-train", ("gqa",), "grounding", "GroundingCap-1M"),
    TrainingData("llava-recap-558k", ("web",), "pseudo", "GroundingCap-1M: web image-text pairs"),
    TrainingData("v3det-train", ("v3det",), "detection", "GroundingCap-1M: with phrases and captions"),
)

_TINY, _BASE, _LARGE = "Swin-T", "Swin-B, window 12", "Swin-L, window 12"
#: Weights and biases of a LayerNorm that transformers' Swin has and the detectors never run.
_UNUSED = {_TINY: 2 * 768, _BASE: 2 * 1024, _LARGE: 2 * 1536}

_GD_URL = "https://github.com/IDEA-Research/GroundingDINO"
_MM_URL = "https://github.com/open-mmlab/mmdetection/tree/main/configs/mm_grounding_dino"
_LLMDET_URL = "https://github.com/iSEE-Laboratory/LLMDet"
_EPSILON = "transformers guards its inverse sigmoid with 1e-5, the official code with 1e-3: boxes at the border differ"
_COCO_SEEN = "trained on COCO train2017: neither COCO nor LVIS is zero-shot"


def _card(
    name: str,
    weights: str,
    backbone: str,
    parameters: int,
    training_data: tuple[TrainingData, ...],
    notes: tuple[str, ...] = (),
) -> DetectorCard:
    family = name.split("-tiny")[0].split("-base")[0].split("-large")[0]
    url, paper = {
        "grounding-dino": (_GD_URL, "arXiv:2303.05499"),
        "mm-grounding-dino": (_MM_URL, "arXiv:2401.02361"),
        "llmdet": (_LLMDET_URL, "arXiv:2501.18954"),
    }[family]
    return DetectorCard(
        name=name,
        family=family,
        framework="torch",
        loader="ovd_bench.detectors.grounding_dino_hf:load",
        weights=weights,
        parameters=parameters,
        backbone=backbone,
        text_encoder="BERT base uncased, 256 tokens",
        image_size="shorter side 800, longer at most 1333",
        training_data=training_data,
        licence="Apache-2.0",
        url=url,
        paper=paper,
        capabilities=("open_vocabulary", "joint", "grounding"),
        notes=notes,
    )


def _mm_tiny(data: str, training_data: tuple[TrainingData, ...]) -> DetectorCard:
    return _card(
        f"mm-grounding-dino-tiny-{data.replace('_', '-')}",
        f"openmmlab-community/mm_grounding_dino_tiny_{data}",
        _TINY,
        172_913_693,
        (_IMAGENET_1K, *training_data),
    )


_MM_TINY = (_O365_V1, _GOLDG, _GRIT, _V3DET)
_MM_BASE = (_IMAGENET_21K, _O365_V1, _GOLDG, _V3DET)
_MM_LARGE = (_IMAGENET_21K, _O365_V2, _OPENIMAGES, _GOLDG)

_TRANSFORMERS: tuple[DetectorCard, ...] = (
    _card(
        "grounding-dino-tiny-hf",
        "IDEA-Research/grounding-dino-tiny",
        _TINY,
        172_250_626,
        (_IMAGENET_1K, _O365, _GOLDG, _CAP4M),
        (_EPSILON,),
    ),
    _card(
        "grounding-dino-base-hf",
        "IDEA-Research/grounding-dino-base",
        _BASE,
        232_315_264,
        (
            _IMAGENET_21K,
            _O365,
            _GOLDG,
            _CAP4M,
            _COCO,
            TrainingData("openimages", ("openimages-v6",), note="the README does not say which version"),
            TrainingData("odinw-35", ("odinw-35",)),
            TrainingData("refcoco", ("coco-train2014",), "grounding"),
        ),
        (_COCO_SEEN, _EPSILON),
    ),
    _mm_tiny("o365v1_goldg", (_O365_V1, _GOLDG)),
    _mm_tiny("o365v1_goldg_grit", (_O365_V1, _GOLDG, _GRIT)),
    _mm_tiny("o365v1_goldg_v3det", (_O365_V1, _GOLDG, _V3DET)),
    _mm_tiny("o365v1_goldg_grit_v3det", _MM_TINY),
    _card(
        "mm-grounding-dino-base-o365v1-goldg-v3det",
        "openmmlab-community/mm_grounding_dino_base_o365v1_goldg_v3det",
        _BASE,
        232_978_331,
        _MM_BASE,
    ),
    _card(
        "mm-grounding-dino-large-o365v2-oiv6-goldg",
        "openmmlab-community/mm_grounding_dino_large_o365v2_oiv6_goldg",
        _LARGE,
        343_055_703,
        _MM_LARGE,
    ),
    _card(
        "llmdet-tiny",
        "iSEE-Laboratory/llmdet_tiny",
        _TINY,
        172_913_693,
        (_IMAGENET_1K, *_MM_TINY, *_GROUNDINGCAP),
        (_COCO_SEEN,),
    ),
    _card("llmdet-base", "iSEE-Laboratory/llmdet_base", _BASE, 232_978_331, (*_MM_BASE, *_GROUNDINGCAP), (_COCO_SEEN,)),
    _card(
        "llmdet-large", "iSEE-Laboratory/llmdet_large", _LARGE, 343_055_703, (*_MM_LARGE, *_GROUNDINGCAP), (_COCO_SEEN,)
    ),
)


def _in_jittor(card: DetectorCard) -> DetectorCard:
    """The same weights in ``grounding_dino_jt``, without the last LayerNorm of Swin, which nothing uses."""
    return dataclasses.replace(
        card,
        name=card.name.removesuffix("-hf") if card.name.endswith("-hf") else f"{card.name}-jt",
        framework="jittor",
        loader="ovd_bench.detectors.grounding_dino:load",
        parameters=(card.parameters or 0) - _UNUSED[card.backbone],
        suppression_version=1,  # detectors.suppression.without_duplicates, where nms_iou asks for it
        notes=tuple(note for note in card.notes if note != _EPSILON),
    )


CARDS: tuple[DetectorCard, ...] = (*map(_in_jittor, _TRANSFORMERS), *_TRANSFORMERS)
