"""Half precision on a graphics processor: for inference, and for the products of a training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor

jt = jittor()

#: Matrices whose products are made in half precision: those of backbone and text encoder, and of attention and
#: feed-forward layers. The fusion layers stay in float32, since their logits pass what float16 holds (the official code
#: clamps them at 50,000), and so does everything that says where a box or a sampling point is.
_HALVED = re.compile(
    r"backbone\.0\.layers\..*\.(qkv|proj|fc1|fc2|reduction)\.weight"
    r"|bert\.encoder\..*\.(query|key|value|dense)\.weight"
    r"|clip\.transformer\..*\.(in_proj_weight|(out_proj|c_fc|c_proj)\.weight)"
    r"|transformer\.(encoder|decoder)\.(text_)?layers\..*\.(in_proj_weight|(out_proj|linear1|linear2)\.weight)"
    r"|transformer\.(encoder|decoder)\.layers\..*\.(value_proj|output_proj)\.weight"
)


def set_precision(network: Module, dtype: Literal["float16", "bfloat16"]) -> None:
    """Keep the large matrices in half precision; all other parameters and all activations stay in float32."""
    for name, variable in network.state_dict().items():
        if _HALVED.fullmatch(name):
            variable.assign(variable.cast(dtype))


@contextmanager
def mixed_precision(network: GroundingDino, dtype: Literal["bfloat16"]) -> Iterator[None]:
    """For a while make the products with the large matrices in half precision, forwards and backwards.

    The network's own matrices stay in float32 and get their gradients in it; only copies are rounded, anew each time,
    so small steps are not lost (Micikevicius et al. 2018, arXiv 1710.03740). bfloat16 has the range of float32, so the
    loss needs no scaling, as it would in float16.

    Args:
        network: in training; loss and gradients are to be built inside the context.
        dtype: of the products.
    """
    own = [
        (module, name, value)
        for path, module in network.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, jt.Var) and _HALVED.fullmatch(f"{path}.{name}")
    ]
    for module, name, value in own:
        setattr(module, name, value.cast(dtype))
    try:
        yield
    finally:
        for module, name, value in own:
            setattr(module, name, value)
