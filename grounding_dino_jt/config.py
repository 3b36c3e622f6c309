"""Configuration of Grounding DINO. The defaults are those of Grounding DINO-T; other sizes and ablations differ."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class SwinConfig:
    """Image backbone (Liu et al. 2021; ``groundingdino/models/GroundingDINO/backbone/swin_transformer.py``).

    Attributes:
        embed_dim: channels of the first stage; doubled at each later one.
        depths, num_heads: blocks and heads of each stage.
        window_size: side of an attention window, in tokens.
        patch_size: pixels of a token's side.
        out_stages: stages (from 0) whose outputs, normalised, are the feature levels.
        drop_path_rate: rate of the last block in training; it rises linearly from 0 over the blocks.
    """

    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 7
    patch_size: int = 4
    out_stages: tuple[int, ...] = (1, 2, 3)
    drop_path_rate: float = 0.2

    def channels(self, stage: int) -> int:
        """Channels of a stage."""
        return self.embed_dim << stage


@dataclass(frozen=True)
class TextConfig:
    """Text encoder.

    Attributes:
        kind: ``bert`` (BERT and MiniLM: post-norm, whole words in both directions) or ``clip`` (pre-norm, causal).
        hidden_size, num_layers, num_heads, intermediate_size: its sizes.
        vocab_size, max_positions: rows of its embeddings.
        layer_norm_eps: epsilon of its LayerNorms.
        activation: activation of its feed-forward layers; ``quick_gelu`` is OpenAI CLIP's.
        classes: names that have their own tokens instead of words: see ``grounding_dino_jt.closed_set``.
        phrase_frame: encoding of a phrase of a caption. ``bare`` (official): without its own [CLS] and [SEP], from
            position 0. The encoder must have been trained this way; otherwise it gives nearly the same vector for any
            first word. ``framed``: as [CLS] phrase [SEP], which is how BERT and MiniLM were trained. [SEP] replaces the
            separator after the phrase. With the prompt ``word`` the whole caption is one frame in both cases.
        centred: whether the encoder's output is divided by the length of its phrase's mean vector, and the mean of the
            names of the training vocabulary (``text_mean``) is subtracted; see ``GroundingDino.read_tokens``.

    Raises:
        ValueError: frames or centring for CLIP, whose captions already have a frame per phrase.
    """

    kind: Literal["bert", "clip"] = "bert"
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    vocab_size: int = 30522
    max_positions: int = 512
    layer_norm_eps: float = 1e-12
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    classes: tuple[str, ...] = ()
    phrase_frame: Literal["bare", "framed"] = "bare"
    centred: bool = False

    def __post_init__(self) -> None:
        if self.kind == "clip" and (self.phrase_frame != "bare" or self.centred):
            raise ValueError("text: phrase_frame and centred are for BERT; CLIP's captions hold a frame per phrase")


@dataclass(frozen=True)
class Config:
    """A model; names follow the official configuration (``groundingdino/config/GroundingDINO_SwinT_OGC.py``).

    Attributes:
        backbone, text: the encoders.
        hidden_dim: d, width of everything between encoders and heads.
        num_heads: number of heads of the image side and the decoder; fusion and text enhancer have half as many.
        dim_feedforward: hidden width of image layers and decoder; the text enhancer has half; fusion is half as wide.
        enc_layers, dec_layers, num_queries, num_feature_levels: counts.
        enc_points, dec_points: sampling points per head and level of deformable attention.
        pe_temperature: temperature of the sine positions of the image.
        max_text_len: columns of the logits; tokens of the longest caption.
        box_epsilon: lower clamp of the inverse sigmoid; 1e-3 officially, 1e-5 in transformers.
        fusion_drop_path: in training.
        fusion_gate: initial value of the factors of a fusion's residuals: 1e-4 officially, 1 / blocks in GLIP.
        class_scale: ``none`` (plain dot product) or ``sqrt`` (divided by sqrt(d), MM-Grounding-DINO).
        class_bias: a learned bias per head (MM-Grounding-DINO).
        shared_box_head: one box head for all decoder layers (official) or one each (MM-Grounding-DINO).
        nms_iou: overlap above which, in detection, the lower-scoring of two boxes of one class is dropped; 1 = no
            suppression, as officially.
        image_size, image_longest: shorter side of the network's input, and the maximum of the longer one, pixels.
        use_fusion, use_text_enhancer, use_text_cross_attention: ablation switches.
        query_selection: ``language`` (official): the decoder starts from the positions that match the text best.
            ``static``: from learned boxes, and the encoder has no predictions. ``static_encoder_loss``: from learned
            boxes, with the encoder's predictions as in ``language``, but only for their loss.
        prompt: which tokens attend to each other: those of a phrase (``phrase``, official) or all (``word``);
            ``sentence`` is ``phrase`` with each word replaced by the mean of its phrase's words.
        attention: ``deformable`` or ``dense`` image attention.
    """

    backbone: SwinConfig = field(default_factory=SwinConfig)
    text: TextConfig = field(default_factory=TextConfig)
    hidden_dim: int = 256
    num_heads: int = 8
    dim_feedforward: int = 2048
    enc_layers: int = 6
    dec_layers: int = 6
    num_queries: int = 900
    num_feature_levels: int = 4
    enc_points: int = 4
    dec_points: int = 4
    pe_temperature: float = 20.0
    max_text_len: int = 256
    box_epsilon: float = 1e-3
    fusion_drop_path: float = 0.1
    fusion_gate: float = 1e-4
    class_scale: Literal["none", "sqrt"] = "none"
    class_bias: bool = False
    shared_box_head: bool = True
    nms_iou: float = 1.0
    image_size: int = 800
    image_longest: int = 1333
    use_fusion: bool = True
    use_text_enhancer: bool = True
    use_text_cross_attention: bool = True
    query_selection: Literal["language", "static", "static_encoder_loss"] = "language"
    prompt: Literal["phrase", "word", "sentence"] = "phrase"
    attention: Literal["deformable", "dense"] = "deformable"

    def __post_init__(self) -> None:
        if self.hidden_dim % self.num_heads or self.num_heads % 2:
            raise ValueError(f"hidden_dim {self.hidden_dim} needs an even number of heads that divides it")
        if self.num_feature_levels < len(self.backbone.out_stages):
            raise ValueError(
                f"num_feature_levels is {self.num_feature_levels}, the backbone gives {len(self.backbone.out_stages)}"
            )

        if not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou is {self.nms_iou}, more than 0 and at most 1 is needed")
        if not 0 <= self.fusion_gate <= 1:
            raise ValueError(f"fusion_gate is {self.fusion_gate}, 0 to 1 is needed")

    def to_json(self) -> str:
        """All fields, as JSON; goes into the header of weight files."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Config:
        """The configuration that ``to_json`` wrote.

        Raises:
            ValueError: not a JSON object, an unknown key, or a value of the wrong type.
        """
        try:
            fields = json.loads(text)
            return Config(
                **{
                    **known_fields(Config, fields),
                    "backbone": SwinConfig(**known_fields(SwinConfig, fields.get("backbone", {}))),
                    "text": TextConfig(**known_fields(TextConfig, fields.get("text", {}))),
                }
            )
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"is not a model configuration: {error}") from error


