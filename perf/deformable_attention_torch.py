"""Multi-scale deformable attention for PyTorch: the CUDA kernel, compiled at first use and called through ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch.nn.functional import grid_sample

from ovd_bench import kernels
from ovd_bench.kernels.cuda_toolkit import ToolkitError, explain, find_toolkit

_CUDA = Path(kernels.__file__).parent / "cuda"
_SOURCES = (_CUDA / "deformable_attention.cu", _CUDA / "deformable_attention.h")
_TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}


def deformable_attention(value: Any, shapes: Sequence[tuple[int, int]], locations: Any, weights: Any) -> Any:
    """The same as ``kernels.deformable_attention.deformable_attention``, on tensors of one CUDA device.

    Args:
        value: (B, S, H, D), float32, float64, float16 or bfloat16.
        shapes: (height, width) of each of the L levels, at most 8.
        locations: (B, Q, H, L, P, 2). Locations and weights are converted to float32, or to float64 if the value is.
        weights: (B, Q, H, L, P).

    Returns:
        (B, Q, H * D) in the type of the value. For 16-bit types the sums are computed in float32.

    Raises:
        ValueError: shapes or types do not fit.
        ToolkitError: the kernel cannot be compiled here.
        RuntimeError: the launch on the device failed.
    """
    batch, size, heads, _ = value.shape
    expected = (batch, locations.shape[1], heads, len(shapes), locations.shape[4])
    if size != sum(height * width for height, width in shapes):
        raise ValueError(f"value has {size} pixels, the levels {list(shapes)} have another number")
    if tuple(locations.shape) != (*expected, 2) or tuple(weights.shape) != expected:
        raise ValueError(f"locations {tuple(locations.shape)} and weights {tuple(weights.shape)} do not fit {expected}")
    if value.dtype not in _TYPES:
        raise ValueError(f"value of type {value.dtype}, known are {', '.join(map(str, _TYPES))}")
    real = torch.float64 if value.dtype == torch.float64 else torch.float32
    return _DeformableAttention.apply(value, tuple(shapes), locations.to(real), weights.to(real))


def composed(value: Any, shapes: Sequence[tuple[int, int]], locations: Any, weights: Any) -> Any:
    """The same with one ``grid_sample`` per level, as in PyTorch models without a kernel of their own.

    It is the reference of the tests and of the timings, and runs on any device.
    """
    batch, _, heads, dim = value.shape
    queries, points = weights.shape[1], weights.shape[4]
    sampled, start = [], 0
    for level, (height, width) in enumerate(shapes):
        pixels = value[:, start : start + height * width]
        image = pixels.permute(0, 2, 3, 1).reshape(batch * heads, dim, height, width)
        grid = 2 * locations[:, :, :, level].transpose(1, 2).reshape(batch * heads, queries, points, 2) - 1
        sampled.append(grid_sample(image, grid, align_corners=False))
        start += height * width
    shares = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    out = (torch.cat(sampled, -1) * shares).sum(-1)
    return out.view(batch, heads * dim, queries).transpose(1, 2)


class _DeformableAttention(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, value: Any, shapes: tuple[tuple[int, int], ...], locations: Any, weights: Any) -> Any:
        value, locations, weights = value.contiguous(), locations.contiguous(), weights.contiguous()
        ctx.save_for_backward(value, locations, weights)
        ctx.shapes = shapes
        out = value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])
        _call("ovd_deformable_forward", value, shapes, locations, weights, out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Any) -> tuple[Any, None, Any, Any]:
        value, locations, weights = ctx.saved_tensors
        dvalue = torch.empty_like(value, dtype=locations.dtype)
        dlocations, dweights = torch.empty_like(locations), torch.empty_like(weights)
        grads = (grad.contiguous(), dvalue, dlocations, dweights)
        _call("ovd_deformable_backward", value, ctx.shapes, locations, weights, *grads)
        return dvalue.to(value.dtype), None, dlocations, dweights


def _call(name: str, value: Any, shapes: tuple[tuple[int, int], ...], locations: Any, weights: Any, *more: Any) -> None:
    numbers = [
        *value.shape,
        locations.shape[1],
        locations.shape[4],
        len(shapes),
        *(n for shape in shapes for n in shape),
    ]
    sizes = (ctypes.c_int * len(numbers))(*numbers)
    tensors = (value, locations, weights, *more)
    with _stream(value) as stream:
        library = _library(value)
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
        error = getattr(library, name)(_TYPES[value.dtype], *pointers, sizes, ctypes.c_void_p(stream))
    if error:
        raise RuntimeError(f"{name} on {tuple(value.shape)}: {library.ovd_error(error).decode()}")


@contextmanager
def _stream(tensor: Any) -> Iterator[int]:
    """Makes the device of a tensor the current one; yields its current stream."""
    with torch.cuda.device(tensor.device):
        yield torch.cuda.current_stream().cuda_stream


def _library(tensor: Any) -> ctypes.CDLL:
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return _built(10 * major + minor)


@cache
def _built(architecture: int) -> ctypes.CDLL:
    """The compiled kernel for a compute capability (90 for 9.0), from the user's cache or compiled now."""
    toolkit = find_toolkit()
    if toolkit is None:
        raise ToolkitError(explain())
    key = hashlib.sha256(repr((toolkit.version, architecture)).encode())
    for source in _SOURCES:
        key.update(source.read_bytes())
    target = user_cache_path("ovd-bench") / "cuda" / f"deformable_attention-{key.hexdigest()[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            toolkit.compile(_SOURCES[0], made, [architecture])
            made.replace(target)
    return load(target)


def load(path: Path) -> ctypes.CDLL:
    """Open a library compiled from ``deformable_attention.cu``."""
    library = ctypes.CDLL(str(path))
    library.ovd_error.restype = ctypes.c_char_p
    return library
