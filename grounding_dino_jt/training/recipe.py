"""Optimisation settings: rates, schedule, decay, averages. No framework."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: As in the paper (arXiv 2303.05499, appendix): encoders have a tenth of the learning rate.
ENCODER_RATES = {"backbone.": 0.1, "bert.": 0.1, "clip.": 0.1}


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the steps, as a share of its peak.

    Attributes:
        kind: ``steps`` multiplies by ``gamma`` at every milestone; ``cosine`` falls to ``final``.
        milestones: steps.
        gamma: at each of them.
        final: share at the last step.
        warm_up: steps in which the share rises linearly.
        warm_up_from: share at the first of them.
    """

    kind: Literal["steps", "cosine"] = "steps"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    final: float = 0.0
    warm_up: int = 0
    warm_up_from: float = 0.1

    def share(self, step: int, steps: int) -> float:
        """Share of the peak at a step, counted from 0, of ``steps``."""
        if step < self.warm_up:
            return self.warm_up_from + (1 - self.warm_up_from) * step / self.warm_up
        if self.kind == "steps":
            return float(self.gamma ** sum(step >= milestone for milestone in self.milestones))
        done = (step - self.warm_up) / max(1, steps - 1 - self.warm_up)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Recipe:
    """An optimisation by AdamW (Loshchilov and Hutter 2019).

    Attributes:
        steps: optimisation steps.
        lr: peak learning rate.
        schedule: schedule of the rate.
        rates: prefixes of parameter names, or whole names, to a factor of their learning rate; the longest match
            applies, 0 freezes. Names are the official ones.
        weight_decay: weight decay of every parameter.
        decay_vectors: whether vectors (biases, norms) decay as well, as they do officially.
        betas, eps: parameters of AdamW.
        clip: maximum norm of the whole gradient; 0 = no clipping.
        average: decay of the running average of the weights, which is then evaluated and saved; 0 = none.
        seed: seed of initial weights and of random numbers in training.
    """

    steps: int
    lr: float = 1e-4
    schedule: Schedule = field(default_factory=Schedule)
    rates: Mapping[str, float] = field(default_factory=lambda: dict(ENCODER_RATES))
    weight_decay: float = 1e-4
    decay_vectors: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float = 0.1
    average: float = 0.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0, of parameters with factor 1."""
        return self.lr * self.schedule.share(step, self.steps)

    def factor(self, name: str) -> float:
        """Factor of a parameter's rate."""
        fitting = [beginning for beginning in self.rates if name.startswith(beginning)]
        return self.rates[max(fitting, key=len)] if fitting else 1.0

    def decay(self, dimensions: int) -> float:
        """Weight decay of a parameter with this number of dimensions."""
        return self.weight_decay if dimensions > 1 or self.decay_vectors else 0.0

    def average_decay(self, step: int) -> float:
        """Decay after ``step`` steps; it is smaller in the first steps."""
        return min(self.average, (1 + step) / (10 + step))
