"""Results JSON against Python's own json: every number bit for bit, whatever the blocks."""

from __future__ import annotations

import json
import math
import random
import string
import struct
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.files.predictions import read_predictions, read_results, write_predictions
from ovd_bench.metrics.types import MAX_COORDINATE, Predictions

FLOATS = ("score", "x", "y", "w", "h")


def expected_columns(document: str) -> dict[str, Any]:
    """What Python reads, as columns."""
    records = json.loads(document)
    numbers = [[float(v) for v in (r["score"], *r["bbox"])] for r in records]
    wide = np.array(numbers, np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    single = np.array_equal(narrow.astype(np.float64), wide)
    columns: dict[str, Any] = dict(zip(FLOATS, (narrow if single else wide).T, strict=True))
    columns["image_id"] = np.array([int(r["image_id"]) for r in records], np.int64)
    columns["category_id"] = np.array([int(r["category_id"]) for r in records], np.int32)
    columns["phrase"] = [r["phrase"] for r in records] if "phrase" in records[0] else None
    return columns


def assert_equal(predictions: Predictions, columns: dict[str, Any]) -> None:
    for name in ("image_id", "category_id", *FLOATS):
        column = getattr(predictions, name)
        assert column.dtype == columns[name].dtype, name
        assert column.tobytes() == columns[name].tobytes(), name
    phrases = None if predictions.phrase is None else predictions.phrase.tolist()
    assert phrases == columns["phrase"]


def check(path: Path, document: str, *, threads: int = 1, block_bytes: int = 1 << 20) -> None:
    path.write_text(document)
    assert_equal(read_results(path, threads=threads, block_bytes=block_bytes), expected_columns(document))


def record(score: str = "0.5", *, image: str = "1", box: str = "[1, 2, 3, 4]", extra: str = "") -> str:
    return f'{{"image_id": {image}, "category_id": 2, "bbox": {box}, "score": {score}{extra}}}'


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "results.json"


literals = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda v: repr(float(v))),
    st.integers(-(10**25), 10**25).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
).filter(lambda text: math.isfinite(float(text)))
coordinates = literals.filter(lambda text: abs(float(text)) < MAX_COORDINATE)
ids = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str), st.integers(-(2**53), 2**53).map(lambda v: f"{v}.0"), st.just("42e1")
)
space = st.sampled_from(["", " ", "\n", "\t\r\n  "])
texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ['},{"image_id":1,"category_id":2,"bbox":[1,2,3,4],"score":1}', "}, {", '\\"},{', "]}", '"}]', "é😀\u0000\x7f"]
)
encoded_texts = st.builds(lambda text, ascii: json.dumps(text, ensure_ascii=ascii), texts, st.booleans())
values = st.recursive(
    st.one_of(st.sampled_from(["null", "true", "false", "{}", "[ ]"]), literals, encoded_texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: "[" + " , ".join(items) + "]"),
        st.lists(st.tuples(encoded_texts, inner), max_size=4).map(
            lambda items: "{" + ", ".join(f"{k} :{v}" for k, v in items) + "}"
        ),
    ),
    max_leaves=6,
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    with_phrase = draw(st.booleans())
    records = []
    for _ in range(draw(st.integers(1, 8))):
        box = "[" + ",".join(draw(space) + draw(coordinates) + draw(space) for _ in range(4)) + "]"
        fields = [
            (draw(st.sampled_from(['"image_id"', r'"\u0069mage_id"', r'"image_\u0069d"'])), draw(ids)),
            ('"category_id"', str(draw(st.integers(-(2**31), 2**31 - 1)))),
            ('"bbox"', box),
            (draw(st.sampled_from(['"score"', r'"\u0073\u0063ore"'])), draw(literals)),
        ]
        if with_phrase:
            fields.append(('"phrase"', draw(encoded_texts)))
        for name in draw(st.lists(st.sampled_from(["id", "segmentation", "x", "score_", ""]), max_size=2)):
            fields.append((json.dumps(name), draw(values)))
        fields = draw(st.permutations(fields))
        if draw(st.booleans()):  # of a repeated key the last value counts, even if an earlier one is unusable
            fields = [(fields[-1][0], draw(values)), *fields]
        items = [draw(space) + k + draw(space) + ":" + draw(space) + v + draw(space) for k, v in fields]
        records.append("{" + ",".join(items) + "}")
    inner = ",".join(draw(space) + r + draw(space) for r in records)
    return f"{draw(space)}[{inner}]{draw(space)}"


@settings(max_examples=200, deadline=None)
@given(document=documents(), block_bytes=st.sampled_from([1, 7, 64, 150, 1 << 20]), threads=st.sampled_from([1, 2, 3]))
def test_any_document_reads_as_in_python(path: Path, document: str, block_bytes: int, threads: int) -> None:
    check(path, document, threads=threads, block_bytes=block_bytes)


def halfway_above(value: float) -> Decimal:
    """The exact middle between a double and the next one."""
    with localcontext(prec=1200):
        return (Decimal(value) + Decimal(math.nextafter(value, math.inf))) / 2


