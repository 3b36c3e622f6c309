"""The changed copy of Jittor for CUDA; compiling it takes minutes and is not done here."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ovd_bench.kernels import cuda_toolkit, jittor_cuda, runtime
from ovd_bench.kernels.jittor_import import Build, RuntimeUnavailable
from ovd_bench.kernels.jittor_patches import PATCHES, REMOVED


@pytest.fixture(scope="module")
def installed() -> Path:
    return Build().source.parent


def _checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in ("jittor", "jittor_utils")
        for path in (folder / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_copy_differs_in_the_listed_files_and_the_original_in_none(installed: Path, tmp_path: Path) -> None:
    before = _checksums(installed)
    package = jittor_cuda.patched_package(installed, tmp_path)
    assert _checksums(installed) == before
    after = _checksums(package)
    assert before.keys() - after.keys() == set(REMOVED)
    assert {file for file in after if after[file] != before[file]} == {patch.file for patch in PATCHES}
    compiler = (package / "jittor" / "compiler.py").read_text()
    compile(compiler, "compiler.py", "exec")
    compile((package / "jittor" / "compile_extern.py").read_text(), "compile_extern.py", "exec")
    assert (package / "include" / "cub" / "cub.cuh").is_file()
    assert list(tmp_path.iterdir()) == [package]
    assert jittor_cuda.patched_package(installed, tmp_path) == package


def test_many_at_once_make_one_copy(installed: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        packages = set(pool.map(lambda _: jittor_cuda.patched_package(installed, tmp_path), range(4)))
    assert list(tmp_path.iterdir()) == list(packages)


def test_another_jittor_is_refused_and_leaves_nothing_behind(installed: Path, tmp_path: Path) -> None:
    for name in ("jittor", "jittor_utils"):
        shutil.copytree(installed / name, tmp_path / "site" / name)
    changed = tmp_path / "site" / PATCHES[0].file
    changed.write_text(changed.read_text() + "\n")
    (tmp_path / "cache").mkdir()
    with pytest.raises(RuntimeUnavailable, match=r"helper_cuda\.h is not as Jittor 1\.3\.11\.0 has it"):
        jittor_cuda.patched_package(tmp_path / "site", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_each_replacement_applies_exactly_once(installed: Path) -> None:
    for patch in PATCHES:
        text = (installed / patch.file).read_text()
        for old, _ in patch.replacements:
            assert text.count(old) == 1, (patch.file, old)


def test_missing_parts_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_toolkit, "find_toolkit", lambda: None)
    line = jittor_cuda.toolkit_problem()
    assert line
    assert line.startswith("no CUDA compiler")
    old = cuda_toolkit.Toolkit(Path("/old"), Path("/old/bin/nvcc"), Path("/old/include"), Path("/old/lib64"), (12, 4))
    monkeypatch.setattr(cuda_toolkit, "find_toolkit", lambda: old)
    assert "Jittor needs CUDA 13" in str(jittor_cuda.toolkit_problem())
    empty = cuda_toolkit.Toolkit(Path("/new"), Path("/new/bin/nvcc"), Path("/new/include"), Path("/new/lib64"), (13, 2))
    monkeypatch.setattr(cuda_toolkit, "find_toolkit", lambda: empty)
    assert jittor_cuda.toolkit_problem() == "cuda_runtime.h not found: pip install nvidia-cuda-runtime"


def test_cuda_without_a_driver_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "device_problem", lambda: "no NVIDIA driver")
    assert runtime.problem("cuda") == "no NVIDIA driver"
    with pytest.raises(RuntimeUnavailable, match="no NVIDIA driver"):
        runtime.prepare("cuda")


def test_the_view_of_the_toolkit_has_the_names_that_jittor_asks_for(tmp_path: Path) -> None:
    toolkit = cuda_toolkit.find_toolkit()
    if toolkit is None:
        pytest.skip(cuda_toolkit.explain())
    view = jittor_cuda._toolkit_view(toolkit, tmp_path)
    assert jittor_cuda._toolkit_view(toolkit, tmp_path) == view
    assert subprocess.run([view / "bin" / "nvcc", "--version"], capture_output=True, check=False).returncode == 0
    for name in ("include/cuda_runtime.h", "nvvm/bin/cicc", "lib64/libcudart.so"):
        assert (view / name).exists(), name


def test_the_headers_give_what_cuda_13_has_removed(tmp_path: Path) -> None:
    """Compiled as Jittor's kernels are: the headers of the copy come first."""
    toolkit = cuda_toolkit.find_toolkit()
    if toolkit is None or toolkit.version[0] != 13:
        pytest.skip(cuda_toolkit.explain())
    source = tmp_path / "uses.cu"
    source.write_text(
        "#include <npp.h>\n#include <cub/cub.cuh>\n"
        "struct Positive { __host__ __device__ bool operator()(float x) const { return x > 0; } };\n"
        'static_assert(NPP_MAX_64U == ~0ull && NPP_MIN_32S < 0, "limits");\n'
        "__global__ void k(float* x) {\n"
        "  cub::CountingInputIterator<int> counted(0);\n"
        "  cub::TransformInputIterator<bool, Positive, float*> positive(x, Positive());\n"
        "  x[counted[1]] = cub::Max()(x[0], float(positive[2]));\n"
        "}\n"
    )
    include = Path(jittor_cuda.__file__).parent / "jittor_include"
    command = [
        toolkit.nvcc,
        "-std=c++17",
        f"-I{include}",
        "-arch=sm_90",
        "-cubin",
        source,
        "-o",
        tmp_path / "uses.cubin",
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
