"""Jittor on NVIDIA devices: a patched copy of the package for CUDA 13, and the toolkit that pip installed.

Unmodified Jittor 1.3.11 cannot be compiled with CUDA 13 and cuDNN 9, and pip offers no other complete compiler. The
installed package stays unchanged. A copy in the cache, named by a hash of its sources, is patched
(``kernels.jittor_patches``) and imported instead when CUDA is requested.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from ovd_bench.kernels import cuda_toolkit
from ovd_bench.kernels.jittor_import import Build, RuntimeUnavailable
from ovd_bench.kernels.jittor_import import cache as jittor_cache
from ovd_bench.kernels.jittor_patches import PATCHES, REMOVED, VERSION

_SHIMS = Path(__file__).parent / "jittor_include"
_CUDNN = Path(sysconfig.get_path("purelib")) / "nvidia" / "cudnn"
_MAJOR = 13

#: Libraries and headers that Jittor compiles against, and the packages that contain them.
_PARTS = (
    ("libcudart", "cuda_runtime.h", "nvidia-cuda-runtime"),
    ("libcublas", "cublas.h", "nvidia-cublas"),
    ("libcudnn", "cudnn.h", "nvidia-cudnn-cu13"),
    ("libcurand", "curand.h", "nvidia-curand"),
    ("libcufft", "cufft.h", "nvidia-cufft"),
    ("libcusparse", "cusparse.h", "nvidia-cusparse"),
)

#: Queries the driver in a separate process, because CUDA must not be initialised before a fork.
_ASK_DRIVER = """
import ctypes
cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
print(code, count.value)
"""


def device_problem() -> str | None:
    """One line: why no NVIDIA device can be used; None if one can."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1 not found)"
    return _asked_driver()