def known_fields(kind: type[Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a configuration with tuples instead of JSON's lists; values must have the type of the default.

    Raises:
        ValueError: an unknown key, or a value of the wrong type.
    """
    defaults = {field.name: getattr(kind(), field.name) for field in dataclasses.fields(kind)}
    found = {}
    for key, value in fields.items():
        if key not in defaults:
            raise ValueError(f"unknown key {key!r}")
        default = defaults[key]
        if dataclasses.is_dataclass(default):
            found[key] = value
            continue
        kind_of_entries = str if key == "classes" else int
        if isinstance(default, tuple) and isinstance(value, list) and all(type(v) is kind_of_entries for v in value):
            value = tuple(value)
        elif isinstance(default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(default):
            raise ValueError(f"{key} is {value!r}, a {type(default).__name__} is needed")
        found[key] = value
    return found


TINY = Config()
BASE = Config(backbone=SwinConfig(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), window_size=12))
#: The packaged all-MiniLM-L6-v2.
MINILM = TextConfig(hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536)
#: For the embedded benchmark: 192 x 192 pixels, 100 queries.
NANO = Config(
    backbone=SwinConfig(embed_dim=32, depths=(2, 2, 2), num_heads=(2, 4, 8), window_size=6, out_stages=(1, 2)),
    text=MINILM,
    hidden_dim=64,
    num_heads=4,
    dim_feedforward=256,
    enc_layers=1,
    dec_layers=2,
    num_queries=100,
    num_feature_levels=2,
    image_size=192,
    image_longest=192,
)
SIZES = {"tiny": TINY, "base": BASE, "nano": NANO}
