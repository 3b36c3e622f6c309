"""Counted operations against torch's counter on the same network in transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GroundingDinoForObjectDetection

from ovd_bench.grounding_dino_jt.config import TINY
from ovd_bench.grounding_dino_jt.flops import image_flops, level_shapes, pair_flops
from ovd_bench.grounding_dino_jt.weights import read_weights
from ovd_bench.tests.detectors.tiny_models import write_grounding_dino


def test_levels_are_those_of_the_paper() -> None:
    assert level_shapes(TINY, 800, 1333) == [(100, 167), (50, 84), (25, 42), (13, 21)]


def test_parts_of_the_reference_have_the_counted_operations(tmp_path: Path) -> None:
    folder = write_grounding_dino(tmp_path)
    _, config, _ = read_weights(folder)
    model = GroundingDinoForObjectDetection.from_pretrained(folder, attn_implementation="eager").eval().model
    height, width = 128, 256  # whole windows: the library projects padding too
    pixels, valid = torch.zeros(1, 3, height, width), torch.ones(1, height, width, dtype=torch.bool)
    with torch.no_grad(), FlopCounterMode(display=False) as image:
        levels, _ = model.backbone(pixels, valid)
        for level, (feature, _) in enumerate(levels):
            model.input_proj_vision[level](feature)
        model.input_proj_vision[3](levels[-1][0])
    assert image.get_total_flops() == image_flops(config, height, width)


def test_longer_captions_and_larger_images_cost_more() -> None:
    least = pair_flops(TINY, 400, 600, 50)
    assert least < pair_flops(TINY, 400, 600, 100)
    assert least < pair_flops(TINY, 800, 600, 50)
