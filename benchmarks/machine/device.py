"""The device of a detector, for the loaded framework; no framework is imported."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Device:
    """The device on which a detector computes.

    Attributes:
        name: ``cpu``, ``cuda`` or ``cuda:N``.
    """

    name: str

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.name.startswith("cuda")

    def synchronize(self) -> None:
        """Wait until all started work is done.

        ``detect`` returns numpy arrays, so the work for them is done. Other work that still runs would be counted
        for the next call.
        """
        if self._torch is not None:
            self._torch.cuda.synchronize(self.name)
        jittor = sys.modules.get("jittor")
        if jittor is not None:
            jittor.sync_all(True)  # True: also wait for the device, not only for the start of the operations

    def restart_peak(self) -> None:
        """Restart the peak; Jittor's cannot be restarted."""
        if self._torch is not None:
            self._torch.cuda.reset_peak_memory_stats(self.name)

    def peak_bytes(self) -> tuple[int | None, Literal["allocated", "reserved"] | None]:
        """Peak of the GPU memory, and what it counts; (None, None) without a GPU.

        Jittor records no peak of used memory. Its pools only grow between garbage collections, so their size is used
        instead.
        """
        if self._torch is not None:
            return int(self._torch.cuda.max_memory_allocated(self.name)), "allocated"
        jittor = sys.modules.get("jittor")
        if self.is_gpu and jittor is not None and jittor.flags.use_cuda:
            return int(jittor.get_mem_info().total_cuda_used), "reserved"
        return None, None

    def model(self) -> str | None:
        """Name of the GPU in torch."""
        return None if self._torch is None else str(self._torch.cuda.get_device_name(self.name))

    def uuid(self) -> str | None:
        """UUID of the GPU; only torch knows it."""
        return None if self._torch is None else f"GPU-{self._torch.cuda.get_device_properties(self.name).uuid}"

    @property
    def _torch(self) -> Any:
        """Torch, if it uses the GPU."""
        torch = sys.modules.get("torch") if self.is_gpu else None
        return torch if torch is not None and torch.cuda.is_initialized() else None
