"""Curves for TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import TracebackType
from typing import Any

FOLDER = "tensorboard"


class Curves:
    """Event files in the folder of a training.

    Args:
        out: folder of the training; None = no files.
        step: steps done so far; what an earlier run wrote beyond is hidden.
    """

    def __init__(self, out: Path | None, step: int) -> None:
        self._writer: Any = None
        if out is not None and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(out / FOLDER), purge_step=step + 1)

    def __enter__(self) -> Curves:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer:
            self._writer.close()

    def add(self, record: dict[str, Any]) -> None:
        """Draw a record of the log."""
        if self._writer:
            for name, value in record.items():
                if name != "step":
                    self._writer.add_scalar(name, value, record["step"])
