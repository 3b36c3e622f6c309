"""Pictures of a training: loss and AP, as PNG at the end and as curves for TensorBoard during the training."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.training.evaluation import SplitEvaluation

#: Folder of TensorBoard's files, in the folder of a training.
_TENSORBOARD = "tensorboard"
#: Keys of records that are not parts of the loss.
_OTHER = {"step", "core_seconds", "gradient", "lr", *SplitEvaluation.NAMES}


def write_figure(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the picture as PNG; the same log gives the same bytes.

    Args:
        path: of the picture.
        records: of the log.
    """
    steps = [record for record in records if "loss" in record]
    scores = [record for record in records if "AP" in record]
    figure = Figure(figsize=(6.2 * (2 if scores else 1), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    for name in [name for name in steps[-1] if name not in _OTHER] if steps else []:
        values = [record.get(name) for record in steps]
        panels[0].plot([record["step"] for record in steps], values, label=name, linewidth=2 if name == "loss" else 1)
    panels[0].set(title="loss, all parts weighted", yscale="log")
    if scores:
        for name in SplitEvaluation.NAMES:
            found = [(record["step"], 100 * record[name]) for record in scores if name in record]
            panels[1].plot(*zip(*found, strict=True) if found else ([], []), marker="o", ms=3, label=name)
        panels[1].set(title="on the split that is watched", ylim=(0, 100))
    for panel in panels:
        panel.set_xlabel("step")
        panel.grid(alpha=0.25)
        panel.set_xlim(0, records[-1]["step"])
        panel.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120, metadata={"Software": None})


class Curves:
    """Event files for TensorBoard in the folder of a training, if TensorBoard is installed.

    Args:
        out: folder of the training; None = no files.
        step: steps done so far; later records of an earlier run are hidden.
    """

    def __init__(self, out: Path | None, step: int) -> None:
        self._writer: Any = None
        if out is not None and all(map(importlib.util.find_spec, ("tensorboard", "torch"))):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(out / _TENSORBOARD), purge_step=step + 1)

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
