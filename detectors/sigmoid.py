"""The logistic function in float32, with the bits that PyTorch gives on one thread of a processor with AVX-512.

The scores of the shipped results were computed there, and must not change. PyTorch takes the exponential of whole
blocks of 32 numbers from Sleef (Shibata and Petrogalli 2020, ``expf`` with 1.0 ULP), and that of what is left of a row
from the C library (glibc's ``expf``). So equal logits can have two values there, and which of them has which depends on
the processor and the number of threads too. Here it depends on the place in the row only, on every machine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

#: Numbers that PyTorch computes together: two AVX-512 registers.
_BLOCK = 32
#: Numbers that are computed before the next are read, so that all that is between lies in the second cache.
_AT_ONCE = 1 << 14

# Sleef: x = n ln 2 + s with ln 2 in two parts, and exp(s) = 1 + s + s^2 p(s); coefficients from the highest power on.
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693145751953125), np.float32(1.428606765330187e-06)
_POLYNOMIAL = np.array(
    (0.000198527617612853646, 0.00139304355252534151, 0.00833336077630519867, 0.0416664853692054749, 0.166666671, 0.5),
    np.float32,
)

# glibc, in float64: x = ln 2 (n + i / 32) + r, a table of 2^(i / 32) and a cubic polynomial.
_PARTS = 32
_SCALE = float.fromhex("0x1.71547652b82fep+0") * _PARTS
_TABLE = np.array([2.0 ** (part / _PARTS) for part in range(_PARTS)])
_CUBIC = float.fromhex("0x1.c6af84b912394p-5") / _PARTS**3
_SQUARE = float.fromhex("0x1.ebfce50fac4f3p-3") / _PARTS**2
_LINEAR = float.fromhex("0x1.62e42ff0c52d6p-1") / _PARTS


def sigmoid(rows: Floats) -> Floats:
    """Of rows (R, n): 1 / (1 + exp(-x)); the last n mod 32 of each row are rounded otherwise than those before them."""
    number, width = rows.shape
    whole = width - width % _BLOCK
    found = np.empty(rows.shape, np.float32)
    step = max(_AT_ONCE // max(width, 1), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for begin in range(0, number, step):
            negative, part = -rows[begin : begin + step], found[begin : begin + step]
            part[:, :whole] = _sleef_exp(negative[:, :whole])
            part[:, whole:] = _glibc_exp(negative[:, whole:])
            part += np.float32(1)
            np.divide(np.float32(1), part, out=part)
    return found


def _sleef_exp(x: Floats) -> Floats:
    """With fused operations: a product of float32 is exact in float64, and ``_round`` rounds it with what is added.

    The sum is rounded in float64 before, which changes the result where it comes to lie half way between two numbers of
    float32: in about one of 2^29 cases.
    """
    inside = np.clip(x, np.float32(-105), np.float32(101))  # beyond, the result is 0 or infinite
    n = np.rint(inside * _LOG2_E)
    y = np.empty(x.shape, np.float32)
    s, p = n.astype(np.float64), n.astype(np.float64)
    s *= -_LN2_HIGH
    s += inside
    _round(s, y)
    p *= -_LN2_LOW
    s += p
    _round(s, y)
    square = y * y
    p[...] = _POLYNOMIAL[0]
    for coefficient in _POLYNOMIAL[1:]:
        p *= s
        p += coefficient
        _round(p, y)
    p *= square
    p += s
    y[...] = p
    y += np.float32(1)
    return np.ldexp(y, n.astype(np.int32), out=y)


def _round(x: npt.NDArray[np.float64], buffer: Floats) -> None:
    """Round to float32, in place."""
    buffer[...] = x
    x[...] = buffer


def _glibc_exp(x: Floats) -> Floats:
    z = np.clip(x.astype(np.float64), -200, 200) * _SCALE
    n = np.rint(z)
    r = z - n
    whole = n.astype(np.int32)
    power = np.ldexp(_TABLE[whole % _PARTS], whole // _PARTS)
    return np.asarray(((_CUBIC * r + _SQUARE) * (r * r) + (_LINEAR * r + 1)) * power, np.float32)
