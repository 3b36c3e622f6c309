"""The import of Jittor: nothing of the process is changed, nothing is fetched, comparisons are IEEE's."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovd_bench.kernels import runtime
from ovd_bench.kernels.jittor_import import home, verbose
from ovd_bench.kernels.jittor_process import kept_process

ROOT = Path(__file__).resolve().parents[2]

#: Runs before the import in every child: a connection, or a look-up of a name, is an error.
_NO_NETWORK = """
import socket, urllib.request
def refuse(*args, **kwargs): raise AssertionError(f"network: {args}")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
urllib.request.urlopen = urllib.request.urlretrieve = refuse
"""


def _child(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _NO_NETWORK + code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=600,
    )


def test_the_process_is_as_it_was_whatever_the_user_has_set() -> None:
    code = """
import json, os, resource, signal, ssl, subprocess, sys, time
def facts():
    return [dict(os.environ), repr(ssl._create_default_https_context), sys.getrecursionlimit(), sys.getdlopenflags(),
            resource.getrlimit(resource.RLIMIT_STACK), os.getcwd(), [repr(signal.getsignal(n)) for n in range(1, 32)]]
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
before = facts()
from ovd_bench.kernels.runtime import jittor
jt = jittor()
assert facts() == before, (before, facts())
assert "torch" not in sys.modules
assert not jt.has_cuda and not jt.compiler.nvcc_path and jt.world_size == 1 and jt.compile_extern.mkl_ops is not None
assert "-O0" not in jt.flags.cc_flags
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
    raise SystemExit("no KeyboardInterrupt")
except KeyboardInterrupt:
    pass
# Jittor's handler would end this process together with its child.
assert subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]).returncode == -9
print(json.dumps(float(jt.array([1.0, 2.0]).sum().numpy()[0])))
"""
    hostile = {
        "debug": "1",
        "use_cuda": "1",
        "cc_flags": "-O0",
        "log_v": "9",
        "OMPI_COMM_WORLD_SIZE": "4",
        "use_mkl": "0",
    }
    done = _child(code, **hostile)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "3.0", "")


@pytest.mark.parametrize("first", ["torch", "jittor"])
def test_jittor_and_torch_share_a_process(first: str) -> None:
    lines = ["import torch", "from ovd_bench.kernels.runtime import jittor; jt = jittor()"]
    code = "\n".join(lines if first == "torch" else lines[::-1])
    code += """
import numpy as np
x = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
ours, theirs = jt.matmul(jt.array(x), jt.array(x)).numpy(), torch.matmul(torch.tensor(x), torch.tensor(x)).numpy()
assert np.allclose(ours, theirs, atol=1e-4)
print("done")
"""
    done = _child(code)
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr


def test_kernels_do_not_change_the_arithmetic_of_the_process() -> None:
    """Code linked with -Ofast makes every later denormal zero, in numpy too."""
    code = """
import numpy as np
from ovd_bench.kernels.runtime import jittor
tiny = np.full(64, 1e-40, np.float32)
before = (tiny * np.float32(2)).tolist()
jt = jittor()
(jt.array(tiny) * 2 + 1).exp().sync()
assert (tiny * np.float32(2)).tolist() == before and before[0] > 0
"""
    done = _child(code)
    assert done.returncode == 0, done.stderr


def test_a_kernel_is_compiled_without_another_interpreter(tmp_path: Path) -> None:
    """Jittor's own way reads the environment of the user again and leaves 2 MB of assembly for each kernel."""
    code = """
import secrets
from pathlib import Path
from ovd_bench.kernels.runtime import jittor
jt = jittor()
marker = secrets.token_hex(8)  # so it is not in the cache
out = jt.code([1], "float32", [jt.array([1.0])], cpu_src=f"float x{marker} = 1; out0_p[0] = in0_p[0] + x{marker};")
assert out.numpy()[0] == 2
folder = Path(jt.flags.cache_path) / "jit"
made = [path for path in folder.iterdir() if marker in path.read_text(errors="ignore")]
suffixes = {path.suffix for source in made for path in folder.glob(source.stem + "*")}
assert made and suffixes <= {".cc", ".key", ".so"}, suffixes
for path in made:
    for file in path.parent.glob(path.stem + "*"):
        file.unlink()
"""
    done = _child(code, HOME=os.environ["HOME"], debug="1")
    assert done.returncode == 0, done.stderr


def test_no_compiler_process_stays_behind() -> None:
    """One that is killed later, by whatever kills children, would keep the process from ever exiting."""
    code = """
import multiprocessing
from ovd_bench.kernels.runtime import jittor
jittor()
assert not multiprocessing.active_children()
"""
    done = _child(code)
    assert done.returncode == 0, done.stderr


SPECIAL = np.array([1, -2, np.nan, np.inf, -np.inf, 0], np.float32)


@pytest.fixture(scope="module")
def jt() -> Any:
    return runtime.jittor()


@pytest.mark.parametrize("name", ["__eq__", "__ne__", "__gt__", "__ge__", "__lt__", "__le__"])
def test_comparisons_with_nan_and_infinities(jt: Any, name: str) -> None:
    for right in (SPECIAL, np.zeros(6, np.float32), np.full(6, np.inf, np.float32)):
        expected = getattr(SPECIAL, name)(right)
        assert np.array_equal(getattr(jt.array(SPECIAL), name)(jt.array(right)).numpy(), expected)


