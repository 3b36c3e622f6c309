"""Cards of the detectors that the suite trains itself, on its own rendered scenes; their weights ship with it.

The text encoder is frozen, so what it was pretrained on is part of the training data.
"""

from __future__ import annotations

from ovd_bench.detectors.card import Capability, DetectorCard, TrainingData

_SCENES = TrainingData(
    "shapes-train",
    ("shapes-train",),
    "detection",
    "names of classes without a training image never read, not even as negatives",
)
#: Of weights that were trained before frozen text encoders read phrases in frames (CHANGELOG.md).
READS_BARE = "the frozen text encoder reads names without [CLS], so it hardly tells first words apart"
PHRASES = TrainingData("all-minilm-l6-v2", ("web",), "pretraining", "sentence pairs for the frozen text encoder")


def _card(
    name: str,
    sha256: str,
    parameters: int,
    notes: tuple[str, ...],
    text_encoder: str = "all-MiniLM-L6-v2, frozen",
    training_data: tuple[TrainingData, ...] = (_SCENES, PHRASES),
    capabilities: tuple[Capability, ...] = ("open_vocabulary", "templates"),
) -> DetectorCard:
    return DetectorCard(
        name=name,
        family="owl-nano",
        framework="torch",
        loader="ovd_bench.detectors.owl_nano:load",
        weights=f"package:baselines/weights/{name}.safetensors",
        weights_sha256=sha256,
        parameters=parameters,
        backbone="small Swin, strides 4 to 16",
        text_encoder=text_encoder,
        image_size="longer side 192, padded to a square",
        training_data=training_data,
        licence="Apache-2.0",
        paper="arXiv:2205.06230",
        capabilities=capabilities,
        notes=notes,
        suppression_version=1,  # detectors.suppression.without_duplicates
    )


CARDS: tuple[DetectorCard, ...] = (
    _card(
        "owl-nano",
        "f9f995af2c9036181aabca0a1c141f8be150d753d7510cdca41c6fe6316b6875",
        1_085_769,
        ("one-to-many assignment and NMS, unlike OWL-ViT", "24,000 steps of 4 images, 35 core-minutes"),
    ),
    _card(
        "closed-nano",
        "400239261064801717fa9cb873c8c44494546049438f735beb6ad01b791a26b2",
        1_057_641,
        (
            "a control: a learned vector per training class instead of text; knows no other class",
            "6,000 steps of 4 images, 9 core-minutes",
        ),
        text_encoder="none",
        training_data=(_SCENES,),
        capabilities=(),
    ),
    DetectorCard(
        name="grounding-dino-nano",
        family="grounding-dino",
        framework="jittor",
        loader="ovd_bench.detectors.grounding_dino:load",
        weights="package:grounding_dino_jt/shipped/grounding-dino-nano.safetensors",
        weights_sha256="8c14551ad2cb7a9a3fbf404887bd9da32a44f3e06148ba6b15d7bae725eba673",
        parameters=23_507_079,
        backbone="small Swin, strides 4 to 16",
        text_encoder="all-MiniLM-L6-v2, frozen",
        image_size="shorter side 192",
        training_data=(_SCENES, PHRASES),
        licence="Apache-2.0",
        paper="arXiv:2303.05499",
        capabilities=("open_vocabulary", "joint", "grounding"),
        suppression_version=1,  # detectors.suppression.without_duplicates, where nms_iou asks for it
        notes=(
            "22.7 million of the parameters are the text encoder's",
            "12,000 steps of 4 images, 75 core-minutes",
        ),
    ),
)
