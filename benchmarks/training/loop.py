"""The training loop: steps, log, periodic evaluation, checkpoints, and the weights file at the end.

The folder of a training holds ``config.yaml`` (the configuration), ``log.jsonl`` (one record per ``log_every`` steps
and per evaluation, and of a model with fusion its mean gates at each evaluation and checkpoint), curves for
TensorBoard, ``checkpoint.bin`` (to go on from) and, when it is done, ``curve.png`` and ``weights.safetensors``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.output_paths import check_folder
from ovd_bench.benchmarks.training.batch_arrays import chained_sha256, write_batch
from ovd_bench.benchmarks.training.config import TrainingConfig
from ovd_bench.benchmarks.training.evaluation import SplitEvaluation
from ovd_bench.benchmarks.training.figure import Curves, write_figure
from ovd_bench.benchmarks.training.prepared import Machine, Prepared, Trainer
from ovd_bench.benchmarks.training.registry import find_trainer
from ovd_bench.metrics.errors import DataError

CONFIG, LOG, CHECKPOINT, WEIGHTS = "config.yaml", "log.jsonl", "checkpoint.bin", "weights.safetensors"
CURVE = "curve.png"
#: The batch whose loss was not finite; each of several processes writes its part, prefixed with its number.
BAD_BATCH = "bad_batch.npz"
_HEADER = b"ovd-bench training 1\n"


@dataclass
class Log:
    """Records of a training, kept whole in memory; small.

    Attributes:
        records: dictionaries with at least ``step``.
        core_seconds: processor time spent in steps, all threads added up.
        data_sha256: of all batches so far, in order; equal in two trainings on the same data.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    core_seconds: float = 0.0
    data_sha256: str = ""
    _sums: dict[str, list[float]] = field(default_factory=dict)

    def add(self, values: dict[str, float]) -> None:
        """Add the numbers of a step."""
        for name, value in values.items():
            self._sums.setdefault(name, []).append(value)

    def close_interval(self, step: int) -> dict[str, Any]:
        """Record the means since the last call."""
        means = {name: float(np.mean(values)) for name, values in self._sums.items()}
        self._sums = {}
        self.records.append({"step": step, "core_seconds": round(self.core_seconds, 2), **means})
        return self.records[-1]

    def state(self) -> dict[str, Any]:
        """State for ``resumed``."""
        return {
            "records": self.records,
            "core_seconds": self.core_seconds,
            "data_sha256": self.data_sha256,
            "sums": self._sums,
        }

    @staticmethod
    def resumed(state: dict[str, Any]) -> Log:
        """The log of a state."""
        return Log(state["records"], state["core_seconds"], state["data_sha256"], state["sums"])

    def as_jsonl(self) -> bytes:
        """One record per line."""
        return "".join(json.dumps(record) + "\n" for record in self.records).encode()


def run_training(
    config: TrainingConfig,
    machine: Machine,
    out: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, Any] | None:
    """Train; missing data is rendered first if possible.

    Args:
        config: of the training.
        machine: where it runs.
        out: folder of the training.
        resume: continue from its checkpoint.
        console: for progress.

    Returns:
        See ``train``; None in all but the first of several processes.

    Raises:
        DataError: the configuration or its data cannot be used.
    """
    _check_out(out, resume)
    prepared = find_trainer(config.trainer).prepare(config, machine, console)
    leader = prepared.leader
    result = train(config, prepared, out, resume=resume, console=console if leader else None)
    prepared.processes.end()
    return result if leader else None


