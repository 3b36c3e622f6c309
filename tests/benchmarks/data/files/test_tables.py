"""Predictions as Arrow IPC and Parquet: zero copy, lossless types, and one line about everything else."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ovd_bench.benchmarks.data.files import read_predictions
from ovd_bench.benchmarks.data.files.arrow_metadata import decoded_bytes
from ovd_bench.metrics.errors import DataError

FLOATS = ("score", "x", "y", "w", "h")
N = 5


def columns(**other: Any) -> dict[str, Any]:
    good = {name: pa.array(np.arange(N) + 0.5, pa.float32()) for name in FLOATS}
    good |= {"image_id": pa.array(range(N), pa.int64()), "category_id": pa.array(range(N), pa.int32())}
    return {name: column for name, column in (good | other).items() if column is not None}


def write_arrow(path: Path, table: pa.Table, *, rows: int | None = None, compression: str | None = None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)


def write_parquet(path: Path, table: pa.Table, *, group: int = 3) -> None:
    pq.write_table(table, path, row_group_size=group)


WRITERS: dict[str, Callable[..., None]] = {"dt.arrow": write_arrow, "dt.parquet": write_parquet}


@pytest.fixture(params=sorted(WRITERS))
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def write_columns(data: dict[str, Any]) -> Path:
        path: Path = tmp_path / request.param
        WRITERS[request.param](path, pa.table(data))
        return path

    return write_columns


def test_an_uncompressed_file_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "dt.arrow"
    n = 1 << 20
    data = {name: np.zeros(n, np.float32) for name in FLOATS}
    write_arrow(path, pa.table({"image_id": np.zeros(n, np.int64), "category_id": np.zeros(n, np.int32), **data}))
    before = pa.total_allocated_bytes()
    predictions = read_predictions(path)
    assert pa.total_allocated_bytes() - before < 1 << 16
    for name in ("image_id", "category_id", *FLOATS):
        assert not getattr(predictions, name).flags.owndata
        assert not getattr(predictions, name).flags.writeable


@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_batches_and_compression(tmp_path: Path, rows: int | None, compression: str | None) -> None:
    path = tmp_path / "dt.arrow"
    phrase = pa.array(["a", "b", "", "a", "ü"]).dictionary_encode()
    write_arrow(path, pa.table(columns(phrase=phrase, other=pa.array(["x"] * N))), rows=rows, compression=compression)
    predictions = read_predictions(path)
    assert predictions.image_id.tolist() == list(range(N))
    assert predictions.h.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert predictions.phrase is not None
    assert predictions.phrase.tolist() == ["a", "b", "", "a", "ü"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_phrases(write: Callable[[dict[str, Any]], Path], kind: pa.DataType) -> None:
    phrase = pa.array(["a", "b", "", "a", "ü"]).cast(kind)
    predictions = read_predictions(write(columns(phrase=phrase)))
    assert predictions.phrase is not None
    assert predictions.phrase.tolist() == ["a", "b", "", "a", "ü"]


@pytest.mark.parametrize(
    ("column", "expected", "dtype"),
    [
        (pa.array([1, 2, 3, 4, 5], pa.int8()), [1, 2, 3, 4, 5], np.float64),
        (pa.array([2**53] * N, pa.uint64()), [2**53] * N, np.float64),
        (pa.array([0.1] * N, pa.float64()), [0.1] * N, np.float64),
        (pa.array(np.array([0.1] * N, np.float16)), [float(np.float16(0.1))] * N, np.float32),
    ],
)
def test_other_types_of_a_float_column(
    write: Callable[[dict[str, Any]], Path], column: pa.Array, expected: list[float], dtype: type
) -> None:
    predictions = read_predictions(write(columns(w=column)))
    assert predictions.w.tolist() == expected
    assert {getattr(predictions, name).dtype for name in FLOATS} == {np.dtype(dtype)}
    assert predictions.x.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.uint64(), pa.float64(), pa.int32()])
def test_other_types_of_an_integer_column(write: Callable[[dict[str, Any]], Path], kind: pa.DataType) -> None:
    ids = pa.array([1, 2, 3, 4, 5], kind)
    predictions = read_predictions(write(columns(image_id=ids, category_id=ids)))
    assert predictions.image_id.tolist() == predictions.category_id.tolist() == [1, 2, 3, 4, 5]
    assert predictions.image_id.dtype == np.int64
    assert predictions.category_id.dtype == np.int32


NAN = float("nan")
HAS = "the file has score, x, y, w, h, image_id, category_id"
BAD_COLUMNS: list[tuple[dict[str, Any], str]] = [
    ({"score": None}, "column 'score' is missing, the file has x, y, w, h, image_id, category_id"),
    ({"image_id": None}, "column 'image_id' is missing, the file has score, x, y, w, h, category_id"),
    ({"score": pa.array([1, 2, None, 4, 5], pa.float32())}, "row 2: column 'score' is null"),
    ({"image_id": pa.array([1, 2, 3, 4, None], pa.int64())}, "row 4: column 'image_id' is null"),
    ({"phrase": pa.array(["a", None, "c", "d", "e"])}, "row 1: column 'phrase' is null"),
    ({"phrase": pa.array([1] * N)}, "column 'phrase' holds int64, strings are needed"),
    ({"score": pa.array(["1"] * N)}, "column 'score' holds string, numbers are needed"),
    ({"score": pa.array([True] * N)}, "column 'score' holds bool, numbers are needed"),
    ({"x": pa.array([[1.0]] * N)}, "column 'x' holds list<element: double>, numbers are needed"),
    ({"x": pa.array([NAN] * N, pa.float32())}, "record 0: x is nan, a number within ±1e+100 is needed"),
    ({"x": pa.array([0, 1, 2, NAN, 3], pa.float64())}, "record 3: x is nan, a number within ±1e+100 is needed"),
    ({"score": pa.array([0, 1, -np.inf, 2, 3], pa.float32())}, "record 2: score is -inf, a finite number is needed"),
    ({"image_id": pa.array([1, 2, 3, 4.5, 5])}, "row 3: column 'image_id' is 4.5, not a valid int64"),
    ({"image_id": pa.array([1, NAN, 3, 4, 5])}, "row 1: column 'image_id' is nan, not a valid int64"),
    ({"image_id": pa.array([1, 2, 1e300, 4, 5])}, "row 2: column 'image_id' is 1e+300, not a valid int64"),
    ({"image_id": pa.array([2**63] * N, pa.uint64())}, f"row 0: column 'image_id' is {2**63}, not a valid int64"),
    ({"category_id": pa.array([0, 2**31, 0, 0, 0])}, f"row 1: column 'category_id' is {2**31}, not a valid int32"),
    ({"w": pa.array([0, 2**53 + 1, 0, 0, 0])}, f"row 1: column 'w' is {2**53 + 1}, not a valid float64"),
]


@pytest.mark.parametrize(("change", "message"), BAD_COLUMNS, ids=[m[:40] for _, m in BAD_COLUMNS])
def test_message(write: Callable[[dict[str, Any]], Path], change: dict[str, Any], message: str) -> None:
    path = write(columns(**change))
    with pytest.raises(DataError) as error:
        read_predictions(path)
    found = str(error.value).replace("list<item: ", "list<element: ")
    assert found == f"{path}: {message}"


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_column_that_is_there_twice(tmp_path: Path, name: str) -> None:
    good = columns()
    table = pa.Table.from_arrays([*good.values(), good["w"]], names=[*good, "w"])
    WRITERS[name](tmp_path / name, table)
    with pytest.raises(DataError, match=r"column 'w' occurs 2 times$"):
        read_predictions(tmp_path / name)


def test_no_rows(write: Callable[[dict[str, Any]], Path]) -> None:
    path = write({name: column[:0] for name, column in columns().items()})
    assert len(read_predictions(path)) == 0


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path, pa.table(columns()))
    whole = path.read_bytes()
    for size in [*range(1, len(whole) - 100, 7), *range(len(whole) - 100, len(whole))]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError) as error:
            read_predictions(path)
        assert "\n" not in str(error.value)


def test_decoded_bytes_are_those_of_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "dt.arrow"
    data = {"a": np.zeros(1000), "b": np.zeros(1000, np.int32)}
    for compression, expected in ((None, 0), ("zstd", 12000), ("lz4", 12000)):
        write_arrow(path, pa.table(data), rows=500, compression=compression)
        # Arrow pads each of the four buffers to a multiple of 64 bytes before it compresses them
        assert expected <= decoded_bytes(memoryview(path.read_bytes())) <= expected + 4 * 64
    texts = pa.array(["x" * 5000] * 1000).dictionary_encode()
    write_arrow(path, pa.table({"texts": texts}), compression="zstd")
    assert 5000 + 4000 < decoded_bytes(memoryview(path.read_bytes())) < 5000 + 4000 + 300


def test_a_footer_that_lists_one_batch_again_and_again_does_not_take_forever(tmp_path: Path) -> None:
    path = tmp_path / "dt.arrow"
    write_arrow(path, pa.table({f"c{i}": np.zeros(100) for i in range(1000)}), compression="zstd")
    data = path.read_bytes()
    footer_bytes = struct.unpack_from("<i", data, len(data) - 10)[0]
    with pa.ipc.open_file(pa.py_buffer(data)) as reader:
        assert reader.num_record_batches == 1
    # the block of the only batch: offset, length of the metadata, padding, length of the body
    stop = len(data) - 10
    start = stop - footer_bytes
    blocks = [
        struct.unpack_from("<qiiq", data, at)
        for at in range(start, stop - 24, 4)
        if struct.unpack_from("<I", data, at - 4)[0] == 1 and 0 < struct.unpack_from("<q", data, at)[0] < start
    ]
    block = next(b for b in blocks if b[0] + b[1] + b[3] <= start and b[2] == 0 and b[3] > 0)
    count = 1_000_000
    table = struct.pack("<I", 16) + struct.pack("<6H", 12, 8, 0, 0, 0, 4) + struct.pack("<iI", 12, 4)
    vector = struct.pack("<I", count) + struct.pack("<qiiq", *block) * count
    forged = data[:start] + table + vector + struct.pack("<i", len(table + vector)) + b"ARROW1"
    with pytest.raises(DataError, match="the metadata of the Arrow IPC file is damaged"):
        decoded_bytes(memoryview(forged))


ZEROS = {"image_id": np.int64, "category_id": np.int32, **dict.fromkeys(FLOATS, np.float32)}


@pytest.mark.parametrize("name", ["dt.arrow", "dt.parquet"])
@pytest.mark.parametrize("bomb", ["rows", "phrase"])
def test_decompression_bombs_are_refused_before_they_are_decoded(tmp_path: Path, name: str, bomb: str) -> None:
    path = tmp_path / name
    table = pa.table({column: np.zeros(8_000_000 if bomb == "rows" else 1, kind) for column, kind in ZEROS.items()})
    if bomb == "phrase":
        table = table.append_column("phrase", pa.array(["x" * 200_000_000]))
    if name == "dt.arrow":
        write_arrow(path, table, compression="zstd")
    else:
        pq.write_table(table, path, compression="zstd", use_dictionary=bomb == "rows", write_statistics=False)
    del table
    assert path.stat().st_size < 1 << 20
    code = (
        "import resource, sys, pathlib, pyarrow.parquet\n"
        "from ovd_bench.benchmarks.data.files import read_predictions\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    read_predictions(pathlib.Path(sys.argv[1]))\n"
        "except ValueError as error:\n"
        "    print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    message, megabytes = result.stdout.splitlines()
    assert "more than 32 times the file plus 64 MiB" in message
    assert int(megabytes) < 30


@pytest.mark.parametrize("name", ["dt.arrow", "dt.parquet"])
def test_a_long_text_that_many_rows_share(tmp_path: Path, name: str) -> None:
    rows = 50_000
    data = {column: np.zeros(rows, kind) for column, kind in ZEROS.items()}
    phrase = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["x" * 100_000])
    WRITERS[name](
        tmp_path / name, pa.table({**data, "phrase": phrase}), **({"group": rows} if "parquet" in name else {})
    )
    predictions = read_predictions(tmp_path / name)
    assert predictions.phrase is not None
    assert predictions.phrase[-1] is predictions.phrase[0]
    assert len(predictions.phrase[0]) == 100_000
