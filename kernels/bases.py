"""Jittor's base classes with types for the type checker, and gradients that free intermediate values early."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ovd_bench.kernels.runtime import jittor

if TYPE_CHECKING:

    class Function:
        """Operator with its own gradient: ``execute`` and ``grad``."""

        @classmethod
        def apply(cls, *arguments: Any) -> Any:
            """Run ``execute``."""

        def __call__(self, *arguments: Any) -> Any:
            """Run ``execute`` of this object."""

    class Module:
        """Network with parameters: attributes that are variables or modules."""

        def __call__(self, *arguments: Any, **named: Any) -> Any:
            """Run ``execute``."""

        def is_training(self) -> bool:
            """Whether ``train`` was called last."""

        def eval(self) -> None:
            """Switch off training behaviour and gradients."""

        def train(self) -> None:
            """Switch on training behaviour and gradients."""

        def state_dict(self) -> dict[str, Any]:
            """Variables by name."""

        def named_modules(self) -> list[tuple[str, Module]]:
            """This module and its submodules, by path."""

        def parameters(self) -> list[Any]:
            """Variables."""

        def __iter__(self) -> Iterator[Any]:
            """Members of a ``ModuleList``."""

else:

    class Function(jittor().Function):
        """See above."""

        def _grad(self, *gradients: Any) -> Any:
            found = super()._grad(*gradients)
            if _once:
                vars(self).clear()
            return found

    Module = jittor().nn.Module

_once = False


def gradients_once(loss: Any, variables: Sequence[Any]) -> list[Any]:
    """Gradients of ``loss``; they can be computed only once.

    Intermediate values are therefore freed as soon as they have been used. Jittor itself keeps what each ``Function``
    saved for its gradient until the whole computation is done, and with ``jt.grad`` even longer.

    Args:
        loss: one number.
        variables: variables to differentiate by.
    """
    global _once
    before, _once = _once, True
    try:
        found: list[Any] = jittor().grad(loss, list(variables), False)
    finally:
        _once = before
    return found
