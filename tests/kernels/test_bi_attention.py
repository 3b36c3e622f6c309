"""Bi-attention against torch in double precision, and its folded projections against the block as published."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch

from ovd_bench.kernels.bi_attention import _composed, bi_attention
from ovd_bench.kernels.runtime import jittor
from ovd_bench.metrics.types import FloatArray
from ovd_bench.tests.kernels.checks import check

jt = jittor()

# images, captions, rows, heads, tokens, depth
CASES = {
    "one image": (1, 2, 300, 2, 5, 8),
    "image for each": (2, 2, 131, 3, 7, 4),
    "one of all": (1, 1, 1, 1, 1, 1),
    "several segments": (1, 2, 3500, 2, 16, 8),
    "whole vectors": (1, 1, 192, 2, 32, 16),
}

Masks = tuple[np.ndarray[Any, np.dtype[np.bool_]], np.ndarray[Any, np.dtype[np.bool_]]]


def _inputs(case: str, spread: float = 1.0) -> list[FloatArray]:
    images, captions, rows, heads, tokens, depth = CASES[case]
    rng = np.random.default_rng(0)
    text = (captions, heads, tokens, depth)
    shapes = [(images, rows, depth), text, text[:3], text]
    inputs = [rng.standard_normal(shape) for shape in shapes]
    inputs[1] *= spread * depth**-0.5
    return inputs


def _masks(case: str) -> Masks:
    images, captions, rows, _, tokens, _ = CASES[case]
    image = np.random.default_rng(1).random((images, rows)) < 0.3
    image[:, 0] = False
    text = np.zeros((captions, tokens), bool)
    text[-1, (tokens + 1) // 2 :] = True
    return image, text


def _exact(image: Any, keys: Any, key_bias: Any, values: Any, masks: Masks | None) -> tuple[Any, Any]:
    image = image.expand(len(keys), -1, -1)
    rows = columns = torch.einsum("bnd,bhtd->bhnt", image, keys) + key_bias[:, :, None]
    if masks:
        columns = columns.masked_fill(torch.tensor(masks[0])[:, None, :, None], -torch.inf)
        rows = rows.masked_fill(torch.tensor(masks[1])[:, None, None], -torch.inf)
    out = torch.einsum("bhnt,bhtd->bnd", rows.softmax(-1), values)
    return out, torch.einsum("bhnt,bnd->bhtd", columns.softmax(2), image)


def _check(inputs: list[FloatArray], masks: Masks | None, outputs: tuple[int, ...], forward: float = 2e-6) -> None:
    def ours(*x: Any) -> Any:
        image_padding, text_padding = (jt.array(m) for m in masks) if masks else (None, None)
        image, keys, key_bias, values = x
        result = bi_attention(image, keys, key_bias, values, image_padding, text_padding)
        return jt.concat([result[i].reshape(-1) for i in outputs])

    def exact(*x: Any) -> Any:
        image, keys, key_bias, values = x
        result = _exact(image, keys, key_bias, values, masks)
        total = torch.cat([result[i].reshape(-1) for i in outputs])
        return total + 0 * sum(t.sum() for t in x)  # so that torch gives zeros for inputs that an output does not need

    check(ours, exact, inputs, forward)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_equals_torch(case: str, masked: bool) -> None:
    _check(_inputs(case), _masks(case) if masked else None, (0, 1))


@pytest.mark.parametrize("output", [0, 1])
def test_gradient_of_one_output(output: int) -> None:
    _check(_inputs("image for each"), _masks("image for each"), (output,))


def test_logits_far_apart() -> None:
    _check(_inputs("several segments", spread=60), None, (0, 1), forward=2e-5)


def test_leading_rows_of_padding() -> None:
    """Whole segments without a valid row."""
    image, text = _masks("several segments")
    image[:, :1000] = True
    _check(_inputs("several segments"), (image, text), (0, 1))


def test_all_padding_is_nan() -> None:
    image_padding, text_padding = _masks("image for each")
    image_padding[0], text_padding[1] = True, True
    image, keys, key_bias, values = (jt.array(x.astype(np.float32)) for x in _inputs("image for each"))
    out, context = bi_attention(image, keys, key_bias, values, jt.array(image_padding), jt.array(text_padding))
    np.testing.assert_array_equal(np.isnan(out.numpy()).all((1, 2)), [False, True])
    np.testing.assert_array_equal(np.isnan(context.numpy()).all((1, 2, 3)), [True, False])


def test_projections_folded_into_the_text_side() -> None:
    """The image side of GroundingDINO's block: queries, values and output of 3 heads of width 4, images of width 6."""
    heads, width, depth, rows, tokens = 3, 4, 6, 20, 5
    rng = np.random.default_rng(3)
    wq, wv, wo = (rng.standard_normal((heads, width, depth)) for _ in range(3))  # wo transposed
    bq = rng.standard_normal((heads, width))
    image = rng.standard_normal((1, rows, depth))
    k, u = rng.standard_normal((2, 1, heads, tokens, width))
    logits = np.einsum("bnhw,bhtw->bhnt", np.einsum("bnd,hwd->bnhw", image, wq) + bq, k)
    text_softmax, image_softmax = (np.exp(logits) / np.exp(logits).sum(axis, keepdims=True) for axis in (3, 2))
    expected_out = np.einsum("bhnt,bhtw,hwd->bnd", text_softmax, u, wo)
    expected_text = np.einsum("bhnt,bnd,hwd->bhtw", image_softmax, image, wv)
    folded = [image, np.einsum("bhtw,hwd->bhtd", k, wq), np.einsum("bhtw,hw->bht", k, bq)]
    folded.append(np.einsum("bhtw,hwd->bhtd", u, wo))
    out, context = bi_attention(*(jt.array(x.astype(np.float32)) for x in folded))
    np.testing.assert_allclose(out.numpy(), expected_out, atol=2e-5)
    np.testing.assert_allclose(np.einsum("bhtd,hwd->bhtw", context.numpy(), wv), expected_text, atol=2e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_composition_for_the_gpu_says_the_same(masked: bool) -> None:
    inputs = [jt.array(x.astype(np.float32)) for x in _inputs("image for each")]
    masks = [jt.array(m) for m in _masks("image for each")] if masked else [None, None]
    for ours, theirs in zip(bi_attention(*inputs, *masks), _composed(*inputs, *masks), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-6)


@pytest.mark.parametrize(("captions", "rows"), [(0, 5), (2, 0)])
def test_nothing_in_nothing_out(captions: int, rows: int) -> None:
    text = (captions, 2, 3, 8)
    inputs = [jt.zeros(s) for s in ((1, rows, 8), text, text[:3], text)]
    out, context = bi_attention(*inputs)
    assert (out.shape, context.shape) == ([captions, rows, 8], list(text))
    for x in (out, context, *jt.grad(out.sum() + context.sum(), inputs)):
        assert not x.numpy().any()


def test_number_of_threads_changes_nothing() -> None:
    gomp = ctypes.CDLL("libgomp.so.1")
    before = gomp.omp_get_max_threads()
    inputs = [jt.array(x.astype(np.float32)) for x in _inputs("several segments")]
    results = []
    try:
        for threads in (1, 2, 5):
            gomp.omp_set_num_threads(threads)
            out, context = bi_attention(*inputs)
            loss = (out * out).sum() + (context * context).sum()
            results.append([x.numpy() for x in (out, context, *jt.grad(loss, inputs))])
    finally:
        gomp.omp_set_num_threads(before)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)
