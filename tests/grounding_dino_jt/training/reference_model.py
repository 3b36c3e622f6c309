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

from ovd_bench.grounding_dino_jt.load import build
from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.training.forward import LabelEmbedding
from ovd_bench.grounding_dino_jt.weights import read_weights
from ovd_bench.kernels.runtime import jittor
from ovd_bench.perf.torch_training import Layer, Predictions, TorchTraining
from ovd_bench.tests.detectors.tiny_models import write_grounding_dino

jt = jittor()

Floats = npt.NDArray[np.float32]

_LABELS = "label_enc.weight"


@dataclass(frozen=True)
class Twins:
    """Ours in training mode, nothing dropped, and torch's in float64."""

    ours: GroundingDino
    labels: LabelEmbedding
    double: TorchTraining
    folder: Path

    def our_gradients(self, loss: Any) -> dict[str, Floats]:
        """Gradients of all parameters by name."""
        named = {**self.ours.state_dict(), _LABELS: self.labels.label_enc.weight}
        gradients = jt.grad(loss, list(named.values()))
        return {name: gradient.numpy() for name, gradient in zip(named, gradients, strict=True)}

    def torch_gradients(self, loss: torch.Tensor) -> dict[str, Floats]:
        """Gradients of torch's network by official names, zeros where there is none; the graph is kept.

        They are written and read as if they were weights: the way from one layout to the other only splits, joins and
        renames, which is right for gradients as well.
        """
        self.double.zero_grad()
        loss.backward(retain_graph=True)
        shadow = copy.deepcopy(self.double.model)
        with torch.no_grad():
            for there, here in zip(shadow.parameters(), self.double.model.parameters(), strict=True):
                there.copy_(torch.zeros_like(here) if here.grad is None else here.grad)
        shadow.float().save_pretrained(self.folder / "gradients")
        found: dict[str, Floats] = read_weights(self.folder / "gradients")[0]
        labels = self.double.label_embedding.weight
        found[_LABELS] = (torch.zeros_like(labels) if labels.grad is None else labels.grad).float().numpy()
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
    labels = LabelEmbedding(len(double.label_embedding.weight), config.hidden_dim)
    labels.label_enc.weight.assign(jt.array(double.label_embedding.weight.detach().numpy()))
    return Twins(ours, labels, double.double(), folder)


def by_name(predictions: Predictions) -> dict[str, Layer]:
    """Predictions of torch under the names that ours have."""
    return {
        **{f"decoder.{number}": layer for number, layer in enumerate(predictions.decoder)},
        **{f"denoising.{number}": layer for number, layer in enumerate(predictions.denoising)},
        "encoder": predictions.encoder,
    }


def apart(found: Floats, expected: Floats) -> float:
    """Norm of the difference over the norm of what was expected."""
    wanted = expected.astype(np.float64)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
