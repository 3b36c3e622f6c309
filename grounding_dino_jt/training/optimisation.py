"""Training of Grounding DINO, one optimisation step at a time, on plain numpy batches. Reads and writes no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.layers import drawn_by
from ovd_bench.grounding_dino_jt.load import MEAN, STD
from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.precision import mixed_precision
from ovd_bench.grounding_dino_jt.training.batch import TrainingBatch
from ovd_bench.grounding_dino_jt.training.centring import TEXT_MEAN
from ovd_bench.grounding_dino_jt.training.denoising import (
    DenoisingConfig,
    DenoisingQueries,
    Slots,
    denoising_queries,
    draw_noise,
)
from ovd_bench.grounding_dino_jt.training.forward import LabelEmbedding, all_predictions
from ovd_bench.grounding_dino_jt.training.frozen_text import FrozenText
from ovd_bench.grounding_dino_jt.training.losses import Counts, Divisors, Loss, LossConfig, divisors, total_loss
from ovd_bench.grounding_dino_jt.training.optimizer import AdamW, gradient_norm
from ovd_bench.grounding_dino_jt.training.processes import Processes
from ovd_bench.grounding_dino_jt.training.recipe import Recipe
from ovd_bench.kernels.bases import gradients_once
from ovd_bench.kernels.runtime import jittor

jt = jittor()

_Floats = npt.NDArray[np.float32]

#: Jittor keeps freed memory by size. Every new size of image or caption adds to it, so it is released regularly.
_STEPS_PER_COLLECTION = 100


@dataclass(frozen=True)
class Settings:
    """Settings of a trainer.

    Attributes:
        recipe: settings of the optimisation.
        losses: weights and divisors.
        denoising: noise; ``queries=0`` for none.
        precision: precision of the products with large matrices; see ``grounding_dino_jt.precision.mixed_precision``.
    """

    recipe: Recipe
    losses: LossConfig = field(default_factory=LossConfig)
    denoising: DenoisingConfig = field(default_factory=DenoisingConfig)
    precision: Literal["float32", "bfloat16"] = "float32"


class GroundingDinoOptimisation:
    """A network in training.

    Args:
        network: with its initial weights; it is changed in place.
        settings: settings of the training.
        processes: the processes that train together.

    Attributes:
        average: the network with averaged weights; the network itself, in training mode after a step, if nothing is
            averaged.
    """

    def __init__(self, network: GroundingDino, settings: Settings, processes: Processes | None = None) -> None:
        self.network, self.settings = network, settings
        self._processes = processes or Processes()
        recipe = settings.recipe
        self._labels = LabelEmbedding(settings.denoising.labels, network.config.hidden_dim)
        named = network.state_dict()
        frozen = {name for name in named if recipe.factor(name) == 0 or name == TEXT_MEAN}
        self._text = FrozenText(network) if _is_frozen_text(network, frozen) else None
        for name in frozen:
            named[name].stop_grad()
        self.trained = {name: value for name, value in named.items() if name not in frozen}
        if settings.denoising.queries:
            self.trained |= {f"label_enc.{name}": value for name, value in self._labels.label_enc.state_dict().items()}
        self.average, averages = network, None
        if recipe.average:
            self.average = GroundingDino(network.config)
            copies = self.average.state_dict()
            for name, value in copies.items():
                value.assign(named[name] if name in frozen else named[name].copy().stop_grad())
            averages = {name: copies.get(name, value.copy().stop_grad()) for name, value in self.trained.items()}
        self._averages = averages
        self.optimizer = AdamW(self.trained, recipe, averages)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.optimizer.step

    def train_step(self, parts: Sequence[TrainingBatch]) -> dict[str, float]:
        """One step of optimisation.

        Args:
            parts: the batch of this process, in any number of parts to save memory: the gradients are those of the
                whole.

        Returns:
            The terms of the loss, their sum ``loss``, the norm of the gradient and the learning rate; over all
            processes.

        Raises:
            FloatingPointError: the loss or its gradient is not finite; the weights are unchanged.
        """
        self.network.train()
        slots, divided = self._slots_and_divisors(parts)
        values: dict[str, _Floats] = {}
        gradients: list[Any] = []
        first, precision = self._processes.rank * sum(map(len, parts)), self.settings.precision
        for part in parts:
            with nullcontext() if precision == "float32" else mixed_precision(self.network, precision):
                loss = self.loss(part, slots, divided, first)
                got = gradients_once(loss.total, list(self.trained.values()))
            gradients = [a + b for a, b in zip(gradients, got, strict=True)] if gradients else got
            terms = loss.terms.numpy()
            values = {name: values.get(name, 0) + row for name, row in zip(loss.names, terms, strict=True)}
            jt.sync(gradients)  # and the activations of this part are gone
            first += len(part)
        values, gradients = self._over_processes(values, gradients)
        if not all(np.isfinite(terms).all() for terms in values.values()):
            raise FloatingPointError(f"the loss is not a finite number at step {self.step + 1}")
        norm = gradient_norm(gradients)
        length = float(norm.numpy()[0])
        if not np.isfinite(length):
            raise FloatingPointError(f"the gradient is not a finite number at step {self.step + 1}")
        rate = self.settings.recipe.rate(self.step)
        self.optimizer.apply(gradients, norm)
        jt.sync([*self.trained.values(), *(self._averages or {}).values()])
        if self.step % _STEPS_PER_COLLECTION == 0:
            jt.gc()
        return {**_log(values), "gradient": length, "lr": rate}

    def loss(self, batch: TrainingBatch, slots: Slots | None, divided: Divisors, first: int = 0) -> Loss:
        """Loss of a part of a batch, not yet differentiated.

        Args:
            batch: the part.
            slots: for denoising queries; None = none.
            divided: divisors of the sums.
            first: number of its first image in the batch of all processes: random numbers of an image depend on its
                number and the step, not on the process.

        Raises:
            FloatingPointError: logits or boxes are not finite.
        """
        config, denoising = self.network.config, self.settings.denoising
        with drawn_by(self._generators(batch, first, 0)):
            image = self.network.encode_image(normalised(batch), batch.padding())
            encoded = self._text(batch.tokens) if self._text else self.network.read_tokens(batch.tokens)
            text = self.network.text_features(batch.tokens, encoded)
            queries: DenoisingQueries | None = None
            if slots:
                noise = [
                    draw_noise(len(target), slots.groups, denoising, generator)
                    for target, generator in zip(batch.targets, self._generators(batch, first, 1), strict=True)
                ]
                places = min(config.num_queries, image.features.shape[1])
                queries = denoising_queries(batch.targets, noise, slots, places, denoising, config.box_epsilon)
            extra = self._labels(queries) if queries else None
            matching, others = all_predictions(self.network, image, text, extra, self.settings.losses)
        real = batch.tokens.real[:, : config.max_text_len]
        return total_loss(matching, others, queries, batch.targets, real, divided, self.settings.losses)

    def _generators(self, batch: TrainingBatch, first: int, use: int) -> list[np.random.Generator]:
        """Random seeds for each image of a part, distinct from those of any other image, step or use."""
        key = [self.settings.recipe.seed, self.step]
        return [np.random.Generator(np.random.PCG64([*key, first + n, use])) for n in range(len(batch))]

    def _slots_and_divisors(self, parts: Sequence[TrainingBatch]) -> tuple[Slots | None, Divisors]:
        """Values shared by all parts of a step in all processes, so that the parts give the result of one batch."""
        targets = [target for part in parts for target in part.targets]
        most = self._processes.most(np.array([max(map(len, targets), default=0)]))
        slots = Slots.of(int(most[0]), self.settings.denoising)
        own = Counts.of(targets, self.network.config.num_queries, slots.groups if slots else 0)
        sums = self._processes.add(np.array([own.pairs, own.boxes, own.denoising]))
        everywhere = Counts(*map(int, sums))
        return slots, divisors(own, everywhere, self._processes.count, self.settings.losses.style)

    def _over_processes(self, values: dict[str, _Floats], gradients: list[Any]) -> tuple[dict[str, _Floats], list[Any]]:
        """Means over the processes."""
        count = self._processes.count
        if count == 1:
            return values, gradients
        arrays = [gradient.numpy() for gradient in gradients]
        flat = np.concatenate([*(array.reshape(-1) for array in arrays), *(terms for terms in values.values())])
        flat = self._processes.add(flat) / np.float32(count)
        means, begin = [], 0
        for array in arrays:
            means.append(jt.array(flat[begin : begin + array.size].reshape(array.shape)))
            begin += array.size
        return {name: flat[begin + 3 * n : begin + 3 * n + 3] for n, name in enumerate(values)}, means

    def state(self) -> dict[str, _Floats]:
        """Everything needed to resume exactly, except the frozen weights."""
        return {name: value.numpy() for name, value in self._variables().items()}

    def restore(self, step: int, state: Mapping[str, _Floats]) -> None:
        """Resume from ``state`` after ``step`` steps.

        Raises:
            ValueError: something is missing, left over or of another shape.
        """
        mine = self._variables()
        for name in sorted(mine.keys() | state.keys()):
            if name not in mine or name not in state:
                raise ValueError(f"{name} is {'unknown' if name in state else 'missing'}")
            if tuple(mine[name].shape) != state[name].shape:
                raise ValueError(f"{name} has the shape {state[name].shape}, {tuple(mine[name].shape)} is needed")
        for name, value in mine.items():
            value.update(jt.array(state[name]))
        jt.sync(list(mine.values()))  # see new_network
        self.optimizer.step = step

    def _variables(self) -> dict[str, Any]:
        """Everything that a step changes."""
        return {
            **{f"weight.{name}": value for name, value in self.trained.items()},
            **{f"average.{name}": value for name, value in (self._averages or {}).items()},
            **self.optimizer.moments,
        }


def normalised(batch: TrainingBatch) -> _Floats:
    """Pixels for the network, (B, 3, H, W); zeros at padding, as officially."""
    pixels = (batch.images.astype(np.float32) / np.float32(255) - MEAN) / STD
    padding = batch.padding()
    if padding is not None:
        pixels[padding] = 0
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _is_frozen_text(network: GroundingDino, frozen: set[str]) -> bool:
    text = {name for name in network.state_dict() if name.startswith("bert.")}
    return bool(text) and text <= frozen and network.config.prompt != "word"


def _log(values: Mapping[str, _Floats]) -> dict[str, float]:
    """Numbers for the log: the loss, its terms of the last decoder layer, and the sums of the other predictions."""
    last = max((name for name in values if name.startswith("decoder.")), key=lambda name: int(name.split(".")[1]))
    log = {"loss": float(sum(terms.sum() for terms in values.values()))}
    log |= dict(zip(("class", "l1", "giou"), map(float, values[last]), strict=True))
    for name, terms in values.items():
        if name != last:
            key = {"decoder": "auxiliary"}.get(name.split(".")[0], name.split(".")[0])
            log[key] = log.get(key, 0.0) + float(terms.sum())
    return log
