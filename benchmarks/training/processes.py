"""Several processes that train together, started by ``mpiexec``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.training.processes import Arrays, Processes
from ovd_bench.metrics.errors import DataError

#: Environment variables of launchers: MPICH and Intel MPI, Open MPI, Slurm's PMIx.
_LAUNCHED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK")


def _nothing() -> None:
    """A single process has nothing to end."""


@dataclass(frozen=True)
class Group(Processes):
    """The processes of a training.

    Attributes:
        end: must be called after success. A process that ends without it ends the others too, so that none waits for
            a failed one.
    """

    end: Callable[[], None] = _nothing


def group() -> Group:
    """The group in which this process was started; a single process if it was not started by ``mpiexec``.

    Raises:
        DataError: started by ``mpiexec``, but mpi4py is not installed or does not work.
    """
    if not any(name in os.environ for name in _LAUNCHED):
        return Group()
    try:
        import mpi4py

        mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise DataError(
            f"started by mpiexec, but MPI cannot be used ({error}): "
            "install the extra 'mpi' (pip install 'ovd-bench[mpi]')"
        ) from error
    everyone = MPI.COMM_WORLD

    def reduced(operation: Any) -> Arrays:
        def over_processes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            result = np.ascontiguousarray(array).copy()
            everyone.Allreduce(MPI.IN_PLACE, result, operation)
            return result

        return over_processes

    return Group(everyone.Get_size(), everyone.Get_rank(), reduced(MPI.SUM), reduced(MPI.MAX), MPI.Finalize)
