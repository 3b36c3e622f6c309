"""Native code is built once; a damaged build, or one that was killed, is made good by the next."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from ovd_bench.metrics import native


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(native, "user_cache_path", lambda name: tmp_path / "cache")
    path = tmp_path / "seven.cc"
    path.write_text('extern "C" int seven() { return 7; }\n')
    return path


def _built(source: Path) -> Path:
    library = native.build("seven", (source,))
    assert ctypes.CDLL(str(library)).seven() == 7
    return library


def test_it_is_built_once(source: Path) -> None:
    library = _built(source)
    before = library.stat().st_mtime_ns
    assert _built(source) == library
    assert library.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "gone", "no note"])
def test_a_damaged_library_is_built_again(source: Path, damage: str) -> None:
    library = native.build("seven", (source,))
    whole = library.read_bytes()
    if damage == "no note":
        library.with_suffix(".sha256").unlink()
    elif damage == "gone":
        library.unlink()
    else:
        content = {"cut": whole[:-2000], "changed": whole[:-1] + b"x", "empty": b""}[damage]
        library.write_bytes(content)
    assert _built(source) == library
    assert library.read_bytes() == whole


def test_what_a_killed_build_left_is_swept(source: Path) -> None:
    library = native.build("seven", (source,))
    leftover = library.parent / f"{library.stem}-build-abc"
    other = library.parent / "another-0123-build-abc"
    for folder in (leftover, other):
        folder.mkdir()
        (folder / "half.so").write_bytes(b"half")
    library.unlink()
    _built(source)
    assert not leftover.exists()
    assert other.exists()  # that one may be in the making


def test_errors_are_one_line(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.write_text("this is no C++\n")
    with pytest.raises(native.CompilerError, match=r"^g\+\+ could not build seven-\w+\.so; -v shows its output$"):
        native.build("seven", (source,))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(native.CompilerError, match="C\\+\\+ compiler 'no-such-compiler' not found"):
        native.build("seven", (source,))
