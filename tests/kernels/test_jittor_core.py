"""Compiling Jittor's core in a child: progress, the restart that Jittor asks for, failures, two at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ovd_bench.kernels import jittor_core
from ovd_bench.kernels.jittor_import import Build, RuntimeUnavailable

#: Stands in for an interpreter that imports Jittor: counts its starts in a file and does what ``plan`` says for each.
_FAKE = """#!{python}
import pathlib, sys, time
log = pathlib.Path({log!r})
start = log.read_text().count("start") if log.exists() else 0
with log.open("a") as file:
    file.write("start\\n")
made = pathlib.Path({made!r})
print("Compiling jittor_core(3/170) used: 2.100s eta: 90.1s", end="\\r", flush=True)
step = {plan!r}[start]
if step == "fails":
    print("\\x1b[31mfatal error: no such header\\x1b[0m", flush=True)
    sys.exit(1)
if step == "ready":
    made.write_text("")
    print('\\njittor-is-ready ["' + str(made) + '"]', flush=True)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path))
    return tmp_path


def _plan(folder: Path, monkeypatch: pytest.MonkeyPatch, *plan: str) -> None:
    script = folder / "python"
    names = {"log": str(folder / "log"), "made": str(folder / "core.so"), "plan": list(plan), "python": sys.executable}
    script.write_text(_FAKE.format(**names))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def _starts(folder: Path) -> int:
    return (folder / "log").read_text().count("start")


def test_a_build_is_told_of_and_made_once(
    fake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Jittor ends the first import with exit code 0 and asks to be started again.
    _plan(fake, monkeypatch, "silent", "ready")
    assert not jittor_core.is_built(Build())
    jittor_core.ensure_built(Build(), "some minutes")
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()
    assert first == "Jittor: compiling its core for CPU, once, some minutes"
    assert last.startswith("Jittor: ready after ")
    jittor_core.ensure_built(Build(), "some minutes")
    assert capsys.readouterr() == ("", "")
    assert _starts(fake) == 2
    (fake / "core.so").unlink()
    assert not jittor_core.is_built(Build())


def test_a_failure_is_one_line_that_names_the_log(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plan(fake, monkeypatch, "fails")
    with pytest.raises(RuntimeUnavailable) as caught:
        jittor_core.ensure_built(Build(), "")
    line = str(caught.value)
    assert line.startswith("Jittor could not be compiled: fatal error: no such header (full log: ")
    assert "3/170" in Path(line.rpartition(": ")[2].rstrip(")")).read_text()
    assert not jittor_core.is_built(Build())


def test_a_child_that_never_gets_there_is_given_up(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plan(fake, monkeypatch, *["silent"] * 9)
    with pytest.raises(RuntimeUnavailable, match="could not be compiled"):
        jittor_core.ensure_built(Build(), "")
    assert _starts(fake) == 3


def test_two_at_once_compile_once(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plan(fake, monkeypatch, "ready", "fails")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: jittor_core.ensure_built(Build(), ""), range(2)))
    assert _starts(fake) == 1


def test_another_build_or_compiler_has_a_record_of_its_own(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plan(fake, monkeypatch, "ready", "ready")
    jittor_core.ensure_built(Build(), "")
    assert jittor_core.is_built(Build())
    assert not jittor_core.is_built(Build(environment=(("use_mpi", "1"),)))
    compiler = fake / "bin" / "g++"
    compiler.parent.mkdir()
    compiler.write_text("")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(compiler.parent))
    assert not jittor_core.is_built(Build())
    jittor_core.forget(Build())


def test_the_child_really_imports_jittor() -> None:
    import json
    from dataclasses import asdict

    from ovd_bench.kernels.jittor_import import READY

    done = subprocess.run(
        [sys.executable, "-m", "ovd_bench.kernels.jittor_import", json.dumps(asdict(Build()), default=str)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=600,
    )
    files = json.loads(done.stdout.split(READY)[-1])
    assert any("jittor_core" in file for file in files)
    assert all(Path(file).exists() for file in files)