def train(
    config: TrainingConfig,
    prepared: Prepared,
    out: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train to the end.

    Args:
        config: for the files.
        prepared: model and data.
        out: folder, made if it does not exist.
        resume: continue from the folder's checkpoint, if there is one.
        console: for progress; None = none.

    Returns:
        Steps, core seconds, the last evaluation and the paths of the written files.

    Raises:
        DataError: the folder holds another training, the loss is not finite, or the weights cannot be stored.
    """
    trainer, steps = prepared.trainer, prepared.steps
    log = _begin(config, prepared, out, resume)
    with (
        closing(prepared.batches(trainer.step)) as batches,
        _progress(console) as progress,
        Curves(out if prepared.leader else None, trainer.step) as curves,
    ):
        task = progress.add_task("train", total=steps, completed=trainer.step, note="")
        while trainer.step < steps:
            _step(prepared, batches, log, out)
            step, last = trainer.step, trainer.step == steps
            if step % config.log_every == 0 or last:
                record = log.close_interval(step)
                curves.add(record)
                progress.update(task, note=f"loss {record['loss']:.3f}")
            evaluate = bool(prepared.evaluation) and (last or _is_due(step, config.evaluate_every))
            keep = last or _is_due(step, config.checkpoint_every)
            if (evaluate or keep) and (gates := trainer.gates()):
                log.records.append({"step": step, "core_seconds": round(log.core_seconds, 2), **gates})
                curves.add(log.records[-1])
            if prepared.evaluation and evaluate:
                scores = prepared.evaluation.score(trainer.detector())
                log.records.append({"step": step, "core_seconds": round(log.core_seconds, 2), **scores})
                curves.add(log.records[-1])
                progress.console.print(_evaluation_line(log.records[-1]), highlight=False, markup=False)
            if prepared.leader and keep:
                _save(config, trainer, log, out)
            progress.update(task, completed=step)
    if prepared.leader:
        write_figure(out / CURVE, log.records)
        facts = {
            **prepared.facts,
            "recipe": config.model_dump(mode="json"),
            "data_sha256": log.data_sha256,
            "steps": trainer.step,
            "samples": trainer.step * config.batch,
        }
        try:
            trainer.write_weights(out / WEIGHTS, facts)
        except ValueError as error:
            raise DataError(f"{out / WEIGHTS}: {error}") from error
    evaluations = [record for record in log.records if "AP" in record]
    return {
        "steps": trainer.step,
        "core_seconds": log.core_seconds,
        "minival": evaluations[-1] if evaluations else None,
        "weights": str(out / WEIGHTS),
        "log": str(out / LOG),
    }


def _check_out(out: Path, resume: bool) -> None:
    """Refuse a folder that cannot be written to, or that holds another training."""
    check_folder(out)
    if not resume and (out / CHECKPOINT).exists():
        raise DataError(f"{out}: already contains a training: continue with --resume, or choose another --out")


def _begin(config: TrainingConfig, prepared: Prepared, out: Path, resume: bool) -> Log:
    """Prepare the folder; with ``resume``, restore trainer and log from the checkpoint."""
    _check_out(out, resume)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / CHECKPOINT
    if not checkpoint.exists():
        if prepared.leader:
            with atomic_write(out / CONFIG) as file:
                file.write(config.as_yaml())
        return Log()
    try:
        with checkpoint.open("rb") as file:
            header, state, data = file.readline(), file.readline(), file.read()
        if header != _HEADER:
            raise ValueError("is not a checkpoint of a training")
        document = json.loads(state)
        if document["config"] != config.model_dump(mode="json"):
            raise ValueError("is from a training with another configuration")
        prepared.trainer.restore(data)
        if prepared.leader:
            for half_written in out.glob(f".{CHECKPOINT}.*.tmp"):  # leftovers of a killed process may be gigabytes
                half_written.unlink()
        return Log.resumed(document["log"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{checkpoint}: {error}: choose another --out") from error


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _step(prepared: Prepared, batches: Iterator[Any], log: Log, out: Path) -> None:
    start = time.process_time()
    batch = next(batches)
    log.data_sha256 = chained_sha256(log.data_sha256, batch)
    try:
        values = prepared.trainer.train_step(batch)
    except FloatingPointError as error:
        group = prepared.processes
        path = out / (BAD_BATCH if group.count == 1 else f"{group.rank}.{BAD_BATCH}")
        with atomic_write(path) as file:
            write_batch(file, batch)
        raise DataError(
            f"{out}: stopped: {error}; the batch is saved in {path}, the last checkpoint is kept: "
            "lower the learning rate"
        ) from error
    log.core_seconds += time.process_time() - start
    log.add(values)


def _save(config: TrainingConfig, trainer: Trainer, log: Log, out: Path) -> None:
    state = {"config": config.model_dump(mode="json"), "log": log.state()}
    with atomic_write(out / LOG) as file:  # first, because after the checkpoint of the last step no log is written
        file.write(log.as_jsonl())
    with atomic_write(out / CHECKPOINT) as file:
        file.write(_HEADER + json.dumps(state).encode() + b"\n")
        trainer.save(file)


def _evaluation_line(record: dict[str, Any]) -> str:
    numbers = "  ".join(f"{name} {100 * value:.1f}" for name, value in record.items() if name in SplitEvaluation.NAMES)
    return f"step {record['step']}: minival {numbers}"


def _progress(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console or Console(quiet=True),
    )
