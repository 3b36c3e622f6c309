"""oneDNN in Jittor's cache: only links, repaired when the environment has moved, safe with two processes at once."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ovd_bench.kernels import onednn

pytestmark = pytest.mark.skipif(not onednn.supported(), reason="oneDNN's package is for x86-64")


def _complete(cache: Path) -> bool:
    folder = cache / onednn.FOLDER
    return all((folder / name).exists() for name in ("include/oneapi/dnnl/dnnl.hpp", "lib/libmkldnn.so"))


def test_only_headers_and_one_library_are_linked(tmp_path: Path) -> None:
    onednn.place(tmp_path)
    assert _complete(tmp_path)
    files = {path.relative_to(tmp_path / onednn.FOLDER) for path in (tmp_path / onednn.FOLDER).rglob("*.*")}
    assert {str(file) for file in files if file.parts[0] == "lib"} == {"lib/libmkldnn.so", "lib/libdnnl.so.2"}
    assert {file.suffix for file in files if file.parts[0] == "include"} == {".h", ".hpp"}
    assert all(file.name.startswith(("dnnl", "mkldnn")) for file in files if file.parts[0] == "include")


def test_links_into_an_environment_that_is_gone_are_replaced(tmp_path: Path) -> None:
    target = tmp_path / onednn.FOLDER
    target.parent.mkdir(parents=True)
    target.symlink_to(tmp_path / "gone")
    onednn.place(tmp_path)
    assert _complete(tmp_path)
    for link in (target.resolve() / "lib").iterdir():  # the same environment, but what it points to was removed
        link.unlink()
        link.symlink_to(tmp_path / "gone")
    onednn.place(tmp_path)
    assert _complete(tmp_path)
    # Jittor takes the first folder that starts with dnnl.
    assert [path.name for path in target.parent.iterdir() if path.name.startswith("dnnl")] == [target.name]


def test_what_jittor_has_downloaded_stays_and_half_a_download_does_not(tmp_path: Path) -> None:
    target = tmp_path / onednn.FOLDER
    for name in ("include/mkldnn.hpp", "lib/libmkldnn.so", "lib/libdnnl.so.2"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text("theirs")
    onednn.place(tmp_path)
    assert (target / "lib/libmkldnn.so").read_text() == "theirs"
    shutil.rmtree(target / "include")
    onednn.place(tmp_path)
    assert _complete(tmp_path)
    assert target.is_symlink()


def test_many_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(onednn.place, [tmp_path] * 16))
    assert _complete(tmp_path)
    assert not [path for path in (tmp_path / "mkl").iterdir() if path.name.startswith(("scratch", "link"))]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "_HEADERS", "no-such-package")
    assert onednn.installed() is None
    with pytest.raises(FileNotFoundError, match="no-such-package"):
        onednn.place(tmp_path)
