"""The initial network of a training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.kernels.runtime import jittor

jt = jittor()


def new_network(config: Config, tensors: Mapping[str, npt.NDArray[np.float32]], seed: int) -> GroundingDino:
    """A network with random parameters, except for those that are given.

    Args:
        config: configuration of the model.
        tensors: parameters by their official names; all must be the network's.
        seed: seed of the random numbers.

    Raises:
        ValueError: a tensor is not a parameter of the network, or has another shape.
    """
    jt.sync_all()  # Jittor draws random numbers lazily, so earlier ones must be computed first
    jt.set_seed(seed)
    network = GroundingDino(config)
    named = network.state_dict()
    jt.sync(list(named.values()))
    for name, values in tensors.items():
        if name not in named:
            raise ValueError(f"parameter {name} belongs to no part of the model")
        if tuple(values.shape) != tuple(named[name].shape):
            raise ValueError(f"parameter {name} has the shape {values.shape}, {tuple(named[name].shape)} is needed")
        named[name].assign(jt.array(np.ascontiguousarray(values, np.float32)))
    # computed now, because Jittor cannot differentiate by a one-number variable that is not computed yet (class biases)
    jt.sync(list(named.values()))
    return network
