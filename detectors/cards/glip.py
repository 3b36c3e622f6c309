"""Cards of GLIP.

Facts from the README and ``configs/pretrain`` of microsoft/GLIP, and from Li et al. 2022, section 4. Parameters are
those of the architecture, closed-set head and BERT's pooler, which nothing uses, included. The weights are not on the
hub in a layout of transformers: download a ``.pth`` and name it with ``--weights``.
"""

from __future__ import annotations

from ovd_bench.detectors.card import DetectorCard, TrainingData

_IMAGENET_1K = TrainingData("imagenet-1k", ("imagenet-1k",), "pretraining", "Swin")
_IMAGENET_21K = TrainingData("imagenet-21k", ("imagenet-21k",), "pretraining", "Swin")
_O365 = TrainingData("objects365-train", ("objects365-train",))
_GOLDG = TrainingData(
    "goldg", ("flickr30k-train", "visual-genome-no-coco", "gqa-no-coco"), "grounding", "without COCO images"
)
_CC3M = TrainingData("cc3m", ("cc3m",), "pseudo", "web image-text pairs with boxes of a GLIP model")
_CC12M = TrainingData("cc12m", ("cc12m",), "pseudo", "web image-text pairs with boxes of a GLIP model")
_SBU = TrainingData("sbu", ("sbu",), "pseudo", "web image-text pairs with boxes of a GLIP model")
_FOUR_ODS = (
    _O365,
    TrainingData("openimages", ("openimages-v6",), note="FourODs; the paper does not say which version"),
    TrainingData("visual-genome", ("visual-genome-no-coco",), note="FourODs, without COCO images"),
    TrainingData("imagenet-boxes", ("imagenet-21k",), note="FourODs"),
)
_CHUNKS = "scores of a class depend on the other classes of its chunk"
_CHOICE = "no pair below a class probability of 0.05, duplicates suppressed within a class at IoU 0.6"


def _card(name: str, parameters: int, training_data: tuple[TrainingData, ...], file: str, *notes: str) -> DetectorCard:
    large = name == "glip-large"
    return DetectorCard(
        name=name,
        family="glip",
        framework="torch",
        loader="ovd_bench.detectors.glip:load",
        parameters=parameters,
        backbone="Swin-L, window 12" if large else "Swin-T",
        text_encoder="BERT base uncased, 256 tokens",
        image_size="shorter side 800, longer at most 1333",
        training_data=(_IMAGENET_21K if large else _IMAGENET_1K, *training_data),
        licence="MIT",
        url="https://github.com/microsoft/GLIP",
        paper="arXiv:2112.03857",
        capabilities=("open_vocabulary", "joint", "grounding"),
        notes=(f"weights: {file} of GLIPModel/GLIP on the hub, or mmdetection's", _CHOICE, *notes),
        suppression_version=1,  # baselines.glip.postprocess
    )


CARDS: tuple[DetectorCard, ...] = (
    _card("glip-tiny-a", 152_021_118, (_O365,), "glip_a_tiny_o365.pth", _CHUNKS, "boxes do not depend on the text"),
    _card("glip-tiny-b", 232_370_814, (_O365,), "glip_tiny_model_o365.pth", _CHUNKS),
    _card("glip-tiny-c", 232_370_814, (_O365, _GOLDG), "glip_tiny_model_o365_goldg.pth", _CHUNKS),
    _card("glip-tiny", 232_370_814, (_O365, _GOLDG, _CC3M, _SBU), "glip_tiny_model_o365_goldg_cc_sbu.pth", _CHUNKS),
    _card(
        "glip-large",
        431_012_976,
        (*_FOUR_ODS, _GOLDG, _CC3M, _CC12M, _SBU),
        "glip_large_model.pth",
        _CHUNKS,
    ),
)
