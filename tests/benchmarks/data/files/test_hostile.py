"""Hostile files: memory stays within four times the file, and the native readers are clean under the sanitizers."""

# ruff: noqa: E501  (one case per line)

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ovd_bench.benchmarks.data import files as reading
from ovd_bench.tests.benchmarks.data.files.test_fuzz import ANNOTATIONS, RESULTS, mutate

MIB = 1 << 20
CONSTANT_MIB = 40  # buffers of the workers, libraries loaded on the way

MEASURE = """
import resource
import sys
from pathlib import Path
from ovd_bench.benchmarks.data.files import read_ground_truth, read_predictions
from ovd_bench.metrics.errors import DataError

read = read_ground_truth if sys.argv[1] == "gt" else read_predictions
try:
    read(Path(sys.argv[3]))  # everything that reading loads is loaded
except DataError:
    pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read(Path(sys.argv[2]))
    print("read")
except DataError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def record(extra: str = "", score: str = "0.5") -> str:
    return f'{{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": {score}{extra}}}'


SIZE = 14 * MIB
EMPTY = '{"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]'
CASES = {
    "deep nesting": ("dt", f'[{record(", " + chr(34) + "a" + chr(34) + ": " + "[" * SIZE)}]', "nested deeper than 256"),
    "nested records": ("dt", '[{"a":' * (SIZE // 6), "nested deeper than 256"),
    "long string": ("dt", f'[{record(", " + chr(34) + "a" + chr(34) + ": " + chr(34) + "x" * 20_000_000 + chr(34))}]', "read"),
    "long phrase": ("dt", f'[{record(", " + chr(34) + "phrase" + chr(34) + ": " + chr(34) + "x" * SIZE + chr(34))}]', "read"),
    "long key": ("dt", f'[{record(", " + chr(34) + "x" * SIZE + chr(34) + ": 1")}]', "read"),
    "string without an end": ("dt", f'[{record(", " + chr(34) + "a" + chr(34) + ": " + chr(34) + "x" * SIZE)}', "truncated"),
    "many digits": ("dt", f"[{record(score='0.' + '1' * SIZE)}]", "read"),
    "many digits before the point": ("dt", f"[{record(score='1' * SIZE)}]", "a finite number is needed"),
    "many digits of an exponent": ("dt", f"[{record(score='1e' + '1' * SIZE)}]", "a finite number is needed"),
    "white space": ("dt", " " * SIZE + "[" + record() + " " * SIZE + "]" + " " * SIZE, "read"),
    "commas": ("dt", f"[{record()}" + "," * SIZE, "record 1: expected an object"),
    "record starts in a string": ("dt", f'[{record(", " + chr(34) + "a" + chr(34) + ": " + chr(34) + "},{" * (SIZE // 3) + chr(34))}]', "read"),
    "nested records in a field": ("dt", f'[{record(", " + chr(34) + "a" + chr(34) + ": [" + ",".join([record()] * (SIZE // 70)) + "]")}]', "read"),
    "smallest records": ("dt", "[" + ",".join(['{"score":1,"bbox":[1,1,1,1],"image_id":1,"category_id":1}'] * (SIZE // 58)) + "]", "read"),
    "an object": ("dt", "{" * SIZE, "the top level is an object"),
    "unknown section": ("gt", EMPTY + ', "info": [' + "{}," * (SIZE // 3) + "{}]}", "read"),
    "unknown string": ("gt", EMPTY + ', "info": "' + "x" * SIZE + '"}', "read"),
    "long list": ("gt", EMPTY.replace('"id": 1}]', '"id": 1, "neg_category_ids": [' + "1," * (SIZE // 2) + "1]}]") + "}", "not_exhaustive_category_ids"),
    "empty images": ("gt", '{"images": [' + "{}," * (SIZE // 3), "images record 0: field 'id' is missing"),
    "smallest images": ("gt", '{"images": [' + ",".join(f'{{"id":{i}}}' for i in range(SIZE // 15)) + '], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "read"),
    "empty categories": ("gt", '{"images": [], "annotations": [], "categories": [' + "{}," * (SIZE // 3) + "{}]}", "at most 100000 are read"),
    "most categories": ("gt", '{"images": [{"id": 1}], "annotations": [], "categories": [' + ",".join(f'{{"id":{i},"name":""}}' for i in range(100_000)) + "]}", "read"),
    "long category": ("gt", EMPTY.replace('"a"', '"a", "synonyms": [' + '"",' * (SIZE // 3) + '""]') + "}", "longer than 1048576 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_memory(tmp_path: Path, name: str) -> None:
    reader, text, outcome = CASES[name]
    hostile, small = tmp_path / "hostile.json", tmp_path / "small.json"
    hostile.write_text(text)
    small.write_bytes(RESULTS if reader == "dt" else ANNOTATIONS)
    command = [sys.executable, "-c", MEASURE, reader, str(hostile), str(small)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    said, kilobytes = result.stdout.splitlines()
    assert outcome in said
    assert int(kilobytes) <= 4 * len(text) / 1024 + CONSTANT_MIB * 1024


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The native readers, built with the address and undefined behaviour sanitizers."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    program = tmp_path_factory.mktemp("sanitized") / "readers"
    native = Path(reading.__file__).parent
    sources = [native / "results.cc", native / "annotations.cc", Path(__file__).parent / "sanitize_main.cc"]
    flags = ["-std=c++17", "-O0", "-g1", "-march=native", "-pthread", "-fsanitize=address,undefined"]
    command = [compiler, *flags, "-fno-sanitize-recover=all", f"-I{native}", *map(str, sources), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip("the sanitizers' libraries are not installed")
    assert built.returncode == 0, built.stderr
    return program


def test_sanitizers_find_nothing(tmp_path: Path, sanitized: Path) -> None:
    generator = random.Random(3)
    files = []
    for i in range(300):
        for name, data in (("results", RESULTS), ("annotations", ANNOTATIONS)):
            path = tmp_path / f"{name}{i}"
            path.write_bytes(data[: generator.randrange(len(data))] if i % 3 == 0 else mutate(data, generator))
            files.append(str(path))
    whole = tmp_path / "whole"
    whole.write_text(json.dumps(json.loads(RESULTS) * 100))
    result = subprocess.run([sanitized, *files, whole], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert int(result.stdout) > 100
