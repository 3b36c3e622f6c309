"""AdamW, clipping and the running average, as one fused pass over every parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grounding_dino_jt.training.recipe import Recipe
from kernels.runtime import jittor

jt = jittor()


def gradient_norm(gradients: Sequence[Any]) -> Any:
    """Euclidean norm of all gradients together, a variable (1,)."""
    return jt.sqrt(jt.concat([(gradient * gradient).sum().reshape(1) for gradient in gradients]).sum())


class AdamW:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2) with the arithmetic of ``torch.optim.AdamW``.

    Args:
        parameters: variables to train, by name; they are updated in place.
        recipe: rates and decay.
        averages: the running average of each, by the same names, updated in place; None = no average.

    Attributes:
        step: steps done.
        moments: both moments of every parameter, ``first.NAME`` and ``second.NAME``.
    """

    def __init__(self, parameters: Mapping[str, Any], recipe: Recipe, averages: Mapping[str, Any] | None) -> None:
        self._parameters, self._recipe, self._averages = dict(parameters), recipe, averages
        self.step = 0
        self.moments = {
            f"{order}.{name}": jt.zeros(value.shape).stop_grad()
            for order in ("first", "second")
            for name, value in self._parameters.items()
        }

    def apply(self, gradients: Sequence[Any], norm: Any) -> None:
        """One step.

        Args:
            gradients: of the parameters, in their order.
            norm: of all of them, before clipping.
        """
        recipe, step = self._recipe, self.step
        self.step += 1
        # as torch.nn.utils.clip_grad_norm_
        scale = jt.minimum(recipe.clip / (norm + 1e-6), 1.0) if recipe.clip else jt.ones((1,))
        beta1, beta2 = recipe.betas
        bias1, bias2 = 1 - beta1**self.step, 1 - beta2**self.step
        rate = recipe.rate(step)
        follow = 1 - recipe.average_decay(self.step)
        numbers: dict[float, Any] = {}

        def number(value: float) -> Any:
            """One variable for each number: a changed one is then a changed input and not another kernel."""
            if value not in numbers:
                numbers[value] = jt.array(np.array([value], np.float32))
            return numbers[value]

        for (name, value), gradient in zip(self._parameters.items(), gradients, strict=True):
            own = rate * recipe.factor(name)
            clipped = gradient * scale
            first_moment, second_moment = self.moments[f"first.{name}"], self.moments[f"second.{name}"]
            first = first_moment * beta1 + clipped * (1 - beta1)
            second = second_moment * beta2 + clipped * clipped * (1 - beta2)
            kept = number(1 - own * recipe.decay(len(value.shape)))
            moved = value * kept - number(own / bias1) * first / (jt.sqrt(second) * number(bias2**-0.5) + recipe.eps)
            first_moment.update(first)
            second_moment.update(second)
            if self._averages is not None:
                average = self._averages[name]
                average.update(average + (moved - average) * number(follow))
            value.update(moved)
