"""Floating-point operations of one call of ``detect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ovd_bench.benchmarks.speed.record import Flops
from ovd_bench.detectors.interface import Detector
from ovd_bench.detectors.types import Image

TORCH_COUNTS = (
    "matrix products, convolutions and scaled dot-product attention that go through torch's dispatcher; "
    "a masked attention counts as if it had no mask"
)
#: Operators of torch that copy or fill. All others that are neither views nor elementwise compute something.
_MOVES = frozenset(
    (
        *("arange", "cat", "clone", "constant_pad_nd", "copy", "detach", "embedding", "empty", "empty_like"),
        *("empty_strided", "eye", "fill", "full", "full_like", "gather", "index", "index_put", "index_select"),
        *("lift_fresh", "linspace", "local_scalar_dense", "masked_fill", "masked_select", "new_empty", "new_full"),
        *("new_ones", "new_zeros", "nonzero", "ones", "ones_like", "repeat", "roll", "scalar_tensor", "scatter"),
        *("stack", "to_copy", "tril", "triu", "unsafe_index", "unsafe_view", "where", "zero", "zeros", "zeros_like"),
    )
)
DETECTOR_COUNTS = "what the detector itself says it does"


def count_flops(detector: Detector, image: Image) -> Flops | None:
    """Operations of one image for the current vocabulary; None if they are unknown.

    For a detector in torch, the operations of a call are counted. Other detectors may have a method
    ``flops(image) -> int | None``.

    Raises:
        DetectorError: as ``detect``.
    """
    if detector.card.framework == "torch":
        return _watched(lambda: detector.detect([image]))
    tell = getattr(detector, "flops", None)
    value = tell(image) if callable(tell) else None
    if value is None:
        return None
    return Flops(value=value, source="detector", counted=DETECTOR_COUNTS, operators={}, not_counted={})


def _watched(call: Callable[[], object]) -> Flops:
    """Count the operations of a call with torch's counter; operators without a formula are listed."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    seen: Counter[Any] = Counter()

    class Seen(TorchDispatchMode):  # type: ignore[misc]
        """Counts the calls of each operator that reaches the device."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen[func] += 1
            return func(*args, **(kwargs or {}))

    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()
    with Seen(), counter:  # the inner mode runs first and decomposes composite operators
        call()
    operators = {str(packet): int(count) for packet, count in counter.get_flop_counts().get("Global", {}).items()}
    left_out: Counter[str] = Counter()
    for func, calls in seen.items():
        name = str(func.overloadpacket)
        moves = func.is_view or name.removeprefix("aten.").strip("_") in _MOVES
        if name not in operators and not moves and torch.Tag.pointwise not in func.tags:
            left_out[name] += calls
    return Flops(
        value=counter.get_total_flops(),
        source="torch.utils.flop_counter",
        counted=TORCH_COUNTS,
        operators=operators,
        not_counted=dict(sorted(left_out.items())),
    )


class _NoModules:
    """Replaces the counter's tracking of modules, which is not needed here.

    The tracking fails if a module gets a view of a parameter in inference mode, as in Grounding DINO's decoder: such a
    view requires a gradient and has no history.
    """

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...
