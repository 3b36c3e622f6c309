"""The device of a detector, for whichever framework is loaded; none is imported for it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Device:
    """Where a detector computes.

    Attributes:
        name: ``cpu``, ``cuda`` or ``cuda:N``.
    """

    name: str

    @property
    def is_gpu(self) -> bool:
        """Whether it is a graphics processor."""
        return self.name.startswith("cuda")

    def synchronize(self) -> None:
        """Wait until everything that was begun is done.

        ``detect`` returns numpy arrays, so what they need is done; what it left running would be charged to the next.
        """
        if self._torch is not None:
            self._torch.cuda.synchronize(self.name)
        jittor = sys.modules.get("jittor")
        if jittor is not None:
            jittor.sync_all(True)  # True: the device too, not only what was not begun yet

    def restart_peak(self) -> None:
        """Let the peak count from now on; Jittor's cannot."""
        if self._torch is not None:
            self._torch.cuda.reset_peak_memory_stats(self.name)

    def peak_bytes(self) -> tuple[int | None, Literal["allocated", "reserved"] | None]:
        """Most memory on the graphics processor, and what it counts; (None, None) where there is none.

        Jittor keeps no peak of what is in use. Its pools only grow between garbage collections, so their size stands
        for it.
        """
        if self._torch is not None:
            return int(self._torch.cuda.max_memory_allocated(self.name)), "allocated"
        jittor = sys.modules.get("jittor")
        if self.is_gpu and jittor is not None and jittor.flags.use_cuda:
            return int(jittor.get_mem_info().total_cuda_used), "reserved"
        return None, None

    def model(self) -> str | None:
        """What torch calls the graphics processor."""
        return None if self._torch is None else str(self._torch.cuda.get_device_name(self.name))

    def uuid(self) -> str | None:
        """What tells it from others; only torch says it."""
        return None if self._torch is None else f"GPU-{self._torch.cuda.get_device_properties(self.name).uuid}"

    @property
    def _torch(self) -> Any:
        """Torch, if it uses the graphics processor."""
        torch = sys.modules.get("torch") if self.is_gpu else None
        return torch if torch is not None and torch.cuda.is_initialized() else None
