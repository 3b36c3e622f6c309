"""The index: same records as reading, written once, rebuilt when anything is off, never trusted."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.odvg import index as index_module
from ovd_bench.benchmarks.data.odvg import scanning
from ovd_bench.benchmarks.data.odvg.index import OdvgFile
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.odvg.in_a_process import one_name
from ovd_bench.tests.benchmarks.data.odvg.read_odvg import read_odvg
from ovd_bench.tests.benchmarks.data.odvg.test_records import DETECTION, MMDET, OGD


def _rows(count: int) -> list[dict[str, Any]]:
    """Detection records with labels ``i % 7`` and ``i % 3`` and boxes, every fifth a grounding record."""
    rows = []
    for i in range(count):
        box = [1, 2, 3 + i, 4]
        labels = [i % 7, i % 3, i % 7]
        instances = [{"bbox": box, "label": label, "category": "x" * (i % 90)} for label in labels]
        rows.append({"filename": f"{i}.jpg", "height": 10 + i, "width": 20 + i, "detection": {"instances": instances}})
    rows[::5] = [MMDET | {"filename": f"g{i}.jpg"} for i in range(0, count, 5)]
    return rows


def _write(path: Path, rows: list[Any]) -> Path:
    path.write_bytes(b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows: list[Any] = list(_rows(40))
    return _write(tmp_path / "x.jsonl", [*rows[:3], b"", b"  ", *rows[3:]])


def _columns(file: OdvgFile) -> list[list[Any]]:
    arrays = (file.sizes, file.is_grounding, file.boxes, file.labels.offsets, file.labels.values)
    return [array.tolist() for array in arrays]


def test_records_and_columns_are_those_of_the_file(path: Path) -> None:
    expected = list(read_odvg(path))
    file = OdvgFile.open(path)
    assert len(file) == 40
    assert list(file) == expected
    assert file.sizes.tolist() == [[r.width, r.height] for r in expected]
    assert file.is_grounding.tolist() == [r.grounding is not None for r in expected]
    assert file.boxes.tolist() == [3] * 40  # MMDET has one and two boxes
    labels = [sorted({i.label for i in r.detection.instances}) if r.detection else [] for r in expected]
    assert [file.labels[i].tolist() for i in range(40)] == labels
    with pytest.raises(IndexError):
        file[40]
    with pytest.raises(IndexError):
        file[-1]


@pytest.mark.parametrize("block", [1, 7, 100, 1000, 10_000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
def test_blocks_change_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, block: int, end: bytes) -> None:
    path.write_bytes(path.read_bytes().rstrip() + end)
    whole, sha256 = scanning.scan(path, 1)
    monkeypatch.setattr(scanning, "BLOCK_BYTES", block)
    parts, same = scanning.scan(path, 1)
    assert sha256 == same
    for name, column in vars(whole).items():
        np.testing.assert_array_equal(column, getattr(parts, name), err_msg=name)


def test_processes_change_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, sha256 = scanning.scan(path, 1)
    monkeypatch.setattr(scanning, "BLOCK_BYTES", 1000)
    parts, same = scanning.scan(path, 2)
    assert sha256 == same
    for name, column in vars(whole).items():
        np.testing.assert_array_equal(column, getattr(parts, name), err_msg=name)


def test_file_is_checked_once_and_again_when_it_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = OdvgFile.open(path)
    scans: list[Path] = []

    def counted(path: Path, *arguments: Any) -> Any:
        scans.append(path)
        return scanning.scan(path, *arguments)

    monkeypatch.setattr(index_module, "scan", counted)
    again = OdvgFile.open(path)
    assert not scans
    assert (again.sha256, _columns(again)) == (first.sha256, _columns(first))
    os.utime(path, ns=(1, 1))
    assert OdvgFile.open(path).sha256 == first.sha256
    _write(path, _rows(3))
    assert len(OdvgFile.open(path)) == 3
    assert len(scans) == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "magic", "header", "column", "foreign"])
def test_damaged_index_is_built_anew(path: Path, cache: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    expected = _columns(OdvgFile.open(path))
    index = next(cache.glob("*.index"))
    data = bytearray(index.read_bytes())
    if damage == "empty":
        data = bytearray()
    elif damage == "cut":
        del data[-5:]
    elif damage == "longer":
        data += b"x"
    elif damage == "foreign":
        data = bytearray(b'{"images": []}' * 20)
    else:
        data[{"magic": 0, "header": 60, "column": -70}[damage]] ^= 1
    index.write_bytes(data)
    assert _columns(OdvgFile.open(path)) == expected
    assert "damaged, rebuilt" in caplog.text
    caplog.clear()
    assert _columns(OdvgFile.open(path)) == expected
    assert not caplog.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_index_with_any_bytes_changed_gives_the_same_records(path: Path, cache: Path, data: st.DataObject) -> None:
    expected = _columns(OdvgFile.open(path))
    index = next(cache.glob("*.index"))
    content = bytearray(index.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place : place + 8] = data.draw(st.binary(max_size=12))
    index.write_bytes(content)
    assert _columns(OdvgFile.open(path)) == expected


def test_processes_share_a_file(path: Path) -> None:
    file = OdvgFile.open(path)
    copy = pickle.loads(pickle.dumps(file))
    assert _columns(copy) == _columns(file)
    expected = [record.filename for record in read_odvg(path)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(one_name, [file] * 40, range(40)))
    assert [name for _, name in found] == expected
    assert os.getpid() not in {process for process, _ in found}


@pytest.mark.parametrize("block", [200, 10_000])
@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"{", "Invalid JSON"),
        (b"x" * 2000, "is longer than 1000 bytes"),
        (DETECTION | {"width": 0}, "width: "),
        (OGD | {"grounding": {"caption": "a b", "regions": [{"bbox": [0, 0, 1, 1], "phrase": "c"}]}}, "phrase 'c'"),
    ],
)
def test_first_bad_line_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, block: int, row: Any, words: str
) -> None:
    monkeypatch.setattr(scanning, "BLOCK_BYTES", block)
    monkeypatch.setattr(scanning, "MAX_LINE_BYTES", 1000)
    rows: list[Any] = list(_rows(10))
    _write(path, [*rows[:5], b"", *rows[5:], row, b"{", rows[0]])
    with pytest.raises(DataError, match=rf"x\.jsonl: line 12: .*{words}"):
        OdvgFile.open(path, processes=1)
    assert not list(cache.glob("*.index"))


def test_bad_line_of_another_process_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "BLOCK_BYTES", 500)
    path.write_bytes(path.read_bytes() + b"[]\n")
    with pytest.raises(DataError, match=r"x\.jsonl: line 43: .*object"):
        OdvgFile.open(path, processes=2)


def test_record_that_changed_afterwards_is_an_error(path: Path) -> None:
    file = OdvgFile.open(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"height": 13', b'"height": "z'))  # record 3, behind two blank lines
    with pytest.raises(DataError, match=r"x\.jsonl: line 6: .*JSON"):
        file[3]
    path.write_bytes(content[:100])
    with pytest.raises(DataError, match=r"line 42: the file has become shorter"):
        file[39]


def test_what_is_no_file_or_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        OdvgFile.open(tmp_path / "none")
    with pytest.raises(DataError, match="is not a regular file"):
        OdvgFile.open(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DataError, match="is not a regular file"):
        OdvgFile.open(tmp_path / "fifo")
    for content in (b"", b"\n\n"):
        (tmp_path / "e").write_bytes(content)
        with pytest.raises(DataError, match="holds no record"):
            OdvgFile.open(tmp_path / "e")


def test_cache_that_cannot_be_written_is_named(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    with pytest.raises(DataError, match=r"cannot be written: .*XDG_CACHE_HOME"):
        OdvgFile.open(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_file_with_any_bytes_changed_is_read_or_reported_in_one_line(path: Path, data: st.DataObject) -> None:
    content = bytearray(b"\n".join(json.dumps(row).encode() for row in _rows(6)))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place : place + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=12))
    path.write_bytes(content)
    try:
        file = OdvgFile.open(path)
    except DataError as error:
        file, problem = None, str(error)
    if file is None:
        assert problem.isprintable()
    else:
        assert list(file) == list(read_odvg(path))
