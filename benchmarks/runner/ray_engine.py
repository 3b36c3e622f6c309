"""Shards as tasks of a Ray cluster. A task starts the usual worker process; results are written to a shared folder.

Ray counts processors and retries tasks whose node died. Shards that a dead node finished stay; a retried task skips
them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovd_bench.benchmarks.runner.events import End, Event, Fault, Images, Loaded, ShardFailed, parse_event
from ovd_bench.benchmarks.runner.locks import run_held
from ovd_bench.benchmarks.runner.predict import run_worker
from ovd_bench.benchmarks.runner.request import RunRequest
from ovd_bench.benchmarks.store.folders import manifest_path
from ovd_bench.benchmarks.store.manifest import RunFiles, read_manifest
from ovd_bench.metrics.errors import DataError

#: Attempts per task, node failures included; tasks per slot, enough for the last ones to end at about the same time.
_RETRIES, _TASKS_PER_SLOT = 3, 2
_POLL_SECONDS = 1.0

#: Ray takes 127.0.0.1 for "whatever address others can reach this machine by"; this one it leaves alone.
_LOOPBACK = "127.0.0.2"


@dataclass(frozen=True)
class RayEngine:
    """The cluster at RAY_ADDRESS, else one that runs on this machine, else one that is started for the run.

    Attributes:
        cpus: processors per task.
        gpu: whether a task gets a GPU if the cluster has any.
    """

    cpus: int = 1
    gpu: bool = True

    def __call__(self, request: RunRequest, listen: Callable[[Event], None]) -> None:
        """Make all shards of a run; see ``benchmarks.runner.predict.Engine``.

        Raises:
            DataError: no cluster, no node that can run a task, or a results folder that the nodes do not share.
        """
        if request.device.startswith("cuda:"):
            raise DataError(f"--device {request.device}: Ray chooses the GPU: use --device cuda")
        with _cluster() as ray:
            slots = self._slots(ray, request)
            task = ray.remote(_make_shards).options(
                num_cpus=self.cpus, num_gpus=self._gpus(ray, request), max_retries=_RETRIES
            )
            for event in _events(ray.get(task.remote(request.model_dump_json(), []))):
                if not isinstance(event, End):
                    listen(event)
                if isinstance(event, Loaded):
                    _make_missing(ray, task, request, event, slots, listen)

    def _gpus(self, ray: Any, request: RunRequest) -> int:
        """GPUs per task."""
        return int(self.gpu and (request.device == "cuda" or ray.cluster_resources().get("GPU", 0) >= 1))

    def _slots(self, ray: Any, request: RunRequest) -> int:
        """Number of tasks that can run at once."""
        gpus = self._gpus(ray, request)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        slots = 0
        for node in nodes:
            by_cpu, by_gpu = node.get("CPU", 0) // self.cpus, node.get("GPU", 0) // gpus if gpus else float("inf")
            slots += int(min(by_cpu, by_gpu))
        if slots == 0:
            need = f"{self.cpus} processors" + (" and a GPU" if gpus else "")
            raise DataError(f"Ray: none of the {len(nodes)} nodes has {need}: ask for less, or use --device cpu")
        return slots


def _make_missing(
    ray: Any, task: Any, request: RunRequest, loaded: Loaded, slots: int, listen: Callable[[Event], None]
) -> None:
    """Make the missing shards in tasks of several shards; report images when their records appear."""
    folder, missing = Path(loaded.folder), loaded.missing
    if not missing:
        return
    if not manifest_path(folder).exists():
        raise DataError(
            f"{folder}: made by a node, but not found on this machine: --out must be a folder that all nodes share"
        )
    manifest = read_manifest(folder)
    files = RunFiles(folder, len(manifest.shards))
    rest = request.model_copy(update={"overwrite": "missing"}).model_dump_json()
    count = min(len(missing), _TASKS_PER_SLOT * slots)
    groups = [missing[len(missing) * k // count : len(missing) * (k + 1) // count] for k in range(count)]
    waiting = set(missing)

    def look() -> None:
        """Report shards whose records have appeared."""
        made = {shard for shard in waiting if files.record(shard).exists()}
        waiting.difference_update(made)
        if made:
            listen(Images(count=sum(manifest.shards[shard].images for shard in made)))

    with run_held(folder):
        tasks = {task.remote(rest, group): group for group in groups}
        try:
            while tasks:
                done, _ = ray.wait(list(tasks), timeout=_POLL_SECONDS)
                look()
                for reference in done:
                    group = tasks.pop(reference)
                    for event in _outcome(ray, reference, [shard for shard in group if shard in waiting]):
                        listen(event)
        finally:
            for reference in tasks:
                ray.cancel(reference, force=True)


def _make_shards(request: str, shards: list[int]) -> list[str]:
    """The task: a worker process for some shards, or for none to make only the folder. Returns its events."""
    events: list[str] = []
    run_worker(RunRequest.model_validate_json(request), shards, lambda event: events.append(event.model_dump_json()))
    return events


def _outcome(ray: Any, reference: Any, missing: list[int]) -> list[Event]:
    """The failures of a finished task whose shards ``missing`` are not there."""
    try:
        events = _events(ray.get(reference))
    except ray.exceptions.RayError as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return [ShardFailed(shard=shard, reason=f"Ray: {reason[:300]}") for shard in missing]
    faults = [event.reason for event in events if isinstance(event, Fault)]
    failed: list[Event] = [event for event in events if isinstance(event, ShardFailed)]
    return [ShardFailed(shard=shard, reason=faults[0]) for shard in missing] if faults else failed


def _events(lines: list[str]) -> list[Event]:
    return [parse_event(line) for line in lines]


@contextmanager
def _cluster() -> Iterator[Any]:
    """Connect to Ray, without usage reports. A cluster started here listens on the loopback interface."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError:
        raise DataError(
            "--engine ray needs the package ray: install the extra 'ray' (pip install 'ovd-bench[ray]')"
        ) from None
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    address = os.environ.get("RAY_ADDRESS", "auto")
    _refuse_deaf(address)
    try:
        ray.init(address=address, **quiet)
    except ConnectionError:
        if address != "auto":
            raise DataError(f"RAY_ADDRESS={address}: no Ray cluster answers there") from None
        ray.init(address="local", _node_ip_address=_LOOPBACK, include_dashboard=False, **quiet)
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_deaf(address: str) -> None:
    """Refuse an address without a listener; Ray itself would try for minutes and then end the process."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise DataError(f"RAY_ADDRESS={address}: no Ray cluster answers there: {error.strerror or error}") from None
