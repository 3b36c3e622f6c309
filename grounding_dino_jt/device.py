"""Device of the model. Call this before importing anything else of this package that needs Jittor."""

from __future__ import annotations

from ovd_bench.kernels.runtime import select


def use_device(device: str) -> None:
    """Choose ``cpu`` or ``cuda`` for this process.

    Raises:
        ValueError: another device.
        RuntimeError: Jittor cannot use it here; one line says why.
    """
    if device == "cpu":
        select("cpu")
    elif device == "cuda":
        select("cuda")
    else:
        raise ValueError(
            f"device '{device}': Jittor knows cpu and cuda, the first visible one: CUDA_VISIBLE_DEVICES chooses"
        )
