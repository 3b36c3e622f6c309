"""Gates of a fusion of image and words: learned factors of what each side adds to the other.

In GLIP and Grounding DINO every layer of fusion has two vectors: ``gamma_v`` multiplies what the words add to the
image, ``gamma_l`` what the image adds to the words. The image itself is normalised before that, so a mean ``|gamma_v|``
of a hundredth says that words hardly reach it there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.detectors.types import DetectorError

#: Last parts of the parameters' names, in the suite's own layouts.
GATES = ("gamma_v", "gamma_l")


def mean_gates(parameters: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Mean absolute gates, ``gamma_v.0``, ``gamma_l.0``, ``gamma_v.1`` …, layers from the first to the last.

    Args:
        parameters: by their names in the suite's layouts; those that are no gates are left out.

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
    """``mean_gates`` of weights: a Grounding DINO or GLIP of any layout that is read, or a contestant.

    Raises:
        DetectorError: no such file, or none of them; one line.
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
    """Parameters of a contestant or of a GLIP; None = the file is of neither."""
    try:
        from ovd_bench.baselines.controlled.weights import holds_contestant, load_weights
        from ovd_bench.baselines.glip.weights import holds_glip, read_weights
    except ModuleNotFoundError:  # without torch there is neither
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
    """The numbers in a parameter's name, which put the layers in their order."""
    return tuple(int(number) for number in re.findall(r"\.(\d+)(?=\.)", name))
