"""Device of the model. Call this before importing anything else of this package that needs Jittor."""

from __future__ import annotations

from ovd_bench.kernels.runtime import select


def use_device(device: str) -> None:
    """Choose ``cpu`` or ``cuda`` for this process.

    Raises:
        ValueError: the device is neither.
        RuntimeError: Jittor cannot use the device here; the message is one line with the reason.
    """
    if device == "cpu":
        select("cpu")
    elif device == "cuda":
        select("cuda")
    else:
        raise ValueError(f"device '{device}': use cpu or cuda; cuda is the first visible GPU, see CUDA_VISIBLE_DEVICES")
