"""Gates of a fusion of image and text: learned factors of the residuals of both sides.

In GLIP and Grounding DINO every fusion layer has two vectors: ``gamma_v`` multiplies the residual that the text adds to
the image, ``gamma_l`` the residual that the image adds to the text. The image is normalised before that, so a mean
``|gamma_v|`` of 0.01 means that the text hardly affects the image in this layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.detectors.types import DetectorError

#: Last parts of the parameters' names in the suite's layouts.
GATES = ("gamma_v", "gamma_l")


def mean_gates(parameters: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Mean absolute gates, ``gamma_v.0``, ``gamma_l.0``, ``gamma_v.1`` …, layers from the first to the last.

    Args:
        parameters: by their names in the suite's layouts; parameters other than gates are ignored.

    Returns:
        Empty for a model without fusion.
    """
    named = sorted((_order(name), name) for name in parameters if name.rpartition(".")[2] in GATES)
    layers = {place: number for number, place in enumerate(dict.fromkeys(place for place, _ in named))}
    found = {(layers[place], name.rpartition(".")[2]): parameters[name] for place, name in named}
    return {
        f"{gate}.{layer}": float(np.abs(found[layer, gate].astype(np.float64)).mean())
        for layer in range(len(layers))
        for gate in GATES
        if (layer, gate) in found
    }


def read_mean_gates(path: Path) -> dict[str, float]:
    """``mean_gates`` of weights of Grounding DINO or GLIP in any supported layout, or of a contestant.

    Raises:
        DetectorError: no such file, or not one of these; one line.
    """
    from ovd_bench.grounding_dino_jt.weights import WeightsError, read_checkpoint

    if not path.exists():
        raise DetectorError(f"{path}: no such file")
    try:
        tensors = _torch_model(path)
        return mean_gates(read_checkpoint(path).tensors if tensors is None else tensors)
    except (WeightsError, ValueError) as error:
        raise DetectorError(str(error)) from error


def _torch_model(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """Parameters of a contestant or of a GLIP; None = neither."""
    try:
        from ovd_bench.baselines.controlled.weights import holds_contestant, load_weights
        from ovd_bench.baselines.glip.weights import holds_glip, read_weights
    except ModuleNotFoundError:  # without torch neither can be read
        return None
    if not path.is_file():
        return None
    if holds_contestant(path):
        state = load_weights(path)[0].state_dict()
    elif holds_glip(path):
        state = read_weights(path)[0].state_dict()
    else:
        return None
    return {name: tensor.numpy() for name, tensor in state.items()}


def _order(name: str) -> tuple[int, ...]:
    """The numbers in a parameter's name, to sort the layers."""
    return tuple(int(number) for number in re.findall(r"\.(\d+)(?=\.)", name))
