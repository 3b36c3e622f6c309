"""The same small network with the same random weights in Jittor and in torch, and gradients under the same names."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import GroundingDinoForObjectDetection

from benchmarks.perf.torch_training import TorchTraining
from grounding_dino_jt.load import build
from grounding_dino_jt.model import GroundingDino
from grounding_dino_jt.weights import read_weights
from tests.detectors.tiny_models import write_grounding_dino

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Twins:
    """Ours in training mode, nothing dropped, and torch's in float64."""

    ours: GroundingDino
    torch: TorchTraining
    folder: Path

    def torch_gradients(self) -> dict[str, Floats]:
        """Gradients of torch's network by official names, zeros where there is none.

        They are written and read as if they were weights: the way from one layout to the other only splits, joins and
        renames, which is right for gradients as well.
        """
        shadow = copy.deepcopy(self.torch.model)
        with torch.no_grad():
            for there, here in zip(shadow.parameters(), self.torch.model.parameters(), strict=True):
                there.copy_(torch.zeros_like(here) if here.grad is None else here.grad)
        shadow.float().save_pretrained(self.folder / "gradients")
        found: dict[str, Floats] = read_weights(self.folder / "gradients")[0]
        return found


def make_twins(folder: Path, seed: int = 0, *, full_size: bool = False) -> Twins:
    """Draw weights, write them in the hub's layout, read them twice."""
    write_grounding_dino(folder, full_size=full_size, seed=seed)
    tensors, config, _ = read_weights(folder)
    still = dataclasses.replace(config.backbone, drop_path_rate=0.0)
    ours = build(dataclasses.replace(config, backbone=still, fusion_drop_path=0.0), tensors)
    ours.train()
    torch.manual_seed(seed)
    double = TorchTraining(GroundingDinoForObjectDetection.from_pretrained(folder), epsilon=config.box_epsilon)
    return Twins(ours, double.double(), folder)


def our_gradients(loss: Any, network: GroundingDino) -> dict[str, Floats]:
    """Gradients of all parameters by name."""
    from kernels.runtime import jittor

    named = network.state_dict()
    gradients = jittor().grad(loss, list(named.values()))
    return {name: gradient.numpy() for name, gradient in zip(named, gradients, strict=True)}


def apart(found: Floats, expected: Floats) -> float:
    """Norm of the difference over the norm of what was expected."""
    wanted = expected.astype(np.float64)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
