"""Configuration of DINO. The defaults are DINO-4scale's with ResNet-50."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from ovd_bench.grounding_dino_jt.config import Config, SwinConfig, known_fields


@dataclass(frozen=True)
class ResNetConfig:
    """Image backbone of bottleneck blocks (He et al. 2016), with its batch norms frozen (``models/dino/backbone.py``).

    Attributes:
        blocks: number of blocks of each of the four stages; ResNet-101 has (3, 4, 23, 3).
        out_stages: stages (from 0) whose outputs are the feature levels.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    out_stages: tuple[int, ...] = (1, 2, 3)

    def channels(self, stage: int) -> int:
        """Channels of a stage."""
        return 256 << stage


@dataclass(frozen=True)
class DinoConfig:
    """A model; names follow the official configuration (``config/DINO/DINO_4scale.py``).

    As in every official configuration, the decoder layers share one box head and one class head
    (``dec_pred_bbox_embed_share``, ``dec_pred_class_embed_share``), the encoder has its own, and queries start from
    learned content (``embed_init_tgt``).

    Attributes:
        backbone: ResNet or Swin.
        num_classes: columns of the logits; 91 for COCO, where a column is a category id.
        hidden_dim, num_heads, dim_feedforward, enc_layers, dec_layers, num_queries, num_feature_levels, enc_points,
            dec_points, pe_temperature, box_epsilon, image_size, image_longest: as in Grounding DINO's ``Config``.
    """

    backbone: ResNetConfig | SwinConfig = field(default_factory=ResNetConfig)
    num_classes: int = 91
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
    box_epsilon: float = 1e-3
    image_size: int = 800
    image_longest: int = 1333

    def __post_init__(self) -> None:
        self.transformer()
        if self.num_feature_levels < len(self.backbone.out_stages):
            raise ValueError(
                f"num_feature_levels is {self.num_feature_levels}, the backbone gives {len(self.backbone.out_stages)}"
            )

    def transformer(self) -> Config:
        """Encoder and decoder as the configuration of a Grounding DINO without text; its encoders are not used."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del own["backbone"], own["num_classes"]
        return Config(
            backbone=SwinConfig(out_stages=()),
            use_fusion=False,
            use_text_enhancer=False,
            use_text_cross_attention=False,
            **own,
        )

    def to_json(self) -> str:
        """All fields, as JSON; goes into the header of weight files."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> DinoConfig:
        """The configuration that ``to_json`` wrote.

        Raises:
            ValueError: not a JSON object, an unknown key, or a value of the wrong type.
        """
        try:
            fields = json.loads(text)
            backbone = fields.get("backbone", {})
            kind = SwinConfig if "depths" in backbone else ResNetConfig
            return DinoConfig(**{**known_fields(DinoConfig, fields), "backbone": kind(**known_fields(kind, backbone))})
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"is not a model configuration: {error}") from error


_FIVE = (0, 1, 2, 3)
_SWIN_L = SwinConfig(embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), window_size=12)

RESNET50_4SCALE = DinoConfig()
RESNET50_5SCALE = DinoConfig(backbone=ResNetConfig(out_stages=_FIVE), num_feature_levels=5)
SWIN_L_4SCALE = DinoConfig(backbone=_SWIN_L)
SWIN_L_5SCALE = DinoConfig(backbone=dataclasses.replace(_SWIN_L, out_stages=_FIVE), num_feature_levels=5)
