"""Half precision on a GPU: for inference, and for the matrix products in training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor

jt = jittor()

#: Matrices whose products are computed in half precision: those of backbone and text encoder, and of attention and
#: feed-forward layers. The fusion layers stay in float32, since their logits exceed the range of float16 (the official
#: code clamps them at 50,000), and so do all coordinates of boxes and sampling points.
_HALVED = re.compile(
    r"backbone\.0\.layers\..*\.(qkv|proj|fc1|fc2|reduction)\.weight"
    r"|bert\.encoder\..*\.(query|key|value|dense)\.weight"
    r"|clip\.transformer\..*\.(in_proj_weight|(out_proj|c_fc|c_proj)\.weight)"
    r"|transformer\.(encoder|decoder)\.(text_)?layers\..*\.(in_proj_weight|(out_proj|linear1|linear2)\.weight)"
    r"|transformer\.(encoder|decoder)\.layers\..*\.(value_proj|output_proj)\.weight"
)


def set_precision(network: Module, dtype: Literal["float16", "bfloat16"]) -> None:
    """Store the large matrices in half precision; all other parameters and all activations stay in float32."""
    for name, variable in network.state_dict().items():
        if _HALVED.fullmatch(name):
            variable.assign(variable.cast(dtype))


@contextmanager
def mixed_precision(network: GroundingDino, dtype: Literal["bfloat16"]) -> Iterator[None]:
    """Context in which the products with the large matrices use half precision, in the forward and backward pass.

    The network's own matrices and their gradients stay in float32; only copies are rounded, again in each step, so that
    small updates are not lost (Micikevicius et al. 2018, arXiv 1710.03740). bfloat16 has the range of float32, so the
    loss needs no scaling, unlike with float16.

    Args:
        network: in training mode; loss and gradients must be built inside the context.
        dtype: number type of the products.
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
