"""The contestants by kind, and their inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from ovd_bench.baselines.controlled.captions import CaptionEncoder
from ovd_bench.baselines.controlled.config import ContestantConfig, Kind
from ovd_bench.baselines.controlled.glip import GlipStyle
from ovd_bench.baselines.controlled.owl import Owl
from ovd_bench.baselines.controlled.region import Region
from ovd_bench.baselines.text import PhraseEncoder

Model = Owl | Region | GlipStyle

_KINDS: dict[Kind, type[Owl] | type[Region] | type[GlipStyle]] = {"owl": Owl, "region": Region, "glip": GlipStyle}

#: Of RGB in 0 … 1, as for backbones trained on ImageNet.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(config: ContestantConfig) -> Model:
    """A contestant with random weights; ``text_mean`` is zero."""
    model = _KINDS[config.kind](config)
    if config.centred:
        model.register_buffer("text_mean", next(model.parameters()).new_zeros(config.text_width))
    return model


def caption_encoder(model: Model, config: ContestantConfig, encoder: PhraseEncoder) -> CaptionEncoder:
    """Encoder of captions with the settings of a contestant."""
    mean = model.get_buffer("text_mean").detach().cpu().numpy() if config.centred else None
    return CaptionEncoder(encoder, config.phrase_frame, mean)


def normalised(pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W), 0 … 255, normalised for the backbone, float32."""
    mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std
