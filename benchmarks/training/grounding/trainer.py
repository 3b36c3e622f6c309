"""Grounding DINO as a trainer of the suite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from ovd_bench.benchmarks.training.grounding.config import GroundingDinoTraining
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.fusion_gates import GATES, mean_gates
from ovd_bench.detectors.grounding_dino import GroundingDinoDetector
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.load import Predictor
from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.tokenizer import Tokenizer
from ovd_bench.grounding_dino_jt.training.batch import TrainingBatch
from ovd_bench.grounding_dino_jt.training.optimisation import GroundingDinoOptimisation
from ovd_bench.grounding_dino_jt.weights import write_canonical
from ovd_bench.grounding_dino_jt.weights.safetensors_file import write_safetensors

_Floats = npt.NDArray[np.float32]
_FORMAT = "ovd-bench grounding-dino training 1"
#: Entry of the weights file that describes the training.
TRAINING = "training"


class GroundingDinoTrainer:
    """See ``benchmarks.training.prepared.Trainer``.

    Args:
        config: of the training.
        optimisation: the network in training.
        tokenizer: of its text encoder.
        start: initial weights, if they are mixed into the result.
        packaged_text_sha256: sha256 of the packaged text encoder, if the network has it, frozen.
    """

    def __init__(
        self,
        config: GroundingDinoTraining,
        optimisation: GroundingDinoOptimisation,
        tokenizer: Tokenizer,
        start: Mapping[str, _Floats],
        packaged_text_sha256: str = "",
    ) -> None:
        self._config, self._optimisation, self._tokenizer = config, optimisation, tokenizer
        self._start, self._packaged_text = start, packaged_text_sha256

    @property
    def step(self) -> int:
        """Steps done."""
        return self._optimisation.step

    def train_step(self, batch: TrainingBatch) -> dict[str, float]:
        """One step; see ``grounding_dino_jt.training.optimisation.GroundingDinoOptimisation.train_step``.

        ``dropped`` counts boxes without a place in the captions of this process's images.
        """
        dropped = sum(targets.dropped for targets in batch.targets)
        return {**self._optimisation.train_step(batch.split(self._config.parts)), "dropped": float(dropped)}

    def save(self, file: BinaryIO) -> None:
        """Write a checkpoint as safetensors."""
        metadata = {"format": _FORMAT, "step": str(self.step), "model": self._model_config.to_json()}
        write_safetensors(file, self._optimisation.state(), metadata)

    def restore(self, data: bytes) -> None:
        """Continue from a checkpoint of ``save``.

        Raises:
            ValueError: no checkpoint, or one of another model or recipe.
        """
        try:
            state = safetensors.numpy.load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
            known, step = header["format"] == _FORMAT, int(header["step"])
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError("is not a checkpoint of Grounding DINO") from error
        if not known or header["model"] != self._model_config.to_json():
            raise ValueError("is from another model")
        self._optimisation.restore(step, state)

    def detector(self) -> GroundingDinoDetector:
        """A detector that shares the averaged weights."""
        card = DetectorCard("grounding-dino in training", family="grounding-dino", framework="jittor", loader="")
        self._optimisation.average.eval()
        predictor = Predictor(self._optimisation.average, self._tokenizer, "")
        return GroundingDinoDetector(card, predictor, DetectorSettings())

    def gates(self) -> dict[str, float]:
        """Mean absolute fusion gates of the averaged weights."""
        state = self._optimisation.average.state_dict()
        return mean_gates({name: value.numpy() for name, value in state.items() if name.endswith(GATES)})

    def write_weights(self, path: Path, training: dict[str, Any]) -> None:
        """Write the averaged weights, mixed with the initial ones if the configuration requests it."""
        tensors = {name: value.numpy() for name, value in self._optimisation.average.state_dict().items()}
        share = np.float32(self._config.interpolate)
        for name, start in self._start.items():
            tensors[name] = (1 - share) * tensors[name] + share * start
        write_canonical(
            tensors,
            self._model_config,
            path,
            source="a training with this suite",
            source_sha256="",
            half=self._config.half,
            packaged_text_sha256=self._packaged_text,
            about={TRAINING: json.dumps(training, sort_keys=True)},
        )

    @property
    def _model_config(self) -> Config:
        network: GroundingDino = self._optimisation.network
        return network.config
