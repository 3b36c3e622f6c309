"""Counted operations of DINO against torch's counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50

from ovd_bench.grounding_dino_jt.dino.config import ResNetConfig
from ovd_bench.grounding_dino_jt.dino.flops import dino_flops, resnet_flops
from ovd_bench.tests.grounding_dino_jt.dino.reference import ReferenceDino, pixels_of
from ovd_bench.tests.grounding_dino_jt.dino.small import CONFIGS, drawn, official_state


@pytest.mark.parametrize("size", [(64, 96), (97, 33)])
def test_resnet50_is_counted_as_torch_counts_it(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        network, pixels = resnet50(), torch.zeros(1, 3, *size)
    with FlopCounterMode(display=False) as counter:
        network(pixels)
    classifier = 2 * 2048 * 1000
    assert resnet_flops(ResNetConfig(), *size) == counter.get_total_flops() - classifier


@pytest.mark.parametrize("name", CONFIGS)
def test_the_whole_is_what_torch_counts_of_the_reference(name: str) -> None:
    """But for heads that the reference runs where nothing is made of them.

    These are heads on places that were not chosen, and on layers before the last. Windows are whole, because the
    reference projects padding too.
    """
    config = CONFIGS[name]
    reference = ReferenceDino(official_state(drawn(config), config), config)
    pixels, padding = (torch.from_numpy(part) for part in pixels_of([(128, 128)]))
    with FlopCounterMode(display=False) as counter:
        output = reference(pixels, padding)
    d, queries = config.hidden_dim, config.num_queries
    box_head, class_head = 2 * d * d + 4 * d, d * config.num_classes
    unused = (output.memory.shape[1] - queries) * box_head
    unused += (config.dec_layers - 1) * queries * (box_head + class_head)
    assert dino_flops(config, 128, 128) == counter.get_total_flops() - 2 * unused
