"""A step of AdamW on one parameter, in one pass over its memory, and the squared norm of its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.runtime import jittor

jt = jittor()

_FILES = ("adamw.cc",)


def adamw_numbers(
    betas: tuple[float, float], eps: float, rate: float, decay: float, step: int, average_decay: float
) -> Any:
    """Scalars of one step for all parameters with the same learning rate; computed in double precision.

    They are passed in a variable because changed constants would compile a new kernel, and changed values do not.

    Args:
        betas: decay rates of both moments.
        eps: added to the square root of the second moment.
        rate: learning rate.
        decay: weight decay.
        step: counted from 1, for the bias correction of the moments.
        average_decay: decay rate of the running average of the weights.
    """
    beta1, beta2 = betas
    numbers = [
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        1 - rate * decay,
        rate / (1 - beta1**step),
        (1 - beta2**step) ** -0.5,
    ]
    return jt.array(np.array([*numbers, eps, 1 - average_decay], np.float32))


def adamw(
    value: Any, gradient: Any, first: Any, second: Any, average: Any, scale: Any, numbers: Any
) -> tuple[Any, Any, Any, Any]:
    """One step (Loshchilov and Hutter 2019, algorithm 2), with the arithmetic of ``torch.optim.AdamW``.

    Args:
        value: the parameter, any shape.
        gradient: its gradient, of the same shape as all the following.
        first: first moment.
        second: second moment.
        average: running average of the values, or None.
        scale: (1,), factor of the gradient.
        numbers: result of ``adamw_numbers``.

    Returns:
        The next value, first moment, second moment and average.
    """
    if jt.flags.use_cuda:
        return _composed(value, gradient, first, second, average, scale, numbers)
    inputs, outputs, count = [value, gradient, first, second, scale, numbers], 3, "in0->num"
    places = "nullptr, out0_p, out1_p, out2_p, nullptr"
    if average is not None:
        inputs, outputs, places = [*inputs, average], 4, "in6_p, out0_p, out1_p, out2_p, out3_p"
    call = f"ovd::adamw<in0_type>(in0_p, in1_p, in2_p, in3_p, in4_p, in5_p, {places}, {count});"
    found = cpu_op([value.shape] * outputs, inputs, _FILES, call)
    return found[0], found[1], found[2], found[3] if average is not None else None


def _composed(
    value: Any, gradient: Any, first: Any, second: Any, average: Any, scale: Any, numbers: Any
) -> tuple[Any, Any, Any, Any]:
    beta1, rest1, beta2, rest2, kept, move, root, eps, follow = (numbers[n : n + 1] for n in range(9))
    clipped = gradient * scale
    first = first * beta1 + clipped * rest1
    second = second * beta2 + clipped * clipped * rest2
    value = value * kept - move * first / (jt.sqrt(second) * root + eps)
    return value, first, second, None if average is None else average + (value - average) * follow


def squared_length(x: Any) -> Any:
    """Sum of the squares, (1,)."""
    if jt.flags.use_cuda:
        return (x * x).sum().reshape(1)
    (out,) = cpu_op([(1,)], [x], _FILES, "ovd::squared_length(in0_p, out0_p, in0->num);")
    return out
