"""Imports Jittor in a controlled environment.

Jittor reads its options from environment variables with lower-case names (``debug``, ``cc_flags``, ``use_cuda`` …), and
from what it finds on the machine: a compiler on the path, the branch of the git repository around the environment, an
``mpicc``. During the import it sees none of the user's variables, only those set here.

``python -m ovd_bench.kernels.jittor_import BUILD`` imports it and prints the files that it loaded.
``kernels.jittor_core`` compiles Jittor by running this command.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ovd_bench.kernels import onednn
from ovd_bench.kernels.jittor_process import kept_process

#: -Ofast with two exceptions. Comparisons with NaN and infinities are correct, which costs no time. The linker does not
#: add the start-up code that flushes denormal numbers to zero in the whole process, numpy included. The definition
#: makes glibc declare the vector versions of exp and others, as -Ofast would; without it, tanh takes 30 times as long.
KERNEL_FLAGS = (
    "-O3 -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math -freciprocal-math -D__FAST_MATH__"
)

#: Start of the last line of a successful child process.
READY = "jittor-is-ready "

#: The suite's own switch.
VERBOSE = "OVD_BENCH_VERBOSE"


class RuntimeUnavailable(RuntimeError):  # noqa: N818 - a state of the machine
    """Jittor cannot be used here. The message is one line: what is missing, what to do."""


@dataclass(frozen=True)
class Build:
    """One compiled Jittor.

    Attributes:
        device: ``cuda`` if it can use NVIDIA devices.
        package: folder with the packages ``jittor`` and ``jittor_utils``; None for the installed ones.
        environment: additional environment variables for Jittor.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    package: Path | None = None
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def source(self) -> Path:
        """Folder of the package ``jittor`` that it is made from."""
        if self.package:
            return self.package / "jittor"
        spec = importlib.util.find_spec("jittor")
        if spec is None or spec.origin is None:
            raise RuntimeUnavailable("Jittor is not installed: pip install 'ovd-bench[jittor]'")
        return Path(spec.origin).parent


def home() -> Path:
    """Folder whose ``.cache/jittor`` Jittor uses: ``JITTOR_HOME``, else the default that Jittor stored, else ``~``."""
    named = os.environ.get("JITTOR_HOME")
    if named:
        return Path(named).absolute()
    try:
        text = (Path.home() / ".cache" / "jittor" / "config.json").read_text(encoding="utf-8")
        return Path(json.loads(text)["JITTOR_HOME"]).absolute()
    except (OSError, ValueError, KeyError, TypeError):
        return Path.home()


def cache() -> Path:
    """Jittor's cache."""
    return home() / ".cache" / "jittor"


def verbose() -> bool:
    """Whether Jittor prints what it does."""
    return os.environ.get(VERBOSE, "") not in ("", "0")


def import_jittor(build: Build, progress: bool = False) -> Any:
    """Import Jittor in this process; compiles silently what is missing from the cache.

    Args:
        build: which compiled Jittor.
        progress: let Jittor print what it does.

    Raises:
        RuntimeUnavailable: it could not be imported.
    """
    sys.path[:0] = [str(build.package)] if build.package else []
    # Jittor stores JITTOR_HOME as the permanent default in a file under HOME, so it is given a temporary HOME.
    with (
        tempfile.TemporaryDirectory(prefix="jittor-home-") as scratch,
        kept_process({**_environment(build, progress), "HOME": scratch}, _hidden()),
    ):
        try:
            import jittor
        except SystemExit:
            # "jit_utils updated, please rerun": the first import after a change of the compiler or of its flags.
            raise RuntimeUnavailable("Jittor has recompiled itself: run the command again") from None
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise RuntimeUnavailable(f"Jittor cannot be imported: {reason[0]}") from error
        finally:
            _end_compilers()
    jittor.flags.cc_flags = _kernel_flags(jittor.flags.cc_flags)
    jittor.flags.python_path = f'/bin/sh "{Path(__file__).parent / "compile_kernel.sh"}"'
    if build.device == "cuda":
        # This flag makes division, exp and square root approximate: fast, but not float32 precision.
        jittor.flags.nvcc_flags = jittor.flags.nvcc_flags.replace("--use_fast_math", "")
    return jittor


def _end_compilers() -> None:
    """End the processes that Jittor forked for compiling; it starts new ones when it needs them.

    Jittor would keep them until the interpreter exits. If one of them has died by then, its lock is never released and
    the exit hangs.
    """
    utils: Any = sys.modules.get("jittor_utils")
    if utils is not None and utils.pool_size:
        atexit.unregister(utils.pool_cleanup)
        utils.pool_cleanup()
        utils.pool_size = 0


def _environment(build: Build, progress: bool) -> dict[str, str]:
    minor = f"python3.{sys.version_info.minor}-config"
    config = Path(sys.base_prefix) / "bin" / minor
    return {
        "JITTOR_HOME": str(home()),
        "cache_name": "ovd-bench",  # default: the git branch around the environment, with a new core for each
        "cc_path": shutil.which("g++") or "g++",
        "gdb_path": "",
        "log_silent": str(int(not progress and not verbose())),
        "nvcc_path": "",
        "use_mkl": str(int(onednn.supported())),
        "use_mpi": "0",  # several processes train through mpi4py
        "FIX_TORCH_ERROR": "0",  # else Jittor imports torch
        **({"python_config_path": str(config)} if config.is_file() else {}),
        **dict(build.environment),
    }


def _hidden() -> list[str]:
    """Environment variables of the user that Jittor would read."""
    others = ("SKEY", "ASCEND_TOOLKIT_HOME", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    return [name for name in os.environ if name[:1].islower() or name in others]


def _kernel_flags(flags: str) -> str:
    ours = flags.replace("-Ofast", KERNEL_FLAGS)
    return ours if onednn.supported() else ours + " -DOVD_WITHOUT_ONEDNN "


def _loaded_from(root: Path) -> list[str]:
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted(str(file) for file in files if file and Path(file).is_relative_to(root))


if __name__ == "__main__":
    _settings = json.loads(sys.argv[1])
    _build = Build(
        _settings["device"],
        Path(_settings["package"]) if _settings["package"] else None,
        tuple((name, value) for name, value in _settings["environment"]),
    )
    import_jittor(_build, progress=True)
    print("\n" + READY + json.dumps(_loaded_from(cache())), flush=True)
