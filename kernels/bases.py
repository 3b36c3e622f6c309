"""Jittor's base classes, with types that a checker can follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kernels.runtime import jittor

if TYPE_CHECKING:

    class Function:
        """Operator with a gradient of its own: ``execute`` and ``grad``."""

        @classmethod
        def apply(cls, *arguments: Any) -> Any:
            """Run ``execute``."""

    class Module:
        """Network with parameters: attributes that are variables or modules."""

        def __call__(self, *arguments: Any, **named: Any) -> Any:
            """Run ``execute``."""

        def is_training(self) -> bool:
            """Whether ``train`` was called last."""

        def eval(self) -> None:
            """Switch what only training does off, and gradients."""

        def train(self) -> None:
            """Switch it on."""

        def state_dict(self) -> dict[str, Any]:
            """Variables by name."""

        def parameters(self) -> list[Any]:
            """Variables."""

        def __iter__(self) -> Iterator[Any]:
            """Members, of a ``ModuleList``."""

else:
    Function = jittor().Function
    Module = jittor().nn.Module
