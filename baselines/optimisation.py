"""Optimisation of the small detectors: AdamW, cosine schedule, clipping, running average. Reads and writes no files."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """Settings of an optimisation.

    Attributes:
        steps: optimisation steps; the learning rate falls along a cosine to ``final`` of its peak at the last.
        lr: peak learning rate.
        warm_up: part of the steps in which the rate rises linearly to the peak.
        final: last learning rate divided by the peak.
        weight_decay: weight decay of AdamW, on matrices only.
        betas: parameters of AdamW.
        clip: maximum norm of the gradient.
        ema: decay of the running average of the weights, which is evaluated and saved.
        precision: precision of the matrix products; ``bfloat16`` halves the time on CPUs that have it in hardware.
        seed: seed of the initial weights.
    """

    steps: int
    lr: float = 2e-3
    warm_up: float = 0.04
    final: float = 0.02
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    ema: float = 0.998
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm = max(1, round(self.warm_up * self.steps))
        if step < warm:
            return self.lr * (step + 1) / warm
        done = (step - warm) / max(1, self.steps - 1 - warm)
        return self.lr * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)))


class Optimisation:
    """A model in training.

    Args:
        model: changed in place, on its device.
        average: a second model for the running average; its weights are set to those of the model.
        recipe: settings of the training.
        what: settings that must equal those of a checkpoint.

    Attributes:
        step: steps done.
    """

    def __init__(self, model: nn.Module, average: nn.Module, recipe: Recipe, what: Mapping[str, Any]) -> None:
        self.model, self.average, self.recipe, self.step = model, average, recipe, 0
        self._what = {"recipe": asdict(recipe), **what}
        self._device = next(model.parameters()).device
        average.load_state_dict(model.state_dict())
        average.requires_grad_(False).eval()
        matrices = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)

    def descend(self, losses: Iterable[Mapping[str, Tensor]], count: int = 1) -> dict[str, float]:
        """One step.

        Args:
            losses: weighted parts of the loss of each piece of a batch, which are averaged. Each piece is finished
                before the next one is requested, so that only one is in memory.
            count: number of pieces.

        Returns:
            The parts, their sum ``loss``, the norm of the gradient and the learning rate.

        Raises:
            FloatingPointError: the loss is not finite; the weights are unchanged.
        """
        rate = self.recipe.rate(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        values = {"loss": 0.0}
        for parts in losses:
            loss = torch.stack(list(parts.values())).sum()
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is {float(loss.detach())} at step {self.step + 1}: lower the learning rate"
                )
            (loss / count).backward()
            for name, value in (("loss", loss), *parts.items()):
                values[name] = values.get(name, 0.0) + float(value.detach()) / count
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self._optimizer.step()
        self.step += 1
        self._update_average()
        return {**values, "gradient": float(norm), "lr": rate}

    def _update_average(self) -> None:
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def checkpoint(self) -> bytes:
        """Everything needed to resume exactly."""
        stream = io.BytesIO()
        state = {
            "what": self._what,
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),  # decides which paths are dropped
        }
        if self._device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self._device)
        torch.save(state, stream)
        return stream.getvalue()

    def restore(self, data: bytes) -> None:
        """Resume from ``checkpoint``.

        Raises:
            ValueError: not a checkpoint, or of another model or recipe.
        """
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            same = state["what"] == self._what
        except Exception as error:  # torch.load raises any exception of unpickling
            raise ValueError("is not a checkpoint of this trainer") from error
        if not same:
            raise ValueError("is of another model or recipe")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if self._device.type == "cuda" and "random_cuda" in state:  # not in one made on the CPU
            torch.cuda.set_rng_state(state["random_cuda"], self._device)
        self.step = state["step"]
