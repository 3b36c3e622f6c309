"""Processes that prepare batches ahead of the training, in the order in which it takes them."""

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

#: Tasks that a worker has at hand: one whose batch waits to be taken, one that it works on meanwhile.
_AHEAD = 2
_SECONDS_TO_END = 5.0


class Workers(Iterator[TrainingBatch]):
    """Batches of a list of tasks, made by several processes; they come in the order of the tasks.

    A worker that has made a batch waits until it is taken, so memory holds about one batch per worker. Workers are
    started afresh, not forked: neither Jittor nor OpenMP survive a fork. They end when the training does, also when it
    is killed, because their pipe then ends.
    """

    def __init__(self, make: BatchMaker, tasks: Iterator[Task], workers: int) -> None:
        """Start the workers.

        Args:
            make: makes a batch.
            tasks: what is to be made, without an end.
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
            f"a process that prepares training batches {how}, at the latest with {self._make.where(task)}: "
            "if memory ran out, take fewer workers or a smaller batch"
        )


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, make: BatchMaker) -> None:
        context = FreshContext()
        self.connection, other = context.Pipe()
        self.process: FreshProcess = context.Process(target=_serve, args=(other, make), daemon=True)
        self.process.start()
        other.close()  # so that the pipe ends with the worker

    def receive(self) -> TrainingBatch:
        """The next of its batches.

        Raises:
            DataError: it met one.
            EOFError: it is dead.
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
    """What a worker does: batches for tasks, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training is interrupted, and then ends its workers
    try:
        while True:
            _answer(connection, make, connection.recv())
    except (EOFError, OSError):
        return


def _answer(connection: Connection, make: BatchMaker, task: Task) -> None:
    try:
        batch = make(task)
    except DataError as error:
        connection.send(DataError(str(error)))  # its kind may need more than a text to be made again
        return
    except Exception as error:  # noqa: BLE001 - a fault of this program has to be seen in the parent, not here
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        connection.send(DataError(f"{make.where(task)}: {reason} ({last.filename}:{last.lineno})"))
        return
    # Pixels pass as they are: pickled, they would be copied twice more.
    connection.send((replace(batch, images=batch.images[:0]), batch.images.shape))
    connection.send_bytes(batch.images.data.cast("B"))
