"""What `bench doctor` reports about a complete machine and about broken ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from ovd_bench.benchmarks.cli.app import app
from ovd_bench.benchmarks.machine import doctor

#: What kernels.probe finds on a machine without a graphics processor where all is well.
FACTS: dict[str, Any] = {
    "version": "1.3.11.0",
    "problem": None,
    "compiler": "g++ 12.2.0 (/usr/bin/g++)",
    "onednn": "2021.2.0",
    "onednn_exists": True,
    "cache": "/tmp",
    "cache_bytes": 1 << 30,
    "threads": 2,
    "driver_problem": "no NVIDIA driver",
    "toolkit": "CUDA 13.2 in /somewhere",
    "toolkit_found": True,
    "cudnn": "9.26.0",
    "core_built": True,
    "computes": "ok",
    "cuda_problem": None,
    "cuda_built": False,
}
TORCH: dict[str, Any] = {"version": "2.15.0", "cuda": None, "devices": []}


def _examine(monkeypatch: pytest.MonkeyPatch, torch: Any = TORCH, **changed: Any) -> dict[str, doctor.Check]:
    facts = {**FACTS, **changed}
    monkeypatch.setattr(doctor, "_ask", lambda arguments: (torch, "") if "-c" in arguments else (facts, ""))
    return {check.name: check for check in doctor.examine()}


def test_this_machine_can_run_detectors() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert found["usable"] is True
    checks = {check["name"]: check for check in found["checks"]}
    assert {"Python", "packages", "compiler", "oneDNN", "Jittor", "threads", "nvcc", "cuDNN", "PyTorch"} <= set(checks)
    assert checks["Jittor"]["found"] == "1.3.11.0"
    assert all(check["status"] in ("ok", "failed", "absent") for check in checks.values())


def test_a_graphics_processor_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = _examine(monkeypatch)
    assert doctor.usable(list(checks.values()))
    assert checks["NVIDIA driver"].status == checks["Jittor for CUDA"].status == "absent"
    assert "no device" in checks["PyTorch"].found


@pytest.mark.parametrize(
    ("changed", "name", "advice"),
    [
        ({"compiler": None}, "compiler", "apt-get install g++"),
        ({"onednn": None}, "oneDNN", "pip install onednn-devel-cpu-gomp==2021.2.0"),
        ({"problem": "Jittor is not installed: pip install x"}, "Jittor", "pip install x"),
        ({"computes": "a matrix product is wrong"}, "Jittor's core", "remove the cache, then make setup"),
    ],
)
def test_what_is_missing_fails_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], name: str, advice: str
) -> None:
    checks = _examine(monkeypatch, **changed)
    assert (checks[name].status, checks[name].advice) == ("failed", advice)
    assert not doctor.usable(list(checks.values()))


def test_a_core_that_is_not_compiled_yet_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = _examine(monkeypatch, core_built=False, computes=None)
    assert checks["Jittor's core"].status == "absent"
    assert doctor.usable(list(checks.values()))


def test_cuda_is_said_to_be_there_when_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = {"version": "2.15.0", "cuda": "13.2", "devices": ["NVIDIA H100"]}
    checks = _examine(monkeypatch, torch, driver_problem=None, cuda_built=True)
    assert checks["NVIDIA driver"].status == checks["Jittor for CUDA"].status == "ok"
    assert checks["PyTorch"].found == "2.15.0, for CUDA 13.2; NVIDIA H100"
    checks = _examine(monkeypatch, torch, driver_problem=None, cuda_problem="curand.h not found: pip install it")
    assert (checks["Jittor for CUDA"].status, checks["Jittor for CUDA"].advice) == ("absent", "pip install it")


def test_a_framework_that_crashes_is_one_line() -> None:
    facts, trouble = doctor._ask(["-c", "import sys; print('half'); sys.exit('libgomp is broken')"])
    assert (facts, trouble) == ({}, "libgomp is broken")
    facts, trouble = doctor._ask(["-c", "import os; os.kill(os.getpid(), 11)"])
    assert (facts, trouble) == ({}, "ended with code -11")


def test_exit_code_and_table_of_a_broken_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ask", lambda arguments: ({}, "ImportError: broken [wheel]"))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "✗" in done.stdout
    assert "ImportError: broken [wheel]" in " ".join(done.stdout.split())
    assert "make setup" in done.stdout
    assert "Detectors do not run here yet." in done.stdout


def test_packages_are_compared_with_the_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert doctor._packages().status == "absent"
    (tmp_path / "requirements.lock").write_text(
        "# made by a tool\n"
        "numpy==0.1 ; sys_platform == 'linux' \\\n    --hash=sha256:00\n"
        "no-such-package==1.0 \\\n    --hash=sha256:00\n"
        "only-elsewhere==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
    )
    check = doctor._packages()
    assert check.status == "failed"
    assert check.found.startswith("2 differ from requirements.lock: numpy is 1.")
    assert "no-such-package is missing" in check.found
