"""Shards as Ray tasks give the bytes of a local run, also when a node dies."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from ovd_bench.benchmarks.runner.events import Event, Fault
from ovd_bench.benchmarks.runner.ray_engine import _LOOPBACK, RayEngine
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.runner.toy import artefacts, command, detector, folder_of, make, make_data, request

pytest.importorskip("ray")


def test_two_nodes_one_of_which_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    gt = make_data(tmp_path / "data", 48)
    whole = folder_of(make(request(gt, tmp_path / "whole", shards=12, batch=2)))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("TOY_SECONDS", "0.2")
    node = {"num_cpus": 1, "node_ip_address": _LOOPBACK, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        second = cluster.add_node(num_cpus=1, node_ip_address=_LOOPBACK)
        run = subprocess.Popen(
            command(
                *("predict", "-d", detector(), "-b", gt, "--shards", 12, "--batch", 2),
                *("--engine", "ray", "--out", tmp_path / "ray", "-q"),
            ),
            env=os.environ | {"RAY_ADDRESS": cluster.address},
            stderr=subprocess.PIPE,
            text=True,
        )
        folder = tmp_path / "ray" / whole.relative_to(tmp_path / "whole")
        limit = time.monotonic() + 60
        while len(list(folder.glob("predictions/shard-*.json"))) < 3 and time.monotonic() < limit:
            time.sleep(0.05)
        assert run.poll() is None
        cluster.remove_node(second, allow_graceful=False)
        assert len(list(folder.glob("predictions/shard-*.json"))) < 12
        _, told = run.communicate(timeout=120)
        assert (run.returncode, told) == (0, "")
        assert artefacts(folder) == artefacts(whole)
    finally:
        cluster.shutdown()


def test_no_cluster_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(DataError, match=r"127\.0\.0\.1:1: no Ray cluster answers there: Connection refused"):
        RayEngine()(request(make_data(tmp_path / "data", 3), tmp_path), lambda event: None)


def test_a_numbered_device_is_refused(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(ValueError, match="Ray chooses the GPU: use --device cuda"):
        RayEngine()(request(make_data(tmp_path / "data", 3), tmp_path, device="cuda:1"), events.append)
    assert not [event for event in events if isinstance(event, Fault)]