def test_predicates_of_special_values(jt: Any) -> None:
    x = jt.array(SPECIAL)
    assert np.array_equal(jt.isnan(x).numpy(), np.isnan(SPECIAL))
    assert np.array_equal(jt.isinf(x).numpy(), np.isinf(SPECIAL))
    assert np.array_equal(jt.isfinite(x).numpy(), np.isfinite(SPECIAL))
    assert np.array_equal(
        jt.ternary(x != x, jt.zeros_like(x), x).numpy(), np.nan_to_num(SPECIAL, posinf=np.inf, neginf=-np.inf)
    )


def test_functions_of_special_values(jt: Any) -> None:
    x = np.concatenate([SPECIAL, np.linspace(-200, 200, 4001, dtype=np.float32)])
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        expected = {
            "exp": np.exp(wide),
            "sigmoid": 1 / (1 + np.exp(-wide)),
            "tanh": np.tanh(wide),
            "log": np.log(wide),
            "sqrt": np.sqrt(wide),
        }
        for name, y in expected.items():
            got = getattr(jt.array(x), name)().numpy().astype(np.float64)
            y32 = y.astype(np.float32).astype(np.float64)
            assert np.array_equal(np.isnan(got), np.isnan(y32)), name
            assert np.array_equal(np.isinf(got), np.isinf(y32)), name
            normal = np.isfinite(y32) & (np.abs(y32) > 1.2e-38)
            # Jittor's sigmoid does not go below exp(-30).
            np.testing.assert_allclose(got[normal], y[normal], rtol=2e-6, atol=1e-13, err_msg=name)


def test_minus_infinity_in_softmax_topk_and_sorting(jt: Any) -> None:
    row = np.array([[0, -np.inf, 1, 2, -np.inf, 0.5]], np.float32)
    weights = np.exp(row - 2)
    np.testing.assert_allclose(jt.nn.softmax(jt.array(row), -1).numpy(), weights / weights.sum(), rtol=1e-6)
    assert np.isnan(jt.nn.softmax(jt.array(np.full((1, 4), -np.inf, np.float32)), -1).numpy()).all()
    assert np.array_equal(jt.topk(jt.array(row[0]), 6)[0].numpy(), np.sort(row[0])[::-1])
    assert np.array_equal(jt.argsort(jt.array(row[0]))[1].numpy(), np.sort(row[0]))
    assert jt.argmax(jt.array(row), 1)[0].numpy().tolist() == [3]


def test_the_users_cache_is_used_and_no_default_is_left_behind(tmp_path: Path) -> None:
    """jittor_utils notes JITTOR_HOME in ~/.cache/jittor/config.json for all later processes."""
    code = """
import os
from pathlib import Path
from ovd_bench.kernels import jittor_import
build = jittor_import.Build()
with jittor_import.kept_process({**jittor_import._environment(build, False), "HOME": os.environ["SCRATCH"]}):
    import jittor_utils
assert Path(jittor_utils.home()) == jittor_import.home() == Path(os.environ["JITTOR_HOME"])
"""
    user, own, scratch = tmp_path / "user", tmp_path / "own", tmp_path / "scratch"
    for folder in (user, own, scratch):
        folder.mkdir()
    done = _child(code, HOME=str(user), JITTOR_HOME=str(own), SCRATCH=str(scratch))
    assert done.returncode == 0, done.stderr
    assert list(user.iterdir()) == []
    assert any((own / ".cache" / "jittor").iterdir())


def test_home_follows_the_variable_then_the_default_noted_by_jittor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JITTOR_HOME", raising=False)
    assert home() == tmp_path
    noted = tmp_path / ".cache" / "jittor" / "config.json"
    noted.parent.mkdir(parents=True)
    for text, expected in (("{", tmp_path), ("[]", tmp_path), (json.dumps({"JITTOR_HOME": "/noted"}), Path("/noted"))):
        noted.write_text(text)
        assert home() == expected
    monkeypatch.setenv("JITTOR_HOME", "/named")
    assert home() == Path("/named")


def test_switch_for_what_jittor_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, on in (("", False), ("0", False), ("1", True)):
        monkeypatch.setenv("OVD_BENCH_VERBOSE", value)
        assert verbose() is on


def test_the_process_is_put_back_after_an_error() -> None:
    before = dict(os.environ), signal.getsignal(signal.SIGINT)

    def fail() -> None:
        with kept_process({"PATH": "/nowhere", "OURS": "1"}, ["HOME"]):
            assert os.environ["OURS"] == "1"
            assert "HOME" not in os.environ
            os.environ["THEIRS"] = "2"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (dict(os.environ), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize(
    ("lacking", "advice"),
    [
        ("g++", "apt-get install g++"),
        ("jittor", "pip install"),
        ("Python.h", "apt-get install python3"),
        ("onednn", "pip"),
    ],
)
def test_what_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, lacking: str, advice: str) -> None:
    if lacking == "g++":
        monkeypatch.setattr("shutil.which", lambda name: None)
    elif lacking == "jittor":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    elif lacking == "Python.h":
        monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
        monkeypatch.setattr("sysconfig.get_config_var", lambda name: None)
    else:
        monkeypatch.setattr("ovd_bench.kernels.onednn.supported", lambda: True)
        monkeypatch.setattr("ovd_bench.kernels.onednn.installed", lambda: None)
    line = runtime.problem()
    assert line
    assert "\n" not in line
    assert advice in line
    with pytest.raises(runtime.RuntimeUnavailable, match=re.escape(line)):
        runtime.prepare()


def test_nothing_is_missing_here() -> None:
    assert runtime.problem() is None
