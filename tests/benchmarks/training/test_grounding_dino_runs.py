"""``bench train`` of Grounding DINO as its users start it: a process, one that is killed, several under mpiexec."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
import yaml

from ovd_bench.detectors.fusion_gates import read_mean_gates
from ovd_bench.tests.benchmarks.training.toy_grounding import toy_document, write_bert, write_config, write_toy

REPOSITORY = Path(__file__).resolve().parents[3]
SECONDS = 300  # at most, where Jittor's kernels are compiled
STEPS = 30
#: Drop path and denoising are on: processes must agree on what chance decides.
FEW = {"steps": STEPS, "checkpoint_every": 5, "evaluate_every": 15}


def _command(config: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "bench.py", "train", str(config), "--out", str(out), "--data-root", "/", *more]


def _bench(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=REPOSITORY, check=False)


def _mpiexec() -> str:
    """Of the environment the tests run in; the package ``mpich`` brings it."""
    pytest.importorskip("mpi4py")
    found = Path(sys.executable).with_name("mpiexec")
    if not found.is_file():
        pytest.skip("there is no mpiexec in this environment")
    return str(found)


def _curve(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "core_seconds"} for record in records]


def _weights(out: Path) -> dict[str, npt.NDArray[Any]]:
    return dict(safetensors.numpy.load_file(out / "weights.safetensors"))


@dataclass(frozen=True)
class Whole:
    """An undisturbed training."""

    toy: Path
    config: Path
    out: Path
    printed: str


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    toy = write_toy(folder / "toy")
    write_bert(toy / "bert")
    document = toy_document(toy, watch=str(toy / "lvis.json"), **FEW)
    # with centred text, whose vectors are short, rounding decides a matching before the ten steps that are compared end
    document["model"] |= {"phrase_frame": "bare", "centred": False}
    config = write_config(folder / "c.yaml", document)
    done = _bench(*_command(config, folder / "out"))
    assert done.returncode == 0, done.stderr
    return Whole(toy, config, folder / "out", done.stdout)


def test_a_finished_training(whole: Whole) -> None:
    assert {path.name for path in whole.out.iterdir()} == {
        "config.yaml",
        "log.jsonl",
        "tensorboard",
        "curve.png",
        "checkpoint.bin",
        "weights.safetensors",
    }
    curve = _curve(whole.out)
    assert [record["step"] for record in curve if "loss" in record] == list(range(1, STEPS + 1))
    assert [record["step"] for record in curve if "AP" in record] == [15, 30]
    gates = [record for record in curve if "gamma_v.0" in record]
    assert [record["step"] for record in gates] == list(range(5, STEPS + 1, 5))
    assert {"gamma_l.0", "step"} < set(gates[-1])
    own = read_mean_gates(whole.out / "weights.safetensors")
    assert {name: gates[-1][name] for name in own} == pytest.approx(own, rel=1e-6)
    losses = [record["loss"] for record in curve if "loss" in record]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    terms = ("class", "l1", "giou", "auxiliary", "encoder", "denoising")
    assert curve[0]["loss"] == pytest.approx(sum(curve[0][name] for name in terms), rel=1e-6)
    assert yaml.safe_load((whole.out / "config.yaml").read_text())["steps"] == STEPS
    assert f"{STEPS}/{STEPS}" in whole.printed
    assert "left" in whole.printed
    assert "step 15: minival AP" in whole.printed
    [events] = (whole.out / "tensorboard").iterdir()
    assert b"denoising" in events.read_bytes()


def test_killed_and_resumed_with_workers_it_is_the_same_to_the_bit(whole: Whole, tmp_path: Path) -> None:
    document = yaml.safe_load(whole.config.read_text())
    document["data"]["workers"] = 2
    config, out = write_config(tmp_path / "c.yaml", document), tmp_path / "out"
    with subprocess.Popen(_command(config, out), cwd=REPOSITORY, stdout=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + SECONDS
        while not (out / "checkpoint.bin").exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(float(np.random.default_rng().uniform(0, 0.3)))
        child.kill()
    assert not (out / "weights.safetensors").exists()
    (out / ".checkpoint.bin.1-ab.tmp").write_bytes(b"half written")
    again = _bench(*_command(config, out, "--resume"))
    assert again.returncode == 0, again.stderr
    assert not list(out.glob(".*"))
    assert _curve(out) == _curve(whole.out)
    expected, found = _weights(whole.out), _weights(out)
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)


def test_two_processes_are_one_with_the_whole_batch(whole: Whole, tmp_path: Path) -> None:
    done = _bench(_mpiexec(), "-n", "2", *_command(whole.config, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    found, expected = _curve(tmp_path / "out"), _curve(whole.out)
    assert [record["step"] for record in found] == [record["step"] for record in expected]
    ours, theirs = ([record["loss"] for record in curve if "loss" in record] for curve in (found, expected))
    np.testing.assert_allclose(ours[:10], theirs[:10], rtol=1e-5)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)  # rounding grows, at the latest with a box matched otherwise
    one, two = (np.concatenate([v.ravel() for v in _weights(out).values()]) for out in (whole.out, tmp_path / "out"))
    assert np.linalg.norm(one - two) < 1e-3 * np.linalg.norm(one)
    assert done.stdout.count("weights:") == 1


def test_one_process_that_fails_ends_all(whole: Whole, tmp_path: Path) -> None:
    toy = shutil.copytree(whole.toy, tmp_path / "toy")
    config = write_config(tmp_path / "c.yaml", toy_document(toy, batch=8, **FEW))
    (toy / "3.png").write_bytes(b"no picture")  # each batch has all images, each process one half
    done = _bench(_mpiexec(), "-n", "2", *_command(config, tmp_path / "out"))
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "3.png" in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "weights.safetensors").exists()
