"""Inputs of deformable attention and a slow, readable implementation of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Shapes = list[tuple[int, int]]

#: Name: batch, heads, width of a head, queries, points, (height, width) of the levels.
CASES: dict[str, tuple[int, int, int, int, int, Shapes]] = {
    "four levels": (2, 8, 32, 37, 4, [(12, 17), (6, 9), (3, 5), (2, 3)]),
    "one query": (1, 8, 32, 1, 4, [(7, 5), (4, 3)]),
    "one level, one point": (2, 2, 16, 19, 1, [(5, 9)]),
    "no queries": (1, 4, 32, 0, 4, [(4, 4), (2, 2)]),
    "odd width": (2, 3, 13, 21, 3, [(5, 4), (3, 2), (1, 1)]),
    "narrow": (1, 2, 3, 50, 5, [(9, 1), (1, 9)]),
    "wide": (1, 2, 72, 18, 2, [(6, 6), (3, 3)]),
}


def inputs(case: str, seed: int = 0) -> tuple[Floats, Shapes, Floats, Floats]:
    """Value, level shapes, locations (a fifth of them outside, some far) and weights, float64."""
    batch, heads, dim, queries, points, shapes = CASES[case]
    random = np.random.default_rng(seed)
    value = random.standard_normal((batch, sum(h * w for h, w in shapes), heads, dim))
    locations = random.uniform(-0.1, 1.1, (batch, queries, heads, len(shapes), points, 2))
    far = random.random(locations.shape) < 0.03
    locations[far] = random.choice([-1e30, -5.0, 7.5, 1e30], int(far.sum()))
    return value, shapes, locations, random.random(locations.shape[:-1])


def by_hand(value: Floats, shapes: Shapes, locations: Floats, weights: Floats) -> Floats:
    """Sample by sample, as the text of the paper (Zhu et al. 2021, equation 3): (B, Q, H * D)."""
    batch, queries, heads, levels, points = weights.shape
    out = np.zeros((batch, queries, heads, value.shape[-1]))
    starts = np.cumsum([0] + [h * w for h, w in shapes])
    for b, q, h, level, p in np.ndindex(batch, queries, heads, levels, points):
        height, width = shapes[level]
        x, y = locations[b, q, h, level, p] * (width, height) - 0.5
        for column in (np.floor(x), np.floor(x) + 1):
            for row in (np.floor(y), np.floor(y) + 1):
                if 0 <= column < width and 0 <= row < height:
                    share = (1 - abs(x - column)) * (1 - abs(y - row)) * weights[b, q, h, level, p]
                    out[b, q, h] += share * value[b, starts[level] + int(row) * width + int(column), h]
    return out.reshape(batch, queries, heads * value.shape[-1])
