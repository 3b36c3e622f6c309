"""Layer and group normalisation in two passes: mean first, then squared deviations from it."""

from __future__ import annotations

from typing import Any

from kernels.runtime import jittor

jt = jittor()


def layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    """Normalise the last dimension.

    Args:
        x: (..., C).
        weight: (C,).
        bias: (C,).
        eps: added to the variance.

    Returns:
        (..., C).
    """
    return _normalised(x, eps) * weight + bias


def group_norm(x: Any, groups: int, weight: Any, bias: Any, eps: float) -> Any:
    """Normalise groups of neighbouring channels, each over all its pixels.

    Args:
        x: (B, C, H, W).
        groups: a divisor of C.
        weight: (C,).
        bias: (C,).
        eps: added to the variance.

    Returns:
        (B, C, H, W).
    """
    y = _normalised(x.reshape(x.shape[0], groups, -1), eps).reshape(x.shape)
    return y * weight.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)


def _normalised(x: Any, eps: float) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / jt.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
