"""Processes that prepare batches in advance, in the order of the training."""

from __future__ import annotations

import signal
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection

import numpy as np

from ovd_bench.benchmarks.data.processes import FreshContext, FreshProcess
from ovd_bench.benchmarks.training.grounding.make_sample import BatchMaker, Task
from ovd_bench.grounding_dino_jt.training.batch import TrainingBatch
from ovd_bench.metrics.errors import DataError

#: Tasks queued per worker: one whose batch waits for the training, and the next one.
_AHEAD = 2
_SECONDS_TO_END = 5.0


class Workers(Iterator[TrainingBatch]):
    """Batches of a list of tasks, made by several processes, in the order of the tasks.

    A worker waits until its batch is taken, so memory holds about one batch per worker. Workers are spawned, not
    forked, because Jittor and OpenMP do not survive a fork. They end with the training, even if it is killed, because
    their pipe is closed then.
    """

    def __init__(self, make: BatchMaker, tasks: Iterator[Task], workers: int) -> None:
        """Start the workers.

        Args:
            make: makes a batch from a task.
            tasks: endless.
            workers: processes.
        """
        self._make = make
        self._tasks = tasks
        self._workers = [_Worker(make) for _ in range(workers)]
        self._turns: deque[tuple[_Worker, Task]] = deque()
        try:
            for worker in self._workers * _AHEAD:
                self._assign(worker)
        except DataError:
            self.close()
            raise

    def __next__(self) -> TrainingBatch:
        """The next batch.

        Raises:
            DataError: a bad record or image, or a worker that died.
        """
        worker, task = self._turns.popleft()
        try:
            made = worker.receive()
        except (EOFError, OSError) as error:
            raise self._death(worker, task) from error
        self._assign(worker)
        return made

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.end()

    def _assign(self, worker: _Worker) -> None:
        task = next(self._tasks)
        try:
            worker.connection.send(task)
        except OSError as error:
            raise self._death(worker, task) from error
        self._turns.append((worker, task))

    def _death(self, worker: _Worker, task: Task) -> DataError:
        worker.process.join(_SECONDS_TO_END)
        code = worker.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return DataError(
            f"a process that prepares training batches {how}, at or before {self._make.where(task)}: "
            "if memory ran out, use fewer workers or a smaller batch"
        )


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, make: BatchMaker) -> None:
        context = FreshContext()
        self.connection, other = context.Pipe()
        self.process: FreshProcess = context.Process(target=_serve, args=(other, make), daemon=True)
        self.process.start()
        other.close()  # so that the pipe closes with the worker

    def receive(self) -> TrainingBatch:
        """The next of its batches.

        Raises:
            DataError: an error of the worker.
            EOFError: the worker has ended.
            OSError: likewise.
        """
        answer: tuple[TrainingBatch, tuple[int, ...]] | DataError = self.connection.recv()
        if isinstance(answer, DataError):
            raise answer
        batch, shape = answer
        images = np.empty(shape, np.uint8)
        self.connection.recv_bytes_into(images.data.cast("B"))
        return replace(batch, images=images)

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.connection.close()
        self.process.terminate()
        self.process.join(_SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def _serve(connection: Connection, make: BatchMaker) -> None:
    """Work of a worker: batches for tasks until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training is interrupted and ends its workers
    try:
        while True:
            _answer(connection, make, connection.recv())
    except (EOFError, OSError):
        return


def _answer(connection: Connection, make: BatchMaker, task: Task) -> None:
    try:
        batch = make(task)
    except DataError as error:
        connection.send(DataError(str(error)))  # its class may need more than a text to be unpickled
        return
    except Exception as error:  # noqa: BLE001 - a fault of this program has to be seen in the parent, not here
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        connection.send(DataError(f"{make.where(task)}: {reason} ({last.filename}:{last.lineno})"))
        return
    # Pixels are sent as raw bytes: pickling would copy them twice more.
    connection.send((replace(batch, images=batch.images[:0]), batch.images.shape))
    connection.send_bytes(batch.images.data.cast("B"))
