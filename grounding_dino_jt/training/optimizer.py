"""AdamW, clipping and the running average, in one pass over each parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ovd_bench.grounding_dino_jt.training.recipe import Recipe
from ovd_bench.kernels.adamw import adamw, adamw_numbers, squared_length
from ovd_bench.kernels.runtime import jittor

jt = jittor()


def gradient_norm(gradients: Sequence[Any]) -> Any:
    """Euclidean norm of all gradients together, a variable (1,)."""
    return jt.sqrt(jt.concat([squared_length(gradient) for gradient in gradients]).sum())


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
            gradients: gradients of the parameters, in their order.
            norm: norm of all of them, before clipping.
        """
        recipe, step = self._recipe, self.step
        self.step += 1
        # as torch.nn.utils.clip_grad_norm_
        scale = jt.minimum(recipe.clip / (norm + 1e-6), 1.0) if recipe.clip else jt.ones((1,))
        groups: dict[tuple[float, float], Any] = {}
        for (name, value), gradient in zip(self._parameters.items(), gradients, strict=True):
            rate, decay = recipe.rate(step) * recipe.factor(name), recipe.decay(len(value.shape))
            if (rate, decay) not in groups:
                groups[rate, decay] = adamw_numbers(
                    recipe.betas, recipe.eps, rate, decay, self.step, recipe.average_decay(self.step)
                )
            first, second = self.moments[f"first.{name}"], self.moments[f"second.{name}"]
            average = None if self._averages is None else self._averages[name]
            new = adamw(value, gradient, first, second, average, scale, groups[rate, decay])
            for variable, changed in zip((value, first, second, average), new, strict=True):
                if variable is not None:
                    variable.update(changed)