def random_literals(count: int, seed: int) -> list[str]:
    """Numbers near every decision of the conversion: 17 digits, halfway points, subnormals, long and huge ones."""
    generator = random.Random(seed)
    out: list[str] = []
    while len(out) < count:
        anything = struct.unpack("<d", generator.randbytes(8))[0]
        value = generator.choice([1, 10, 500, 2e-5]) * generator.random()
        candidates = [
            repr(anything),
            f"{anything:.25e}",
            repr(generator.randrange(2**11) * 5e-324),
            str(Decimal(generator.randrange(2**64)).scaleb(generator.randrange(-330, 290))),
            repr(value),
            f"{halfway_above(value):.60f}"[: generator.randrange(17, 40)],
            f"{value:.{generator.randrange(1, 22)}f}",
            str(generator.randrange(-(2**70), 2**70)),
        ]
        out += [text for text in candidates if math.isfinite(float(text))]
    return out


@pytest.mark.parametrize("seed", range(3))
def test_numbers_are_exact(path: Path, seed: int) -> None:
    numbers = random_literals(20000, seed)
    check(path, "[" + ",".join(map(record, numbers)) + "]", threads=2, block_bytes=1 << 16)


def test_nineteen_digits_next_to_a_halfway_point(path: Path) -> None:
    # Here the 64-bit quotient ends in exactly 100 0000 0000, whichever side of the middle the number lies on.
    generator = random.Random(5)
    numbers = []
    for _ in range(3000):
        near = Decimal(f"{halfway_above(generator.random() * generator.choice([1, 100, 1000])):.18e}")
        last_digit = Decimal(1).scaleb(near.adjusted() - 18)
        numbers += [str(near - last_digit), str(near), str(near + last_digit)]
    check(path, "[" + ",".join(map(record, numbers)) + "]")


def test_columns_are_float32_only_while_every_number_is_one(path: Path) -> None:
    narrow = [record(repr(float(np.float32(i / 7)))) for i in range(3000)]
    check(path, f"[{','.join(narrow)}]", block_bytes=4096, threads=2)
    assert read_results(path).score.dtype == np.float32
    for late in ("0.1", "1e300", "1e-46", "16777217"):
        check(path, f"[{','.join([*narrow, record(late)])}]", block_bytes=4096, threads=2)
        assert read_results(path).score.dtype == np.float64


@pytest.mark.parametrize("block_bytes", [1, 13, 97, 200, 4096])
def test_strings_that_look_like_records(path: Path, block_bytes: int) -> None:
    fake = json.dumps('"},{"image_id":1,"category_id":1,"bbox":[9,9,9,9],"score":9},{"image_id":1')
    tricks = [
        record(extra=f', "note": {fake}'),
        record(extra=', "a": "},{", "b": [{"c": 1},{"image_id": 5, "category_id": 5, "bbox": [1,1,1,1], "score": 1}]'),
        record(extra=', "nested": [' + ",".join(record("7") for _ in range(20)) + "]"),
        record(extra=', "counts": "' + "x" * 3000 + '"'),
        record(extra=" " * 500),
        record(extra=', "quote": "},{\\"", "\\"": ",{"'),
        record(extra=', "segmentation": [[' + ",".join(f"{i / 3!r}" for i in range(300)) + "]]"),
    ]
    random.Random(0).shuffle(tricks)
    for threads in (1, 2, 3):
        check(path, f"[{' , '.join(tricks * 4)}]", threads=threads, block_bytes=block_bytes)


def test_a_record_larger_than_many_blocks(path: Path) -> None:
    large = record(extra=', "counts": "' + '},{\\"' * 200000 + '"')
    check(path, f"[{record()},{large},{record()},{large}]", threads=2, block_bytes=1 << 14)


def test_pretty_printed(path: Path) -> None:
    document = json.dumps(json.loads(f"[{','.join([record()] * 300)}]"), indent=4)
    check(path, document, threads=2, block_bytes=256)


def test_real_results(real_data: Path) -> None:
    path = real_data / "cocoapi" / "instances_val2014_fakebbox100_results.json"
    for block_bytes in (100, 5000, 1 << 20):
        predictions = read_results(path, threads=2, block_bytes=block_bytes)
        assert_equal(predictions, expected_columns(path.read_text()))


@pytest.mark.parametrize("suffix", [".json", ".arrow", ".parquet"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("with_phrase", [False, True])
def test_written_predictions_read_back(tmp_path: Path, suffix: str, dtype: type, with_phrase: bool) -> None:
    generator = np.random.default_rng(3)
    n = 70000 if suffix == ".json" and not with_phrase else 500
    floats: npt.NDArray[Any] = np.ascontiguousarray(generator.random((5, n)) * 100, dtype)
    score, x, y, w, h = floats[0], floats[1], floats[2], floats[3], floats[4]
    phrase = np.array([generator.choice([*string.ascii_letters, "", 'a "b"', "ü"]) for _ in range(n)], object)
    image_id = generator.integers(-(2**62), 2**62, n)
    category_id = generator.integers(-9, 2**31 - 1, n, dtype=np.int32)
    predictions = Predictions(image_id, category_id, score, x, y, w, h, phrase if with_phrase else None)
    target, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_predictions(target, predictions)
    write_predictions(again, predictions)
    assert target.read_bytes() == again.read_bytes()
    back = read_predictions(target)
    columns = {name: getattr(predictions, name) for name in ("image_id", "category_id", *FLOATS)}
    assert_equal(back, {**columns, "phrase": phrase.tolist() if with_phrase else None})
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]