@cache
def _asked_driver() -> str | None:
    asked = subprocess.run(
        [sys.executable, "-c", _ASK_DRIVER], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    code, _, count = asked.stdout.strip().partition(" ")
    if asked.returncode or code != "0":
        return f"the NVIDIA driver does not answer (error {code or asked.returncode})"
    return None if int(count) else "the NVIDIA driver shows no device; is CUDA_VISIBLE_DEVICES set?"


def toolkit_problem() -> str | None:
    """One line: what is missing of CUDA and cuDNN for a compilation; None if nothing is."""
    toolkit = cuda_toolkit.find_toolkit()
    if toolkit is None:
        return cuda_toolkit.explain()
    if toolkit.version[0] != _MAJOR:
        return f"{cuda_toolkit.explain()}, Jittor needs CUDA {_MAJOR}: unset CUDA_HOME, pip install 'ovd-bench[cuda]'"
    includes, libraries = _folders(toolkit)
    for library, header, package in _PARTS:
        if not any((folder / header).is_file() for folder in includes):
            return f"{header} not found: pip install {package}"
        if not any(any(folder.glob(f"{library}.so*")) for folder in libraries):
            return f"{library}.so not found: pip install {package}"
    return None


def cuda_build() -> Build:
    """The build of Jittor for CUDA; makes the copy of the package and the view of the toolkit if needed.

    Raises:
        RuntimeUnavailable: parts are missing, or the installed Jittor is not the version that the patches are for.
    """
    problem = toolkit_problem()
    toolkit = cuda_toolkit.find_toolkit()
    if problem or toolkit is None:
        raise RuntimeUnavailable(problem or cuda_toolkit.explain())
    package = patched_package(Build().source.parent, jittor_cache() / "ovd-bench")
    home = _toolkit_view(toolkit, jittor_cache() / "ovd-bench")
    environment = {
        "nvcc_path": str(home / "bin" / "nvcc"),
        "nvcc_flags": f' -I"{package / "include"}" ',
        # Each of these would be downloaded.
        "use_cutt": "0",
        "use_cutlass": "0",
        "use_nccl": "0",
    }
    return Build("cuda", package, tuple(environment.items()))


def unknown_file(installed: Path) -> str | None:
    """One line: which file to be patched differs from the release; None if none does.

    Args:
        installed: folder that holds the package ``jittor``.
    """
    for patch in PATCHES:
        path = installed / patch.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != patch.sha256:
            advice = f"it cannot be changed for CUDA: pip install --force-reinstall jittor=={VERSION}"
            return f"{path} is not as Jittor {VERSION} has it, {advice}"
    return None


def cudnn_version() -> str | None:
    """Version of cuDNN from the headers of the installed package, or None."""
    for header in sorted((_CUDNN / "include").glob("cudnn_version*.h")):
        numbers = re.findall(r"#define CUDNN_(?:MAJOR|MINOR|PATCHLEVEL) (\d+)", header.read_text(encoding="utf-8"))
        if numbers:
            return ".".join(numbers)
    return None


def patched_package(installed: Path, folder: Path) -> Path:
    """A folder with patched copies of ``jittor`` and ``jittor_utils``, and ``include`` with the headers for them.

    Args:
        installed: folder that holds the two packages.
        folder: where the copy is made; a failed copy is removed.

    Raises:
        RuntimeUnavailable: a file to be patched differs from the release.
    """
    problem = unknown_file(installed)
    if problem:
        raise RuntimeUnavailable(problem)
    target = folder / f"jittor-cuda-{_key()}"
    if target.is_dir():
        return target
    scratch = folder / f"scratch-{secrets.token_hex(4)}"
    try:
        for name in ("jittor", "jittor_utils"):
            shutil.copytree(installed / name, scratch / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        for patch in PATCHES:
            path = scratch / patch.file
            path.write_text(
                _patched(path.read_text(encoding="utf-8"), patch.replacements, patch.file), encoding="utf-8"
            )
        for file in REMOVED:
            (scratch / file).unlink()
        shutil.copytree(_SHIMS, scratch / "include")
        scratch.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _patched(text: str, replacements: tuple[tuple[str, str], ...], file: str) -> str:
    for old, new in replacements:
        if text.count(old) != 1:
            raise RuntimeUnavailable(f"{file}: {old.strip()!r} occurs {text.count(old)} times, expected once")
        text = text.replace(old, new)
    return text


def _key() -> str:
    """Hash of everything the copy is made from."""
    digest = hashlib.sha256(repr((VERSION, PATCHES, REMOVED)).encode())
    for path in sorted(path for path in _SHIMS.rglob("*") if path.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _folders(toolkit: cuda_toolkit.Toolkit) -> tuple[list[Path], list[Path]]:
    """Folders of headers and of libraries: the toolkit's, then those of the cuDNN package."""
    return [toolkit.include, _CUDNN / "include"], [toolkit.lib, _CUDNN / "lib"]


def _toolkit_view(toolkit: cuda_toolkit.Toolkit, folder: Path) -> Path:
    """A folder of links that looks like a toolkit installed by hand, with cuDNN and unversioned library names."""
    includes, libraries = _folders(toolkit)
    links = {"bin": toolkit.nvcc.parent, "nvvm": toolkit.home / "nvvm"}
    links |= {f"include/{path.name}": path for place in includes for path in place.iterdir()}
    for path in (path for place in libraries for path in sorted(place.glob("lib*.*"))):
        links[f"lib64/{path.name}"] = path
        stem, shared, _ = path.name.partition(".so")
        if shared:
            links.setdefault(f"lib64/{stem}.so", path)
    key = hashlib.sha256(repr(sorted((name, str(path)) for name, path in links.items())).encode()).hexdigest()[:12]
    target = folder / f"cuda-{key}"
    if all((target / name).exists() for name in links):
        return target
    scratch = folder / f"scratch-{secrets.token_hex(4)}"
    for name, path in links.items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).symlink_to(path)
    if target.exists():
        shutil.rmtree(target.rename(folder / f"stale-{secrets.token_hex(4)}"), ignore_errors=True)
    try:
        scratch.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(scratch, ignore_errors=True)
    return target
