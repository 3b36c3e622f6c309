"""Half precision, for inference on a graphics processor."""

from __future__ import annotations

import re
from typing import Literal

from grounding_dino_jt.model import GroundingDino

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


def set_precision(network: GroundingDino, dtype: Literal["float16", "bfloat16"]) -> None:
    """Keep the large matrices in half precision; all other parameters and all activations stay in float32."""
    for name, variable in network.state_dict().items():
        if _HALVED.fullmatch(name):
            variable.assign(variable.cast(dtype))
