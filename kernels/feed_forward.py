"""Two linear layers with an activation between them."""

from __future__ import annotations

from typing import Any, Literal

from kernels.linear import linear


def feed_forward(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, activation: Literal["relu", "gelu"]) -> Any:
    """``activation(x @ w1.T + b1) @ w2.T + b2``.

    Args:
        x: (..., I).
        w1: (F, I).
        b1: (F,).
        w2: (O, F).
        b2: (O,).
        activation: ``gelu`` is the exact one (erf).

    Returns:
        (..., O).
    """
    return linear(linear(x, w1, b1, activation), w2, b2)
