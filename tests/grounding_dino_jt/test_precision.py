"""Half precision changes results little, and only where it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ovd_bench.grounding_dino_jt.load import build
from ovd_bench.grounding_dino_jt.precision import set_precision
from ovd_bench.grounding_dino_jt.weights import read_weights
from ovd_bench.kernels.runtime import jittor
from ovd_bench.tests.detectors.tiny_models import write_grounding_dino
from ovd_bench.tests.grounding_dino_jt.draws import Draw
from ovd_bench.tests.grounding_dino_jt.pair import tokens_of

jt = jittor()


@pytest.mark.parametrize(("dtype", "within"), [("float16", 0.01), ("bfloat16", 0.2)])
def test_half_precision_is_near(dtype: str, within: float, tmp_path: Path) -> None:
    """On the CPU Jittor also sums in half precision, which a graphics processor does not; hence the wide limits."""
    draw = Draw("half", ((64, 96),), ("a cat. two old dogs.",), seed=1)
    pixels, padding = draw.pixels()
    memories = []
    for half in (False, True):
        tensors, config, _ = read_weights(write_grounding_dino(tmp_path / str(half)))
        network = build(config, tensors)
        if half:
            set_precision(network, dtype)  # type: ignore[arg-type]
            kinds = {name: str(variable.dtype) for name, variable in network.state_dict().items()}
            halved = {name for name, kind in kinds.items() if kind == dtype}
            assert len(halved) > 50
            assert not {name for name in halved if "fusion" in name or "bbox" in name or "sampling" in name}
            assert {kinds[name] for name in set(kinds) - halved} == {"float32"}
        with jt.no_grad():
            image, text = network.encode_image(pixels, padding), network.encode_tokens(tokens_of(draw.captions))
            memories.append([part.numpy() for part in network.transformer.encoder(image, text)])
    for exact, near in zip(*memories, strict=True):
        assert 0 < np.abs(near - exact).mean() < within * exact.std()
