"""From a configuration to a finished training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from ovd_bench.benchmarks.training.config import TrainingConfig
from ovd_bench.benchmarks.training.loop import train
from ovd_bench.benchmarks.training.registry import Machine, find_trainer


def run_training(
    config: TrainingConfig,
    machine: Machine,
    out: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, Any] | None:
    """Train, on data that is rendered first where it is missing and can be.

    Args:
        config: what to do.
        machine: to do it on.
        out: folder of the training.
        resume: go on from its checkpoint.
        console: for progress.

    Returns:
        See ``benchmarks.training.loop.train``; None in all but the first of several processes.

    Raises:
        DataError: whatever the training cannot work with.
    """
    prepared = find_trainer(config.trainer).prepare(config, machine, console)
    leader = prepared.leader
    result = train(config, prepared, out, resume=resume, console=console if leader else None)
    prepared.processes.end()
    return result if leader else None
